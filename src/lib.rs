//! Isobar: one log, the same offsets, in every datacenter.
//!
//! The rooms of the house, from the bottom up; imports run downwards only (`tests/tidy` holds it):
//! `model` < `log` < `replica` < `metadata` < `coordinator` < `admin`, `kafka` < `broker` < `cli`.
//! Below them stand the member crates `isobar_topology` and `isobar_transport`.
//! `docs/architecture.md` draws it.

pub mod admin;
pub mod broker;
pub mod cli;
pub mod coordinator;
pub mod kafka;
pub mod log;
pub mod metadata;
pub mod model;
pub mod replica;
