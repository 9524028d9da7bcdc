//! Requests and replies between nodes: protobuf, with a version in front.

use prost::Message;

use super::*;
use crate::metadata::refusal::RefusalWire;
use crate::metadata::wire::{self, ConfigWire, Malformed, NodeWire};

/// Of both. A node that does not know a version says so; callers ask the leader again after the
/// rolling upgrade.
const VERSION: u32 = 1;

/// Bytes that are no request or reply of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a metadata message of version {0}, this software knows {VERSION}")]
    Version(u32),
    #[error("a metadata message that this software does not know")]
    Unknown,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, PartialEq, prost::Message)]
            struct $name { $($(#[$attr])* $field: $type,)* }
        )*
    };
}

messages! {
    RequestWire {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(oneof = "RequestKind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
        kind: Option<RequestKind>,
    }
    Empty {}
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
    ReplyWire {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(int64, tag = "2")]
        visible_at: i64,
        #[prost(oneof = "ReplyKind", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
        kind: Option<ReplyKind>,
    }
    /// One result per topic: a refusal, or what was done.
    ResultsWire {
        #[prost(message, repeated, tag = "1")]
        results: Vec<ResultWire>,
    }
    ResultWire {
        #[prost(message, optional, tag = "1")]
        refusal: Option<RefusalWire>,
        #[prost(string, tag = "2")]
        name: String,
        #[prost(bytes = "vec", tag = "3")]
        id: Vec<u8>,
        #[prost(int32, tag = "4")]
        partitions: i32,
        #[prost(int32, tag = "5")]
        replication_factor: i32,
        #[prost(bool, tag = "6")]
        existed: bool,
    }
    ProducerIdsWire {
        #[prost(int64, tag = "1")]
        first: i64,
        #[prost(uint32, tag = "2")]
        count: u32,
    }
    TopologyAppliedWire {
        #[prost(uint64, tag = "1")]
        generation: u64,
        #[prost(string, repeated, tag = "2")]
        notes: Vec<String>,
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
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ReplyKind {
    #[prost(message, tag = "3")]
    Refused(RefusalWire),
    /// The hint; 0 for none.
    #[prost(uint32, tag = "4")]
    NotLeader(u32),
    #[prost(message, tag = "5")]
    Busy(Empty),
    #[prost(message, tag = "6")]
    Unknown(Empty),
    #[prost(message, tag = "7")]
    Registered(Empty),
    #[prost(message, tag = "8")]
    TopicsCreated(ResultsWire),
    #[prost(message, tag = "9")]
    TopicsDeleted(ResultsWire),
    #[prost(message, tag = "10")]
    PartitionsCreated(ResultsWire),
    #[prost(message, tag = "11")]
    ConfigsAltered(ResultsWire),
    #[prost(message, tag = "12")]
    ProducerIds(ProducerIdsWire),
    #[prost(message, tag = "13")]
    Topology(TopologyAppliedWire),
    #[prost(message, tag = "14")]
    Promoted(Empty),
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

impl Reply {
    pub fn encode(&self) -> Vec<u8> {
        let visible_at = match self {
            Self::Done { visible_at, .. } => visible_at.0,
            _ => 0,
        };
        ReplyWire { version: VERSION, visible_at, kind: Some(self.into()) }.encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let wire = ReplyWire::decode(bytes)?;
        if wire.version != VERSION {
            return Err(WireError::Version(wire.version));
        }
        let visible_at = Offset(wire.visible_at);
        let response = match wire.kind.ok_or(WireError::Unknown)? {
            ReplyKind::Refused(refusal) => return Ok(Self::Refused(refusal.into())),
            ReplyKind::NotLeader(0) => return Ok(Self::NotLeader { hint: None }),
            ReplyKind::NotLeader(node) => {
                return Ok(Self::NotLeader { hint: Some(wire::node_id(node)?) });
            }
            ReplyKind::Busy(_) => return Ok(Self::Busy),
            ReplyKind::Unknown(_) => return Ok(Self::Unknown),
            ReplyKind::Registered(_) => Response::Registered,
            ReplyKind::TopicsCreated(r) => Response::TopicsCreated(results(r, created)?),
            ReplyKind::TopicsDeleted(r) => Response::TopicsDeleted(results(r, deleted)?),
            ReplyKind::PartitionsCreated(r) => Response::PartitionsCreated(results(r, |_| Ok(()))?),
            ReplyKind::ConfigsAltered(r) => Response::ConfigsAltered(results(r, |_| Ok(()))?),
            ReplyKind::ProducerIds(ProducerIdsWire { first, count }) => {
                Response::ProducerIds(ProducerIds { first, count })
            }
            ReplyKind::Topology(TopologyAppliedWire { generation, notes }) => {
                Response::Topology(TopologyApplied { generation, notes })
            }
            ReplyKind::Promoted(_) => Response::Promoted,
        };
        Ok(Self::Done { response, visible_at })
    }
}

fn created(wire: ResultWire) -> Result<CreatedTopic, Malformed> {
    let factor = wire.replication_factor;
    Ok(CreatedTopic {
        name: wire.name.into(),
        id: wire::topic_id(&wire.id)?,
        partitions: wire.partitions,
        replication_factor: i16::try_from(factor)
            .map_err(|_| Malformed::new("replication factor", factor))?,
        existed: wire.existed,
    })
}

fn deleted(wire: ResultWire) -> Result<DeletedTopic, Malformed> {
    Ok(DeletedTopic { name: wire.name.into(), id: wire::topic_id(&wire.id)? })
}

fn results<T>(
    wire: ResultsWire,
    done: impl Fn(ResultWire) -> Result<T, Malformed>,
) -> Result<Vec<Result<T, Refusal>>, Malformed> {
    wire::all(wire.results, |mut result| match result.refusal.take() {
        Some(refusal) => Ok(Err(refusal.into())),
        None => done(result).map(Ok),
    })
}

fn results_to_wire<T>(
    results: &[Result<T, Refusal>],
    done: impl Fn(&T) -> ResultWire,
) -> ResultsWire {
    let one = |result: &Result<T, Refusal>| match result {
        Ok(what) => done(what),
        Err(refusal) => ResultWire { refusal: Some(refusal.into()), ..ResultWire::default() },
    };
    ResultsWire { results: results.iter().map(one).collect() }
}

impl From<&Reply> for ReplyKind {
    fn from(reply: &Reply) -> Self {
        let response = match reply {
            Reply::Refused(refusal) => return Self::Refused(refusal.into()),
            Reply::NotLeader { hint } => return Self::NotLeader(hint.map_or(0, NodeId::as_u32)),
            Reply::Busy => return Self::Busy(Empty {}),
            Reply::Unknown => return Self::Unknown(Empty {}),
            Reply::Done { response, .. } => response,
        };
        match response {
            Response::Registered => Self::Registered(Empty {}),
            Response::TopicsCreated(results) => {
                Self::TopicsCreated(results_to_wire(results, |topic| ResultWire {
                    refusal: None,
                    name: topic.name.to_string(),
                    id: topic.id.0.to_vec(),
                    partitions: topic.partitions,
                    replication_factor: i32::from(topic.replication_factor),
                    existed: topic.existed,
                }))
            }
            Response::TopicsDeleted(results) => {
                Self::TopicsDeleted(results_to_wire(results, |topic| ResultWire {
                    name: topic.name.to_string(),
                    id: topic.id.0.to_vec(),
                    ..ResultWire::default()
                }))
            }
            Response::PartitionsCreated(results) => {
                Self::PartitionsCreated(results_to_wire(results, |()| ResultWire::default()))
            }
            Response::ConfigsAltered(results) => {
                Self::ConfigsAltered(results_to_wire(results, |()| ResultWire::default()))
            }
            Response::ProducerIds(ProducerIds { first, count }) => {
                Self::ProducerIds(ProducerIdsWire { first: *first, count: *count })
            }
            Response::Topology(TopologyApplied { generation, notes }) => {
                let (generation, notes) = (*generation, notes.clone());
                Self::Topology(TopologyAppliedWire { generation, notes })
            }
            Response::Promoted => Self::Promoted(Empty {}),
        }
    }
}

impl From<&Request> for RequestKind {
    fn from(request: &Request) -> Self {
        match request {
            Request::RegisterNode(node) => Self::RegisterNode(node.into()),
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
        }
    }
}

impl TryFrom<RequestKind> for Request {
    type Error = Malformed;

    fn try_from(kind: RequestKind) -> Result<Self, Malformed> {
        Ok(match kind {
            RequestKind::RegisterNode(node) => Self::RegisterNode(node.try_into()?),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metadata::fixture::{n, node, topic};
    use crate::metadata::refusal::Reason;

    fn requests() -> Vec<Request> {
        let set = |key: &str| ConfigOp::Set { key: key.into(), value: "v".into() };
        let ops = vec![
            set("a"),
            ConfigOp::Delete { key: "b".into() },
            ConfigOp::Append { key: "c".into(), value: "x".into() },
            ConfigOp::Subtract { key: "d".into(), value: "y".into() },
        ];
        let assigned = NewTopic {
            assignments: BTreeMap::from([(0, vec![1, 2]), (1, vec![])]),
            replication_factor: Some(-3),
            partitions: None,
            ..topic("b", 0, &[("k", "v")])
        };
        vec![
            Request::RegisterNode(node(3)),
            Request::CreateTopics {
                topics: vec![topic("a", 3, &[]), assigned],
                validate_only: true,
            },
            Request::EnsureTopics { names: vec!["a".into(), String::new()] },
            Request::DeleteTopics {
                topics: vec![TopicRef::Name("a".into()), TopicRef::Id(TopicId([7; 16]))],
            },
            Request::CreatePartitions {
                topics: vec![
                    NewPartitions { topic: "a".into(), count: -1, assignments: None },
                    NewPartitions { topic: "b".into(), count: 2, assignments: Some(vec![]) },
                    NewPartitions {
                        topic: "c".into(),
                        count: 2,
                        assignments: Some(vec![vec![1], vec![]]),
                    },
                ],
                validate_only: false,
            },
            Request::AlterConfigs {
                topics: vec![
                    AlterConfigs { topic: "a".into(), change: ConfigChange::Incremental(ops) },
                    AlterConfigs {
                        topic: "b".into(),
                        change: ConfigChange::Replace(BTreeMap::from([("k".into(), "v".into())])),
                    },
                ],
                validate_only: true,
            },
            Request::AllocateProducerIds,
            Request::ApplyTopology {
                text: "version = 1".into(),
                expected_generation: Some(0),
                validate_only: true,
            },
            Request::PromoteReplica {
                partition: TopicPartition { topic: TopicId([1; 16]), partition: 4 },
                replica: ReplicaId(9),
                home_epoch: HomeEpoch::FIRST,
                placement_generation: 3,
            },
        ]
    }

    fn replies() -> Vec<Reply> {
        let refusal = Refusal::new(Reason::InvalidConfig, "no");
        let created = CreatedTopic {
            name: "a".into(),
            id: TopicId([1; 16]),
            partitions: 2,
            replication_factor: 9,
            existed: true,
        };
        let deleted = DeletedTopic { name: "a".into(), id: TopicId([1; 16]) };
        let responses = [
            Response::Registered,
            Response::TopicsCreated(vec![Ok(created), Err(refusal.clone())]),
            Response::TopicsDeleted(vec![Err(refusal.clone()), Ok(deleted)]),
            Response::PartitionsCreated(vec![Ok(()), Err(refusal.clone())]),
            Response::ConfigsAltered(vec![]),
            Response::ProducerIds(ProducerIds { first: 5, count: 1000 }),
            Response::Topology(TopologyApplied { generation: 4, notes: vec!["n".into()] }),
            Response::Promoted,
        ];
        let done = responses.map(|response| Reply::Done { response, visible_at: Offset(12) });
        let rest = [
            Reply::Refused(refusal),
            Reply::NotLeader { hint: None },
            Reply::NotLeader { hint: Some(n(4)) },
            Reply::Busy,
            Reply::Unknown,
        ];
        done.into_iter().chain(rest).collect()
    }

    #[test]
    fn requests_and_replies_arrive_as_they_left() {
        for request in requests() {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        for reply in replies() {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let mut bytes = Request::AllocateProducerIds.encode();
        bytes[1] = 9;
        assert_eq!(Request::decode(&bytes), Err(WireError::Version(9)));
        assert_eq!(Reply::decode(&bytes), Err(WireError::Version(9)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = which.get(&requests()).encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = Request::decode(&bytes);
            let _ = Reply::decode(&bytes);
        }
    }
}
