//! The first start of a cluster, and of a node: never a second cluster, never a second life of a
//! replica that has voted.
//!
//! ```text
//! data directory has __meta ──▶ resume it
//! empty ─▶ ask every node WHO ─┬─ one knows a cluster and this node with another disk ─▶ refused
//!                              ├─ one knows a cluster, and not this node ─▶ join as placed
//!                              └─ a majority of __meta's voters (this one counted) knows none
//!                                 ─▶ begin the cluster: __meta's first home, empty
//! ```
//!
//! A wiped voter has forgotten its votes (H31), so it must not come back under its old replica id.
//! The cluster's id travels in the transport's handshake too: nodes of two clusters never talk.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{Topology, meta_voters, quorum, timing};
use isobar_transport::{RpcError, Transport};
use prost::Message as _;

use super::inbound::method;
use crate::log;
use crate::metadata::image::{DiskId, Image};
use crate::model::{GroupId, HomeEpoch, NodeId, ReplicaId, TopicPartition};
use crate::replica::core::config::{AckPolicy, Member, Timing};
use crate::replica::driver::{Policy, Spec};

/// How long a node waits for an answer to WHO, and between two rounds of asking. A WAN round trip
/// and a handshake fit.
const WHO_TIMEOUT: Duration = Duration::from_secs(2);
const WHO_EVERY: Duration = Duration::from_millis(250);

/// Segments of `__meta`: small, so that log start can follow its snapshots closely.
const META_SEGMENT_BYTES: u32 = 4 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct Who {
    /// The asker's data directory.
    #[prost(bytes = "vec", tag = "1")]
    disk: Vec<u8>,
}

/// What a node knows.
#[derive(Clone, PartialEq, prost::Message)]
struct Known {
    /// Empty: no cluster.
    #[prost(string, tag = "1")]
    cluster_id: String,
    /// The asker's disk, as registered; empty if it never was.
    #[prost(bytes = "vec", tag = "2")]
    disk: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "node {node} is registered in cluster {cluster_id} with another data directory: this one \
         is empty, so what the old disk voted and promised is forgotten. Put the old directory \
         back, or remove the node and add it under a new id"
    )]
    DiskReplaced { node: NodeId, cluster_id: String },
}

/// Answers WHO from the image, which may be empty, and from what the data directory says.
pub fn answer(image: &Image, cluster_id: Option<&str>, from: NodeId) -> Bytes {
    let id = image.cluster_id.as_deref().or(cluster_id).unwrap_or_default().to_owned();
    let disk = image.nodes.get(&from).map(|node| node.disk.to_vec()).unwrap_or_default();
    Known { cluster_id: id, disk }.encode_to_vec().into()
}

/// Asks until it is clear that this node may begin with an empty `__meta`.
pub async fn ask(
    topology: &Topology,
    transport: &Transport,
    node: NodeId,
    disk: DiskId,
) -> Result<(), Error> {
    let voters = meta_voters(topology);
    let needed = quorum::majority(voters.len());
    let mut answered: BTreeMap<NodeId, Known> = BTreeMap::new();
    let mut said = false;
    loop {
        let mut calls = tokio::task::JoinSet::new();
        for peer in topology.nodes().map(|n| n.id).filter(|id| *id != node) {
            let (transport, who) = (transport.clone(), Who { disk: disk.to_vec() });
            calls.spawn(async move { (peer, who_is(&transport, peer, who).await) });
        }
        // Slow answers do not hold back a verdict: it is looked for after each.
        while let Some(joined) = calls.join_next().await {
            let Ok((peer, Ok(known))) = joined else { continue };
            answered.insert(peer, known);
            if let Some(cluster) = answered.values().find(|k| !k.cluster_id.is_empty()) {
                return judge(node, disk, cluster);
            }
            let empty = voters.iter().filter(|v| **v == node || answered.contains_key(v)).count();
            if empty >= needed {
                return Ok(());
            }
        }
        if !said {
            said = true;
            tracing::info!(%node, answered = answered.len(), needed, "waiting for a majority of __meta's voters");
        }
        tokio::time::sleep(WHO_EVERY).await;
    }
}

fn judge(node: NodeId, disk: DiskId, known: &Known) -> Result<(), Error> {
    if known.disk.is_empty() || known.disk == disk {
        return Ok(());
    }
    Err(Error::DiskReplaced { node, cluster_id: known.cluster_id.clone() })
}

async fn who_is(transport: &Transport, peer: NodeId, who: Who) -> Result<Known, RpcError> {
    let body = Bytes::from(who.encode_to_vec());
    let answer = transport.call(peer, method::WHO, body, WHO_TIMEOUT).await?;
    Known::decode(answer).map_err(|_| RpcError::Malformed)
}

/// The replica of `__meta` on this node: its replica ids are the node ids, its voters follow from
/// the topology that the cluster began with.
pub fn meta_spec(topology: &Topology, node: NodeId) -> Option<Spec> {
    let voters = meta_voters(topology);
    let member = |n: &isobar_topology::Node| {
        let member = Member { node: n.id, dc: n.dc.clone(), voter: voters.contains(&n.id) };
        (ReplicaId(u64::from(n.id.as_u32())), member)
    };
    let preferred = *voters.first()?;
    Some(Spec {
        group: GroupId { partition: TopicPartition::META, home_epoch: HomeEpoch::FIRST },
        topic_name: "__meta".into(),
        me: ReplicaId(u64::from(node.as_u32())),
        // It spans the DCs, and no gate counts for it: any name serves.
        home: topology.dc_of(preferred)?.clone(),
        members: topology.nodes().map(member).collect(),
        preferred: preferred == node,
        placement_generation: 0,
        timing: ticks(timing(topology.max_rtt(&voters))),
        policy: Policy {
            ack: AckPolicy { sync_to: 0, min_in_sync: 1, fence: false, log_append_time: false },
            flush: true,
            log: log::Config { segment_bytes: META_SEGMENT_BYTES, ..log::Config::default() },
            retention: log::Retention { ms: None, bytes: None },
        },
    })
}

pub fn ticks(timing: isobar_topology::Timing) -> Timing {
    Timing {
        heartbeat_ticks: timing.heartbeat_ticks,
        election_ticks_min: timing.election_ticks_min,
        election_ticks_max: timing.election_ticks_max,
    }
}
