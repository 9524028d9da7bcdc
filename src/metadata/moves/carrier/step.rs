//! What a carrier is told of its move, what it asks for, and what comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::log::{EpochStart, Fork, Position};
use crate::metadata::image::Partition;
use crate::metadata::moves::{Activation, Aim, Choice, Chosen};
use crate::model::{DcName, HomeEpoch, NodeId, ReplicaId, TopicPartition};

/// What it is told of the move.
#[derive(Debug, Clone)]
pub struct Course {
    pub at: TopicPartition,
    pub placed: Arc<Partition>,
    pub aim: Aim,
    /// The home epoch that begins.
    pub next: HomeEpoch,
    /// Its cut, if it has been chosen.
    pub chosen: Option<Chosen>,
    /// Of the nodes that have replicas.
    pub dcs: BTreeMap<NodeId, DcName>,
    /// The topic's policy is `on_isolation = "fence"`: an old home that is alive and cut off goes on
    /// acknowledging until its leases are over, and no longer (R17).
    pub fences: bool,
}

/// A replica's seal, as it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub replica: ReplicaId,
    /// The last entry that it has persisted, and the offset after it.
    pub last: Position,
    pub epochs: Vec<EpochStart>,
    /// Installing, or damaged: sealed, and not to be counted (R21, R23).
    pub uncounted: bool,
    /// Time since it last had all that its leader had acknowledged, when it was sealed.
    pub stale: Option<Duration>,
}

/// Which attempt an effect belongs to, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub(super) u32);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the leader to stop for good; answer with `handle_handed_off`.
    HandOff(Attempt),
    /// Ask a replica for its promise; answer with `handle_sealed`.
    Seal { attempt: Attempt, replica: ReplicaId, node: NodeId, when: When },
    /// Have `__meta` fix the cut; answer with `handle_chosen`.
    Choose(Attempt, Box<Choice>),
    /// Have a replica hold F, which `source` has; answer with `handle_held`.
    Hold { attempt: Attempt, replica: ReplicaId, node: NodeId, fork: Arc<Fork>, source: NodeId },
    /// Wait until none of these nodes can hold a lease; answer with `handle_leases_over` (R17).
    WaitForLeases(Attempt, Vec<NodeId>),
    /// Propose it; answer with `handle_activated`.
    Activate(Attempt, Box<Activation>),
    /// Propose that the home stays where it is, in the next epoch.
    GiveUp,
}

/// When a replica that is asked gives its promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    AtOnce,
    /// Once the leader's hand-off is the last entry on its disk. Its answer need not wait for the leader to hear of that: a
    /// round trip is saved.
    HandedOff,
}
