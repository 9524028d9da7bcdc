//! The first start of a cluster, and of a node: never a second cluster, never a second life of a
//! replica that has voted.
//!
//! ```text
//! data directory has __meta ──▶ resume it
//! empty ─▶ ask every node WHO ─┬─ one knows a cluster and this node with another disk ─▶ refused
//!                              └─ a majority of __meta's voters (this one counted) knows none, or
//!                                 knows a cluster and not this node ─▶ begin with an empty __meta
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
    /// The node has been in a cluster and has not read its `__meta` yet: it says nothing of the asker.
    #[prost(bool, tag = "3")]
    is_unsure: bool,
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
    let is_unsure = image.cluster_id.is_none() && cluster_id.is_some();
    Known { cluster_id: id, disk, is_unsure }.encode_to_vec().into()
}

/// Asks until it is clear that this node may begin with an empty `__meta`.
pub async fn ask(
    topology: &Topology,
    transport: &Transport,
    node: NodeId,
    disk: DiskId,
) -> Result<(), Error> {
    let voters = meta_voters(topology);
    let mut answered: BTreeMap<NodeId, Known> = BTreeMap::new();
    let mut said = false;
    loop {
        let mut calls = tokio::task::JoinSet::new();
        for peer in topology.nodes().map(|n| n.id).filter(|id| *id != node) {
            let (transport, who) = (transport.clone(), Who { disk: disk.to_vec() });
            calls.spawn(async move { (peer, who_is(&transport, peer, who).await) });
        }
        // Slow answers do not hold back a verdict: it is looked for after each.
        loop {
            if let Some(verdict) = judge(node, disk, &voters, &answered) {
                return verdict;
            }
            let Some(joined) = calls.join_next().await else { break };
            if let Ok((peer, Ok(known))) = joined {
                answered.insert(peer, known);
            }
        }
        if !said {
            said = true;
            tracing::info!(%node, answered = answered.len(), "waiting for a majority of __meta's voters");
        }
        tokio::time::sleep(WHO_EVERY).await;
    }
}

/// What the answers so far come to; `None` while they are too few.
fn judge(
    node: NodeId,
    disk: DiskId,
    voters: &[NodeId],
    answered: &BTreeMap<NodeId, Known>,
) -> Option<Result<(), Error>> {
    let other = |known: &&Known| !known.disk.is_empty() && known.disk != disk;
    if let Some(known) = answered.values().find(other) {
        let cluster_id = known.cluster_id.clone();
        return Some(Err(Error::DiskReplaced { node, cluster_id }));
    }
    let sure = |voter: &&NodeId| {
        **voter == node || answered.get(*voter).is_some_and(|known| !known.is_unsure)
    };
    let agreed = voters.iter().filter(sure).count();
    (agreed >= quorum::majority(voters.len())).then_some(Ok(()))
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

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DiskId = [7; 16];

    fn id(node: u64) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn known(cluster_id: &str, disk: &[u8], is_unsure: bool) -> Known {
        Known { cluster_id: cluster_id.into(), disk: disk.to_vec(), is_unsure }
    }

    fn verdict(answers: &[(u64, Known)]) -> Option<bool> {
        let answered = answers.iter().map(|(node, known)| (id(*node), known.clone())).collect();
        judge(id(1), DISK, &[id(1), id(2), id(3)], &answered).map(|v| v.is_ok())
    }

    #[test]
    fn an_empty_node_begins_when_a_majority_of_voters_does_not_know_it() {
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[(9, known("", &[], false))]), None, "a learner is no voter");
        assert_eq!(verdict(&[(2, known("", &[], false))]), Some(true));
        assert_eq!(
            verdict(&[(2, known("c", &[], false))]),
            Some(true),
            "it joins for the first time"
        );
    }

    #[test]
    fn a_node_that_comes_back_with_another_disk_is_refused_by_whoever_remembers() {
        assert_eq!(verdict(&[(9, known("c", &[1; 16], false))]), Some(false));
        assert_eq!(verdict(&[(2, known("c", &DISK, false))]), Some(true));
    }

    #[test]
    fn who_has_not_read_its_own_log_yet_says_nothing() {
        let unsure = known("c", &[], true);
        assert_eq!(verdict(&[(2, unsure.clone()), (3, unsure)]), None);
    }

    #[test]
    fn a_cluster_of_one_waits_for_nobody() {
        assert!(judge(id(1), DISK, &[id(1)], &BTreeMap::new()).is_some_and(|v| v.is_ok()));
    }
}
