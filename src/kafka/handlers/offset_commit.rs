//! OffsetCommit (8).

use std::sync::Arc;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::suffix;
use crate::coordinator::group::{
    CommitOffsets, Id, InstanceId, MemberId, OffsetToCommit, TopicPartition,
};
use crate::metadata::image::Image;
use crate::model::{self, LeaderEpoch, TopicId};

/// Topics are named by id from this version on (KIP-848).
const TOPIC_ID_VERSION: i16 = 10;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    version: i16,
    request: Request,
) -> Response {
    let image = context.metadata.image();
    let may = session.authorize(Operation::Read, Resource::Group(&request.group_id));
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut asked: Vec<((usize, usize), OffsetToCommit)> = Vec::new();
    for (t, topic) in request.topics.into_iter().enumerate() {
        let found = match may {
            true => find(context, &image, session, version, &topic),
            false => Err(ErrorCode::GroupAuthorizationFailed),
        };
        let OffsetCommitRequestTopic { name, topic_id, partitions } = topic;
        let mut answers = Vec::with_capacity(partitions.len());
        for (p, wanted) in partitions.into_iter().enumerate() {
            let partition_index = wanted.partition_index;
            let topic = found.as_ref().map_err(|code| *code);
            let topic = topic.and_then(|topic| topic.with(partition_index));
            let error_code = topic.err().unwrap_or(ErrorCode::None);
            if let Ok(topic) = topic {
                let offset = OffsetToCommit {
                    partition: TopicPartition::new(&*topic.name, partition_index),
                    offset: wanted.committed_offset,
                    leader_epoch: epoch(context, topic.id, &wanted),
                    metadata: wanted.committed_metadata.unwrap_or_default(),
                };
                asked.push(((t, p), offset));
            }
            answers.push(OffsetCommitResponsePartition { partition_index, error_code });
        }
        topics.push(OffsetCommitResponseTopic { name, topic_id, partitions: answers });
    }
    let (places, offsets): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    if !offsets.is_empty() {
        let retention_ms = request.retention_time_ms;
        let commit = CommitOffsets {
            group: Id::from(request.group_id),
            generation: request.generation_id_or_member_epoch,
            member_id: MemberId::from(request.member_id),
            instance_id: request.group_instance_id.map(InstanceId::from),
            retention_ms: (retention_ms != -1).then_some(retention_ms),
            offsets,
        };
        let outcomes = context.groups.commit_offsets(commit).await;
        for ((t, p), outcome) in places.into_iter().zip(outcomes) {
            let code = outcome.result.err().map_or(ErrorCode::None, |error| error.to_code());
            topics[t].partitions[p].error_code = code;
        }
    }
    Response { throttle_time_ms: session.throttle_time_ms(0), topics }
}

/// The leader epoch that an offset belongs to: what the client says, or else the present one, which is not below that of
/// the last record that the client has read. An old client that says none has its offsets clamped too, then (R25).
fn epoch(context: &Context, topic: TopicId, wanted: &OffsetCommitRequestPartition) -> LeaderEpoch {
    let at = model::TopicPartition { topic, partition: wanted.partition_index };
    match wanted.committed_leader_epoch {
        0.. => wanted.committed_leader_epoch,
        // Of a leader that is out of reach too: what was read of it may be cut off.
        _ => context.replicas.leaders().of(at).map_or(-1, |leader| leader.epoch),
    }
}

/// What offsets are committed on.
struct Found {
    id: TopicId,
    name: Arc<str>,
    partitions: usize,
}

impl Found {
    fn with(&self, partition: i32) -> Result<&Self, ErrorCode> {
        let is_there = usize::try_from(partition).is_ok_and(|p| p < self.partitions);
        is_there.then_some(self).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

fn find(
    context: &Context,
    image: &Image,
    session: &Session,
    version: i16,
    wanted: &OffsetCommitRequestTopic,
) -> Result<Found, ErrorCode> {
    let (topic, unknown) = match version {
        ..TOPIC_ID_VERSION => (image.topic(&wanted.name), ErrorCode::UnknownTopicOrPartition),
        _ => (image.topics.get(&wanted.topic_id), ErrorCode::UnknownTopicId),
    };
    let suffix = match version {
        _ if topic.is_some() => None,
        ..TOPIC_ID_VERSION => suffix::named(context, image, &wanted.name),
        _ => suffix::of_id(context, image, wanted.topic_id),
    };
    let (may, id, name, partitions) = match (topic, &suffix) {
        (Some(topic), _) => {
            let may = session.authorize(Operation::Read, Resource::Topic(&topic.name));
            (may, topic.id, &topic.name, topic.partitions.len())
        }
        (None, Some(topic)) => {
            let may = suffix::may(session, Operation::Read, topic);
            (may, topic.id, &topic.name, topic.partitions.len())
        }
        (None, None) => return Err(unknown),
    };
    let found = Found { id, name: Arc::clone(name), partitions };
    may.then_some(found).ok_or(ErrorCode::TopicAuthorizationFailed)
}
