//! The door to the replicas of this node, for everyone who is not one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::views::Views;
use super::{Leaders, View};
use crate::model::{LeaderEpoch, Offset, TopicPartition};

/// When a produce is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// acks=1: on the leader's disk. On a sync topic it is served as `All` (R5).
    Leader,
    /// acks=all, and what every internal writer uses: at the high watermark.
    All,
}

/// Where the batches went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Of the first record of the first batch.
    pub base_offset: Offset,
    /// The offset after the last record.
    pub next_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Set where the topic uses LogAppendTime.
    pub log_append_time_ms: Option<i64>,
    pub log_start: Offset,
    /// How long the producer should pause before it sends more: the exposure budget is running out.
    pub throttle: Duration,
    /// An idempotent retry of something that is already in the log; the offsets are the original's.
    pub duplicate: bool,
}

/// Why a produce was refused, or what is not known of it. The codes are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// No replica of that partition on this node.
    #[error("unknown topic or partition")]
    UnknownPartition,
    /// Also: was the leader, and is no more; whether the records are in the log is not known.
    #[error("not the leader")]
    NotLeader,
    /// Elected, but its own first entry is not applied yet (R6).
    #[error("the leader has just been elected and is not ready")]
    LeaderNotReady,
    /// Nothing was appended: too few voters in sync, too few datacenters current, or too much
    /// waits behind the gate already.
    #[error("not enough replicas; nothing was appended")]
    NotEnoughReplicas,
    /// Nothing was appended: too much is at stake already that no other datacenter has.
    #[error(
        "the exposure budget (max_lag, max_lag_bytes, max_lag_records) is used up; nothing was appended"
    )]
    OverBudget { pause: Duration },
    /// It would never fit; not retriable.
    #[error("the batch is larger than the exposure budget (max_lag_bytes, max_lag_records)")]
    LargerThanBudget,
    /// It was appended; the acknowledgement did not come in time.
    #[error("not enough replicas after append")]
    NotEnoughReplicasAfterAppend,
    #[error("timed out waiting for the acknowledgement")]
    TimedOut,
    /// No lease and `on_isolation = "fence"` (R17); retriable.
    #[error("this datacenter is isolated from the metadata quorum")]
    Fenced,
    /// What lies between may have been lost at a cut. Retriable: a batch that comes again and has none before it is
    /// taken.
    #[error("sequence {found} where {expected} was due, after a cut; offer it again")]
    AfterLoss { expected: i32, found: i32 },
    #[error("sequence {found} where {expected} was due")]
    OutOfOrderSequence { expected: i32, found: i32 },
    #[error("a newer producer epoch {known} is known")]
    InvalidProducerEpoch { known: i16 },
    #[error("nothing is known of producer {0}")]
    UnknownProducer(i64),
    /// Back-pressure: the partition's queue is full.
    #[error("too many produce requests wait for this partition")]
    Busy,
    #[error("the disk is full")]
    DiskFull,
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// A produce on its way to the loop: batches that [`crate::model::batch::check`] has passed.
#[derive(Debug)]
pub struct Produce {
    pub partition: TopicPartition,
    pub batches: Vec<Bytes>,
    pub acks: Acks,
    pub timeout: Duration,
    pub reply: oneshot::Sender<Result<Produced, ProduceError>>,
}

/// What callers may put into the loop's inbox.
#[derive(Debug)]
pub enum Request {
    Produce(Produce),
    /// Moves log start by a logged entry (DeleteRecords).
    DeleteRecords {
        partition: TopicPartition,
        before: Offset,
        reply: oneshot::Sender<Result<Offset, ProduceError>>,
    },
    /// Whether this node still leads.
    Confirm {
        partition: TopicPartition,
        timeout: Duration,
        reply: oneshot::Sender<Result<LeaderEpoch, ProduceError>>,
    },
}

/// Requests that may wait for the loop. At 16 KiB a request this is 64 MiB; beyond it callers wait,
/// and their connections stop reading.
pub(super) const INBOX_REQUESTS_MAX: usize = 4096;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Request>,
    views: Arc<Views>,
    leaders: Arc<Leaders>,
}

/// The inner side of a [`Handle`], for whoever stands where the loop does: the simulator.
#[derive(Debug)]
pub struct Door {
    requests: mpsc::Receiver<Request>,
    views: Arc<Views>,
}

impl Door {
    pub fn take(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// What is there of a partition now.
    pub fn show(&self, at: TopicPartition, view: Option<&Arc<View>>) {
        match view {
            Some(view) => self.views.show(at, Arc::clone(view)),
            None => self.views.hide(at),
        }
    }
}

impl Handle {
    /// A handle without a loop behind it.
    pub fn apart() -> (Self, Door) {
        let (inbox, requests) = mpsc::channel(INBOX_REQUESTS_MAX);
        let views = Arc::<Views>::default();
        (Self::new(inbox, Arc::clone(&views), Arc::default()), Door { requests, views })
    }

    pub(super) fn new(
        inbox: mpsc::Sender<Request>,
        views: Arc<Views>,
        leaders: Arc<Leaders>,
    ) -> Self {
        Self { inbox, views, leaders }
    }

    /// The local replica of a partition, whatever its role; `None` if this node has none.
    pub fn view(&self, partition: TopicPartition) -> Option<Arc<View>> {
        self.views.of(partition)
    }

    /// Every local replica.
    pub fn views(&self) -> Vec<Arc<View>> {
        self.views.all()
    }

    /// Is told when another view is there of a partition, or none any more.
    pub fn watch_views(&self) -> watch::Receiver<()> {
        self.views.watch()
    }

    /// Who leads what, also for partitions that have no replica here.
    pub fn leaders(&self) -> &Leaders {
        &self.leaders
    }

    /// Appends batches, all or none of them, if this node leads the partition; answers as `acks`
    /// asks, at the latest after `timeout`.
    ///
    /// Dropping the future abandons the wait, not the records.
    pub async fn produce(
        &self,
        partition: TopicPartition,
        batches: Vec<Bytes>,
        acks: Acks,
        timeout: Duration,
    ) -> Result<Produced, ProduceError> {
        let (reply, answer) = oneshot::channel();
        let produce = Produce { partition, batches, acks, timeout, reply };
        self.inbox.send(Request::Produce(produce)).await.map_err(|_| ProduceError::ShuttingDown)?;
        answer.await.unwrap_or(Err(ProduceError::NotLeader))
    }

    /// Moves log start to `before` (the high watermark if it is -1 to Kafka) on the leader; returns
    /// the new log start once it is committed.
    pub async fn delete_records(
        &self,
        partition: TopicPartition,
        before: Offset,
    ) -> Result<Offset, ProduceError> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Request::DeleteRecords { partition, before, reply })
            .await
            .map_err(|_| ProduceError::ShuttingDown)?;
        answer.await.unwrap_or(Err(ProduceError::NotLeader))
    }

    /// Has a majority say that this node still leads the partition; returns the leader epoch in which it does. What
    /// was known here of that epoch before the call was not old.
    pub async fn confirm(
        &self,
        partition: TopicPartition,
        timeout: Duration,
    ) -> Result<LeaderEpoch, ProduceError> {
        let (reply, answer) = oneshot::channel();
        let confirm = Request::Confirm { partition, timeout, reply };
        self.inbox.send(confirm).await.map_err(|_| ProduceError::ShuttingDown)?;
        answer.await.unwrap_or(Err(ProduceError::NotLeader))
    }
}
