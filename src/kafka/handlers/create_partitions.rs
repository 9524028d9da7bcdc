//! CreatePartitions (37).

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::create_partitions::{CreatePartitionsTopicResult, Request, Response};
use super::super::{Operation, Resource, Session};
use super::metadata_timeout;
use crate::metadata::request::{self, NewPartitions};

pub(super) async fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let Request { topics, timeout_ms, validate_only } = request;
    let mut results = Vec::with_capacity(topics.len());
    let mut asked = Vec::new();
    for topic in topics {
        let mut result =
            CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() };
        if session.authorize(Operation::Alter, Resource::Topic(&topic.name)) {
            let each = |all: Vec<_>| {
                let all: Vec<super::super::wire::create_partitions::CreatePartitionsAssignment> =
                    all;
                all.into_iter().map(|assignment| assignment.broker_ids).collect()
            };
            let assignments = topic.assignments.map(each);
            let wanted = NewPartitions { topic: topic.name, count: topic.count, assignments };
            asked.push((results.len(), wanted));
        } else {
            let message = "Alter on the topic is needed".to_owned();
            fail(&mut result, ErrorCode::TopicAuthorizationFailed, message);
        }
        results.push(result);
    }
    let (places, topics): (Vec<usize>, Vec<NewPartitions>) = asked.into_iter().unzip();
    if !topics.is_empty() {
        let request = request::Request::CreatePartitions { topics, validate_only };
        match context.metadata.submit(request, metadata_timeout(timeout_ms)).await {
            Ok(request::Response::PartitionsCreated(created)) => {
                for (place, created) in places.into_iter().zip(created) {
                    if let Err(refusal) = created {
                        fail(&mut results[place], refusal.to_code(), refusal.message);
                    }
                }
            }
            Ok(other) => panic!("partitions were to be created, not {other:?}"),
            Err(error) => {
                for place in places {
                    fail(&mut results[place], error.to_code(), error.to_string());
                }
            }
        }
    }
    Response { throttle_time_ms: session.throttle_time_ms(0), results }
}

fn fail(result: &mut CreatePartitionsTopicResult, code: ErrorCode, message: String) {
    result.error_code = code;
    result.error_message = Some(message);
}
