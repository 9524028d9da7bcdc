//! The cluster as a client of one listener sees it: brokers, leaders, endpoints.

use super::super::Session;
use super::super::context::Context;
use super::super::wire::ErrorCode;
use crate::metadata::image::{self, Image};
use crate::model::{LeaderEpoch, NodeId, TopicId, TopicPartition};
use crate::replica;

/// Where a client of that listener reaches a node; `None` if the node has no listener of that name.
pub(super) fn endpoint<'a>(
    image: &'a Image,
    node: NodeId,
    session: &Session,
) -> Option<&'a image::Listener> {
    let listeners = &image.nodes.get(&node)?.listeners;
    listeners.iter().find(|listener| *listener.name == *session.listener)
}

/// A broker that can be named to the client: alive, with an endpoint of its listener.
pub(super) struct Broker<'a> {
    pub node: &'a image::Node,
    pub endpoint: &'a image::Listener,
}

impl Broker<'_> {
    pub fn id(&self) -> i32 {
        self.node.id.as_i32()
    }

    pub fn host(&self) -> String {
        self.endpoint.host.clone()
    }

    pub fn port(&self) -> i32 {
        i32::from(self.endpoint.port)
    }

    /// The DC: what consumers name as `client.rack`.
    pub fn rack(&self) -> Option<String> {
        Some(self.node.dc.to_string())
    }
}

pub(super) fn broker<'a>(
    context: &Context,
    session: &Session,
    image: &'a Image,
    node: NodeId,
) -> Option<Broker<'a>> {
    if !context.is_alive(node) {
        return None;
    }
    named(session, image, node)
}

fn named<'a>(session: &Session, image: &'a Image, node: NodeId) -> Option<Broker<'a>> {
    Some(Broker { node: image.nodes.get(&node)?, endpoint: endpoint(image, node, session)? })
}

/// All brokers, by id, and those that were until a moment ago.
pub(super) fn brokers<'a>(
    context: &Context,
    session: &Session,
    image: &'a Image,
) -> Vec<Broker<'a>> {
    let nodes = image.nodes.keys().filter(|node| context.was_alive(**node));
    nodes.filter_map(|&node| named(session, image, node)).collect()
}

/// Whom clients send requests for `__meta`: this node, which passes them on, as KRaft's brokers name any broker that
/// lives (KIP-590). It has just answered; librdkafka waits for a controller that died until it gives up.
pub(super) fn controller(context: &Context) -> i32 {
    context.node.as_i32()
}

/// A partition as Metadata and DescribeTopicPartitions show it.
pub(super) struct PartitionState {
    pub error_code: ErrorCode,
    /// -1: none.
    pub leader_id: i32,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
    pub offline: Vec<i32>,
}

pub(super) fn partition_state(
    context: &Context,
    session: &Session,
    image: &Image,
    at: TopicPartition,
    partition: &image::Partition,
) -> PartitionState {
    let known = context.replicas.leaders().of(at);
    let nodes = || partition.replicas.iter().map(|replica| replica.node);
    let leader = context.leader(at);
    let (error_code, leader_id) = match &leader {
        None => (ErrorCode::LeaderNotAvailable, -1),
        Some(leader) if endpoint(image, leader.node, session).is_none() => {
            (ErrorCode::ListenerNotFound, -1)
        }
        Some(leader) => (ErrorCode::None, leader.node.as_i32()),
    };
    let in_sync = known.iter().flat_map(|leader| leader.in_sync.iter().copied());
    let is_replica = |node: &NodeId| partition.replicas.iter().any(|r| r.node == *node);
    PartitionState {
        error_code,
        leader_id,
        leader_epoch: known.as_ref().map_or(-1, |leader| leader.epoch),
        replicas: nodes().map(NodeId::as_i32).collect(),
        in_sync: in_sync.filter(is_replica).map(NodeId::as_i32).collect(),
        offline: nodes().filter(|node| !context.is_alive(*node)).map(NodeId::as_i32).collect(),
    }
}

/// Another leader than this node, as KIP-951 names it to a client that came to the wrong one.
pub(super) fn other_leader(context: &Context, at: TopicPartition) -> Option<replica::Leader> {
    context.leader(at).filter(|leader| leader.node != context.node)
}

/// The topic's id, unless there is none of that name.
pub(super) fn topic_id(image: &Image, name: &str) -> Option<TopicId> {
    image.topic_ids.get(name).copied()
}

/// A partition of a named topic, if the image has it.
pub(super) fn find(image: &Image, name: &str, partition: i32) -> Option<TopicPartition> {
    let at = TopicPartition { topic: topic_id(image, name)?, partition };
    image.partition(at).map(|_| at)
}

/// Compares the leader epoch that a client expects with the replica's (KIP-320). -1: the client
/// expects none.
pub(super) fn check_epoch(expected: i32, known: LeaderEpoch) -> Result<(), ErrorCode> {
    match expected {
        -1 => Ok(()),
        expected if expected < known => Err(ErrorCode::FencedLeaderEpoch),
        expected if expected > known => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_unknown() {
        assert_eq!(check_epoch(-1, 5), Ok(()));
        assert_eq!(check_epoch(5, 5), Ok(()));
        assert_eq!(check_epoch(4, 5), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check_epoch(6, 5), Err(ErrorCode::UnknownLeaderEpoch));
    }
}
