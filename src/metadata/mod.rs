//! `__meta`: what the whole cluster agrees on, and how it comes to agree.
//!
//! ```text
//!  request ─▶ controller (leader only: image + request → commands)
//!                 │ append as records of the partition `__meta`
//!                 ▼
//!             the replicated log ─▶ apply (every node, in log order) ─▶ image ─▶ reconciler ─▶ local replicas
//! ```
//!
//! Not here: who leads a partition. Raft elects, the leader tells everyone over the control lane
//! (`replica::leaders`), and nothing is written for it: an election costs no WAN round trip.

pub mod apply;
pub mod command;
pub mod config;
pub mod controller;
pub mod image;
pub mod lease;
pub mod reconciler;
pub mod refusal;
pub mod replay;
pub mod request;
pub mod service;
pub mod snapshot;
mod wire;
