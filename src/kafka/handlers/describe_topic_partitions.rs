//! DescribeTopicPartitions (75, KIP-966): Metadata in pages.

use std::sync::Arc;

use super::super::context::Context;
use super::super::wire::ErrorCode;
use super::super::wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::cluster::{self, PartitionState};
use super::suffix;
use crate::metadata::image::{Image, Topic, is_internal};
use crate::metadata::moves::topics::SuffixTopic;
use crate::model::TopicPartition;

/// Partitions of one page at the most: Kafka's `max.request.partition.size.limit`.
const PAGE_PARTITIONS_MAX: usize = 2000;

pub(super) fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let image = context.metadata.image();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, PAGE_PARTITIONS_MAX);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    let suffixes = suffix::all(context, session, &image);
    let of_a_ledger = |name: &str| suffixes.iter().find(|topic| *topic.name == *name);
    for name in names(&image, &suffixes, &request) {
        let first = match &request.cursor {
            Some(cursor) if cursor.topic_name == *name => cursor.partition_index.max(0),
            _ => 0,
        };
        if left == 0 {
            next_cursor = Some(Cursor { topic_name: name.to_string(), partition_index: first });
            break;
        }
        let may = session.authorize(Operation::Describe, Resource::Topic(&name));
        let found = image.topic(&name).filter(|_| may);
        let suffix = of_a_ledger(&name).filter(|_| found.is_none());
        let count = match (found, suffix) {
            (Some(topic), _) => topic.partitions.len(),
            (None, Some(suffix)) => suffix.partitions.len(),
            (None, None) => {
                topics.push(unknown(&name, may));
                continue;
            }
        };
        let first = first as usize;
        let shown = count.saturating_sub(first).min(left);
        left -= shown;
        let range = first..first + shown;
        topics.extend(found.map(|t| describe(context, session, &image, t, range.clone())));
        topics.extend(suffix.map(|s| describe_suffix(context, session, &image, s, range)));
        if first + shown < count {
            let partition_index = i32::try_from(first + shown).unwrap_or(i32::MAX);
            next_cursor = Some(Cursor { topic_name: name.to_string(), partition_index });
            break;
        }
    }
    let throttle_time_ms = session.throttle_time_ms(0);
    Response { throttle_time_ms, topics, next_cursor }
}

/// The topics asked for, or all, by name and from the cursor on.
fn names(image: &Image, suffixes: &[Arc<SuffixTopic>], request: &Request) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = if request.topics.is_empty() {
        let suffixes = suffixes.iter().map(|topic| &topic.name);
        image.topic_ids.keys().chain(suffixes).cloned().collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str().into()).collect()
    };
    names.sort();
    names.dedup();
    if let Some(cursor) = &request.cursor {
        names.retain(|name| **name >= *cursor.topic_name);
    }
    names
}

fn unknown(name: &str, may: bool) -> DescribeTopicPartitionsResponseTopic {
    let error_code = match may {
        true => ErrorCode::UnknownTopicOrPartition,
        false => ErrorCode::TopicAuthorizationFailed,
    };
    let name = Some(name.to_owned());
    DescribeTopicPartitionsResponseTopic { error_code, name, ..Default::default() }
}

fn describe(
    context: &Context,
    session: &Session,
    image: &Image,
    topic: &Topic,
    shown: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (0..).zip(&topic.partitions).skip(shown.start).take(shown.len());
    let partitions = partitions.map(|(number, partition)| {
        let at = TopicPartition { topic: topic.id, partition: number };
        described(number, cluster::partition_state(context, session, image, at, partition))
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: session
            .authorized_operations(true, Resource::Topic(&topic.name)),
        ..Default::default()
    }
}

fn describe_suffix(
    context: &Context,
    session: &Session,
    image: &Image,
    topic: &SuffixTopic,
    shown: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (0..).zip(&topic.partitions).skip(shown.start).take(shown.len());
    let partitions = partitions.map(|(number, partition)| {
        described(number, suffix::state(context, session, image, partition))
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: true,
        partitions: partitions.collect(),
        topic_authorized_operations: session
            .authorized_operations(true, Resource::Topic(&topic.name)),
        ..Default::default()
    }
}

fn described(
    partition_index: i32,
    state: PartitionState,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: state.error_code,
        partition_index,
        leader_id: state.leader_id,
        leader_epoch: state.leader_epoch,
        replica_nodes: state.replicas,
        isr_nodes: state.in_sync,
        offline_replicas: state.offline,
        // There is no such set here (KIP-966); Kafka's own admin client fails on a null.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
    }
}
