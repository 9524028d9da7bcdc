//! Metadata (3): brokers, topics and who leads what.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::cluster::PartitionState;
use super::{METADATA_TIMEOUT, cluster, once_each, suffix};
use crate::metadata::image::{Image, Topic, is_internal};
use crate::metadata::moves::topics::{SuffixTopic, is_suffix};
use crate::metadata::{request, service};
use crate::model::{TopicId, TopicPartition};

/// Topics that one request may create by naming them. A client names those that it uses; what a
/// flood of made-up names asks for beyond this is UNKNOWN_TOPIC_OR_PARTITION, and asked again.
const AUTO_CREATES_MAX: usize = 100;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    version: i16,
    request: Request,
) -> Response {
    let next_request = session.next_request();
    let mut image = context.metadata.image();
    let topics = match request.topics {
        // Version 0 has no null: there the empty list means all.
        None => None,
        Some(topics) if version == 0 && topics.is_empty() => None,
        Some(topics) => Some(topics),
    };
    let mut failed = Created::default();
    if let Some(topics) = &topics
        && request.allow_auto_topic_creation
        && context.config.auto_create_topics
    {
        let missing = missing(&image, session, topics);
        if !missing.is_empty() {
            failed = create(context, missing).await;
            image = context.metadata.image();
        }
    }
    match &topics {
        None => context.probe_leaders(image.topics.values().map(Arc::as_ref)).await,
        Some(topics) => {
            let found = || topics.iter().filter_map(|topic| find(&image, topic));
            context.probe_leaders(found()).await;
            context.await_successors(found(), next_request).await;
        }
    }
    let mut topics: Vec<_> = match topics {
        None => all(context, session, &image),
        Some(topics) => once_each(topics, |topic| (topic.topic_id, topic.name.clone()))
            .map(|topic| named(context, session, &image, topic, &failed))
            .collect(),
    };
    for topic in topics.iter_mut().filter(|topic| !topic.error_code.is_error()) {
        let resource = Resource::Topic(topic.name.as_deref().unwrap_or_default());
        let asks = request.include_topic_authorized_operations;
        topic.topic_authorized_operations = session.authorized_operations(asks, resource);
    }
    let brokers = cluster::brokers(context, session, &image);
    let brokers = brokers.iter().map(|broker| MetadataResponseBroker {
        node_id: broker.id(),
        host: broker.host(),
        port: broker.port(),
        rack: broker.rack(),
    });
    Response {
        throttle_time_ms: session.throttle_time_ms(0),
        brokers: brokers.collect(),
        cluster_id: image.cluster_id.as_ref().map(ToString::to_string),
        controller_id: cluster::controller(context),
        topics,
        cluster_authorized_operations: session.authorized_operations(
            request.include_cluster_authorized_operations,
            Resource::Cluster,
        ),
        ..Response::default()
    }
}

/// Why topics were not created, in the order of their names.
#[derive(Default)]
struct Created {
    refused: Vec<(String, ErrorCode)>,
}

impl Created {
    fn code(&self, name: &str) -> Option<ErrorCode> {
        self.refused.iter().find(|(refused, _)| refused == name).map(|(_, code)| *code)
    }
}

/// Names that are not there and may be created.
fn missing(image: &Image, session: &Session, topics: &[MetadataRequestTopic]) -> Vec<String> {
    let names: BTreeSet<&str> = topics
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| image.topic(name).is_none() && !is_suffix(name))
        .filter(|name| session.authorize(Operation::Create, Resource::Topic(name)))
        .take(AUTO_CREATES_MAX)
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

async fn create(context: &Context, names: Vec<String>) -> Created {
    let request = request::Request::EnsureTopics { names: names.clone() };
    let refused = |code: ErrorCode| Created {
        refused: names.iter().map(|name| (name.clone(), code)).collect(),
    };
    match context.metadata.submit(request, METADATA_TIMEOUT).await {
        Ok(request::Response::TopicsCreated(results)) => {
            let pairs = names.iter().zip(results);
            let refused =
                pairs.filter_map(|(name, result)| Some((name.clone(), result.err()?.to_code())));
            Created { refused: refused.collect() }
        }
        Ok(other) => panic!("topics were to be ensured, not {other:?}"),
        Err(service::Error::Refused(refusal)) => refused(refusal.to_code()),
        // Clients take LEADER_NOT_AVAILABLE for a topic that is on its way, and ask again.
        Err(
            service::Error::NoLeader
            | service::Error::Busy
            | service::Error::Unknown
            | service::Error::Behind
            | service::Error::Wire(_)
            | service::Error::ShuttingDown,
        ) => refused(ErrorCode::LeaderNotAvailable),
    }
}

fn all(context: &Context, session: &Session, image: &Image) -> Vec<MetadataResponseTopic> {
    let may =
        |topic: &&Arc<Topic>| session.authorize(Operation::Describe, Resource::Topic(&topic.name));
    // By name, as people and tools expect it.
    let topics = image.topic_ids.values().filter_map(|id| image.topics.get(id));
    let topics = topics.filter(may).map(|topic| describe(context, session, image, topic));
    let suffixes = suffix::all(context, session, image);
    topics.chain(suffixes.iter().map(|s| describe_suffix(context, session, image, s))).collect()
}

/// By its id where one is given, else by its name.
fn find<'a>(image: &'a Image, wanted: &MetadataRequestTopic) -> Option<&'a Topic> {
    match (wanted.topic_id, &wanted.name) {
        (id, _) if !id.is_zero() => image.topics.get(&id).map(Arc::as_ref),
        (_, name) => image.topic(name.as_deref()?).map(AsRef::as_ref),
    }
}

fn named(
    context: &Context,
    session: &Session,
    image: &Image,
    wanted: MetadataRequestTopic,
    created: &Created,
) -> MetadataResponseTopic {
    let found = find(image, &wanted);
    let MetadataRequestTopic { topic_id, name } = wanted;
    let by_id = !topic_id.is_zero();
    let suffix = match (found, &name) {
        (Some(_), _) => None,
        (None, _) if by_id => suffix::of_id(context, image, topic_id),
        (None, Some(name)) => suffix::named(context, image, name),
        (None, None) => return refuse(ErrorCode::InvalidRequest, None, topic_id),
    };
    match (found, &suffix) {
        (Some(topic), _)
            if session.authorize(Operation::Describe, Resource::Topic(&topic.name)) =>
        {
            describe(context, session, image, topic)
        }
        (None, Some(topic)) if suffix::may(session, Operation::Describe, topic) => {
            describe_suffix(context, session, image, topic)
        }
        // An id that may not be seen is as good as one that does not exist.
        _ if by_id => refuse(ErrorCode::UnknownTopicId, None, topic_id),
        (Some(_), _) | (_, Some(_)) => {
            refuse(ErrorCode::TopicAuthorizationFailed, name, TopicId::ZERO)
        }
        (None, None) => {
            let name = name.expect("it was looked up by name");
            let code = match created.code(&name) {
                Some(code) => code,
                None if !is_legal(&name) => ErrorCode::InvalidTopicException,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            refuse(code, Some(name), TopicId::ZERO)
        }
    }
}

/// Kafka's rule for topic names: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', but not "." or "..".
pub(super) fn is_legal(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=249).contains(&name.len()) && name != "." && name != "..";
    fits && name.chars().all(allowed)
}

fn refuse(code: ErrorCode, name: Option<String>, topic_id: TopicId) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code, name, topic_id, ..Default::default() }
}

fn describe(
    context: &Context,
    session: &Session,
    image: &Image,
    topic: &Topic,
) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(number, partition)| {
        let at = TopicPartition { topic: topic.id, partition: number };
        shown(number, cluster::partition_state(context, session, image, at, partition))
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn describe_suffix(
    context: &Context,
    session: &Session,
    image: &Image,
    topic: &SuffixTopic,
) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(number, partition)| {
        shown(number, suffix::state(context, session, image, partition))
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: true,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn shown(partition_index: i32, state: PartitionState) -> MetadataResponsePartition {
    MetadataResponsePartition {
        error_code: state.error_code,
        partition_index,
        leader_id: state.leader_id,
        leader_epoch: state.leader_epoch,
        replica_nodes: state.replicas,
        isr_nodes: state.in_sync,
        offline_replicas: state.offline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_kafkas() {
        for good in ["a", "orders.eu_1-x", "__consumer_offsets", &"x".repeat(249)] {
            assert!(is_legal(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
            assert!(!is_legal(bad), "{bad}");
        }
    }
}
