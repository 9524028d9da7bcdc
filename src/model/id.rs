//! Identifiers of topics, partitions, groups and replicas.

use std::fmt;

use super::{HomeEpoch, NodeId};

/// A topic's id (KIP-516): a topic that is deleted and created again is another topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

/// One partition of one topic. The name of a partition's directory and of its Raft group, but for
/// the home epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: TopicId,
    /// From 0, as in Kafka.
    pub partition: i32,
}

/// A Raft group: a partition in one of its homes (R1). Messages of different home epochs never
/// meet in one Raft node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    pub partition: TopicPartition,
    pub home_epoch: HomeEpoch,
}

/// A replica's id within its partition, and its Raft id. Never given twice in a partition: a node
/// whose disk was replaced gets another one (R22), so what the lost disk promised binds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    /// The replica of `__meta` on a node: `incarnation << 32 | node`. The first life of a node has
    /// incarnation 0; a later one is given by `__meta` and is higher than all before. The id names
    /// its node, because who follows `__meta` cannot ask `__meta` where its leader is.
    pub fn of_meta(incarnation: u32, node: NodeId) -> Self {
        Self(u64::from(incarnation) << 32 | u64::from(node.as_u32()))
    }

    /// The node of a replica of `__meta`; `None` if no version of ours gave that id.
    pub fn meta_node(self) -> Option<NodeId> {
        NodeId::new(self.0 & u64::from(u32::MAX)).ok()
    }
}

impl TopicId {
    /// Kafka's zero id: "no id".
    pub const ZERO: Self = Self([0; 16]);

    /// The metadata quorum's topic: the same in every cluster, as KRaft's `__cluster_metadata` is.
    pub const META: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    pub fn random() -> Self {
        // tidy: called by the driver that proposes a topic; cores are handed the id
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl TopicPartition {
    /// The one partition of `__meta`.
    pub const META: Self = Self { topic: TopicId::META, partition: 0 };
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for TopicId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(uuid::Uuid::parse_str(s)?.into_bytes()))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.home_epoch)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}
