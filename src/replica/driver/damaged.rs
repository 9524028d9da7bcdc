//! Replicas whose logs are damaged: closed until somebody has mended them, so that they neither vote
//! nor acknowledge (R21). Who mends is the broker, which can reach the peers.

use std::collections::BTreeMap;

use super::replicas::Replicas;
use super::spec::{Policy, Spec};
use crate::log::{Reader, Recovered};
use crate::model::{HomeEpoch, LogIndex, Mode, ReplicaId, Term, TopicPartition};
use crate::replica::core::config::Member;
use crate::replica::host::Round;
use crate::replica::{Progress, Role};

/// A replica that waits to be mended.
#[derive(Debug, Clone)]
pub struct Damaged {
    pub spec: Spec,
    /// The latest term in which it may have promised anything.
    pub term: Term,
    /// Its home has moved on from here, and others have nothing of what its log had beyond.
    pub cut: Option<LogIndex>,
}

impl Replicas {
    pub fn keep_damaged(&mut self, spec: Spec) {
        self.closed.insert(spec.group.partition, spec);
    }

    /// Closes an open replica whose log has been found damaged where it is written, until that has been read again
    /// ([`Self::mended`]); `None` if it is not open.
    pub fn let_go(&mut self, at: TopicPartition) -> Option<Round> {
        let (slot, core) = (self.slots.get(&at)?, self.host.core(at)?);
        self.closed.insert(at, slot.spec(core));
        let last = self.host.remove(at);
        if let Some(slot) = self.slots.remove(&at) {
            let progress = slot.view.progress();
            slot.view.publish(Progress { role: Role::Learner, ..progress });
        }
        Some(last)
    }

    /// Those that the disk has been read of.
    pub fn damaged(&self) -> Vec<Damaged> {
        let waiting = self.closed.iter().filter_map(|(at, spec)| {
            let state = &self.recovered.get(at)?.state;
            let moved = state.home_epoch < spec.group.home_epoch;
            let cut = spec.fork.filter(|_| moved).map(|fork| fork.index);
            Some(Damaged { spec: spec.clone(), term: state.term, cut })
        });
        waiting.collect()
    }

    /// What a log that has been mended, or read again, is to be opened as; `None` if the replica has gone meanwhile, or
    /// has yet to begin the home that it was mended for.
    pub fn mended(&mut self, recovered: Recovered, reader: Reader) -> Option<Spec> {
        let at = recovered.partition;
        let Some(spec) = self.closed.remove(&at) else {
            // Sealed after it was let go: what the disk has is not known yet.
            if self.promised.contains_key(&at) && !self.recovered.contains_key(&at) {
                self.put_back(recovered, reader);
                self.open_sealed(at);
            }
            return None;
        };
        let is_there = recovered.state.home_epoch == spec.group.home_epoch;
        self.put_back(recovered, reader);
        is_there.then_some(spec)
    }

    /// What the disk has after another look, with what was promised since it looked.
    pub fn put_back(&mut self, mut recovered: Recovered, reader: Reader) {
        let at = recovered.partition;
        if let Some(promised) = self.promised.get(&at) {
            recovered.state.promised = recovered.state.promised.max(*promised);
        }
        self.recovered.insert(at, recovered);
        self.readers.insert(at, reader);
    }

    pub(super) fn policy_of_damaged(&mut self, at: TopicPartition, policy: Policy) {
        if let Some(spec) = self.closed.get_mut(&at) {
            spec.policy = policy;
        }
    }

    pub fn placement_of_damaged(
        &mut self,
        at: TopicPartition,
        generation: u64,
        members: &BTreeMap<ReplicaId, Member>,
    ) {
        if let Some(spec) = self.closed.get_mut(&at)
            && generation >= spec.placement_generation
        {
            spec.placement_generation = generation;
            spec.members = members.clone();
        }
    }

    /// Nobody tells it again once it is open (R7).
    pub fn recorded_of_damaged(&mut self, at: TopicPartition, epoch: HomeEpoch, mode: Mode) {
        if let Some(spec) = self.closed.get_mut(&at)
            && spec.group.home_epoch == epoch
        {
            spec.recorded = spec.recorded.max(mode);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::moving::tests::spec;
    use super::*;
    use crate::log::Store;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::home::epoch;
    use crate::log::tests::{append_batches, files, node, open, partition, store_with};
    use crate::replica::View;
    use crate::replica::core::Now;
    use crate::replica::driver::Refused;

    /// An open replica, of which a bit has rotted since the disk was read.
    fn rotten() -> (Store, Replicas, Arc<View>) {
        let (disk, at) = (SimDisk::new(1), partition(0));
        let mut store = store_with(&disk, 1 << 20);
        append_batches(&mut store, 5, &[b'v'; 100]);
        drop(store);
        disk.kill();
        let (store, recovered) = open(&disk);
        let readers = recovered.into_iter().map(|r| (r, store.reader(at).unwrap()));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut replicas = Replicas::new(node(), 1, logger, readers.collect());
        let first = spec(HomeEpoch::default());
        let opening = replicas.resume(&first).unwrap().unwrap();
        let view = replicas.open(NOW, first, opening);
        let path = files(&disk, ".log")[0].clone();
        disk.flip(&path, disk.content(&path).len() as u64 / 2, 4);
        (store, replicas, view)
    }

    const NOW: Now = Now { mono: Duration::ZERO, wall_ms: 0 };

    #[test]
    fn a_replica_that_is_let_go_comes_back_with_what_was_decided_meanwhile() {
        let at = partition(0);
        let (mut store, mut replicas, view) = rotten();
        let members = spec(HomeEpoch::default()).members;
        assert!(replicas.let_go(at).is_some() && replicas.let_go(at).is_none());
        assert!(!replicas.is_open(at) && view.progress().role == Role::Learner);
        assert!(replicas.damaged().is_empty(), "the disk has not been read");
        let mode = Mode { sid: 3, degraded: true };
        replicas.recorded_of_damaged(at, HomeEpoch::default(), mode);
        replicas.recorded_of_damaged(at, epoch(2), Mode { sid: 9, ..mode });
        replicas.placement_of_damaged(at, 7, &members);
        let (recovered, reader) = store.doubt(at, LogIndex(2)).unwrap();
        assert!(recovered.corruption.is_some());
        let again = replicas.mended(recovered, reader).unwrap();
        assert_eq!((again.recorded, again.placement_generation), (mode, 7));
        assert!(matches!(replicas.resume(&again), Err(Refused::Corrupt { .. })));
        replicas.keep_damaged(again);
        assert_eq!(replicas.damaged().len(), 1);
        replicas.seal(NOW, at, epoch(2)).unwrap();
        assert!(replicas.damaged().is_empty(), "it is for the home that comes");
    }

    #[test]
    fn a_seal_that_comes_late_leaves_a_damaged_replica_where_it_is() {
        let at = partition(0);
        let (mut store, mut replicas, _) = rotten();
        replicas.let_go(at).unwrap();
        let here = HomeEpoch::default();
        let late = |replicas: &mut Replicas| match replicas.seal(NOW, at, here) {
            Err(Refused::MovedOn { here: of, .. }) => of == here,
            _ => false,
        };
        assert!(late(&mut replicas), "its disk has not been read");
        let (recovered, reader) = store.doubt(at, LogIndex(2)).unwrap();
        let spec = replicas.mended(recovered, reader).unwrap();
        assert!(replicas.resume(&spec).is_err());
        replicas.keep_damaged(spec);
        assert!(late(&mut replicas));
        assert_eq!(replicas.damaged().len(), 1);
    }

    #[test]
    fn a_replica_that_is_sealed_while_its_log_is_read_again_is_mended_for_the_home_that_comes() {
        let at = partition(0);
        let (mut store, mut replicas, _) = rotten();
        replicas.let_go(at).unwrap();
        replicas.seal(NOW, at, epoch(2)).unwrap();
        assert!(replicas.sealed_view(at).is_none(), "nobody knows what the disk has");
        let (recovered, reader) = store.doubt(at, LogIndex(2)).unwrap();
        assert!(replicas.mended(recovered, reader).is_none(), "it is sealed");
        assert!(replicas.sealed_view(at).is_some());
        replicas.keep_damaged(spec(epoch(2)));
        let waiting = replicas.damaged();
        assert_eq!(waiting.iter().map(|d| d.spec.group.home_epoch).collect::<Vec<_>>(), [epoch(2)]);

        // What comes late of one that has gone changes nothing.
        replicas.remove(at);
        let (recovered, reader) = store.doubt(at, LogIndex(2)).unwrap();
        assert!(replicas.mended(recovered, reader).is_none());
        assert!(replicas.on_disk().is_empty());
    }
}
