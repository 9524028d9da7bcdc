//! The image: the state that the commands of `__meta` add up to. The same on every node at the
//! same offset, so only `apply` changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_topology::Topology;

use crate::model::{DcName, HomeEpoch, NodeId, Offset, ReplicaId, TopicId, TopicPartition};

/// Cheap to clone: the parts are shared.
#[derive(Debug, Clone, Default)]
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
    pub topics: BTreeMap<TopicId, Arc<Topic>>,
    pub topic_ids: BTreeMap<Arc<str>, TopicId>,
    /// The next producer id that nobody was given.
    pub next_producer_id: i64,
}

/// What a node said of itself when it last started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub dc: DcName,
    /// Of the data directory: a node with a replaced disk is another replica (R22).
    pub disk: [u8; 16],
    pub listeners: Vec<Listener>,
    /// HOST:PORT of the admin listener.
    pub admin: String,
}

/// Where Kafka clients reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    /// Advertised, as clients dial it.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone)]
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
    /// Grows with every change of `replicas`.
    pub placement_generation: u64,
    /// The first voter is the preferred leader.
    pub replicas: Vec<Replica>,
    /// The id that the next new replica of this partition gets; ids are never given twice.
    pub next_replica_id: ReplicaId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    pub id: ReplicaId,
    pub node: NodeId,
    pub voter: bool,
}

impl Image {
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    pub fn partition(&self, at: TopicPartition) -> Option<&Arc<Partition>> {
        self.topics.get(&at.topic)?.partitions.get(usize::try_from(at.partition).ok()?)
    }
}
