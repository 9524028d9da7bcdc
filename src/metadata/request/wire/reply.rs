//! What is answered.

use std::sync::Arc;

use prost::Message;

use super::{Empty, VERSION, WireError, messages};
use crate::log::Fork;
use crate::metadata::image::Replica;
use crate::metadata::moves::wire::ForkWire;
use crate::metadata::refusal::{Refusal, RefusalWire};
use crate::metadata::request::{
    Admitted, CreatedTopic, DeletedTopic, ProducerIds, Reply, Response, TopologyApplied,
};
use crate::metadata::wire::{self, Malformed, ReplicaWire};
use crate::model::{NodeId, Offset, ReplicaId};

messages! {
    ReplyWire {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(int64, tag = "2")]
        visible_at: i64,
        #[prost(oneof = "ReplyKind", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20")]
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
    AdmittedWire {
        #[prost(uint64, tag = "1")]
        replica: u64,
        #[prost(uint64, tag = "2")]
        placement_generation: u64,
        #[prost(message, repeated, tag = "3")]
        replicas: Vec<ReplicaWire>,
        /// 0: of a release in which there was but one.
        #[prost(uint32, tag = "4")]
        home_epoch: u32,
        #[prost(message, optional, tag = "5")]
        fork: Option<ForkWire>,
    }
    TopologyAppliedWire {
        #[prost(uint64, tag = "1")]
        generation: u64,
        #[prost(string, repeated, tag = "2")]
        notes: Vec<String>,
    }
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
    #[prost(message, tag = "15")]
    Admitted(AdmittedWire),
    #[prost(message, tag = "16")]
    MovesBegun(ResultsWire),
    #[prost(message, tag = "17")]
    HomesActivated(ResultsWire),
    #[prost(message, tag = "18")]
    Reported(Empty),
    #[prost(message, tag = "19")]
    CutsChosen(ResultsWire),
    #[prost(message, tag = "20")]
    ModesChanged(ResultsWire),
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
            ReplyKind::MovesBegun(r) => Response::MovesBegun(results(r, |_| Ok(()))?),
            ReplyKind::CutsChosen(r) => Response::CutsChosen(results(r, |_| Ok(()))?),
            ReplyKind::HomesActivated(r) => Response::HomesActivated(results(r, |_| Ok(()))?),
            ReplyKind::ModesChanged(r) => Response::ModesChanged(results(r, |_| Ok(()))?),
            ReplyKind::Reported(_) => Response::Reported,
            ReplyKind::Admitted(a) => Response::Admitted(Admitted {
                replica: ReplicaId(a.replica),
                placement_generation: a.placement_generation,
                replicas: wire::all(a.replicas, Replica::try_from)?,
                home_epoch: wire::home_epoch(a.home_epoch.max(1))?,
                fork: a.fork.map(|fork| Fork::try_from(fork).map(Arc::new)).transpose()?,
            }),
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
            Response::MovesBegun(results) => {
                Self::MovesBegun(results_to_wire(results, |()| ResultWire::default()))
            }
            Response::CutsChosen(results) => {
                Self::CutsChosen(results_to_wire(results, |()| ResultWire::default()))
            }
            Response::HomesActivated(results) => {
                Self::HomesActivated(results_to_wire(results, |()| ResultWire::default()))
            }
            Response::ModesChanged(results) => {
                Self::ModesChanged(results_to_wire(results, |()| ResultWire::default()))
            }
            Response::Reported => Self::Reported(Empty {}),
            Response::Admitted(admitted) => Self::Admitted(AdmittedWire {
                replica: admitted.replica.0,
                placement_generation: admitted.placement_generation,
                replicas: admitted.replicas.iter().map(ReplicaWire::from).collect(),
                home_epoch: admitted.home_epoch.as_u32(),
                fork: admitted.fork.as_deref().map(ForkWire::from),
            }),
        }
    }
}
