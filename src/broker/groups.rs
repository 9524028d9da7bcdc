//! Group coordinators over the partitions of `__consumer_offsets` that this node leads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::coordinator::group::AppendError;
use crate::coordinator::{self, Partition, ReadError};
use crate::model::{LeaderEpoch, Offset, TopicPartition};
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

    /// A leader that is about to hand over refuses as one that leads no more does, and may stay: then the groups are
    /// still its, and nobody else's.
    fn refusal(&self, error: ProduceError) -> AppendError {
        match error {
            ProduceError::ShuttingDown => AppendError::NotLeader,
            ProduceError::UnknownPartition
            | ProduceError::NotLeader
            | ProduceError::LeaderNotReady => match self.is_over(self.view.progress()) {
                true => AppendError::NotLeader,
                false => AppendError::Unavailable,
            },
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
            Err(error) => Err(self.refusal(error)),
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
        let moved = self.replicas.delete_records(self.view.partition, offset).await;
        moved.map(|_| ()).map_err(|error| self.refusal(error))
    }
}

/// Follows every replica here of the topic whose partitions `is_ours` names, each for as long as it is here: elected and
/// resigned are told to the coordinators as they happen. Never ends.
pub async fn follow(
    replicas: replica::Handle,
    groups: coordinator::Handle,
    is_ours: impl Fn(TopicPartition) -> bool,
) {
    let mut changed = replicas.watch_views();
    let mut followed: BTreeMap<TopicPartition, Arc<View>> = BTreeMap::new();
    let mut following = JoinSet::new();
    loop {
        changed.borrow_and_update();
        let views = replicas.views().into_iter().filter(|view| is_ours(view.partition));
        let shown: BTreeMap<_, _> = views.map(|view| (view.partition, view)).collect();
        for (at, view) in &shown {
            if followed.get(at).is_none_or(|before| !Arc::ptr_eq(before, view)) {
                let view = Arc::clone(view);
                following.spawn(follow_one(replicas.clone(), groups.clone(), view));
            }
        }
        followed = shown;
        tokio::select! {
            biased;
            gone = changed.changed() => if gone.is_err() { return },
            Some(_) = following.join_next() => {}
        }
    }
}

async fn follow_one(replicas: replica::Handle, groups: coordinator::Handle, view: Arc<View>) {
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
        tokio::select! {
            biased;
            () = view.closed() => break,
            () = view.moved_from(progress) => {}
        }
    }
    if let Some(epoch) = led {
        groups.resigned(partition, epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::group::Config;
    use crate::coordinator::{Handle, Seams};
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::{append_batches, partition, store_with};

    /// Of a replica that leads in this epoch.
    fn led(at: TopicPartition, epoch: LeaderEpoch) -> Arc<View> {
        let mut store = store_with(&SimDisk::new(1), 400);
        append_batches(&mut store, 1, b"v");
        let progress = Progress {
            role: Role::Leader,
            hands_over: false,
            handed_off: false,
            leader_epoch: epoch,
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            watermark_known: false,
            log_end: Offset::ZERO,
        };
        Arc::new(View::new(at, progress, Vec::new(), store.reader(partition(0)).unwrap()))
    }

    async fn serves(groups: &Handle, epochs: &[LeaderEpoch]) {
        for _ in 0..1_000 {
            let found: Vec<_> = groups.shards().into_iter().map(|(_, epoch, _)| epoch).collect();
            if found == epochs {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{:?} and not {epochs:?}", groups.shards());
    }

    /// A replica leaves a node and comes back, is mended in place, or opened when nothing else changes.
    #[tokio::test]
    async fn whatever_replica_is_here_at_last_has_its_coordinator() {
        let (replicas, door) = replica::Handle::apart();
        let groups = Handle::new(Config::default(), 1, Seams::system());
        let (at, is_ours) = (partition(0), |of: TopicPartition| of == partition(0));
        tokio::spawn(follow(replicas, groups.clone(), is_ours));
        serves(&groups, &[]).await;
        door.show(at, Some(&led(at, 5)));
        serves(&groups, &[5]).await;
        door.show(at, None);
        serves(&groups, &[]).await;
        let again = led(at, 9);
        door.show(at, Some(&again));
        serves(&groups, &[9]).await;
        again.publish(Progress { role: Role::Follower, ..again.progress() });
        serves(&groups, &[]).await;
        door.show(at, Some(&led(at, 11)));
        serves(&groups, &[11]).await;
        let other = partition(1);
        door.show(other, Some(&led(other, 12)));
        door.show(at, Some(&led(at, 13)));
        serves(&groups, &[13]).await;
    }

    /// It refuses while it hands over, and that may come to nothing.
    #[tokio::test]
    async fn a_leader_that_refuses_and_stays_keeps_its_groups() {
        let (replicas, mut door) = replica::Handle::apart();
        let at = partition(0);
        let view = led(at, 5);
        door.show(at, Some(&view));
        let led = Led { replicas, view: Arc::clone(&view), epoch: 5 };
        for (role, refused) in
            [(Role::Leader, AppendError::Unavailable), (Role::Follower, AppendError::NotLeader)]
        {
            let answers = async {
                loop {
                    match door.take() {
                        Some(replica::Request::Produce(produce)) => {
                            view.publish(Progress { role, ..view.progress() });
                            return produce.reply.send(Err(ProduceError::NotLeader)).unwrap();
                        }
                        _ => tokio::task::yield_now().await,
                    }
                }
            };
            let (appended, ()) = tokio::join!(led.append(Bytes::new()), answers);
            assert_eq!(appended, Err(refused));
        }
    }
}
