//! Why a request changed nothing, in a form that travels between nodes.

/// What went wrong, as far as a program cares. `kafka` maps each to a Kafka error code.
/// The numbers are on the wire between nodes and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// Of a newer node, and unknown to this one.
    Unknown = 0,
    TopicExists = 1,
    UnknownTopic = 2,
    InvalidTopicName = 3,
    InvalidPartitions = 4,
    InvalidReplicationFactor = 5,
    InvalidReplicaAssignment = 6,
    InvalidConfig = 7,
    /// An internal topic, which clients may not change.
    InternalTopic = 8,
    /// The same thing twice in one request, or otherwise a request that contradicts itself.
    InvalidRequest = 9,
    /// A clear "not built yet".
    NotBuilt = 10,
    /// A compare-and-set that came too late: what it was decided on has changed. Read and retry.
    Stale = 11,
    /// The node is not in the topology, or not as it says it is.
    UnknownNode = 12,
    /// The topology does not parse, does not check, or takes away what is in use.
    InvalidTopology = 13,
    /// No cluster id or no topology yet; retriable.
    NotReady = 14,
    /// A limit of the cluster would be passed.
    LimitExceeded = 15,
    /// A node is too old for this command; finish the rolling upgrade first.
    FeatureLevel = 16,
    /// The disk was replaced: it may not come back, or has to be admitted first.
    DiskReplaced = 17,
    /// Partitions would be left without a majority of their voters' disks.
    MajorityLost = 18,
}

/// A refused request: nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub reason: Reason,
    /// For a person: what, where, and what to do.
    pub message: String,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefusalWire {
    #[prost(enumeration = "Reason", tag = "1")]
    reason: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl From<&Refusal> for RefusalWire {
    fn from(refusal: &Refusal) -> Self {
        Self { reason: refusal.reason as i32, message: refusal.message.clone() }
    }
}

impl From<RefusalWire> for Refusal {
    fn from(wire: RefusalWire) -> Self {
        Self { reason: wire.reason(), message: wire.message }
    }
}
