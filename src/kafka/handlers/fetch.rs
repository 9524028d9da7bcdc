//! Fetch (1): long poll (`wait`), sessions (KIP-227), the nearest replica (KIP-392, `nearest`),
//! leader epochs (KIP-320), topic ids (KIP-516) and the leader's name in errors (KIP-951).
//!
//! ```text
//!   request ─▶ session's plan ─▶ read all partitions ─┬─ enough, or something to say ─▶ answer
//!                                     ▲               └─ wait: one of them moved, or time is up
//!                                     └──────────────────────────┘
//! ```

mod nearest;
mod position;
mod read;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use self::read::{Read, Reading};
use super::super::Session;
use super::super::context::{Context, FETCH_BYTES_MAX};
use super::super::fetch_sessions::{self, Key, Plan, Topic, Wanted};
use super::super::wire::fetch::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData, Request,
    Response,
};
use super::super::wire::{ApiKey, ErrorCode, Records};
use super::{Outcome, cluster, timeout};
use crate::metadata::image::Image;
use crate::model::TopicId;

/// Topics are named by id from this version on (KIP-516).
const TOPIC_ID_VERSION: i16 = 13;

/// `isolation_level` of those who want committed records only.
const READ_COMMITTED: i8 = 1;

pub(super) async fn handle(
    context: &Arc<Context>,
    session: &Session,
    version: i16,
    request: Request,
) -> Outcome {
    let turn = session.fetch_turn.clone().acquire_owned().await;
    let turn = turn.expect("a session's semaphore is never closed");
    let mut held = vec![turn];
    let refuse = |error_code| Response { error_code, ..Response::default() };
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Replicas of this cluster do not fetch over Kafka's protocol.
        return refuse(ErrorCode::InvalidRequest).into();
    }
    let asked = asked(&request, version);
    let begun = context.fetch_sessions().begin(context.now(), asked);
    let plan = match begun {
        Ok(plan) => plan,
        Err(error) => return refuse(session_code(error)).into(),
    };
    let deadline = Instant::now() + timeout(request.max_wait_ms);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let (reads, image) = loop {
        let image = context.metadata.image();
        let rack = &request.rack_id;
        let reading = Reading { context, session, image: &image, version, rack, bytes_max };
        let reads = reading.all(&plan.wanted, &mut held).await;
        let bytes: usize = reads.iter().map(|read| read.bytes).sum();
        let is_due = reads.is_empty() || bytes >= bytes_min || reads.iter().any(Read::is_urgent);
        if is_due || wait::any_moved(&reads, deadline, context.shutdown.clone()).await.is_over() {
            break (reads, image);
        }
        held.truncate(1);
    };
    let is_committed = request.isolation_level == READ_COMMITTED;
    let response = respond(context, session, &image, version, is_committed, &plan, reads);
    Outcome::Holding(response.into(), held)
}

fn session_code(error: fetch_sessions::Error) -> ErrorCode {
    match error {
        fetch_sessions::Error::SessionNotFound => ErrorCode::FetchSessionIdNotFound,
        fetch_sessions::Error::SessionEpoch => ErrorCode::InvalidFetchSessionEpoch,
        fetch_sessions::Error::TopicId => ErrorCode::FetchSessionTopicIdError,
    }
}

fn topic(version: i16, name: &str, id: TopicId) -> Topic {
    if version >= TOPIC_ID_VERSION { Topic::Id(id) } else { Topic::Name(name.into()) }
}

/// What the request wants, each partition once: many times the same would be as many reads.
fn asked(request: &Request, version: i16) -> fetch_sessions::Request {
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::new();
    for t in &request.topics {
        let topic = topic(version, &t.topic, t.topic_id);
        for p in &t.partitions {
            let key = Key { topic: topic.clone(), partition: p.partition };
            if !seen.insert(key.clone()) {
                continue;
            }
            wanted.push(Wanted {
                key,
                offset: p.fetch_offset,
                bytes_max: p.partition_max_bytes,
                leader_epoch: p.current_leader_epoch,
                last_fetched_epoch: p.last_fetched_epoch,
            });
        }
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|t| {
        let topic = topic(version, &t.topic, t.topic_id);
        t.partitions.iter().map(move |p| Key { topic: topic.clone(), partition: *p })
    });
    fetch_sessions::Request {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        wanted,
        forgotten: forgotten.collect(),
        by_id: version >= TOPIC_ID_VERSION,
    }
}

fn respond(
    context: &Context,
    session: &Session,
    image: &Image,
    version: i16,
    is_committed: bool,
    plan: &Plan,
    reads: Vec<Read>,
) -> Response {
    if reads.iter().any(|read| read.error.is_error()) {
        context.metrics.of(ApiKey::Fetch).errors.increment(1);
    }
    let outcomes: Vec<_> = reads.iter().map(Read::outcome).collect();
    let named = {
        let mut sessions = context.fetch_sessions();
        let named = sessions.finish(plan, &outcomes);
        context.metrics.fetch_sessions.set(sessions.len() as f64);
        named
    };
    let bytes = reads.iter().map(|read| read.bytes).sum();
    let node_endpoints = endpoints(context, session, image, version, &reads);
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut places: BTreeMap<&Topic, usize> = BTreeMap::new();
    for ((wanted, read), named) in plan.wanted.iter().zip(reads).zip(named) {
        if !named {
            continue;
        }
        read.count(context);
        let place = *places.entry(&wanted.key.topic).or_insert_with(|| {
            responses.push(named_topic(&wanted.key.topic));
            responses.len() - 1
        });
        responses[place].partitions.push(partition(wanted.key.partition, is_committed, read));
    }
    Response {
        throttle_time_ms: session.throttle_time_ms(bytes),
        error_code: ErrorCode::None,
        session_id: plan.session_id,
        responses,
        node_endpoints,
    }
}

fn named_topic(topic: &Topic) -> FetchableTopicResponse {
    match topic {
        Topic::Name(name) => {
            FetchableTopicResponse { topic: name.to_string(), ..Default::default() }
        }
        Topic::Id(topic_id) => FetchableTopicResponse { topic_id: *topic_id, ..Default::default() },
    }
}

fn partition(partition_index: i32, is_committed: bool, read: Read) -> PartitionData {
    let is_error = read.error.is_error();
    let diverging = read.diverging.map(|(epoch, end)| EpochEndOffset { epoch, end_offset: end.0 });
    let leader = read.leader.map(|leader| LeaderIdAndEpoch {
        leader_id: leader.node.as_i32(),
        leader_epoch: leader.epoch,
    });
    PartitionData {
        partition_index,
        error_code: read.error,
        high_watermark: read.high_watermark,
        // There are no transactions yet, so nothing below the high watermark is open.
        last_stable_offset: if is_error { -1 } else { read.high_watermark },
        log_start_offset: read.log_start,
        diverging_epoch: diverging.unwrap_or_default(),
        current_leader: leader.unwrap_or_default(),
        aborted_transactions: is_committed.then(Vec::new),
        preferred_read_replica: read.preferred.map_or(-1, |node| node.as_i32()),
        records: Some(Records::from(read.batches)),
        ..Default::default()
    }
}

fn endpoints(
    context: &Context,
    session: &Session,
    image: &Image,
    version: i16,
    reads: &[Read],
) -> Vec<NodeEndpoint> {
    let leaders: BTreeSet<_> =
        reads.iter().filter_map(|read| Some(read.leader.as_ref()?.node)).collect();
    if version < 16 {
        return Vec::new();
    }
    let brokers = leaders.iter().filter_map(|id| cluster::broker(context, session, image, *id));
    brokers
        .map(|broker| NodeEndpoint {
            node_id: broker.id(),
            host: broker.host(),
            port: broker.port(),
            rack: broker.rack(),
        })
        .collect()
}
