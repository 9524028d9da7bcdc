//! One pass over the partitions of a fetch.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::super::context::Context;
use super::super::super::errors::ToCode;
use super::super::super::fetch_sessions::{Outcome, Topic, Wanted};
use super::super::super::wire::ErrorCode;
use super::super::super::{Operation, Resource, Session};
use super::super::{cluster, suffix};
use super::nearest::{Candidate, nearest};
use super::position::{Position, position};
use crate::log;
use crate::metadata::image::Image;
use crate::metadata::moves::topics::SuffixTopic;
use crate::model::{LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::replica::{Leader, Progress, ReadError, Records, Role, View};

/// Replicas other than the leader serve consumers that may have been sent to them (KIP-392).
const FOLLOWER_FETCH_VERSION: i16 = 11;

/// What one partition has to say.
#[derive(Default)]
pub(super) struct Read {
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start: i64,
    pub batches: Vec<Bytes>,
    pub bytes: usize,
    pub preferred: Option<NodeId>,
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The leader, where the client came to somebody else (KIP-951).
    pub leader: Option<Leader>,
    /// OFFSET_NOT_AVAILABLE, unless it comes in time.
    pub is_behind: bool,
    /// What it was read from; none if there is no replica here.
    pub seen: Option<(Arc<View>, Progress)>,
}

impl Read {
    fn refused(code: ErrorCode) -> Self {
        Self { error: code, high_watermark: -1, log_start: -1, ..Self::default() }
    }

    /// Something that the client should hear now.
    pub fn is_urgent(&self) -> bool {
        let is_error = self.error.is_error() && !self.is_behind;
        is_error || self.diverging.is_some() || self.preferred.is_some()
    }

    pub fn outcome(&self) -> Outcome {
        Outcome {
            high_watermark: self.high_watermark,
            log_start: self.log_start,
            has_records: self.bytes > 0,
            is_notable: self.error.is_error() || self.is_urgent(),
        }
    }

    /// Counts what it hands out, by the role it was read in.
    pub fn count(&self, context: &Context) {
        match &self.seen {
            Some((_, Progress { role: Role::Leader, .. })) => {
                context.metrics.fetched_from_leader.increment(self.bytes as u64);
            }
            Some(_) => context.metrics.fetched_from_follower.increment(self.bytes as u64),
            None => {}
        }
    }
}

/// What all partitions of a fetch share.
pub(super) struct Reading<'a> {
    pub context: &'a Arc<Context>,
    pub session: &'a Session,
    pub image: &'a Image,
    pub version: i16,
    pub rack: &'a str,
    pub bytes_max: usize,
}

/// How much a partition may add to the answer.
#[derive(Clone, Copy)]
struct Allowance {
    bytes_max: usize,
    /// Nothing is in the answer yet: the first batch comes whole, however large (KIP-74).
    is_first: bool,
}

impl Reading<'_> {
    /// Reads the partitions in order, as far as the bytes last.
    pub async fn all(&self, wanted: &[Wanted], held: &mut Vec<OwnedSemaphorePermit>) -> Vec<Read> {
        let mut reads = Vec::with_capacity(wanted.len());
        let mut total = 0;
        for wanted in wanted {
            let partition_max = usize::try_from(wanted.bytes_max).unwrap_or(0);
            let bytes_max = (self.bytes_max - total.min(self.bytes_max)).min(partition_max);
            let allowance = Allowance { bytes_max, is_first: total == 0 };
            let read = self.partition(wanted, allowance, held).await;
            total += read.bytes;
            reads.push(read);
        }
        reads
    }

    async fn partition(
        &self,
        wanted: &Wanted,
        allowance: Allowance,
        held: &mut Vec<OwnedSemaphorePermit>,
    ) -> Read {
        let (at, view) = match self.find(wanted).await {
            Ok(found) => found,
            Err(refused) => return *refused,
        };
        let progress = view.progress();
        let mut read = Read {
            high_watermark: progress.high_watermark.0,
            log_start: progress.log_start.0,
            seen: Some((view.clone(), progress)),
            ..Read::default()
        };
        if let Err(code) = self.check(&progress, wanted) {
            read.error = code;
            read.leader = cluster::other_leader(self.context, at);
            return read;
        }
        let offset = Offset(wanted.offset);
        let position = position(&progress, offset);
        match position {
            Position::Refused(code) => {
                read.error = code;
                return read;
            }
            Position::Behind => {
                read.error = ErrorCode::OffsetNotAvailable;
                read.is_behind = true;
                return read;
            }
            Position::Readable | Position::AtEnd => {}
        }
        read.preferred = self.preferred(at, &progress);
        read.diverging = view.parted_from(wanted.last_fetched_epoch, offset);
        let is_elsewhere = read.preferred.is_some() || read.diverging.is_some();
        if is_elsewhere || position == Position::AtEnd {
            return read;
        }
        match self.records(&view, offset, allowance, held).await {
            Ok(records) => {
                read.bytes = records.size_bytes;
                read.batches = records.batches;
            }
            Err(error) => read.error = read_code(&error, progress.role),
        }
        read
    }

    async fn find(&self, wanted: &Wanted) -> Result<(TopicPartition, Arc<View>), Box<Read>> {
        let refuse = |code| Err(Box::new(Read::refused(code)));
        let topic = match &wanted.key.topic {
            Topic::Name(name) => self.image.topic(name),
            Topic::Id(id) => self.image.topics.get(id),
        };
        let Some(topic) = topic else {
            let suffix = match &wanted.key.topic {
                Topic::Name(name) => suffix::named(self.context, self.image, name),
                Topic::Id(id) => suffix::of_id(self.context, self.image, *id),
            };
            return match (suffix, &wanted.key.topic) {
                (Some(suffix), _) => self.find_suffix(&suffix, wanted.key.partition).await,
                (None, Topic::Name(_)) => refuse(ErrorCode::UnknownTopicOrPartition),
                (None, Topic::Id(_)) => refuse(ErrorCode::UnknownTopicId),
            };
        };
        if !self.session.authorize(Operation::Read, Resource::Topic(&topic.name)) {
            return refuse(ErrorCode::TopicAuthorizationFailed);
        }
        let at = TopicPartition { topic: topic.id, partition: wanted.key.partition };
        if self.image.partition(at).is_none() {
            return refuse(ErrorCode::UnknownTopicOrPartition);
        }
        match self.context.replicas.view(at) {
            Some(view) => Ok((at, view)),
            None => {
                let leader = cluster::other_leader(self.context, at);
                let refused = Read::refused(ErrorCode::NotLeaderOrFollower);
                Err(Box::new(Read { leader, ..refused }))
            }
        }
    }

    async fn find_suffix(
        &self,
        topic: &SuffixTopic,
        partition: i32,
    ) -> Result<(TopicPartition, Arc<View>), Box<Read>> {
        if !suffix::may(self.session, Operation::Read, topic) {
            return Err(Box::new(Read::refused(ErrorCode::TopicAuthorizationFailed)));
        }
        let refused = |code| {
            let placed = topic.partition(partition);
            let leader = placed.filter(|_| code == ErrorCode::NotLeaderOrFollower);
            let leader = leader.and_then(|placed| suffix::leader(self.context, placed));
            Box::new(Read { leader, ..Read::refused(code) })
        };
        let view = suffix::view(self.context, topic, partition).await.map_err(refused)?;
        Ok((view.partition, view))
    }

    fn check(&self, progress: &Progress, wanted: &Wanted) -> Result<(), ErrorCode> {
        cluster::check_epoch(wanted.leader_epoch, progress.leader_epoch)?;
        if self.version < FOLLOWER_FETCH_VERSION && progress.role != Role::Leader {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok(())
    }

    /// Where a leader sends a consumer that is nearer to another replica.
    fn preferred(&self, at: TopicPartition, progress: &Progress) -> Option<NodeId> {
        let asks = self.version >= FOLLOWER_FETCH_VERSION && !self.rack.is_empty();
        if !asks || progress.role != Role::Leader {
            return None;
        }
        let leader = self.context.replicas.leaders().of(at)?;
        let partition = self.image.partition(at)?;
        let candidates = partition.replicas.iter().filter_map(|replica| {
            let node = replica.node;
            let registered = self.image.nodes.get(&node)?;
            let is_fit = leader.in_sync.contains(&node)
                && cluster::broker(self.context, self.session, self.image, node).is_some();
            Some(Candidate { node, dc: &registered.dc, is_fit })
        });
        nearest(self.rack, &self.context.dc, at.partition, candidates)
    }

    async fn records(
        &self,
        view: &Arc<View>,
        offset: Offset,
        allowance: Allowance,
        held: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<Records, ReadError> {
        let Allowance { bytes_max, is_first } = allowance;
        if bytes_max == 0 && !is_first {
            return Ok(Records::default());
        }
        let mut records = view.read_recent(offset, bytes_max)?;
        if records.is_none() {
            records = self.disk_records(view, offset, bytes_max, held).await?;
        }
        // A first batch that is larger than what is left comes with a fetch of its own.
        let fits = |records: &Records| is_first || records.size_bytes <= bytes_max;
        Ok(records.filter(fits).unwrap_or_default())
    }

    async fn disk_records(
        &self,
        view: &Arc<View>,
        offset: Offset,
        bytes_max: usize,
        held: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<Option<Records>, ReadError> {
        let bytes_max = self.context.fetch_room.share(bytes_max);
        let disk = self.context.disk_reads.clone().acquire_owned().await;
        let view = view.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let records = view.read(offset, bytes_max);
            drop(disk);
            records
        });
        // The task fails if it panicked, and panics as this one, or if the runtime ends.
        let records = reading.await.unwrap_or_else(|failed| match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Ok(None),
        })?;
        if let Some(records) = &records {
            held.extend(self.context.fetch_room.take(records.size_bytes));
        }
        Ok(records)
    }
}

/// The log moved between the look and the read; only a leader says OFFSET_OUT_OF_RANGE (R6).
fn read_code(error: &ReadError, role: Role) -> ErrorCode {
    match (error.to_code(), role) {
        (ErrorCode::OffsetOutOfRange, Role::Follower | Role::Learner) => {
            ErrorCode::OffsetNotAvailable
        }
        (code, _) => {
            if let ReadError::Log(log::Error::Io { .. } | log::Error::Corrupt { .. }) = error {
                tracing::error!(%error, "a fetch could not read the log");
            }
            code
        }
    }
}
