//! What a partition's move to another home asks of its log: a promise, a cut, the rest of the entries,
//! a new epoch.
//!
//! ```text
//!  epoch e │ seal ──▶ promised e+1     nothing of e is taken in any more (R10)
//!          │ cut_at   prefix of F      what is beyond it goes into the ledger first (R15)
//!          │ extend   … up to F        from a peer that holds it (R13)
//!          │ begin_epoch ──▶ e+1       one durable record: epoch, term, no vote, F, configuration (R1)
//! ```
//!
//! While a replica is sealed only these write its log; `commit` refuses. They hold for exactly the
//! epoch that was promised last. Not for an older one: the replica has told the newer where its log
//! ends, and a log that lost entries after that could be the one that was chosen for having them.
//!
//! Nothing here raises the high watermark. That of a new epoch begins where the old one's was, or at
//! F if that is less, and moves when an entry of the new leader's own term passes the gate (R5).

use crate::model::{HomeEpoch, LogIndex, TopicPartition};

use super::entry::{self, Entry};
use super::error::{Context, Error, OutOfSpace};
use super::fork::{Cut, Fork, Sealed};
use super::mend::forget_all;
use super::opening;
use super::partition::{Append, Partition, size_on_disk};
use super::reader::Reader;
use super::recovery::Trust;
use super::state::ReplicaState;
use super::store::{Recovered, Store};

impl ReplicaState {
    /// It has promised to an epoch that has not begun here: it takes part in nothing (R10).
    pub fn is_sealed(&self) -> bool {
        self.promised > self.home_epoch
    }
}

impl Partition {
    fn seal_report(&self) -> Sealed {
        let (state, view) = (&self.kept.state, self.shared.view());
        Sealed {
            replica: state.replica,
            home_epoch: state.home_epoch,
            promised: state.promised,
            last: view.last(),
            next_offset: view.next_offset(),
            start: view.start,
            hw: self.kept.hw,
            epochs: view.epochs.clone(),
            installing: state.installing,
            damaged: view.corruption.is_some(),
            fork: state.fork,
        }
    }

    /// Everything that was written is on disk, names included; of a damaged log it was.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if self.shared.view().corruption.is_some() {
            return Ok(());
        }
        if let Some(dirty) = self.dirty()? {
            dirty.file.sync_data().context("sync", &dirty.path)?;
        }
        self.sync_dir()?;
        self.mark_synced();
        Ok(())
    }

    /// Up to where the log is known to be that of `fork`; of a replica that is sealed for it and
    /// whose log can be read.
    pub(super) fn common_prefix(&self, fork: &Fork) -> Result<LogIndex, Error> {
        let (id, view) = (self.id(), self.shared.view());
        self.check_sealed(fork.home_epoch)?;
        fork.check().map_err(|source| Error::Fork { partition: id, source })?;
        let (start, last) = (view.start, view.last());
        let nothing = Error::NothingInCommon {
            partition: id,
            start: start.index.next(),
            last: last.0,
            fork: fork.at.index,
        };
        fork.common_prefix(start, &view.epochs, last).ok_or(nothing)
    }

    /// Sealed for exactly `epoch`, and not damaged.
    fn check_sealed(&self, epoch: HomeEpoch) -> Result<(), Error> {
        let (promised, begun) = (self.kept.state.promised, self.kept.state.home_epoch);
        if promised != epoch || begun >= epoch {
            return Err(Error::NotSealed { partition: self.id(), asked: epoch, promised, begun });
        }
        match self.shared.view().corruption {
            None => Ok(()),
            Some(damage) => {
                let (first, last) = (damage.first, damage.last);
                Err(Error::Damaged { partition: self.id(), first, last })
            }
        }
    }

    /// What `fork` says of a log that is a prefix of it.
    pub(super) fn ends(&mut self, fork: &Fork) -> Result<Cut, Error> {
        let (last, next_offset) = {
            let view = self.shared.view();
            (view.last(), view.next_offset())
        };
        let holds = fork.is_at(last);
        if holds && next_offset != fork.at.offset {
            // R2 and R19 say that it cannot be; then nothing here may go on.
            return Err(self.not_of(fork, last));
        }
        self.prefix_of = Some((fork.home_epoch, fork.at));
        Ok(Cut { last, next_offset, holds, suffix: None })
    }

    fn not_of(&self, fork: &Fork, (index, term): (LogIndex, crate::model::Term)) -> Error {
        Error::NotOfFork { partition: self.id(), index, term, fork: fork.at.index }
    }

    /// Whether entries from a peer continue this log towards F.
    fn check_extends(&self, fork: &Fork, entries: &[Entry]) -> Result<(), Error> {
        let (last, mut offset, start, is_empty) = {
            let view = self.shared.view();
            (view.last(), view.next_offset(), view.start, view.is_empty())
        };
        if self.common_prefix(fork)? != last.0 {
            return Err(self.not_cut(fork.at.index, last.0, fork.home_epoch));
        }
        if let Some(first) = entries.first().filter(|_| is_empty && start.index > LogIndex::ZERO) {
            // A log start may lie inside a batch, whose base offset is smaller then.
            offset = offset.min(first.base_offset);
        }
        entry::check_continues(last, offset, entries)
            .map_err(|source| Error::Discontinuity { partition: self.id(), source })?;
        let at = fork.at;
        let strays = |e: &&Entry| {
            let is_last = e.index == at.index;
            fork.term_at(e.index) != Some(e.term) || is_last && e.next_offset() != at.offset
        };
        match entries.iter().find(strays) {
            Some(stray) => Err(self.not_of(fork, (stray.index, stray.term))),
            None => Ok(()),
        }
    }

    fn not_cut(&self, fork: LogIndex, last: LogIndex, home_epoch: HomeEpoch) -> Error {
        Error::NotCut { partition: self.id(), last, fork, home_epoch }
    }
}

impl Store {
    pub(super) fn partition_mut(&mut self, id: TopicPartition) -> Result<&mut Partition, Error> {
        self.partitions.get_mut(&id).ok_or(Error::UnknownPartition(id))
    }

    /// The replica promises `epoch` (R10); durable on return. From then on `commit` refuses it. Says
    /// where its persisted log ends: whatever earlier commits wrote is synced first, with
    /// `flush = "os"` too, so that what is reported is there after a crash.
    ///
    /// May be repeated. A damaged log promises as well, and says that it is damaged.
    pub fn seal(&mut self, id: TopicPartition, epoch: HomeEpoch) -> Result<Sealed, Error> {
        self.go_on_with_cut(id)?;
        let partition = self.partition_mut(id)?;
        let promised = partition.kept.state.promised.max(partition.kept.state.home_epoch);
        let is_same = partition.kept.state.is_sealed() && epoch == promised;
        if epoch <= promised && !is_same {
            return Err(Error::Promised { partition: id, asked: epoch, promised });
        }
        let sealed = self.promise(id, epoch);
        self.poison_on_error(sealed)
    }

    fn promise(&mut self, id: TopicPartition, epoch: HomeEpoch) -> Result<Sealed, Error> {
        let partition = self.partitions.get_mut(&id).expect("it was looked up");
        partition.settle()?;
        partition.kept.state.promised = epoch;
        let change = partition.keep();
        self.journal.append_synced(&[change])?;
        Ok(partition.seal_report())
    }

    /// Appends entries of the log that ends at F to a sealed replica, those of a peer that holds F;
    /// synced on return. Refuses, and changes nothing, where they do not continue the log, go beyond
    /// F, or are of another term than the fork says; and where there is no room.
    pub fn extend(
        &mut self,
        id: TopicPartition,
        fork: &Fork,
        entries: &[Entry],
    ) -> Result<Cut, Error> {
        self.check_alive()?;
        let reserve = self.options.append_reserve_bytes;
        self.free_bytes =
            self.disk.free_bytes(&self.dir).context("measure free space of", &self.dir)?;
        let room = self.free_bytes.saturating_sub(reserve);
        let partition = self.partition_mut(id)?;
        partition.check_extends(fork, entries)?;
        let needed_bytes = size_on_disk(entries);
        if needed_bytes > room {
            return Err(OutOfSpace { partition: id, needed_bytes, free_bytes: room }.into());
        }
        match partition.append(entries) {
            Ok(_) => {}
            Err(Append::OutOfSpace) => {
                return Err(OutOfSpace { partition: id, needed_bytes, free_bytes: 0 }.into());
            }
            Err(Append::Failed(error)) => return self.poison_on_error(Err(error)),
        }
        let settled = partition.settle();
        self.poison_on_error(settled)?;
        self.partition_mut(id)?.ends(fork)
    }

    /// Begins the home epoch that was promised (R1): one durable record of the whole `state`, then the
    /// log is read again as a restart would. The log must have been cut at `state.fork` by `cut_at`
    /// since the store was opened. If it does not hold F the replica is nobody in the new group until
    /// it has caught up (R14): the configuration must say so.
    ///
    /// # Panics
    /// If `state` is not how an epoch begins.
    pub fn begin_epoch(
        &mut self,
        id: TopicPartition,
        state: ReplicaState,
    ) -> Result<(Recovered, Reader), Error> {
        self.check_alive()?;
        let epoch = state.home_epoch;
        let begins = state.term == epoch.first_term() && state.vote.is_none();
        let fork = state.fork.filter(|_| begins && state.promised <= epoch);
        let fork = fork.unwrap_or_else(|| panic!("{id}: no epoch begins so: {state:?}"));
        let partition = self.partition_mut(id)?;
        partition.check_sealed(epoch)?;
        let last = partition.shared.view().last().0;
        if partition.prefix_of != Some((epoch, fork)) {
            return Err(partition.not_cut(fork.index, last, epoch));
        }
        partition.kept.state = ReplicaState { promised: epoch, ..state };
        let change = partition.keep();
        let written = self.journal.append_synced(&[change]);
        self.poison_on_error(written)?;
        let read = self.read_again(id, Trust::Indexes);
        self.poison_on_error(read)
    }

    /// Reads a partition's log again as a restart would, and takes that in.
    pub(super) fn read_again(
        &mut self,
        id: TopicPartition,
        trust: Trust,
    ) -> Result<(Recovered, Reader), Error> {
        let old = self.partitions.get(&id).ok_or(Error::UnknownPartition(id))?;
        let (log, config, kept) = (old.shared.clone(), old.config, old.kept.clone());
        let (mut partition, recovered) = opening::one(&self.files, &self.dir, id, kept, trust)?;
        forget_all(&self.files, &log.view());
        partition.config = config;
        let reader = partition.reader();
        self.partitions.insert(id, partition);
        Ok((recovered, reader))
    }
}
