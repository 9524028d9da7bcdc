//! The front end that Kafka clients talk to.

pub mod connection;
pub mod fetch_sessions;
pub mod listener;
pub mod metrics;
mod session;
pub mod wire;

pub use session::{Operation, Principal, Resource, Session};
