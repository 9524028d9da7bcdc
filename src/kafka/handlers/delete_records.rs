//! DeleteRecords (21): moves log start.

use std::time::Duration;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult, HIGH_WATERMARK,
    Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::{cluster, join_all, timeout};
use crate::metadata::image::{Image, is_internal};
use crate::model::Offset;
use crate::replica::{ProduceError, Role};

pub(super) async fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let image = context.metadata.image();
    let timeout = timeout(request.timeout_ms);
    let topics = request.topics.into_iter().map(|topic| {
        let image = &image;
        async move {
            let name = topic.name;
            let partitions = topic.partitions.into_iter().map(|wanted| {
                let name = &name;
                async move {
                    let index = wanted.partition_index;
                    let moved = delete(context, session, image, name, wanted, timeout).await;
                    DeleteRecordsPartitionResult {
                        partition_index: index,
                        low_watermark: moved.map_or(-1, |log_start| log_start.0),
                        error_code: moved.err().unwrap_or(ErrorCode::None),
                    }
                }
            });
            let partitions = join_all(partitions).await;
            DeleteRecordsTopicResult { name, partitions }
        }
    });
    let topics = join_all(topics).await;
    Response { throttle_time_ms: session.throttle_time_ms(0), topics }
}

async fn delete(
    context: &Context,
    session: &Session,
    image: &Image,
    topic: &str,
    wanted: DeleteRecordsPartition,
    timeout: Duration,
) -> Result<Offset, ErrorCode> {
    if !session.authorize(Operation::Delete, Resource::Topic(topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let at = cluster::find(image, topic, wanted.partition_index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let view = context.replicas.view(at).ok_or(ErrorCode::NotLeaderOrFollower)?;
    let progress = view.progress();
    if progress.role != Role::Leader {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if !progress.watermark_known {
        return Err(ErrorCode::OffsetNotAvailable);
    }
    let before = match wanted.offset {
        HIGH_WATERMARK => progress.high_watermark,
        offset => Offset(offset),
    };
    if before < Offset::ZERO || before > progress.high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let moving = context.replicas.delete_records(at, before);
    match tokio::time::timeout(timeout, moving).await {
        Err(_) => Err(ErrorCode::RequestTimedOut),
        Ok(Ok(log_start)) => Ok(log_start),
        // The image has it, so another node does.
        Ok(Err(ProduceError::UnknownPartition)) => Err(ErrorCode::NotLeaderOrFollower),
        Ok(Err(error)) => Err(error.to_code()),
    }
}
