//! `__meta`: what the whole cluster agrees on, and how it comes to agree.
//!
//! ```text
//!  request ─▶ controller (leader only: image + request → commands)
//!                 │ append as records of the partition `__meta`
//!                 ▼
//!             the replicated log ─▶ apply (every node, in log order) ─▶ image ─▶ reconciler ─▶ local replicas
//! ```
//!
//! Invariants:
//! - The image is a function of the log: equal offsets, equal images, on every node. So only `apply`
//!   changes it, nothing in it depends on a clock, on chance or on the order of a hash map, and a
//!   command that a node does not know stops that node rather than being passed over.
//! - A decision is made with everything in the leader's log applied, one at a time; what depends on a
//!   state names it (compare-and-set) and is checked again at apply.
//! - A replica is (node, disk) with an id that is never given twice (R22); placements change by
//!   compare-and-set on home epoch and placement generation, never while the home is moving (R3).
//! - Log start of `__meta` moves only to the first part of a whole, committed snapshot (R24).
//! - No clock takes part in any safety argument; leases only bound how long an async home goes on
//!   (R17).
//!
//! Not here: who leads a partition. Raft elects, the leader tells everyone over the control lane
//! (`replica::leaders`), and nothing is written for it: an election costs no WAN round trip.
//!
//! - A disk that was replaced never comes back, and a node counts in no group before it has what the
//!   group has: its replicas on the new disk are new ones (`quorum`, `controller::repair`).
//!
//! Deliberately missing yet: switching a topic between sync and async, changing which nodes vote in
//! `__meta` (which follows from the topology), reassignment. Each is refused by name.

pub mod apply;
pub mod automatic;
pub mod budgets;
pub mod command;
pub mod config;
pub mod controller;
#[cfg(test)]
pub(crate) mod fixture;
pub mod image;
pub mod lease;
pub mod modes;
pub mod moves;
pub mod quorum;
pub mod reconciler;
pub mod recovery;
pub mod refusal;
pub mod replay;
pub mod request;
pub mod service;
pub mod snapshot;
mod wire;
