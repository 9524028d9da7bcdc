//! The log of `__meta` as the service needs it, so that tests run on one in memory.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::log;
use crate::model::{LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::replica::{self, Acks, ProduceError, ReadError, Role};

/// Where the local replica stands; ends are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub is_leader: bool,
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    /// What may be read and applied.
    pub high_watermark: Offset,
    /// A new leader does not know at once where the high watermark stands (R6).
    pub watermark_known: bool,
    pub log_end: Offset,
}

/// Why an append did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was appended.
    #[error("nothing was appended: {0}")]
    Nothing(ProduceError),
    /// It may be in the log, or get there.
    #[error("whether it was appended is not known: {0}")]
    Unknown(ProduceError),
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Log start has moved beyond it, or there is no replica any more: look at the position again.
    #[error("not there any more")]
    Gone,
    #[error(transparent)]
    Failed(#[from] ReadError),
}

pub trait Log: Send + Sync + 'static {
    /// `None` while this node has no replica.
    fn position(&self) -> Option<Position>;

    /// Returns once the position differs from `seen`.
    fn moved_from(&self, seen: Option<Position>) -> impl Future<Output = ()> + Send;

    /// Committed batches from the one that holds `from`, which is below the high watermark.
    fn read(&self, from: Offset) -> impl Future<Output = Result<Vec<Bytes>, FollowError>> + Send;

    /// Appends batches, all or none; returns the offset of the first record when all are committed.
    fn append(
        &self,
        batches: Vec<Bytes>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Offset, AppendError>> + Send;

    /// Has a majority say that this node still leads; returns the leader epoch in which it does.
    fn confirm(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<LeaderEpoch, ProduceError>> + Send;

    /// Moves log start (a logged entry, R24).
    fn start_at(&self, offset: Offset) -> impl Future<Output = Result<(), AppendError>> + Send;

    /// Who leads, as far as is known.
    fn leader(&self) -> Option<NodeId>;
}

/// How long one waits for a replica that is not there yet: it is made while the node starts.
const NO_REPLICA_RETRY: Duration = Duration::from_millis(20);

/// Bytes read at a time: a few snapshot parts.
const READ_BYTES: usize = 4 << 20;

impl Log for replica::Handle {
    fn position(&self) -> Option<Position> {
        let progress = self.view(TopicPartition::META)?.progress();
        Some(Position {
            is_leader: progress.role == Role::Leader,
            leader_epoch: progress.leader_epoch,
            log_start: progress.log_start,
            high_watermark: progress.high_watermark,
            watermark_known: progress.watermark_known,
            log_end: progress.log_end,
        })
    }

    async fn moved_from(&self, seen: Option<Position>) {
        loop {
            let Some(view) = self.view(TopicPartition::META) else {
                if seen.is_some() {
                    return;
                }
                tokio::time::sleep(NO_REPLICA_RETRY).await;
                continue;
            };
            let progress = view.progress();
            if self.position() != seen {
                return;
            }
            view.moved_from(progress).await;
        }
    }

    async fn read(&self, from: Offset) -> Result<Vec<Bytes>, FollowError> {
        let Some(view) = self.view(TopicPartition::META) else { return Err(FollowError::Gone) };
        if let Some(recent) = view.read_recent(from, READ_BYTES).map_err(gone)? {
            return Ok(recent.batches);
        }
        let read = tokio::task::spawn_blocking(move || view.read(from, READ_BYTES)).await;
        let read = read.map_err(|_| FollowError::Gone)?;
        Ok(read.map_err(gone)?.map(|records| records.batches).unwrap_or_default())
    }

    async fn append(&self, batches: Vec<Bytes>, timeout: Duration) -> Result<Offset, AppendError> {
        let produced = self.produce(TopicPartition::META, batches, Acks::All, timeout).await;
        produced.map(|produced| produced.base_offset).map_err(sort)
    }

    async fn confirm(&self, timeout: Duration) -> Result<LeaderEpoch, ProduceError> {
        self.confirm(TopicPartition::META, timeout).await
    }

    async fn start_at(&self, offset: Offset) -> Result<(), AppendError> {
        self.delete_records(TopicPartition::META, offset).await.map(drop).map_err(sort)
    }

    fn leader(&self) -> Option<NodeId> {
        self.leaders().of(TopicPartition::META).map(|leader| leader.node)
    }
}

fn sort(error: ProduceError) -> AppendError {
    match error {
        // Also: was the leader when it was appended, and is no more.
        ProduceError::NotLeader
        | ProduceError::NotEnoughReplicasAfterAppend
        | ProduceError::TimedOut => AppendError::Unknown(error),
        _ => AppendError::Nothing(error),
    }
}

/// What a read ran into that passes, because the log moved on or is being mended, apart from what is wrong
/// with it.
fn gone(error: ReadError) -> FollowError {
    match error {
        ReadError::OutOfRange { .. }
        | ReadError::Log(
            log::Error::OutOfRange { .. }
            | log::Error::Removed(_)
            | log::Error::UnknownPartition(_)
            // What has rotted is made anew from another replica, and can be read then.
            | log::Error::Corrupt { .. },
        ) => FollowError::Gone,
        error @ ReadError::Log(_) => FollowError::Failed(error),
    }
}
