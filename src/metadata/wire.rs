//! The image's parts as protobuf messages: what commands and snapshots are made of on disk.
//!
//! Tags are never given a second meaning. A reader takes unknown fields for absent ones, so a field
//! that must not be ignored comes with a higher feature level (see `command`).

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_topology::Replication;

use super::budgets::{Bound, BoundWire};
use super::image::{DiskId, Listener, Node, Partition, Phase, Replica, Topic};
use super::modes::wire::ModeWire;
use super::moves::wire::{ForkWire, MovingWire};
use crate::model::{DcName, HomeEpoch, LogIndex, Mode, NodeId, ReplicaId, TopicId};

/// A message that parses as protobuf and still is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found}")]
pub struct Malformed {
    pub what: &'static str,
    pub found: String,
}

impl Malformed {
    pub(super) fn new(what: &'static str, found: impl std::fmt::Debug) -> Self {
        Self { what, found: format!("{found:?}") }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NodeWire {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    dc: String,
    #[prost(bytes = "vec", tag = "3")]
    disk: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    listeners: Vec<ListenerWire>,
    #[prost(string, tag = "5")]
    admin: String,
    #[prost(string, tag = "6")]
    version: String,
    #[prost(uint32, tag = "7")]
    feature_level: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListenerWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    host: String,
    #[prost(uint32, tag = "3")]
    port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TopicWire {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    configs: Vec<ConfigWire>,
    #[prost(message, repeated, tag = "4")]
    partitions: Vec<PartitionWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ConfigWire {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartitionWire {
    #[prost(string, tag = "1")]
    home: String,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    /// 1 active, 2 sealing.
    #[prost(uint32, tag = "3")]
    phase: u32,
    /// 0 async, else `sync_to`.
    #[prost(uint32, tag = "4")]
    sync_to: u32,
    #[prost(uint64, tag = "5")]
    sid: u64,
    #[prost(bool, tag = "6")]
    ever_sync: bool,
    #[prost(uint64, tag = "7")]
    placement_generation: u64,
    #[prost(message, repeated, tag = "8")]
    replicas: Vec<ReplicaWire>,
    #[prost(uint64, tag = "9")]
    next_replica_id: u64,
    #[prost(message, optional, tag = "10")]
    moving: Option<MovingWire>,
    #[prost(message, optional, tag = "11")]
    fork: Option<ForkWire>,
    #[prost(uint64, optional, tag = "12")]
    lossy_cut: Option<u64>,
    #[prost(bool, tag = "13")]
    degraded: bool,
    /// Absent: of a release in which no mode changed, so as it is.
    #[prost(message, optional, tag = "14")]
    began: Option<ModeWire>,
    #[prost(message, optional, tag = "15")]
    budget: Option<BoundWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReplicaWire {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint32, tag = "2")]
    node: u32,
    #[prost(bool, tag = "3")]
    voter: bool,
    /// Empty: not known yet.
    #[prost(bytes = "vec", tag = "4")]
    disk: Vec<u8>,
}

pub(super) fn topic_id(bytes: &[u8]) -> Result<TopicId, Malformed> {
    let id = bytes.try_into().map_err(|_| Malformed::new("topic id", bytes))?;
    Ok(TopicId(id))
}

pub(super) fn node_id(id: u32) -> Result<NodeId, Malformed> {
    NodeId::new(u64::from(id)).map_err(|_| Malformed::new("node id", id))
}

pub(super) fn dc_name(name: &str) -> Result<DcName, Malformed> {
    name.parse().map_err(|_| Malformed::new("datacenter name", name))
}

pub(super) fn home_epoch(epoch: u32) -> Result<HomeEpoch, Malformed> {
    HomeEpoch::new(epoch).ok_or_else(|| Malformed::new("home epoch", epoch))
}

pub(super) fn disk_id(bytes: &[u8]) -> Result<DiskId, Malformed> {
    bytes.try_into().map_err(|_| Malformed::new("disk id", bytes))
}

pub(super) fn all<T, U>(
    items: Vec<T>,
    convert: impl Fn(T) -> Result<U, Malformed>,
) -> Result<Vec<U>, Malformed> {
    items.into_iter().map(convert).collect()
}

impl From<&Node> for NodeWire {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.as_u32(),
            dc: node.dc.as_str().to_owned(),
            disk: node.disk.to_vec(),
            listeners: node.listeners.iter().map(ListenerWire::from).collect(),
            admin: node.admin.clone(),
            version: node.version.clone(),
            feature_level: node.feature_level,
        }
    }
}

impl TryFrom<NodeWire> for Node {
    type Error = Malformed;

    fn try_from(wire: NodeWire) -> Result<Self, Malformed> {
        Ok(Self {
            id: node_id(wire.id)?,
            dc: dc_name(&wire.dc)?,
            disk: disk_id(&wire.disk)?,
            listeners: all(wire.listeners, Listener::try_from)?,
            admin: wire.admin,
            version: wire.version,
            feature_level: wire.feature_level,
        })
    }
}

impl From<&Listener> for ListenerWire {
    fn from(listener: &Listener) -> Self {
        let Listener { name, host, port } = listener;
        Self { name: name.clone(), host: host.clone(), port: u32::from(*port) }
    }
}

impl TryFrom<ListenerWire> for Listener {
    type Error = Malformed;

    fn try_from(wire: ListenerWire) -> Result<Self, Malformed> {
        let port = wire.port.try_into().map_err(|_| Malformed::new("port", wire.port))?;
        Ok(Self { name: wire.name, host: wire.host, port })
    }
}

pub(super) fn configs_to_wire(configs: &BTreeMap<String, String>) -> Vec<ConfigWire> {
    configs
        .iter()
        .map(|(key, value)| ConfigWire { key: key.clone(), value: value.clone() })
        .collect()
}

pub(super) fn configs_from_wire(configs: Vec<ConfigWire>) -> BTreeMap<String, String> {
    configs.into_iter().map(|c| (c.key, c.value)).collect()
}

impl From<&Topic> for TopicWire {
    fn from(topic: &Topic) -> Self {
        Self {
            id: topic.id.0.to_vec(),
            name: topic.name.to_string(),
            configs: configs_to_wire(&topic.configs),
            partitions: topic.partitions.iter().map(|p| PartitionWire::from(&**p)).collect(),
        }
    }
}

impl TryFrom<TopicWire> for Topic {
    type Error = Malformed;

    fn try_from(wire: TopicWire) -> Result<Self, Malformed> {
        Ok(Self {
            id: topic_id(&wire.id)?,
            name: wire.name.into(),
            configs: configs_from_wire(wire.configs),
            partitions: all(wire.partitions, |p| Partition::try_from(p).map(Arc::new))?,
        })
    }
}

impl From<&Partition> for PartitionWire {
    fn from(partition: &Partition) -> Self {
        Self {
            home: partition.home.as_str().to_owned(),
            home_epoch: partition.home_epoch.as_u32(),
            phase: match partition.phase {
                Phase::Active => 1,
                Phase::Sealing(_) => 2,
            },
            sync_to: partition.replication.sync_to(),
            sid: partition.mode.sid,
            degraded: partition.mode.degraded,
            began: Some(partition.began.into()),
            ever_sync: partition.ever_sync,
            placement_generation: partition.placement_generation,
            replicas: partition.replicas.iter().map(ReplicaWire::from).collect(),
            next_replica_id: partition.next_replica_id.0,
            moving: partition.moving().map(MovingWire::from),
            fork: partition.fork.as_deref().map(ForkWire::from),
            lossy_cut: partition.lossy_cut.map(|index| index.0),
            budget: partition.budget.map(BoundWire::from),
        }
    }
}

impl TryFrom<PartitionWire> for Partition {
    type Error = Malformed;

    fn try_from(wire: PartitionWire) -> Result<Self, Malformed> {
        let mode = Mode { sid: wire.sid, degraded: wire.degraded };
        Ok(Self {
            home: dc_name(&wire.home)?,
            home_epoch: home_epoch(wire.home_epoch)?,
            phase: match (wire.phase, wire.moving) {
                (1, None) => Phase::Active,
                (2, Some(moving)) => Phase::Sealing(moving.try_into()?),
                (other, _) => return Err(Malformed::new("phase", other)),
            },
            replication: match wire.sync_to {
                0 => Replication::Async,
                to => Replication::Sync { to },
            },
            mode,
            began: wire.began.map_or(mode, Mode::from),
            ever_sync: wire.ever_sync,
            placement_generation: wire.placement_generation,
            replicas: all(wire.replicas, Replica::try_from)?,
            next_replica_id: ReplicaId(wire.next_replica_id),
            fork: wire.fork.map(|fork| fork.try_into().map(Arc::new)).transpose()?,
            lossy_cut: wire.lossy_cut.map(LogIndex),
            budget: wire.budget.map(Bound::from),
        })
    }
}

impl From<&Replica> for ReplicaWire {
    fn from(replica: &Replica) -> Self {
        Self {
            id: replica.id.0,
            node: replica.node.as_u32(),
            voter: replica.voter,
            disk: replica.disk.map(|d| d.to_vec()).unwrap_or_default(),
        }
    }
}

impl TryFrom<ReplicaWire> for Replica {
    type Error = Malformed;

    fn try_from(wire: ReplicaWire) -> Result<Self, Malformed> {
        Ok(Self {
            id: ReplicaId(wire.id),
            node: node_id(wire.node)?,
            voter: wire.voter,
            disk: (!wire.disk.is_empty()).then(|| disk_id(&wire.disk)).transpose()?,
        })
    }
}
