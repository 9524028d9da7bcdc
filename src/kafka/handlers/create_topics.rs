//! CreateTopics (19). The answer says what the policy decided, whatever was asked for.

use std::collections::BTreeMap;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::metadata_timeout;
use crate::metadata::config;
use crate::metadata::image::Image;
use crate::metadata::request::{self, CreatedTopic, NewTopic};

pub(super) async fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let Request { topics, timeout_ms, validate_only } = request;
    let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(topics.len());
    let mut asked = Vec::new();
    for topic in topics {
        let name = topic.name.clone();
        let refuse = |error_code, message: &str| CreatableTopicResult {
            name: name.clone(),
            error_code,
            error_message: Some(message.to_owned()),
            ..Default::default()
        };
        if !session.authorize(Operation::Create, Resource::Topic(&name)) {
            let code = ErrorCode::TopicAuthorizationFailed;
            results.push(refuse(code, "Create on the topic is needed"));
            continue;
        }
        match new_topic(topic) {
            Ok(topic) => {
                asked.push((results.len(), topic));
                results.push(refuse(ErrorCode::UnknownServerError, ""));
            }
            Err(message) => results.push(refuse(ErrorCode::InvalidRequest, message)),
        }
    }
    let (places, topics): (Vec<usize>, Vec<NewTopic>) = asked.into_iter().unzip();
    if !topics.is_empty() {
        let request = request::Request::CreateTopics { topics, validate_only };
        match context.metadata.submit(request, metadata_timeout(timeout_ms)).await {
            Ok(request::Response::TopicsCreated(created)) => {
                let made: Vec<_> = created.iter().flatten().map(|topic| topic.id).collect();
                context.await_leaders(&made).await;
                let image = context.metadata.image();
                for (place, created) in places.into_iter().zip(created) {
                    match created {
                        Ok(created) => accept(&mut results[place], &image, created),
                        Err(refusal) => {
                            fail(&mut results[place], refusal.to_code(), refusal.message);
                        }
                    }
                }
            }
            Ok(other) => panic!("topics were to be created, not {other:?}"),
            Err(error) => {
                for place in places {
                    fail(&mut results[place], error.to_code(), error.to_string());
                }
            }
        }
    }
    Response { throttle_time_ms: session.throttle_time_ms(0), topics: results }
}

fn new_topic(topic: CreatableTopic) -> Result<NewTopic, &'static str> {
    let CreatableTopic { name, num_partitions, replication_factor, assignments, configs } = topic;
    let mut by_partition = BTreeMap::new();
    for assignment in assignments {
        if by_partition.insert(assignment.partition_index, assignment.broker_ids).is_some() {
            return Err("the same partition is assigned twice");
        }
    }
    let mut values = BTreeMap::new();
    for config in configs {
        let Some(value) = config.value else { return Err("a config has no value") };
        if values.insert(config.name, value).is_some() {
            return Err("the same config is set twice");
        }
    }
    Ok(NewTopic {
        name,
        partitions: (num_partitions != -1).then_some(num_partitions),
        replication_factor: (replication_factor != -1).then_some(replication_factor),
        assignments: by_partition,
        configs: values,
    })
}

fn accept(result: &mut CreatableTopicResult, image: &Image, created: CreatedTopic) {
    let topic = image.topics.get(&created.id);
    let configs = topic.map(|topic| {
        let entries = config::describe(image, topic).into_iter();
        entries
            .map(|entry| CreatableTopicConfigs {
                name: entry.name.to_owned(),
                value: entry.value,
                read_only: entry.is_read_only,
                config_source: entry.source.number(),
                is_sensitive: false,
            })
            .collect()
    });
    result.error_code = ErrorCode::None;
    result.error_message = None;
    result.topic_id = created.id;
    result.num_partitions = created.partitions;
    result.replication_factor = created.replication_factor;
    // Null would mean "you may not see them"; a check alone has none to show.
    result.configs = Some(configs.unwrap_or_default());
}

fn fail(result: &mut CreatableTopicResult, code: ErrorCode, message: String) {
    result.error_code = code;
    result.error_message = Some(message);
}
