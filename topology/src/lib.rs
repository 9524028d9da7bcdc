//! Datacenters, links and policies, as the operator declares them, and what follows from them by
//! pure computation: placement, timing, quorums. Knows nobody; does no I/O.
//!
//! ```text
//!   TOML text ──parse──▶ Topology ──resolve(topic, configs)──▶ Effective (value and source, each)
//!                          │  │                                     │
//!                          │  └── meta_voters, timing, lease        └──place──▶ voters, learners
//!                          └───── plan(old, new)
//! ```
//!
//! Invariants: a [`Topology`] exists only of text without an error; the same text gives the same
//! value on every machine; nothing here depends on the order of a hash map, a clock or chance.
//!
//! Deliberately missing: everything that a node finds out at run time; it is given.

pub mod detector;
pub mod dev;
pub mod docs;
pub mod home_move;
mod id;
mod meta;
pub mod options;
pub mod pattern;
pub mod placement;
pub mod plan;
pub mod policy;
mod problem;
pub mod quorum;
mod read;
pub mod suggest;
pub mod timing;
mod topology;
pub mod unit;

pub use id::{DC_NAME_BYTES_MAX, DcName, DcNameError, NodeId, NodeIdError};
pub use meta::{META_VOTERS_PER_DC_MAX, meta_indispensable_dcs, meta_learners, meta_voters};
pub use placement::{Load, PartitionPlacement, place};
pub use policy::{Effective, Policy, Replication, Settings, Source, resolve};
pub use problem::{Problem, Problems, Severity, Warning};
pub use read::{DCS_MAX, NODES_MAX, POLICIES_MAX, TEXT_BYTES_MAX, VERSION};
pub use timing::{TICK, Timing, timing};
pub use topology::{
    Address, Cluster, ClusterName, Compression, DEFAULT_BANDWIDTH_BITS, Dc, HostPort, Link,
    Listener, ListenerName, NAME_BYTES_MAX, Node, NodeTls, Topology,
};
