//! What may be asked of the controller, and its answers. Any node takes a request; the leader of
//! `__meta` decides it (`service`), so both travel between nodes (`wire`).

mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{DiskId, Node, Replica};
use super::modes::Change;
use super::moves::{Activation, Begin, Choice, Report};
use super::refusal::Refusal;
use crate::log::Fork;
use crate::model::{HomeEpoch, NodeId, Offset, ReplicaId, TopicId, TopicPartition};

pub use wire::WireError;

/// Topics that one request may name: Kafka has no limit but its 100 MB of request, and this is far
/// above what any tool sends at a time.
pub const TOPICS_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A node started. Answered once this node's image is as new as everything that was committed
    /// when it asked, so what the image does not know then is gone.
    RegisterNode(Node),
    /// A node comes with an empty disk and asks for a replica of `__meta`: for the first time, or
    /// instead of a disk that it had before. Its other replicas follow by themselves.
    AdmitDisk {
        node: NodeId,
        disk: DiskId,
        /// The operator's word that the old disk is gone for good, although partitions are left
        /// without a majority of their voters' disks.
        accept_loss: bool,
    },
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    /// Topics that clients asked for by name (`auto.create.topics.enable`) or that the cluster needs
    /// itself (`__consumer_offsets`). Those that exist are no error.
    EnsureTopics {
        names: Vec<String>,
    },
    DeleteTopics {
        topics: Vec<TopicRef>,
    },
    CreatePartitions {
        topics: Vec<NewPartitions>,
        validate_only: bool,
    },
    AlterConfigs {
        topics: Vec<AlterConfigs>,
        validate_only: bool,
    },
    /// The next block of producer ids, for one node to hand out (InitProducerId).
    AllocateProducerIds,
    /// Makes a topology file the authoritative one.
    ApplyTopology {
        text: String,
        /// The generation that the operator saw the plan against; `None`: whatever is current.
        expected_generation: Option<u64>,
        /// Only checks and plans.
        validate_only: bool,
    },
    /// From the leader of a partition: this replica has everything, and may vote.
    PromoteReplica {
        partition: TopicPartition,
        replica: ReplicaId,
        home_epoch: HomeEpoch,
        placement_generation: u64,
    },
    /// An operator, or who acts for one, moves the homes of partitions.
    MoveHomes {
        moves: Vec<Begin>,
    },
    /// From who carries moves out: these cuts are to be fixed.
    ChooseCuts {
        choices: Vec<Choice>,
    },
    /// And these can begin their next home epoch.
    ActivateHomes {
        activations: Vec<Activation>,
    },
    /// From a replica that has put what it had beyond a cut into its ledger.
    ReportSuffix(Report),
    /// From leaders of sync topics' partitions (R7, R8).
    ChangeModes {
        changes: Vec<Change>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewTopic {
    pub name: String,
    /// `None`: as many as the policy says (-1 to Kafka).
    pub partitions: Option<i32>,
    /// Checked for sense and otherwise left to the policy (design §4); `None` is -1 to Kafka.
    pub replication_factor: Option<i16>,
    /// Manual assignments by partition; the brokers of each, preferred leader first.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    pub configs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    pub topic: String,
    /// The number of partitions afterwards.
    pub count: i32,
    /// Manual assignments of the new ones, in order.
    pub assignments: Option<Vec<Vec<i32>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConfigs {
    pub topic: String,
    pub change: ConfigChange,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// AlterConfigs: these and no others.
    Replace(BTreeMap<String, String>),
    /// IncrementalAlterConfigs (KIP-339).
    Incremental(Vec<ConfigOp>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    Set {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// To a list that does not hold it yet.
    Append {
        key: String,
        value: String,
    },
    Subtract {
        key: String,
        value: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Registered,
    Admitted(Admitted),
    /// One for each topic of the request, in its order; so also below.
    TopicsCreated(Vec<Result<CreatedTopic, Refusal>>),
    TopicsDeleted(Vec<Result<DeletedTopic, Refusal>>),
    PartitionsCreated(Vec<Result<(), Refusal>>),
    ConfigsAltered(Vec<Result<(), Refusal>>),
    ProducerIds(ProducerIds),
    Topology(TopologyApplied),
    Promoted,
    /// One for each move of the request, in its order; so also below.
    MovesBegun(Vec<Result<(), Refusal>>),
    CutsChosen(Vec<Result<(), Refusal>>),
    HomesActivated(Vec<Result<(), Refusal>>),
    Reported,
    ModesChanged(Vec<Result<(), Refusal>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    pub name: Arc<str>,
    /// Zero where nothing was created because the request only asked whether it could be.
    pub id: TopicId,
    pub partitions: i32,
    /// All replicas of a partition, in all DCs: what the policy decided.
    pub replication_factor: i16,
    /// It was there already ([`Request::EnsureTopics`] only).
    pub existed: bool,
}

/// Which replica of `__meta` a disk is to hold, and who the others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    pub replica: ReplicaId,
    pub placement_generation: u64,
    /// All of them, this one too.
    pub replicas: Vec<Replica>,
    /// Of `__meta`: later than the first where it was begun anew without its majority.
    pub home_epoch: HomeEpoch,
    /// Where that epoch began; `None` in the first.
    pub fork: Option<Arc<Fork>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
}

/// `first .. first + count` belong to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIds {
    pub first: i64,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyApplied {
    /// The generation now.
    pub generation: u64,
    /// What it changes, a sentence each; empty when nothing.
    pub notes: Vec<String>,
}

/// What a leader of `__meta` answers to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// With the offset that an image must have reached to show it.
    Done { response: Response, visible_at: Offset },
    /// Refused as a whole; nothing was done.
    Refused(Refusal),
    /// Ask this one, if it is known. Nothing was done.
    NotLeader { hint: Option<NodeId> },
    /// The queue is full. Nothing was done.
    Busy,
    /// It was appended, and what became of it is not known.
    Unknown,
}
