//! Coordinators: pure shards, each over one partition of an internal topic.

pub mod group;
