//! OffsetForLeaderEpoch (23, KIP-320): where a leader epoch ends, for consumers that check whether
//! what they read is still in the log.

use super::super::context::Context;
use super::super::wire::ErrorCode;
use super::super::wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::{cluster, suffix};
use crate::metadata::image::Image;
use crate::model::{LeaderEpoch, Offset};
use crate::replica::Role;

pub(super) async fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let image = context.metadata.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let answer = end(context, session, &image, &topic.topic, wanted).await;
            let error_code = answer.err().unwrap_or(ErrorCode::None);
            let (leader_epoch, end_offset) = answer.ok().flatten().unwrap_or((-1, Offset(-1)));
            let (partition, end_offset) = (wanted.partition, end_offset.0);
            partitions.push(EpochEndOffset { error_code, partition, leader_epoch, end_offset });
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    Response { throttle_time_ms: session.throttle_time_ms(0), topics }
}

async fn end(
    context: &Context,
    session: &Session,
    image: &Image,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    if !session.authorize(Operation::Describe, Resource::Topic(topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let view = match suffix::named(context, image, topic) {
        Some(suffix) if !suffix::may(session, Operation::Describe, &suffix) => {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        Some(suffix) => suffix::view(context, &suffix, wanted.partition).await?,
        None => {
            let at = cluster::find(image, topic, wanted.partition);
            let at = at.ok_or(ErrorCode::UnknownTopicOrPartition)?;
            context.replicas.view(at).ok_or(ErrorCode::NotLeaderOrFollower)?
        }
    };
    let progress = view.progress();
    cluster::check_epoch(wanted.current_leader_epoch, progress.leader_epoch)?;
    if progress.role != Role::Leader {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if !progress.watermark_known {
        return Err(ErrorCode::OffsetNotAvailable);
    }
    if wanted.leader_epoch < 0 || wanted.leader_epoch > progress.leader_epoch {
        return Ok(None);
    }
    // Older than every record: as in Kafka, that epoch ended where the log starts.
    let before_all = || (wanted.leader_epoch, progress.log_start);
    Ok(Some(view.end_of_epoch(wanted.leader_epoch).unwrap_or_else(before_all)))
}
