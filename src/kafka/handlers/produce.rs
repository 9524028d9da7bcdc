//! Produce (0): batches of strangers are checked here; placing and acknowledging them is the
//! replica's business.
//!
//! Nothing is awaited before the batches are handed to the replicas, so that two requests of one
//! connection append in the order in which they came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, Request, Response, TopicProduceData, TopicProduceResponse,
};
use super::super::{Operation, Resource, Session};
use super::{Outcome, cluster, join_all, suffix, timeout};
use crate::metadata::image::{Image, Topic, is_internal};
use crate::metadata::moves::topics::is_suffix;
use crate::model::{TopicId, TopicPartition, batch};
use crate::replica::{Acks, ProduceError, Produced};

/// Largest batch where a topic says nothing: Kafka's `message.max.bytes`.
pub(super) const MESSAGE_BYTES_DEFAULT: usize = (1 << 20) + 12;

/// Batches of zstd are for versions whose clients all know it (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// Attribute bit 3: the timestamp is the broker's.
const LOG_APPEND_TIME: i16 = 0b1000;

/// Why a partition's records were refused before any replica saw them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    code: ErrorCode,
    message: String,
    /// Which record, where one is to blame (KIP-467).
    record: Option<i32>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record: None }
    }
}

pub(super) async fn handle(
    context: &Arc<Context>,
    session: &Session,
    version: i16,
    request: Request,
) -> Outcome {
    let image = context.metadata.image();
    let Request { transactional_id, acks, timeout_ms, topic_data } = request;
    if acks == 0 {
        context.metrics.acks_none.increment(1);
    }
    let call = Call {
        context,
        session,
        image: &image,
        version,
        acks: required(acks),
        is_transactional: transactional_id.is_some(),
        timeout: timeout(timeout_ms),
    };
    let topics = topic_data.into_iter().map(|topic| call.topic(topic));
    let (responses, pauses): (Vec<_>, Vec<Duration>) = join_all(topics).await.into_iter().unzip();
    let all = || responses.iter().flat_map(|topic| &topic.partition_responses);
    if all().any(|partition| partition.error_code.is_error()) {
        context.metrics.of(super::super::wire::ApiKey::Produce).errors.increment(1);
    }
    if acks == 0 {
        let failed = all().any(|partition| partition.error_code.is_error());
        return if failed { Outcome::Close } else { Outcome::Silence };
    }
    let leaders = all().map(|partition| partition.current_leader.leader_id);
    let node_endpoints = endpoints(context, session, &image, leaders);
    let pause = pauses.into_iter().max().unwrap_or_default().max(session.quota(0));
    if !pause.is_zero() {
        context.metrics.produce_throttled.increment(1);
    }
    let throttle_time_ms = i32::try_from(pause.as_millis()).unwrap_or(i32::MAX);
    Response { responses, throttle_time_ms, node_endpoints }.into()
}

/// `None`: not a number that Kafka knows.
fn required(acks: i16) -> Option<Acks> {
    match acks {
        // No answer is sent, but whoever waits is waiting for the leader's disk.
        0 | 1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    }
}

fn endpoints(
    context: &Context,
    session: &Session,
    image: &Image,
    leaders: impl Iterator<Item = i32>,
) -> Vec<NodeEndpoint> {
    let wanted: std::collections::BTreeSet<i32> = leaders.filter(|id| *id >= 0).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let brokers = cluster::brokers(context, session, image);
    let named = brokers.iter().filter(|broker| wanted.contains(&broker.id()));
    named
        .map(|broker| NodeEndpoint {
            node_id: broker.id(),
            host: broker.host(),
            port: broker.port(),
            rack: broker.rack(),
        })
        .collect()
}

/// What all partitions of a request share.
#[derive(Clone, Copy)]
struct Call<'a> {
    context: &'a Context,
    session: &'a Session,
    image: &'a Image,
    version: i16,
    acks: Option<Acks>,
    is_transactional: bool,
    timeout: Duration,
}

impl<'a> Call<'a> {
    /// The answer, and how long the client should pause.
    async fn topic(self, wanted: TopicProduceData) -> (TopicProduceResponse, Duration) {
        let TopicProduceData { name, topic_id, partition_data } = wanted;
        let found = match self.version {
            ..=12 => self.image.topic(&name).ok_or(ErrorCode::UnknownTopicOrPartition),
            _ => self.image.topics.get(&topic_id).ok_or(ErrorCode::UnknownTopicId),
        };
        let topic = found.map_err(|code| self.no_topic(code, &name, topic_id));
        let topic = topic.and_then(|topic| self.check_topic(topic));
        let partitions = partition_data.into_iter().map(|data| self.partition(topic.clone(), data));
        let answers = join_all(partitions).await.into_iter();
        let (partition_responses, pauses): (Vec<_>, Vec<Duration>) = answers.unzip();
        let pause = pauses.into_iter().max().unwrap_or_default();
        (TopicProduceResponse { name, topic_id, partition_responses }, pause)
    }

    /// Why there is nothing to write to: what a ledger has is only read.
    fn no_topic(self, code: ErrorCode, name: &str, id: TopicId) -> Refused {
        let by_id = || suffix::of_id(self.context, self.image, id).map(|t| t.name.to_string());
        let suffix = Some(name).filter(|name| is_suffix(name)).map(str::to_owned).or_else(by_id);
        let Some(suffix) = suffix else { return Refused::new(code, code.name()) };
        if !self.session.authorize(Operation::Write, Resource::Topic(&suffix)) {
            let message = "Write on the topic is needed";
            return Refused::new(ErrorCode::TopicAuthorizationFailed, message);
        }
        let message = format!("{suffix} is what a ledger has, and is read-only");
        Refused::new(ErrorCode::InvalidTopicException, message)
    }

    fn check_topic(self, topic: &'a Arc<Topic>) -> Result<&'a Arc<Topic>, Refused> {
        let refuse = |code, message: &str| Err(Refused::new(code, message));
        if !self.session.authorize(Operation::Write, Resource::Topic(&topic.name)) {
            return refuse(ErrorCode::TopicAuthorizationFailed, "Write on the topic is needed");
        }
        if is_internal(&topic.name) {
            let message = "clients do not write to the cluster's own topics";
            return refuse(ErrorCode::InvalidTopicException, message);
        }
        if self.acks.is_none() {
            let message = "acks must be 0, 1 or -1 (all)";
            return refuse(ErrorCode::InvalidRequiredAcks, message);
        }
        if self.is_transactional {
            return refuse(ErrorCode::InvalidTxnState, "transactions are not served yet");
        }
        Ok(topic)
    }

    async fn partition(
        self,
        topic: Result<&Arc<Topic>, Refused>,
        data: PartitionProduceData,
    ) -> (PartitionProduceResponse, Duration) {
        let PartitionProduceData { index, records } = data;
        let checked = topic.and_then(|topic| {
            let at = TopicPartition { topic: topic.id, partition: index };
            if self.image.partition(at).is_none() {
                let message = format!("topic {} has no partition {index}", topic.name);
                return Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            let records = records.unwrap_or_default();
            let batch = check(records, self.version, message_bytes_max(topic))?;
            Ok((at, batch))
        });
        let (at, batch) = match checked {
            Ok(checked) => checked,
            Err(refused) => return (refuse(index, refused), Duration::ZERO),
        };
        let acks = self.acks.expect("the topic was checked");
        let produced = self.context.replicas.produce(at, vec![batch], acks, self.timeout).await;
        match produced {
            Ok(produced) => (accept(index, produced), produced.throttle),
            Err(error) => {
                let mut pause = Duration::ZERO;
                if let ProduceError::OverBudget { pause: asked } = error {
                    pause = asked;
                    self.context.metrics.over_budget.increment(1);
                }
                (self.fail(index, at, error), pause)
            }
        }
    }

    fn fail(self, index: i32, at: TopicPartition, error: ProduceError) -> PartitionProduceResponse {
        let code = match error {
            // The image has it, so another node does.
            ProduceError::UnknownPartition => ErrorCode::NotLeaderOrFollower,
            other => other.to_code(),
        };
        let mut response = refuse(index, Refused::new(code, error.to_string()));
        if code == ErrorCode::NotLeaderOrFollower
            && let Some(leader) = cluster::other_leader(self.context, at)
        {
            let (leader_id, leader_epoch) = (leader.node.as_i32(), leader.epoch);
            response.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
        }
        response
    }
}

/// What the topic allows as the size of a batch.
pub(super) fn message_bytes_max(topic: &Topic) -> usize {
    let set = topic.configs.get("max.message.bytes");
    set.and_then(|bytes| bytes.parse().ok()).unwrap_or(MESSAGE_BYTES_DEFAULT)
}

/// Checks what a stranger sent for one partition: exactly one batch, whole, of format v2.
fn check(records: Bytes, version: i16, bytes_max: usize) -> Result<Bytes, Refused> {
    if records.is_empty() {
        return Err(Refused::new(ErrorCode::InvalidRecord, "there is no record batch"));
    }
    if records.len() > bytes_max {
        let message =
            format!("{} bytes are more than max.message.bytes {bytes_max}", records.len());
        return Err(Refused::new(ErrorCode::MessageTooLarge, message));
    }
    let refused = |error: batch::Error| Refused::new(error.to_code(), error.to_string());
    let first = batch::Header::parse(&records).map_err(refused)?;
    if first.size_bytes < records.len() {
        let message = "since version 3 a partition's records are exactly one batch";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    let header = batch::check(&records).map_err(refused)?;
    if header.codec() == Ok(batch::Codec::Zstd) && version < ZSTD_VERSION_MIN {
        let message = "zstd needs Produce version 7";
        return Err(Refused::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if header.is_control() {
        let message = "control batches are the brokers' own";
        return Err(Refused { record: Some(0), ..Refused::new(ErrorCode::InvalidRecord, message) });
    }
    if header.is_transactional() {
        let message = "transactions are not served yet";
        return Err(Refused::new(ErrorCode::InvalidTxnState, message));
    }
    if header.attributes & LOG_APPEND_TIME != 0 {
        let message = "a producer must not set the timestamp type to LogAppendTime";
        return Err(Refused::new(ErrorCode::InvalidTimestamp, message));
    }
    Ok(records)
}

fn accept(index: i32, produced: Produced) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: ErrorCode::None,
        base_offset: produced.base_offset.0,
        log_append_time_ms: produced.log_append_time_ms.unwrap_or(-1),
        log_start_offset: produced.log_start.0,
        ..Default::default()
    }
}

fn refuse(index: i32, refused: Refused) -> PartitionProduceResponse {
    let Refused { code, message, record } = refused;
    let record = record.map(|batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(message.clone()),
    });
    PartitionProduceResponse {
        index,
        error_code: code,
        base_offset: -1,
        record_errors: record.into_iter().collect(),
        error_message: Some(message),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
