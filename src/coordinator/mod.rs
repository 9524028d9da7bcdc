//! Coordinators: pure shards, each over one partition of an internal topic, one runtime that says
//! where a group belongs, and one driver that moves bytes and time.
//!
//! ```text
//!  handlers ──► Handle ──► runtime: group id → partition → shard, or NOT_COORDINATOR
//!                 │
//!                 └─ mailbox ─► driver (a task a shard) ─► group::Shard (pure)
//!                                   │     ▲                    │ effects
//!                                   │     └────────────────────┘
//!                                   ├─► writer: appends → batches ─► Partition::append ─► HW
//!                                   └─◄ Partition::read: all committed records, at election
//! ```
//!
//! The broker implements `Partition` over a replica, and tells the `Handle` who was elected and
//! who resigned. Time, wall clock and random numbers come through `Seams`.
//!
//! The log is kept short by snapshots (design §3): the committed state as records, after which log
//! start moves to where they begin.
//!
//! Invariants:
//! - A shard serves only after it has loaded all that was ever committed, and stops before it
//!   tells anyone that it has stopped.
//! - Writes of a shard are in the log in the order in which the shard asked for them.
//! - A request whose client went away holds nothing for longer than its answer takes.
//!
//! Deliberately missing: transactions, which will be a second kind of shard.

pub mod batch;
mod driver;
pub mod group;
mod handle;
mod partition;
pub mod runtime;
#[cfg(test)]
mod tests;
mod writer;

pub use handle::{Handle, Seams};
pub use partition::{Partition, ReadError};
