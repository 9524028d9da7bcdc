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

pub mod image;
