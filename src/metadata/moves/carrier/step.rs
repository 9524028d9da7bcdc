//! What a carrier is told of its move, what it asks for, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isobar_topology::policy::OnIsolation;

use crate::log::{EpochStart, Fork, Position, Sealed};
use crate::metadata::budgets::{self, Bound};
use crate::metadata::config;
use crate::metadata::image::{Image, Partition, Replica};
use crate::metadata::lease;
use crate::metadata::moves::{Activation, Aim, Choice, Chosen, Moving, Verdict};
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
    /// Replicas whose node has another disk by now (R22): they answer no more.
    pub gone: BTreeSet<ReplicaId>,
    /// The topic's policy is `on_isolation = "fence"`: an old home that is alive and cut off goes on
    /// acknowledging until its leases are over, and no longer (R17).
    pub fences: bool,
    /// Whether what is not proven counts on the operator's word, and may say so.
    pub by_word: bool,
    /// What the old home enforced, whichever policy of this home epoch it went by, if a verdict may name it.
    pub bound: Option<Bound>,
}

impl Course {
    /// The move of a partition as the image has it; `None` if its home is not moving (any more).
    pub fn of(image: &Image, at: TopicPartition) -> Option<Self> {
        let placed = Arc::clone(image.partition(at)?);
        let Moving { aim, epoch, chosen } = placed.moving()?.clone();
        let topology = image.topology.as_ref()?;
        let nodes = placed.replicas.iter().map(|r| r.node);
        let dcs = nodes.filter_map(|node| Some((node, topology.dc_of(node)?.clone()))).collect();
        let has_other = |r: &&Replica| {
            let node = image.nodes.get(&r.node);
            node.is_some_and(|node| r.disk.is_some_and(|disk| disk != node.disk))
        };
        let gone = placed.replicas.iter().filter(has_other).map(|r| r.id).collect();
        let effective = config::effective(image, image.topics.get(&at.topic)?);
        let fences = effective.is_some_and(|e| e.policy.on_isolation == OnIsolation::Fence);
        let bound = budgets::to_claim(image, &placed);
        let by_word = aim.accept_loss
            && placed.ever_sync
            && image.feature_level() >= Verdict::WORD_FEATURE_LEVEL;
        Some(Self { at, placed, aim, next: epoch, chosen, dcs, gone, fences, by_word, bound })
    }

    /// Whether it still is that move; that its cut has been chosen since does not make it another
    /// one.
    pub fn is_same_move(&self, other: &Self) -> bool {
        (self.next, &self.aim) == (other.next, &other.aim)
    }
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
    /// The leader's Unix time up to which it had all that was acknowledged, when it was sealed.
    pub known_until_ms: Option<i64>,
}

impl Seal {
    /// What a sealed log says; `known_until_ms` as the replica knew when it was sealed.
    pub fn of(sealed: &Sealed, known_until_ms: Option<i64>) -> Self {
        let (index, term) = sealed.last;
        Self {
            replica: sealed.replica,
            last: Position { index, term, offset: sealed.next_offset },
            epochs: sealed.epochs.clone(),
            uncounted: sealed.installing || sealed.damaged,
            known_until_ms,
        }
    }
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
    /// Wait until the old home can hold no lease; answer with `handle_leases_over` (R17).
    WaitForLeases(Attempt, lease::Wait),
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
