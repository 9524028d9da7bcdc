//! OffsetFetch (9); many groups at once from version 8 (KIP-709). A committed offset beyond the end
//! of its leader epoch is clamped to it (R25).

use std::collections::{BTreeMap, BTreeSet};

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics, Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::{cluster, once_each, suffix};
use crate::coordinator::group::{
    CommittedOffset, FetchOffsets, FetchedOffset, Id, TopicPartition, clamp,
};
use crate::metadata::image::Image;
use crate::model::TopicId;

/// Many groups at once from this version on.
const GROUPS_VERSION: i16 = 8;

/// Topics are named by id from this version on (KIP-848).
const TOPIC_ID_VERSION: i16 = 10;

/// Before this version an error of the whole is said partition by partition.
const GROUP_ERROR_VERSION: i16 = 2;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    version: i16,
    request: Request,
) -> Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    if version >= GROUPS_VERSION {
        let mut groups = Vec::with_capacity(request.groups.len());
        for wanted in once_each(request.groups, |wanted| wanted.group_id.clone()) {
            groups.push(group(context, session, version, wanted).await);
        }
        return Response { throttle_time_ms, groups, ..Response::default() };
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: TopicId::ZERO,
            partition_indexes: topic.partition_indexes,
        });
        topics.collect()
    });
    let wanted =
        OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let asked = (version < GROUP_ERROR_VERSION).then(|| wanted.topics.clone()).flatten();
    let answer = group(context, session, version, wanted).await;
    let (error_code, topics) = match asked {
        Some(asked) if answer.error_code.is_error() => {
            (ErrorCode::None, all_failed(asked, answer.error_code))
        }
        _ => (answer.error_code, answer.topics),
    };
    let topics = topics.into_iter().map(single).collect();
    Response { throttle_time_ms, topics, error_code, ..Response::default() }
}

fn single(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|p| OffsetFetchResponsePartition {
        partition_index: p.partition_index,
        committed_offset: p.committed_offset,
        committed_leader_epoch: p.committed_leader_epoch,
        metadata: p.metadata,
        error_code: p.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

fn all_failed(
    asked: Vec<OffsetFetchRequestTopics>,
    error_code: ErrorCode,
) -> Vec<OffsetFetchResponseTopics> {
    let failed = asked.into_iter().map(|topic| OffsetFetchResponseTopics {
        partitions: topic.partition_indexes.iter().map(|p| refused(*p, error_code)).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    });
    failed.collect()
}

async fn group(
    context: &Context,
    session: &Session,
    version: i16,
    wanted: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let OffsetFetchRequestGroup { group_id, topics, .. } = wanted;
    let image = context.metadata.image();
    let fetched = match session.authorize(Operation::Describe, Resource::Group(&group_id)) {
        false => Err(ErrorCode::GroupAuthorizationFailed),
        true => match topics {
            None => all(context, session, &image, &group_id).await,
            Some(topics) => some(context, session, &image, version, &group_id, topics).await,
        },
    };
    let error_code = fetched.as_ref().err().copied().unwrap_or(ErrorCode::None);
    let topics = fetched.unwrap_or_default();
    OffsetFetchResponseGroup { group_id, topics, error_code }
}

async fn ask(
    context: &Context,
    group: &str,
    partitions: Option<Vec<TopicPartition>>,
) -> Result<Vec<FetchedOffset>, ErrorCode> {
    let fetch = FetchOffsets { group: Id::from(group), partitions };
    context.groups.fetch_offsets(fetch).await.map_err(|error| error.to_code())
}

/// All that the group has committed.
async fn all(
    context: &Context,
    session: &Session,
    image: &Image,
    group: &str,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    let mut by_topic: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for fetched in ask(context, group, None).await? {
        let name = fetched.partition.topic.to_string();
        if session.authorize(Operation::Describe, Resource::Topic(&name)) {
            let answer = answer(context, image, &fetched);
            by_topic.entry(name).or_default().push(answer);
        }
    }
    let topics = by_topic.into_iter().map(|(name, partitions)| OffsetFetchResponseTopics {
        topic_id: cluster::topic_id(image, &name)
            .or_else(|| Some(suffix::named(context, image, &name)?.id))
            .unwrap_or_default(),
        name,
        partitions,
    });
    Ok(topics.collect())
}

/// What was asked for, in that order.
async fn some(
    context: &Context,
    session: &Session,
    image: &Image,
    version: i16,
    group: &str,
    wanted: Vec<OffsetFetchRequestTopics>,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    let mut topics = Vec::with_capacity(wanted.len());
    let mut asked = Vec::new();
    // Metadata of 4 KiB for each time that a partition is named would make a long answer.
    let mut seen = BTreeSet::new();
    for (t, topic) in wanted.into_iter().enumerate() {
        let OffsetFetchRequestTopics { name, topic_id, partition_indexes } = topic;
        let known = match version {
            // An offset outlives its topic, so a name need not be one that exists.
            ..TOPIC_ID_VERSION => Ok(name.clone()),
            _ => image
                .topics
                .get(&topic_id)
                .map(|topic| topic.name.to_string())
                .or_else(|| Some(suffix::of_id(context, image, topic_id)?.name.to_string()))
                .ok_or(ErrorCode::UnknownTopicId),
        };
        let known = known.and_then(|name| {
            match session.authorize(Operation::Describe, Resource::Topic(&name)) {
                true => Ok(name),
                false => Err(ErrorCode::TopicAuthorizationFailed),
            }
        });
        let mut partitions = Vec::with_capacity(partition_indexes.len());
        for (p, index) in partition_indexes.into_iter().enumerate() {
            match &known {
                Ok(name) if !seen.insert((name.clone(), index)) => {
                    partitions.push(refused(index, ErrorCode::InvalidRequest));
                }
                Ok(name) => {
                    asked.push(((t, p), TopicPartition::new(name.as_str(), index)));
                    partitions.push(refused(index, ErrorCode::UnknownServerError));
                }
                Err(code) => partitions.push(refused(index, *code)),
            }
        }
        topics.push(OffsetFetchResponseTopics { name, topic_id, partitions });
    }
    let (places, asked): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let fetched = ask(context, group, Some(asked)).await?;
    for ((t, p), fetched) in places.into_iter().zip(fetched) {
        topics[t].partitions[p] = answer(context, image, &fetched);
    }
    Ok(topics)
}

fn refused(partition_index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        metadata: Some(String::new()),
        error_code,
        ..Default::default()
    }
}

fn answer(
    context: &Context,
    image: &Image,
    fetched: &FetchedOffset,
) -> OffsetFetchResponsePartitions {
    let FetchedOffset { partition, committed } = fetched;
    let Some(committed) = committed else { return refused(partition.partition, ErrorCode::None) };
    OffsetFetchResponsePartitions {
        partition_index: partition.partition,
        committed_offset: clamped(context, image, partition, committed),
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(committed.metadata.clone()),
        error_code: ErrorCode::None,
    }
}

/// The committed offset, or the end of its leader epoch where that comes first: a failover may
/// have cut what the group had read (R25). Where homes before the present one end every node knows from the image. Within
/// a home nothing is cut that was shown (R5), unless a disk lies; what the replica here has says so, if there is one.
fn clamped(
    context: &Context,
    image: &Image,
    partition: &TopicPartition,
    committed: &CommittedOffset,
) -> i64 {
    let here = |at| context.replicas.view(at)?.settled_end_of_epoch(committed.leader_epoch);
    let end = cluster::find(image, &partition.topic, partition.partition)
        .and_then(|at| {
            image.partition(at)?.end_of_epoch(committed.leader_epoch).or_else(|| here(at))
        })
        .map(|end| end.0);
    let clamped = clamp(committed.offset, end);
    if clamped.was_clamped {
        context.metrics.offsets_clamped.increment(1);
        tracing::warn!(
            topic = %partition.topic,
            partition = partition.partition,
            committed = committed.offset,
            leader_epoch = committed.leader_epoch,
            end = clamped.offset,
            "a committed offset is beyond the end of its leader epoch and was clamped"
        );
    }
    clamped.offset
}
