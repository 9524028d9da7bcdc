//! DeleteTopics (20), by name and, from version 6, by id.

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::delete_topics::{DeletableTopicResult, Request, Response};
use super::super::{Operation, Resource, Session};
use super::{metadata_timeout, suffix};
use crate::metadata::request::{self, TopicRef};

/// Topics are given as name or id from this version on (KIP-516).
const BY_ID_VERSION: i16 = 6;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    version: i16,
    request: Request,
) -> Response {
    let image = context.metadata.image();
    let wait = metadata_timeout(request.timeout_ms);
    let wanted: Vec<TopicRef> = match version {
        ..BY_ID_VERSION => request.topic_names.into_iter().map(TopicRef::Name).collect(),
        _ => request
            .topics
            .into_iter()
            .map(|topic| match topic.name {
                Some(name) => TopicRef::Name(name),
                None => TopicRef::Id(topic.topic_id),
            })
            .collect(),
    };
    let mut results = Vec::with_capacity(wanted.len());
    let mut asked = Vec::new();
    for topic in wanted {
        let suffix = match &topic {
            TopicRef::Id(id) => suffix::of_id(context, &image, *id),
            TopicRef::Name(_) => None,
        };
        let name = match (&topic, &suffix) {
            (TopicRef::Name(name), _) => Some(name.clone()),
            (TopicRef::Id(_), Some(suffix)) => Some(suffix.name.to_string()),
            (TopicRef::Id(id), None) => image.topics.get(id).map(|topic| topic.name.to_string()),
        };
        let may = |name: &String| session.authorize(Operation::Delete, Resource::Topic(name));
        let is_allowed = name.as_ref().is_none_or(may);
        let mut result = match &topic {
            TopicRef::Name(name) => {
                DeletableTopicResult { name: Some(name.clone()), ..Default::default() }
            }
            TopicRef::Id(id) => DeletableTopicResult { topic_id: *id, ..Default::default() },
        };
        if is_allowed {
            // The id of a suffix is in no image: the controller refuses it by its name.
            let named = suffix.map(|suffix| TopicRef::Name(suffix.name.to_string()));
            asked.push((results.len(), named.unwrap_or(topic)));
        } else {
            let message = "Delete on the topic is needed".to_owned();
            fail(&mut result, ErrorCode::TopicAuthorizationFailed, message);
        }
        results.push(result);
    }
    let (places, topics): (Vec<usize>, Vec<TopicRef>) = asked.into_iter().unzip();
    if !topics.is_empty() {
        let request = request::Request::DeleteTopics { topics };
        match context.metadata.submit(request, wait).await {
            Ok(request::Response::TopicsDeleted(deleted)) => {
                for (place, deleted) in places.into_iter().zip(deleted) {
                    match deleted {
                        Ok(deleted) => {
                            results[place].name = Some(deleted.name.to_string());
                            results[place].topic_id = deleted.id;
                        }
                        Err(refusal) => {
                            let code = by_id(&results[place], refusal.to_code());
                            fail(&mut results[place], code, refusal.message);
                        }
                    }
                }
            }
            Ok(other) => panic!("topics were to be deleted, not {other:?}"),
            Err(error) => {
                for place in places {
                    fail(&mut results[place], error.to_code(), error.to_string());
                }
            }
        }
    }
    Response { throttle_time_ms: session.throttle_time_ms(0), responses: results }
}

/// What is not there by its id is called so.
fn by_id(result: &DeletableTopicResult, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition if result.name.is_none() => ErrorCode::UnknownTopicId,
        code => code,
    }
}

fn fail(result: &mut DeletableTopicResult, code: ErrorCode, message: String) {
    result.error_code = code;
    result.error_message = Some(message);
}
