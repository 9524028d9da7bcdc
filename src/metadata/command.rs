//! The commands of `__meta`: the values of its records.
//!
//! ```text
//! record value = Envelope (protobuf) { version, feature level, one command }
//! ```
//!
//! `version` is of the envelope itself. The feature level says what a node must be able to apply:
//! a command that an older node would get wrong, or would have to skip, is written with a higher
//! level, and the controller proposes it only when every registered node has that level. A node that
//! meets one all the same stops; skipping would make its image another cluster's.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use isobar_topology::{Problems, Topology};
use prost::Message;

use super::image::{DiskId, Node, Partition, Replica, Topic};
use super::modes::Change;
use super::modes::wire::ChangeWire;
use super::moves::wire::{ActivationWire, BeginWire, ChoiceWire, ReportWire};
use super::moves::{Activation, Begin, Choice, Report};
use super::recovery::{Recover, RecoverWire};
use super::snapshot::Part;
use super::wire::{self, ConfigWire, Malformed, NodeWire, PartitionWire, ReplicaWire, TopicWire};
use crate::model::{HomeEpoch, NodeId, ReplicaId, TopicId, TopicPartition};

/// Of the envelope.
const VERSION: u32 = 1;

/// The highest feature level that this software can apply.
///
/// 2: disks are replaced, and `__meta` has a placement of its own.
/// 3: homes move.
/// 4: sync topics degrade.
/// 5: `__meta` is begun anew without its majority.
/// 6: a verdict may be a number.
/// 7: a cut that counts on the operator's word says so.
pub const FEATURE_LEVEL: u32 = 7;

/// Longest encoded command, in bytes: a topology at its limit of 1 MiB, with room. Everything else
/// is smaller (topics of many partitions come in several commands), and an entry of this size passes
/// every lane.
pub const COMMAND_BYTES_MAX: usize = 2 << 20;

/// One change of the image. Those that depend on a state name the state (compare-and-set), because
/// between decision and apply another leader's command may have come.
#[derive(Debug, Clone)]
pub enum Command {
    /// Kafka's cluster id; given once.
    NameCluster {
        id: Arc<str>,
    },
    /// A node started, or says something new of itself.
    RegisterNode(Arc<Node>),
    /// Replaces the authoritative topology, if it still is of generation `expected`.
    ApplyTopology {
        expected: u64,
        topology: Arc<Topology>,
    },
    CreateTopic(Arc<Topic>),
    DeleteTopic {
        id: TopicId,
    },
    /// Adds partitions `from`, `from + 1`, …, if the topic still has `from` of them.
    CreatePartitions {
        topic: TopicId,
        from: u32,
        partitions: Vec<Arc<Partition>>,
    },
    AlterTopicConfigs {
        topic: TopicId,
        set: BTreeMap<String, String>,
        delete: Vec<String>,
    },
    /// Hands out the producer ids `first .. first + count`, if `first` still is the next (R24).
    AllocateProducerIds {
        first: i64,
        count: u32,
    },
    /// Changes the replicas of a partition, if nobody else has since (R3).
    ReplacePlacement(Placement),
    /// A node comes with another disk than before, or with its first.
    AdmitDisk(AdmitDisk),
    /// The home of a partition begins to move: Active → Sealing (R10).
    BeginMove(Begin),
    /// The cut of the next home epoch is fixed (R12).
    ChooseCut(Box<Choice>),
    /// The next home epoch begins: Sealing → Active (R13). Boxed: it carries a table of terms.
    ActivateHome(Box<Activation>),
    /// What a replica had beyond the cut (R16).
    ReportSuffix(Report),
    /// A sync topic's partition degrades, or is sync again (R7, R8).
    ChangeMode(Change),
    /// `__meta` goes on without the majority that it had (R26). Boxed: it carries a table of terms.
    RecoverMeta(Box<Recover>),
    /// A part of a snapshot of the image as it was before the first part. Changes nothing.
    Snapshot(Part),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub partition: TopicPartition,
    /// What it was decided on.
    pub home_epoch: HomeEpoch,
    pub placement_generation: u64,
    pub replicas: Vec<Replica>,
    pub next_replica_id: ReplicaId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmitDisk {
    pub node: NodeId,
    /// The disk that the node had when this was decided.
    pub expected: Option<DiskId>,
    pub disk: DiskId,
    /// Of `__meta`: with a replica of its own for the new disk.
    pub meta: Placement,
}

/// Why a committed record of `__meta` cannot be applied. There is no going on after one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it has no value")]
    Empty,
    #[error("it is of envelope version {0}, this software knows {VERSION}; upgrade this node")]
    Version(u32),
    #[error("it needs feature level {0}, this software has {FEATURE_LEVEL}; upgrade this node")]
    FeatureLevel(u32),
    #[error("it holds no command that this software knows; upgrade this node")]
    Unknown,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("its topology does not check: {0}")]
    Topology(#[from] Problems),
}

impl Command {
    /// The feature level that a node needs to apply it.
    pub fn feature_level(&self) -> u32 {
        match self {
            Self::AdmitDisk(_) => 2,
            Self::BeginMove(_) | Self::ReportSuffix(_) => 3,
            Self::ChooseCut(choice) => choice.verdict.feature_level(choice.by_word),
            Self::ActivateHome(activation) => activation.verdict.feature_level(activation.by_word),
            Self::ChangeMode(_) => 4,
            Self::RecoverMeta(_) => 5,
            Self::ReplacePlacement(p) if p.partition == TopicPartition::META => 2,
            _ => 1,
        }
    }

    pub fn encode(&self) -> Bytes {
        let envelope = Envelope {
            version: VERSION,
            feature_level: self.feature_level(),
            command: Some(CommandWire::from(self)),
        };
        envelope.encode_to_vec().into()
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let head = Head::decode(value)?;
        if head.version != VERSION {
            return Err(Error::Version(head.version));
        }
        if head.feature_level > FEATURE_LEVEL {
            return Err(Error::FeatureLevel(head.feature_level));
        }
        Envelope::decode(value)?.command.ok_or(Error::Unknown)?.try_into()
    }
}

/// What of an envelope can be read in every version.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    feature_level: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    feature_level: u32,
    #[prost(
        oneof = "CommandWire",
        tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19"
    )]
    command: Option<CommandWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum CommandWire {
    #[prost(string, tag = "3")]
    NameCluster(String),
    #[prost(message, tag = "4")]
    RegisterNode(NodeWire),
    #[prost(message, tag = "5")]
    ApplyTopology(ApplyTopologyWire),
    #[prost(message, tag = "6")]
    CreateTopic(TopicWire),
    #[prost(bytes = "vec", tag = "7")]
    DeleteTopic(Vec<u8>),
    #[prost(message, tag = "8")]
    CreatePartitions(CreatePartitionsWire),
    #[prost(message, tag = "9")]
    AlterTopicConfigs(AlterTopicConfigsWire),
    #[prost(message, tag = "10")]
    AllocateProducerIds(AllocateProducerIdsWire),
    #[prost(message, tag = "11")]
    ReplacePlacement(PlacementWire),
    #[prost(message, tag = "12")]
    Snapshot(Part),
    #[prost(message, tag = "13")]
    AdmitDisk(AdmitDiskWire),
    #[prost(message, tag = "14")]
    BeginMove(BeginWire),
    #[prost(message, tag = "15")]
    ActivateHome(ActivationWire),
    #[prost(message, tag = "16")]
    ReportSuffix(ReportWire),
    #[prost(message, tag = "17")]
    ChooseCut(ChoiceWire),
    #[prost(message, tag = "18")]
    ChangeMode(ChangeWire),
    #[prost(message, tag = "19")]
    RecoverMeta(RecoverWire),
}

#[derive(Clone, PartialEq, prost::Message)]
struct AdmitDiskWire {
    #[prost(uint32, tag = "1")]
    node: u32,
    /// Empty: none.
    #[prost(bytes = "vec", tag = "2")]
    expected: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    disk: Vec<u8>,
    #[prost(message, required, tag = "4")]
    meta: PlacementWire,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ApplyTopologyWire {
    #[prost(uint64, tag = "1")]
    expected: u64,
    #[prost(string, tag = "2")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreatePartitionsWire {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(uint32, tag = "2")]
    from: u32,
    #[prost(message, repeated, tag = "3")]
    partitions: Vec<PartitionWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AlterTopicConfigsWire {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    set: Vec<ConfigWire>,
    #[prost(string, repeated, tag = "3")]
    delete: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AllocateProducerIdsWire {
    #[prost(int64, tag = "1")]
    first: i64,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PlacementWire {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(uint32, tag = "3")]
    home_epoch: u32,
    #[prost(uint64, tag = "4")]
    placement_generation: u64,
    #[prost(message, repeated, tag = "5")]
    replicas: Vec<ReplicaWire>,
    #[prost(uint64, tag = "6")]
    next_replica_id: u64,
}

impl From<&Command> for CommandWire {
    fn from(command: &Command) -> Self {
        match command {
            Command::NameCluster { id } => Self::NameCluster(id.to_string()),
            Command::RegisterNode(node) => Self::RegisterNode((&**node).into()),
            Command::ApplyTopology { expected, topology } => {
                let text = topology.source().to_owned();
                Self::ApplyTopology(ApplyTopologyWire { expected: *expected, text })
            }
            Command::CreateTopic(topic) => Self::CreateTopic((&**topic).into()),
            Command::DeleteTopic { id } => Self::DeleteTopic(id.0.to_vec()),
            Command::CreatePartitions { topic, from, partitions } => {
                Self::CreatePartitions(CreatePartitionsWire {
                    topic: topic.0.to_vec(),
                    from: *from,
                    partitions: partitions.iter().map(|p| (&**p).into()).collect(),
                })
            }
            Command::AlterTopicConfigs { topic, set, delete } => {
                Self::AlterTopicConfigs(AlterTopicConfigsWire {
                    topic: topic.0.to_vec(),
                    set: wire::configs_to_wire(set),
                    delete: delete.clone(),
                })
            }
            Command::AllocateProducerIds { first, count } => {
                let (first, count) = (*first, *count);
                Self::AllocateProducerIds(AllocateProducerIdsWire { first, count })
            }
            Command::ReplacePlacement(placement) => Self::ReplacePlacement(placement.into()),
            Command::AdmitDisk(a) => Self::AdmitDisk(AdmitDiskWire {
                node: a.node.as_u32(),
                expected: a.expected.map(|disk| disk.to_vec()).unwrap_or_default(),
                disk: a.disk.to_vec(),
                meta: (&a.meta).into(),
            }),
            Command::BeginMove(begin) => Self::BeginMove(begin.into()),
            Command::ChooseCut(choice) => Self::ChooseCut((&**choice).into()),
            Command::ActivateHome(activation) => Self::ActivateHome((&**activation).into()),
            Command::ReportSuffix(report) => Self::ReportSuffix(report.into()),
            Command::ChangeMode(change) => Self::ChangeMode(change.into()),
            Command::RecoverMeta(recover) => Self::RecoverMeta((&**recover).into()),
            Command::Snapshot(part) => Self::Snapshot(part.clone()),
        }
    }
}

impl TryFrom<CommandWire> for Command {
    type Error = Error;

    fn try_from(wire: CommandWire) -> Result<Self, Error> {
        Ok(match wire {
            CommandWire::NameCluster(id) => Self::NameCluster { id: id.into() },
            CommandWire::RegisterNode(node) => Self::RegisterNode(Arc::new(node.try_into()?)),
            CommandWire::ApplyTopology(ApplyTopologyWire { expected, text }) => {
                let (topology, _) = Topology::parse(&text)?;
                Self::ApplyTopology { expected, topology: Arc::new(topology) }
            }
            CommandWire::CreateTopic(topic) => Self::CreateTopic(Arc::new(topic.try_into()?)),
            CommandWire::DeleteTopic(id) => Self::DeleteTopic { id: wire::topic_id(&id)? },
            CommandWire::CreatePartitions(c) => Self::CreatePartitions {
                topic: wire::topic_id(&c.topic)?,
                from: c.from,
                partitions: wire::all(c.partitions, |p| p.try_into().map(Arc::new))?,
            },
            CommandWire::AlterTopicConfigs(c) => Self::AlterTopicConfigs {
                topic: wire::topic_id(&c.topic)?,
                set: wire::configs_from_wire(c.set),
                delete: c.delete,
            },
            CommandWire::AllocateProducerIds(AllocateProducerIdsWire { first, count }) => {
                Self::AllocateProducerIds { first, count }
            }
            CommandWire::ReplacePlacement(p) => Self::ReplacePlacement(p.try_into()?),
            CommandWire::AdmitDisk(a) => Self::AdmitDisk(AdmitDisk {
                node: wire::node_id(a.node)?,
                expected: (!a.expected.is_empty())
                    .then(|| wire::disk_id(&a.expected))
                    .transpose()?,
                disk: wire::disk_id(&a.disk)?,
                meta: a.meta.try_into()?,
            }),
            CommandWire::BeginMove(begin) => Self::BeginMove(begin.try_into()?),
            CommandWire::ChooseCut(c) => Self::ChooseCut(Box::new(c.try_into()?)),
            CommandWire::ActivateHome(a) => Self::ActivateHome(Box::new(a.try_into()?)),
            CommandWire::ReportSuffix(report) => Self::ReportSuffix(report.try_into()?),
            CommandWire::ChangeMode(change) => Self::ChangeMode(change.try_into()?),
            CommandWire::RecoverMeta(r) => Self::RecoverMeta(Box::new(r.try_into()?)),
            CommandWire::Snapshot(part) => Self::Snapshot(part),
        })
    }
}

impl From<&Placement> for PlacementWire {
    fn from(placement: &Placement) -> Self {
        Self {
            topic: placement.partition.topic.0.to_vec(),
            partition: placement.partition.partition,
            home_epoch: placement.home_epoch.as_u32(),
            placement_generation: placement.placement_generation,
            replicas: placement.replicas.iter().map(ReplicaWire::from).collect(),
            next_replica_id: placement.next_replica_id.0,
        }
    }
}

impl TryFrom<PlacementWire> for Placement {
    type Error = Malformed;

    fn try_from(wire: PlacementWire) -> Result<Self, Malformed> {
        let topic = wire::topic_id(&wire.topic)?;
        Ok(Self {
            partition: TopicPartition { topic, partition: wire.partition },
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            placement_generation: wire.placement_generation,
            replicas: wire::all(wire.replicas, Replica::try_from)?,
            next_replica_id: ReplicaId(wire.next_replica_id),
        })
    }
}
