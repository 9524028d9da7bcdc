//! Group coordinators over the partitions of `__consumer_offsets` that this node leads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::coordinator::group::AppendError;
use crate::coordinator::{self, Partition, ReadError};
use crate::model::{LeaderEpoch, Offset};
use crate::replica::{self, Acks, ProduceError, Progress, Role, View};

/// How long a coordinator's write may wait for its acknowledgement before the group's members are
/// told to try again.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// One partition, for as long as this node leads it in one leader epoch.
pub struct Led {
    replicas: replica::Handle,
    view: Arc<View>,
    epoch: LeaderEpoch,
}

impl Led {
    fn is_over(&self, progress: Progress) -> bool {
        progress.role != Role::Leader || progress.leader_epoch != self.epoch
    }
}

impl Partition for Led {
    async fn append(&self, batch: Bytes) -> Result<Offset, AppendError> {
        if self.is_over(self.view.progress()) {
            return Err(AppendError::NotLeader);
        }
        let at = self.view.partition;
        let produced = self.replicas.produce(at, vec![batch], Acks::All, APPEND_TIMEOUT).await;
        match produced {
            Ok(produced) if produced.leader_epoch == self.epoch => Ok(produced.base_offset),
            Ok(_) => Err(AppendError::NotLeader),
            Err(error) => Err(refusal(error)),
        }
    }

    async fn committed(&self) -> Result<Range<Offset>, ReadError> {
        loop {
            let progress = self.view.progress();
            if self.is_over(progress) {
                return Err(ReadError::NotLeader);
            }
            if progress.watermark_known {
                return Ok(progress.log_start..progress.high_watermark);
            }
            self.view.moved_from(progress).await;
        }
    }

    async fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<Bytes>, ReadError> {
        let view = Arc::clone(&self.view);
        let read = tokio::task::spawn_blocking(move || view.read(from, bytes_max)).await;
        if self.is_over(self.view.progress()) {
            return Err(ReadError::NotLeader);
        }
        match read {
            Ok(Ok(records)) => Ok(records.map(|r| r.batches).unwrap_or_default()),
            Ok(Err(_)) | Err(_) => Err(ReadError::Unavailable),
        }
    }

    async fn advance_log_start(&self, offset: Offset) -> Result<(), AppendError> {
        if self.is_over(self.view.progress()) {
            return Err(AppendError::NotLeader);
        }
        self.replicas.delete_records(self.view.partition, offset).await.map_err(refusal)?;
        Ok(())
    }
}

fn refusal(error: ProduceError) -> AppendError {
    match error {
        ProduceError::UnknownPartition
        | ProduceError::NotLeader
        | ProduceError::LeaderNotReady
        | ProduceError::ShuttingDown => AppendError::NotLeader,
        ProduceError::TimedOut
        | ProduceError::NotEnoughReplicasAfterAppend
        | ProduceError::NotEnoughReplicas
        | ProduceError::OverBudget { .. }
        | ProduceError::LargerThanBudget
        | ProduceError::Fenced
        | ProduceError::Busy
        | ProduceError::DiskFull
        | ProduceError::AfterLoss { .. }
        | ProduceError::OutOfOrderSequence { .. }
        | ProduceError::InvalidProducerEpoch { .. }
        | ProduceError::UnknownProducer(_) => AppendError::Unavailable,
    }
}

/// Follows one local replica of `__consumer_offsets` until it is removed: elected and resigned are
/// told to the coordinators as they happen.
pub async fn follow(replicas: replica::Handle, groups: coordinator::Handle, view: Arc<View>) {
    let partition = view.partition.partition;
    let mut led: Option<LeaderEpoch> = None;
    loop {
        let progress = view.progress();
        let now = (progress.role == Role::Leader).then_some(progress.leader_epoch);
        if now != led {
            if let Some(epoch) = led {
                groups.resigned(partition, epoch);
            }
            if let Some(epoch) = now {
                let led = Led { replicas: replicas.clone(), view: Arc::clone(&view), epoch };
                groups.elected(partition, epoch, led);
            }
            led = now;
        }
        let is_here = replicas.view(view.partition).is_some_and(|v| Arc::ptr_eq(&v, &view));
        if !is_here {
            if let Some(epoch) = led {
                groups.resigned(partition, epoch);
            }
            return;
        }
        view.moved_from(progress).await;
    }
}
