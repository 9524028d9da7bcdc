//! The classic group protocol: who is in a group, which generation it is in, what each member was
//! assigned, and how far the group has read.
//!
//! ```text
//!  requests, time ──► Shard ──► Effect::Append  ──► partition of __consumer_offsets ─┐
//!                       ▲ └───► Effect::Respond ──► clients                          │
//!                       └──────────────── handle_appended: committed, or lost ◄──────┘
//! ```
//!
//! A `Shard` is the state of one partition of `__consumer_offsets` on the replica that leads it,
//! rebuilt by `load`ing its records. It is pure: time, member ids and the fate of its writes are
//! arguments; what it wants done comes out of `poll_effect` in order.
//!
//! Invariants:
//! - An answer that depends on a write leaves after the write is committed, never before; and a
//!   fetch shows only what is committed (I12). State that a record describes changes when the
//!   record is committed, in the order of the log; so a lost write needs no undoing.
//! - Every ticket gets exactly one answer. Each member holds at most one waiting join and one
//!   waiting sync, and every wait has a timer or a write that ends it.
//! - A shard that loads the records of another one's committed writes answers the same
//!   (`snapshot` is equal, byte for byte).
//! - Nothing a client sends grows without a limit: groups, members, bytes (`config`).
//!
//! Deliberately missing: the KIP-848 protocol (its records are passed over when loading), and
//! offsets inside transactions, which come with the transaction coordinator.
//!
//! Sources: Kafka's protocol guide; KIP-62, KIP-134, KIP-211, KIP-345, KIP-394, KIP-496, KIP-814.

mod api;
mod commit;
mod config;
mod context;
mod cursor;
mod delete;
mod error;
mod id;
mod join;
mod member;
mod membership;
mod offsets;
mod query;
mod rebalance;
pub mod record;
mod replay;
mod shard;
mod state;
mod static_member;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod timers;

pub use api::*;
pub use config::Config;
pub use error::{AppendError, Error};
pub use id::{Id, InstanceId, MemberId, Topic, TopicPartition};
pub use offsets::{Clamped, clamp};
pub use shard::Shard;
pub use state::State;
