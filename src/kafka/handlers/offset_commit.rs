//! OffsetCommit (8).

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, Request, Response,
};
use super::super::{Operation, Resource, Session};
use crate::coordinator::group::{
    CommitOffsets, Id, InstanceId, MemberId, OffsetToCommit, TopicPartition,
};
use crate::metadata::image::{Image, Topic};
use crate::model::{self, LeaderEpoch};

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
            true => find(&image, session, version, &topic),
            false => Err(ErrorCode::GroupAuthorizationFailed),
        };
        let OffsetCommitRequestTopic { name, topic_id, partitions } = topic;
        let mut answers = Vec::with_capacity(partitions.len());
        for (p, wanted) in partitions.into_iter().enumerate() {
            let partition_index = wanted.partition_index;
            let topic = found.and_then(|topic| partition_of(topic, partition_index));
            let error_code = topic.err().unwrap_or(ErrorCode::None);
            if let Ok(topic) = topic {
                let offset = OffsetToCommit {
                    partition: TopicPartition::new(&*topic.name, partition_index),
                    offset: wanted.committed_offset,
                    leader_epoch: epoch(context, topic, &wanted),
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
fn epoch(context: &Context, topic: &Topic, wanted: &OffsetCommitRequestPartition) -> LeaderEpoch {
    let at = model::TopicPartition { topic: topic.id, partition: wanted.partition_index };
    match wanted.committed_leader_epoch {
        0.. => wanted.committed_leader_epoch,
        // Of a leader that is out of reach too: what was read of it may be cut off.
        _ => context.replicas.leaders().of(at).map_or(-1, |leader| leader.epoch),
    }
}

fn find<'a>(
    image: &'a Image,
    session: &Session,
    version: i16,
    wanted: &OffsetCommitRequestTopic,
) -> Result<&'a Topic, ErrorCode> {
    let topic = match version {
        ..TOPIC_ID_VERSION => image.topic(&wanted.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        _ => image.topics.get(&wanted.topic_id).ok_or(ErrorCode::UnknownTopicId),
    }?;
    match session.authorize(Operation::Read, Resource::Topic(&topic.name)) {
        true => Ok(topic),
        false => Err(ErrorCode::TopicAuthorizationFailed),
    }
}

fn partition_of(topic: &Topic, partition: i32) -> Result<&Topic, ErrorCode> {
    let is_there = usize::try_from(partition).is_ok_and(|p| p < topic.partitions.len());
    is_there.then_some(topic).ok_or(ErrorCode::UnknownTopicOrPartition)
}
