//! The image: the state that the commands of `__meta` add up to. The same on every node at the
//! same offset, so only `apply` changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_topology::home_move::LastEntry;
use isobar_topology::{Replication, Topology};

use super::budgets::Bound;
use super::modes::Changed;
use super::moves::topics::is_suffix;
use super::moves::{Moved, Moving};
use super::recovery::Recovery;
use crate::log::Fork;
use crate::model::{
    DcName, HomeEpoch, LeaderEpoch, LogIndex, Mode, NodeId, Offset, ReplicaId, TopicId,
    TopicPartition,
};

/// The uuid of a data directory, written when it was first used.
pub type DiskId = [u8; 16];

/// How many epochs a replica promises beyond the newest that its image knows of: moves that are forced
/// in a row while the image is on its way.
const EPOCHS_AHEAD_MAX: u32 = 4;

/// Cheap to clone: the parts are shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// The offset after the last record of `__meta` that is in this image.
    pub next_offset: Offset,
    /// Kafka's cluster id; `None` until the first leader of `__meta` has named the cluster.
    pub cluster_id: Option<Arc<str>>,
    /// The authoritative topology; `None` until the first one was applied.
    pub topology: Option<Arc<Topology>>,
    /// Grows by one with every applied topology.
    pub topology_generation: u64,
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Where the replicas of `__meta` itself are; `None` until the first topology was applied.
    pub meta: Option<Arc<Partition>>,
    /// Disks that were replaced, with the nodes that had them. They never come back: what they hold
    /// is counted on by nobody any more.
    pub retired: BTreeMap<DiskId, NodeId>,
    pub topics: BTreeMap<TopicId, Arc<Topic>>,
    pub topic_ids: BTreeMap<Arc<str>, TopicId>,
    /// The next producer id that nobody was given.
    pub next_producer_id: i64,
    /// Moves of homes that have ended, the latest last; at most [`super::moves::KEPT_MAX`].
    pub moved: Vec<Arc<Moved>>,
    /// Changes of modes, the latest last; at most [`super::modes::KEPT_MAX`].
    pub modes: Vec<Arc<Changed>>,
    /// How often `__meta` was begun anew without its majority, the latest last.
    pub recoveries: Vec<Recovery>,
}

/// What a node said of itself when it last started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub dc: DcName,
    /// Of the data directory: a node with a replaced disk is another replica (R22).
    pub disk: DiskId,
    pub listeners: Vec<Listener>,
    /// HOST:PORT of the admin listener.
    pub admin: String,
    /// Of the software, for people.
    pub version: String,
    /// The highest feature level that it can apply; see [`Image::feature_level`].
    pub feature_level: u32,
}

/// Where Kafka clients reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    /// Advertised, as clients dial it.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    /// What was set on the topic itself, Kafka's keys and `isobar.*`; defaults are not in it.
    pub configs: BTreeMap<String, String>,
    /// By partition number, dense from 0.
    pub partitions: Vec<Arc<Partition>>,
}

/// A partition's placement in its present home epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub home: DcName,
    pub home_epoch: HomeEpoch,
    pub phase: Phase,
    /// Sync or async, fixed when the topic was made.
    pub replication: Replication,
    /// Whether it is degraded, if it is sync (R7, R8).
    pub mode: Mode,
    /// The mode at the beginning of this home epoch. What its log says after F goes on from there.
    pub began: Mode,
    /// Whether it was ever sync, which decides what a failover needs (R11).
    pub ever_sync: bool,
    /// Grows with every change of `replicas`.
    pub placement_generation: u64,
    /// The first voter is the preferred leader.
    pub replicas: Vec<Replica>,
    /// The id that the next new replica of this partition gets; ids are never given twice.
    pub next_replica_id: ReplicaId,
    /// Where this home epoch began (R26); `None` in the first.
    pub fork: Option<Arc<Fork>>,
    /// The last entry of the latest cut of which nobody could prove that nothing acknowledged is beyond
    /// it, or of what a later home brought back from beyond that; `None` where there was no such cut. Producers whose
    /// newest batch is not after it may have lost some.
    pub lossy_cut: Option<LogIndex>,
    /// The loosest budget that was enforced in this home epoch; `None` where none was, at least for a time.
    pub budget: Option<Bound>,
}

/// Where a partition stands in a move of its home. Every safety decision is a compare-and-set on
/// (home epoch, phase).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Active,
    /// Its replicas are being asked to promise the next home epoch; no placement changes (R3). From
    /// here the epoch never goes on: also a move that is given up ends in the next one (R18).
    Sealing(Moving),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    pub id: ReplicaId,
    pub node: NodeId,
    pub voter: bool,
    /// The disk that the replica lives on: with the node, its identity (R22). `None` while the node
    /// has never registered; its first registration binds it.
    pub disk: Option<DiskId>,
}

/// Kafka's own topics, made by the cluster under `policy.internal`, and the suffixes of ledgers: not for
/// clients to change.
pub fn is_internal(topic: &str) -> bool {
    is_suffix(topic)
        || matches!(
            topic,
            CONSUMER_OFFSETS | "__transaction_state" | "__cluster_metadata" | "__meta"
        )
}

/// Where group coordinators keep committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

impl Image {
    /// What every registered node can apply: commands above it are not proposed, so that a rolling
    /// upgrade never meets a node that must stop.
    pub fn feature_level(&self) -> u32 {
        self.nodes.values().map(|n| n.feature_level).min().unwrap_or(0)
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    pub fn partition(&self, at: TopicPartition) -> Option<&Arc<Partition>> {
        if at == TopicPartition::META {
            return self.meta.as_ref();
        }
        self.topics.get(&at.topic)?.partitions.get(usize::try_from(at.partition).ok()?)
    }
}

impl Partition {
    /// The move that is under way, if one is.
    pub fn moving(&self) -> Option<&Moving> {
        match &self.phase {
            Phase::Active => None,
            Phase::Sealing(moving) => Some(moving),
        }
    }

    /// The home epoch that it is in, or that its replicas promise: one more with every forced move after a
    /// cut was chosen, whether any of them has ended or not.
    fn newest_epoch(&self) -> HomeEpoch {
        self.moving().map_or(self.home_epoch, |moving| moving.epoch)
    }

    /// Whether a replica may promise `epoch`. It is out until that epoch comes, so no mistake of another
    /// node may take it out for good; an image that is further behind catches up, and is asked again.
    pub fn may_promise(&self, epoch: HomeEpoch) -> bool {
        epoch.as_u32() <= self.newest_epoch().as_u32() + EPOCHS_AHEAD_MAX
    }

    /// Where a leader epoch of an earlier home ended (R25, R26), as [`Fork::end_of_epoch`] has it. `None` for one of
    /// the present home, and for one that is not known, which Kafka writes as -1.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<Offset> {
        self.fork.as_ref().filter(|_| epoch >= 0)?.end_of_epoch(epoch)
    }

    /// Whether a log that ends with this entry has all that the present home epoch began with: one that has
    /// an entry of it does, as does one that ends in the same term at or after the cut.
    pub fn is_beginning_in(&self, last: LastEntry) -> bool {
        let ends = |fork: &Fork| last.term == fork.at.term.0 && last.index >= fork.at.index.0;
        last.term >= self.home_epoch.first_term().0 || self.fork.as_deref().is_none_or(ends)
    }

    pub fn voters(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|r| r.voter)
    }

    /// The replica on a node, if it has one; a node has at most one of a partition.
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|r| r.node == node)
    }
}
