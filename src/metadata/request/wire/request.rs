//! What is asked.

use prost::Message;

use super::{Empty, VERSION, WireError, messages};
use crate::metadata::modes::Change;
use crate::metadata::modes::wire::ChangeWire;
use crate::metadata::moves::wire::{ActivationWire, BeginWire, ChoiceWire, ReportWire};
use crate::metadata::moves::{Activation, Begin, Choice};
use crate::metadata::request::{
    AlterConfigs, ConfigChange, ConfigOp, NewPartitions, NewTopic, Request, TopicRef,
};
use crate::metadata::wire::{self, ConfigWire, Malformed, NodeWire};
use crate::model::{ReplicaId, TopicPartition};

messages! {
    RequestWire {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(oneof = "RequestKind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16")]
        kind: Option<RequestKind>,
    }
    CreateTopicsWire {
        #[prost(message, repeated, tag = "1")]
        topics: Vec<NewTopicWire>,
        #[prost(bool, tag = "2")]
        validate_only: bool,
    }
    NewTopicWire {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(int32, optional, tag = "2")]
        partitions: Option<i32>,
        #[prost(int32, optional, tag = "3")]
        replication_factor: Option<i32>,
        #[prost(message, repeated, tag = "4")]
        assignments: Vec<AssignmentWire>,
        #[prost(message, repeated, tag = "5")]
        configs: Vec<ConfigWire>,
    }
    AssignmentWire {
        #[prost(int32, tag = "1")]
        partition: i32,
        #[prost(int32, repeated, tag = "2")]
        brokers: Vec<i32>,
    }
    EnsureTopicsWire {
        #[prost(string, repeated, tag = "1")]
        names: Vec<String>,
    }
    DeleteTopicsWire {
        #[prost(message, repeated, tag = "1")]
        topics: Vec<TopicRefWire>,
    }
    /// One of the two.
    TopicRefWire {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(bytes = "vec", tag = "2")]
        id: Vec<u8>,
    }
    CreatePartitionsWire {
        #[prost(message, repeated, tag = "1")]
        topics: Vec<NewPartitionsWire>,
        #[prost(bool, tag = "2")]
        validate_only: bool,
    }
    NewPartitionsWire {
        #[prost(string, tag = "1")]
        topic: String,
        #[prost(int32, tag = "2")]
        count: i32,
        #[prost(bool, tag = "3")]
        manual: bool,
        #[prost(message, repeated, tag = "4")]
        assignments: Vec<AssignmentWire>,
    }
    AlterConfigsWire {
        #[prost(message, repeated, tag = "1")]
        topics: Vec<AlterTopicWire>,
        #[prost(bool, tag = "2")]
        validate_only: bool,
    }
    AlterTopicWire {
        #[prost(string, tag = "1")]
        topic: String,
        #[prost(bool, tag = "2")]
        replace: bool,
        #[prost(message, repeated, tag = "3")]
        ops: Vec<ConfigOpWire>,
    }
    ConfigOpWire {
        /// Kafka's numbers: 0 set, 1 delete, 2 append, 3 subtract.
        #[prost(uint32, tag = "1")]
        op: u32,
        #[prost(string, tag = "2")]
        key: String,
        #[prost(string, tag = "3")]
        value: String,
    }
    ApplyTopologyWire {
        #[prost(string, tag = "1")]
        text: String,
        #[prost(uint64, optional, tag = "2")]
        expected_generation: Option<u64>,
        #[prost(bool, tag = "3")]
        validate_only: bool,
    }
    AdmitDiskWire {
        #[prost(uint32, tag = "1")]
        node: u32,
        #[prost(bytes = "vec", tag = "2")]
        disk: Vec<u8>,
        #[prost(bool, tag = "3")]
        accept_loss: bool,
    }
    PromoteReplicaWire {
        #[prost(bytes = "vec", tag = "1")]
        topic: Vec<u8>,
        #[prost(int32, tag = "2")]
        partition: i32,
        #[prost(uint64, tag = "3")]
        replica: u64,
        #[prost(uint32, tag = "4")]
        home_epoch: u32,
        #[prost(uint64, tag = "5")]
        placement_generation: u64,
    }
    MoveHomesWire {
        #[prost(message, repeated, tag = "1")]
        moves: Vec<BeginWire>,
    }
    ChooseCutsWire {
        #[prost(message, repeated, tag = "1")]
        choices: Vec<ChoiceWire>,
    }
    ActivateHomesWire {
        #[prost(message, repeated, tag = "1")]
        activations: Vec<ActivationWire>,
    }
    ChangeModesWire {
        #[prost(message, repeated, tag = "1")]
        changes: Vec<ChangeWire>,
    }
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum RequestKind {
    #[prost(message, tag = "2")]
    RegisterNode(NodeWire),
    #[prost(message, tag = "3")]
    CreateTopics(CreateTopicsWire),
    #[prost(message, tag = "4")]
    EnsureTopics(EnsureTopicsWire),
    #[prost(message, tag = "5")]
    DeleteTopics(DeleteTopicsWire),
    #[prost(message, tag = "6")]
    CreatePartitions(CreatePartitionsWire),
    #[prost(message, tag = "7")]
    AlterConfigs(AlterConfigsWire),
    #[prost(message, tag = "8")]
    AllocateProducerIds(Empty),
    #[prost(message, tag = "9")]
    ApplyTopology(ApplyTopologyWire),
    #[prost(message, tag = "10")]
    PromoteReplica(PromoteReplicaWire),
    #[prost(message, tag = "11")]
    AdmitDisk(AdmitDiskWire),
    #[prost(message, tag = "12")]
    MoveHomes(MoveHomesWire),
    #[prost(message, tag = "13")]
    ActivateHomes(ActivateHomesWire),
    #[prost(message, tag = "14")]
    ReportSuffix(ReportWire),
    #[prost(message, tag = "15")]
    ChooseCuts(ChooseCutsWire),
    #[prost(message, tag = "16")]
    ChangeModes(ChangeModesWire),
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        RequestWire { version: VERSION, kind: Some(self.into()) }.encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let wire = RequestWire::decode(bytes)?;
        if wire.version != VERSION {
            return Err(WireError::Version(wire.version));
        }
        Ok(wire.kind.ok_or(WireError::Unknown)?.try_into()?)
    }
}

impl From<&Request> for RequestKind {
    fn from(request: &Request) -> Self {
        match request {
            Request::RegisterNode(node) => Self::RegisterNode(node.into()),
            Request::AdmitDisk { node, disk, accept_loss } => {
                let (node, disk) = (node.as_u32(), disk.to_vec());
                Self::AdmitDisk(AdmitDiskWire { node, disk, accept_loss: *accept_loss })
            }
            Request::CreateTopics { topics, validate_only } => {
                let topics = topics.iter().map(NewTopicWire::from).collect();
                Self::CreateTopics(CreateTopicsWire { topics, validate_only: *validate_only })
            }
            Request::EnsureTopics { names } => {
                Self::EnsureTopics(EnsureTopicsWire { names: names.clone() })
            }
            Request::DeleteTopics { topics } => {
                let topics = topics.iter().map(TopicRefWire::from).collect();
                Self::DeleteTopics(DeleteTopicsWire { topics })
            }
            Request::CreatePartitions { topics, validate_only } => {
                let topics = topics.iter().map(NewPartitionsWire::from).collect();
                let validate_only = *validate_only;
                Self::CreatePartitions(CreatePartitionsWire { topics, validate_only })
            }
            Request::AlterConfigs { topics, validate_only } => {
                let topics = topics.iter().map(AlterTopicWire::from).collect();
                Self::AlterConfigs(AlterConfigsWire { topics, validate_only: *validate_only })
            }
            Request::AllocateProducerIds => Self::AllocateProducerIds(Empty {}),
            Request::ApplyTopology { text, expected_generation, validate_only } => {
                Self::ApplyTopology(ApplyTopologyWire {
                    text: text.clone(),
                    expected_generation: *expected_generation,
                    validate_only: *validate_only,
                })
            }
            Request::PromoteReplica { partition, replica, home_epoch, placement_generation } => {
                Self::PromoteReplica(PromoteReplicaWire {
                    topic: partition.topic.0.to_vec(),
                    partition: partition.partition,
                    replica: replica.0,
                    home_epoch: home_epoch.as_u32(),
                    placement_generation: *placement_generation,
                })
            }
            Request::MoveHomes { moves } => Self::MoveHomes(MoveHomesWire {
                moves: moves.iter().map(BeginWire::from).collect(),
            }),
            Request::ChooseCuts { choices } => {
                let choices = choices.iter().map(ChoiceWire::from).collect();
                Self::ChooseCuts(ChooseCutsWire { choices })
            }
            Request::ActivateHomes { activations } => {
                let activations = activations.iter().map(ActivationWire::from).collect();
                Self::ActivateHomes(ActivateHomesWire { activations })
            }
            Request::ReportSuffix(report) => Self::ReportSuffix(report.into()),
            Request::ChangeModes { changes } => {
                let changes = changes.iter().map(ChangeWire::from).collect();
                Self::ChangeModes(ChangeModesWire { changes })
            }
        }
    }
}

impl TryFrom<RequestKind> for Request {
    type Error = Malformed;

    fn try_from(kind: RequestKind) -> Result<Self, Malformed> {
        Ok(match kind {
            RequestKind::RegisterNode(node) => Self::RegisterNode(node.try_into()?),
            RequestKind::AdmitDisk(a) => Self::AdmitDisk {
                node: wire::node_id(a.node)?,
                disk: wire::disk_id(&a.disk)?,
                accept_loss: a.accept_loss,
            },
            RequestKind::CreateTopics(CreateTopicsWire { topics, validate_only }) => {
                let topics = wire::all(topics, NewTopic::try_from)?;
                Self::CreateTopics { topics, validate_only }
            }
            RequestKind::EnsureTopics(EnsureTopicsWire { names }) => Self::EnsureTopics { names },
            RequestKind::DeleteTopics(DeleteTopicsWire { topics }) => {
                Self::DeleteTopics { topics: wire::all(topics, TopicRef::try_from)? }
            }
            RequestKind::CreatePartitions(CreatePartitionsWire { topics, validate_only }) => {
                let topics = topics.into_iter().map(NewPartitions::from).collect();
                Self::CreatePartitions { topics, validate_only }
            }
            RequestKind::AlterConfigs(AlterConfigsWire { topics, validate_only }) => {
                let topics = wire::all(topics, AlterConfigs::try_from)?;
                Self::AlterConfigs { topics, validate_only }
            }
            RequestKind::AllocateProducerIds(Empty {}) => Self::AllocateProducerIds,
            RequestKind::ApplyTopology(a) => Self::ApplyTopology {
                text: a.text,
                expected_generation: a.expected_generation,
                validate_only: a.validate_only,
            },
            RequestKind::PromoteReplica(p) => Self::PromoteReplica {
                partition: TopicPartition {
                    topic: wire::topic_id(&p.topic)?,
                    partition: p.partition,
                },
                replica: ReplicaId(p.replica),
                home_epoch: wire::home_epoch(p.home_epoch)?,
                placement_generation: p.placement_generation,
            },
            RequestKind::MoveHomes(MoveHomesWire { moves }) => {
                Self::MoveHomes { moves: wire::all(moves, Begin::try_from)? }
            }
            RequestKind::ChooseCuts(ChooseCutsWire { choices }) => {
                Self::ChooseCuts { choices: wire::all(choices, Choice::try_from)? }
            }
            RequestKind::ActivateHomes(ActivateHomesWire { activations }) => {
                Self::ActivateHomes { activations: wire::all(activations, Activation::try_from)? }
            }
            RequestKind::ReportSuffix(report) => Self::ReportSuffix(report.try_into()?),
            RequestKind::ChangeModes(ChangeModesWire { changes }) => {
                Self::ChangeModes { changes: wire::all(changes, Change::try_from)? }
            }
        })
    }
}

impl From<&NewTopic> for NewTopicWire {
    fn from(topic: &NewTopic) -> Self {
        let assignment = |(partition, brokers): (&i32, &Vec<i32>)| AssignmentWire {
            partition: *partition,
            brokers: brokers.clone(),
        };
        Self {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor.map(i32::from),
            assignments: topic.assignments.iter().map(assignment).collect(),
            configs: wire::configs_to_wire(&topic.configs),
        }
    }
}

impl TryFrom<NewTopicWire> for NewTopic {
    type Error = Malformed;

    fn try_from(wire: NewTopicWire) -> Result<Self, Malformed> {
        let factor = wire
            .replication_factor
            .map(|f| i16::try_from(f).map_err(|_| Malformed::new("replication factor", f)));
        Ok(Self {
            name: wire.name,
            partitions: wire.partitions,
            replication_factor: factor.transpose()?,
            assignments: wire.assignments.into_iter().map(|a| (a.partition, a.brokers)).collect(),
            configs: wire::configs_from_wire(wire.configs),
        })
    }
}

impl From<&TopicRef> for TopicRefWire {
    fn from(topic: &TopicRef) -> Self {
        match topic {
            TopicRef::Name(name) => Self { name: name.clone(), id: Vec::new() },
            TopicRef::Id(id) => Self { name: String::new(), id: id.0.to_vec() },
        }
    }
}

impl TryFrom<TopicRefWire> for TopicRef {
    type Error = Malformed;

    fn try_from(wire: TopicRefWire) -> Result<Self, Malformed> {
        if wire.id.is_empty() {
            Ok(Self::Name(wire.name))
        } else {
            wire::topic_id(&wire.id).map(Self::Id)
        }
    }
}

impl From<&NewPartitions> for NewPartitionsWire {
    fn from(new: &NewPartitions) -> Self {
        let assignment = |(partition, brokers): (i32, &Vec<i32>)| AssignmentWire {
            partition,
            brokers: brokers.clone(),
        };
        let manual = new.assignments.iter().flatten();
        Self {
            topic: new.topic.clone(),
            count: new.count,
            manual: new.assignments.is_some(),
            assignments: (0..).zip(manual).map(assignment).collect(),
        }
    }
}

impl From<NewPartitionsWire> for NewPartitions {
    fn from(wire: NewPartitionsWire) -> Self {
        let brokers = wire.assignments.into_iter().map(|a| a.brokers);
        let assignments = wire.manual.then(|| brokers.collect());
        Self { topic: wire.topic, count: wire.count, assignments }
    }
}

impl From<&AlterConfigs> for AlterTopicWire {
    fn from(alter: &AlterConfigs) -> Self {
        let op = |op: u32, key: &str, value: &str| ConfigOpWire {
            op,
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let ops = match &alter.change {
            ConfigChange::Replace(all) => all.iter().map(|(k, v)| op(0, k, v)).collect(),
            ConfigChange::Incremental(ops) => ops
                .iter()
                .map(|change| match change {
                    ConfigOp::Set { key, value } => op(0, key, value),
                    ConfigOp::Delete { key } => op(1, key, ""),
                    ConfigOp::Append { key, value } => op(2, key, value),
                    ConfigOp::Subtract { key, value } => op(3, key, value),
                })
                .collect(),
        };
        let replace = matches!(alter.change, ConfigChange::Replace(_));
        Self { topic: alter.topic.clone(), replace, ops }
    }
}

impl TryFrom<AlterTopicWire> for AlterConfigs {
    type Error = Malformed;

    fn try_from(wire: AlterTopicWire) -> Result<Self, Malformed> {
        let change = if wire.replace {
            ConfigChange::Replace(wire.ops.into_iter().map(|o| (o.key, o.value)).collect())
        } else {
            ConfigChange::Incremental(wire::all(wire.ops, |ConfigOpWire { op, key, value }| {
                Ok(match op {
                    0 => ConfigOp::Set { key, value },
                    1 => ConfigOp::Delete { key },
                    2 => ConfigOp::Append { key, value },
                    3 => ConfigOp::Subtract { key, value },
                    other => return Err(Malformed::new("config operation", other)),
                })
            })?)
        };
        Ok(Self { topic: wire.topic, change })
    }
}
