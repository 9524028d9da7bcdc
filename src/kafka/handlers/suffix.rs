//! What ledgers have of lost homes, as topics that are only read: where they are, and who serves them.

use std::sync::Arc;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::{Operation, Resource, Session};
use super::cluster::{PartitionState, endpoint};
use crate::metadata::image::Image;
use crate::metadata::moves::topics::{Content, SuffixPartition, SuffixTopic, is_suffix};
use crate::model::{LeaderEpoch, NodeId, TopicId};
use crate::replica::{self, View};

pub(super) fn named(context: &Context, image: &Image, name: &str) -> Option<Arc<SuffixTopic>> {
    if !is_suffix(name) {
        return None;
    }
    context.suffixes.topics(image).named(name).cloned()
}

pub(super) fn of_id(context: &Context, image: &Image, id: TopicId) -> Option<Arc<SuffixTopic>> {
    context.suffixes.topics(image).of_id(id).cloned()
}

/// All that the session may see, by name.
pub(super) fn all(context: &Context, session: &Session, image: &Image) -> Vec<Arc<SuffixTopic>> {
    let topics = context.suffixes.topics(image);
    topics.iter().filter(|topic| may(session, Operation::Describe, topic)).cloned().collect()
}

/// Its records were written to another topic: who may not read them there may not read them here.
pub(super) fn may(session: &Session, operation: Operation, topic: &SuffixTopic) -> bool {
    [&topic.name, &topic.of]
        .into_iter()
        .all(|name| session.authorize(operation, Resource::Topic(name)))
}

/// Leader epoch of all of it. The records have those that they were written with, none above it.
fn leader_epoch(partition: &SuffixPartition) -> LeaderEpoch {
    match partition.content {
        Content::Ledger(held) => held.last.term.leader_epoch(),
        Content::Nothing { cut } => cut.unwrap_or_default().term.leader_epoch(),
        Content::Open => -1,
    }
}

/// The one of its nodes that clients are sent to: partitions take turns, and go on to the next where
/// one is not heard.
pub(super) fn leader(context: &Context, partition: &SuffixPartition) -> Option<replica::Leader> {
    let nodes: Vec<NodeId> = partition.nodes().collect();
    let turn = usize::try_from(partition.source.partition).ok()?.checked_rem(nodes.len())?;
    let in_turn = nodes[turn..].iter().chain(&nodes[..turn]);
    let node = in_turn.copied().find(|node| context.is_heard(*node))?;
    Some(replica::Leader { node, epoch: leader_epoch(partition), in_sync: Vec::new() })
}

pub(super) fn state(
    context: &Context,
    session: &Session,
    image: &Image,
    partition: &SuffixPartition,
) -> PartitionState {
    let (error_code, leader_id) = match leader(context, partition) {
        None => (ErrorCode::LeaderNotAvailable, -1),
        Some(leader) if endpoint(image, leader.node, session).is_none() => {
            (ErrorCode::ListenerNotFound, -1)
        }
        Some(leader) => (ErrorCode::None, leader.node.as_i32()),
    };
    let nodes = |is_one: &dyn Fn(NodeId) -> bool| {
        partition.nodes().filter(|node| is_one(*node)).map(NodeId::as_i32).collect()
    };
    PartitionState {
        error_code,
        leader_id,
        leader_epoch: leader_epoch(partition),
        replicas: nodes(&|_| true),
        in_sync: nodes(&|node| context.is_heard(node)),
        offline: nodes(&|node| !context.is_alive(node)),
    }
}

/// A partition to read from, on this node.
pub(super) async fn view(
    context: &Context,
    topic: &SuffixTopic,
    number: i32,
) -> Result<Arc<View>, ErrorCode> {
    let partition = topic.partition(number).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let here = partition.served_by.iter().find(|(node, _)| *node == context.node);
    let (_, replica) = here.ok_or(ErrorCode::NotLeaderOrFollower)?;
    match context.suffixes.view(topic, (partition, *replica), &context.disk_reads).await {
        Ok(Some(view)) => Ok(view),
        // Somebody has removed it: it is gone as a topic is that was deleted.
        Ok(None) => Err(ErrorCode::UnknownTopicOrPartition),
        Err(error) => {
            tracing::error!(%error, topic = %topic.name, number, "a suffix in the ledger cannot be read");
            Err(error.to_code())
        }
    }
}
