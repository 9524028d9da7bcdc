//! FindCoordinator (10): a group's coordinator is the leader of its partition of
//! `__consumer_offsets`, which is made on first use.

use super::super::context::Context;
use super::super::wire::ErrorCode;
use super::super::wire::find_coordinator::{Coordinator, Request, Response};
use super::super::{Operation, Resource, Session};
use super::{METADATA_TIMEOUT, cluster};
use crate::coordinator::group::Id;
use crate::metadata::image::{CONSUMER_OFFSETS, Image};
use crate::metadata::request;
use crate::model::TopicPartition;

/// Many keys at once from this version on (KIP-699).
const BATCH_VERSION: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

type Found = Result<(i32, String, i32), (ErrorCode, &'static str)>;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    version: i16,
    request: Request,
) -> Response {
    let Request { key, key_type, coordinator_keys } = request;
    let mut image = context.metadata.image();
    if key_type == GROUP && image.topic(CONSUMER_OFFSETS).is_none() {
        let names = vec![CONSUMER_OFFSETS.to_owned()];
        let ensure = request::Request::EnsureTopics { names };
        // Whatever came of it, the image says; without the topic the client asks again.
        if let Err(error) = context.metadata.submit(ensure, METADATA_TIMEOUT).await {
            tracing::info!(%error, "__consumer_offsets could not be made yet");
        }
        image = context.metadata.image();
    }
    let throttle_time_ms = session.throttle_time_ms(0);
    if version >= BATCH_VERSION {
        let coordinators = coordinator_keys.into_iter().map(|key| {
            let found = find(context, session, &image, key_type, &key);
            let (error_code, error_message, (node_id, host, port)) = split(found);
            Coordinator { key, node_id, host, port, error_code, error_message }
        });
        let coordinators = coordinators.collect();
        return Response { throttle_time_ms, coordinators, ..Response::default() };
    }
    let found = find(context, session, &image, key_type, &key);
    let (error_code, error_message, (node_id, host, port)) = split(found);
    let coordinators = Vec::new();
    Response { throttle_time_ms, error_code, error_message, node_id, host, port, coordinators }
}

fn split(found: Found) -> (ErrorCode, Option<String>, (i32, String, i32)) {
    match found {
        Ok(found) => (ErrorCode::None, None, found),
        Err((code, message)) => (code, Some(message.to_owned()), (-1, String::new(), -1)),
    }
}

fn find(context: &Context, session: &Session, image: &Image, key_type: i8, key: &str) -> Found {
    match key_type {
        GROUP => {}
        TRANSACTION => {
            // Not a code that is retried: a producer that needs transactions should say so now.
            return Err((ErrorCode::UnsupportedVersion, "transactions are not served yet"));
        }
        _ => return Err((ErrorCode::InvalidRequest, "keys are groups (0) or transactions (1)")),
    }
    if !session.authorize(Operation::Describe, Resource::Group(key)) {
        return Err((ErrorCode::GroupAuthorizationFailed, "Describe on the group is needed"));
    }
    let not_yet = |why| (ErrorCode::CoordinatorNotAvailable, why);
    let topic = cluster::topic_id(image, CONSUMER_OFFSETS)
        .ok_or_else(|| not_yet("__consumer_offsets is not made yet"))?;
    let partition = context.groups.partition_for(&Id::from(key));
    let leader = context.leader(TopicPartition { topic, partition });
    let leader = leader.ok_or_else(|| not_yet("the group's partition has no leader"))?;
    let broker = cluster::broker(context, session, image, leader.node)
        .ok_or_else(|| not_yet("the coordinator has no endpoint of this listener"))?;
    Ok((broker.id(), broker.host(), broker.port()))
}
