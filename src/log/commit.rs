//! The group commit: writes of many partitions, then one round of syncs.
//!
//! ```text
//!  per write   reset · truncate · append (one writev) · producer snapshot · state
//!  then        journal: one write of all that changed
//!  then        fdatasync of the segments and, if a state demands it, of the journal, side by side
//!  then        segments below a moved log start are removed
//! ```
//!
//! Nothing that a message depends on is reported before the third step is over (R4). The order of
//! segments and journal within it is free: entries without their term, or a term without its
//! entries, are both states that a crash between two messages could have left.

use std::collections::BTreeSet;

use crate::model::TopicPartition;

use super::error::{Context, Error, Fatal, OutOfSpace};
use super::partition::{Append, size_on_disk};
use super::state::Change;
use super::store::Store;
use super::write::{Committed, Write};
use super::{disk, producers};

/// What is left to do once all writes are applied.
#[derive(Default)]
struct Round {
    committed: Committed,
    refused: BTreeSet<TopicPartition>,
    to_sync: BTreeSet<TopicPartition>,
    /// Whose states the journal is told of, and of whom only how far they are. What it is told is
    /// what holds after all writes: a state of before a truncation would bring back the durable mark
    /// that the truncation has lowered, and what is gone would look like damage.
    changed: BTreeSet<TopicPartition>,
    checkpointed: BTreeSet<TopicPartition>,
    must_sync_journal: bool,
    /// A mark is worth a sync, since damage after it looks like a torn write, and not the room that a full disk keeps
    /// for votes.
    moves_mark: bool,
    below_start: Vec<(TopicPartition, Vec<std::sync::Arc<super::view::Closed>>)>,
}

impl Store {
    /// Of whatever failed last: a disk that has failed is written no more, and its process ends (R20).
    pub fn check_disk(&self) -> Result<(), Fatal> {
        self.check_alive().map_err(|source| Fatal { dir: self.dir.clone(), source })
    }

    /// Applies `writes` in order and makes them durable as each asks. Blocks for the disk.
    ///
    /// An error is fatal (R20): what reached the disk is unknown, so the caller ends the process
    /// without an acknowledgement. Every later call fails too. A write without room is no error: it
    /// is in `Committed::refused`.
    ///
    /// # Panics
    /// On writes that break the log: an unknown partition, entries that do not continue it, a
    /// truncation below HW, a log start that goes back, a promise taken back, and anything at all to a
    /// replica that is sealed (R10).
    pub fn commit(&mut self, writes: Vec<Write>) -> Result<Committed, Fatal> {
        let done = self.check_alive().and_then(|()| self.commit_or_fail(writes));
        done.map_err(|source| self.fatal(source))
    }

    fn commit_or_fail(&mut self, writes: Vec<Write>) -> Result<Committed, Error> {
        let mut round = Round::default();
        if writes.iter().any(|w| !w.entries.is_empty()) {
            self.free_bytes =
                self.disk.free_bytes(&self.dir).context("measure free space of", &self.dir)?;
        }
        for write in writes {
            self.apply(write, &mut round)?;
        }
        self.write_journal(&round)?;
        self.sync(&mut round)?;
        for (id, gone) in &round.below_start {
            if let Some(partition) = self.partitions.get(id) {
                partition.remove_below_start(gone)?;
            }
        }
        Ok(round.committed)
    }

    fn apply(&mut self, write: Write, round: &mut Round) -> Result<(), Error> {
        let id = write.partition;
        let needed = size_on_disk(&write.entries);
        let room = self.free_bytes.saturating_sub(self.options.append_reserve_bytes);
        let refused = OutOfSpace { partition: id, needed_bytes: needed, free_bytes: room };
        if round.refused.contains(&id) || !write.entries.is_empty() && needed > room {
            round.refused.insert(id);
            round.committed.refused.push(refused);
            return Ok(());
        }
        let partition = self.partitions.get_mut(&id);
        let partition = partition.unwrap_or_else(|| panic!("a write to unknown partition {id}"));
        let old = partition.kept.state.clone();
        // It has told where its log ends, and to whom it will answer.
        assert!(
            !old.is_sealed(),
            "{id}: a write to a replica that is sealed for {:?}",
            old.promised
        );
        if let Some(state) = &write.state {
            assert!(state.promised >= old.promised, "{id}: a promise taken back: {state:?}");
        }
        if let Some(state) = &write.state
            && state.installing
        {
            // A truncation below HW asks for it; it is journalled with the truncation.
            partition.kept.state.installing = true;
        }
        if let Some(start) = write.reset {
            partition.reset(start, &mut self.journal)?;
        }
        if let Some(from) = write.truncate_from {
            partition.truncate(from, &mut self.journal)?;
        }
        match partition.append(&write.entries) {
            Ok(appended) => {
                self.free_bytes = self.free_bytes.saturating_sub(appended.bytes);
                round.committed.bytes_appended += appended.bytes;
                round.committed.files_synced += appended.files_synced;
                round.committed.rolled.extend(appended.rolled.into_iter().map(|at| (id, at)));
            }
            Err(Append::OutOfSpace) => {
                self.free_bytes = 0;
                round.refused.insert(id);
                round.committed.refused.push(OutOfSpace { free_bytes: 0, ..refused });
                return Ok(());
            }
            Err(Append::Failed(error)) => return Err(error),
        }
        if let Some((index, content)) = &write.producer_snapshot {
            let dir = &partition.shared.dir;
            match producers::write(&*self.disk, dir, id, *index, content) {
                // Without it the next start reads more of the log; a vote needs the room more.
                Err(Error::Io { source, .. }) if disk::is_out_of_space(&source) => {}
                result => result?,
            }
        }
        if let Some(start) = write.start {
            let gone = partition.move_start(start);
            round.must_sync_journal = true;
            round.below_start.push((id, gone));
        }
        if let Some(state) = write.state {
            round.must_sync_journal |= old.must_sync(&state);
            partition.kept.state = state;
        }
        if let Some(hw) = write.checkpoint {
            partition.kept.hw = hw;
            round.moves_mark = true;
        }
        if partition.kept.state != old || write.start.is_some() {
            round.changed.insert(id);
        } else if write.checkpoint.is_some() {
            round.checkpointed.insert(id);
        }
        if write.sync {
            round.to_sync.insert(id);
        }
        Ok(())
    }

    fn write_journal(&mut self, round: &Round) -> Result<(), Error> {
        let mut changes: Vec<Change> = Vec::with_capacity(round.changed.len());
        for id in &round.changed {
            changes.push(self.partitions.get_mut(id).expect("it was written to").keep());
        }
        for id in round.checkpointed.difference(&round.changed) {
            let partition = self.partitions.get_mut(id).expect("it was written to");
            changes.push(partition.checkpoint(partition.kept.hw));
        }
        if changes.is_empty() {
            return Ok(());
        }
        if self.journal.is_due_for_snapshot(self.options.journal_bytes) {
            let kept = self.partitions.iter().map(|(id, p)| (*id, &p.kept));
            match self.journal.replace(kept) {
                // It may grow on until there is room for a second one.
                Err(Error::Io { source, .. }) if disk::is_out_of_space(&source) => {}
                result => return result,
            }
        }
        self.journal.append(&changes, !round.must_sync_journal)
    }

    fn sync(&mut self, round: &mut Round) -> Result<(), Error> {
        let mut dirty = Vec::with_capacity(round.to_sync.len() + 1);
        for id in &round.to_sync {
            dirty.extend(self.partitions[id].dirty()?);
        }
        let sync_journal = round.must_sync_journal || round.moves_mark;
        if sync_journal {
            dirty.push(self.journal.dirty());
        }
        round.committed.files_synced += dirty.len();
        self.syncer.sync(dirty)?;
        if sync_journal {
            self.journal.mark_synced();
        }
        for id in &round.to_sync {
            let partition = self.partitions.get_mut(id).expect("it was written to");
            partition.sync_dir()?;
            partition.mark_synced();
        }
        Ok(())
    }

    /// Syncs every log and writes what makes the next start fast. For an ordered shutdown; a store
    /// that is dropped without it loses nothing that `commit` promised.
    pub fn close(mut self) -> Result<(), Fatal> {
        let done = self.check_alive().and_then(|()| self.settle());
        done.map_err(|source| self.fatal(source))
    }

    fn settle(&mut self) -> Result<(), Error> {
        let mut round = Round { must_sync_journal: true, ..Round::default() };
        for (id, partition) in &mut self.partitions {
            if partition.dirty()?.is_some() {
                round.to_sync.insert(*id);
            }
            partition.save_index();
        }
        self.sync(&mut round)?;
        let marks: Vec<Change> = self
            .partitions
            .values_mut()
            .map(|partition| {
                let hw = partition.kept.hw;
                partition.checkpoint(hw)
            })
            .collect();
        if marks.is_empty() { Ok(()) } else { self.journal.append_synced(&marks) }
    }
}
