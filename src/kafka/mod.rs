//! The front end that Kafka clients talk to.

pub mod wire;
