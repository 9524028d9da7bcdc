//! Cutting a log at F: what is beyond the common prefix goes into the ledger, whole and durable, and
//! only then out of the log (R15).

use std::path::{Path, PathBuf};

use super::manifest::{Manifest, Tally};
use super::{CUTTING, MANIFEST, Suffix, UNBORN};
use super::{cut_off_at, dirs_of, name_of, partition_dir, unfinished};
use crate::log::active::Active;
use crate::log::cut;
use crate::log::disk::{self, DiskFile};
use crate::log::entry::Discontinuity;
use crate::log::error::{Context, Error, OutOfSpace};
use crate::log::fork::{Cut, Fork};
use crate::log::journal::Journal;
use crate::log::partition::Partition;
use crate::log::recovery::Trust;
use crate::log::segment;
use crate::log::state::{HighWatermark, LogStart};
use crate::log::store::{self, Recovered, Store};
use crate::model::{LogIndex, NodeId, Offset, TopicPartition};

/// Bytes of entries that are read at once to count and to hash them.
const READ_BYTES: usize = 4 << 20;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// The part of a segment that lies behind the cut.
struct Head {
    active: Active,
    /// Where its first entry is in the segment, and where the segment ends.
    from: u64,
    end: u64,
}

impl Store {
    /// Makes a sealed log a prefix of the one that ends at F (R13, R15), durably: everything beyond
    /// what the two have in common goes into the ledger, then out of the log, and the high watermark,
    /// the applied index, the durable mark and producer snapshots go back with it. Reads all that it
    /// cuts off.
    ///
    /// May be repeated; after a crash the next start has finished what had begun. Refuses, and
    /// changes nothing, where the replica has not promised exactly this epoch, the log is damaged, or
    /// nothing of it is known to be in common (`Error::NothingInCommon`: see `set_aside`), and where
    /// there is no room for the ledger.
    pub fn cut_at(&mut self, id: TopicPartition, fork: &Fork) -> Result<Cut, Error> {
        self.go_on_with_cut(id)?;
        let common = self.partition_mut(id)?.common_prefix(fork)?;
        self.move_into_ledger(id, fork, common.next())?;
        self.cut(id, fork)
    }

    /// For a log of which nothing is known to be in common with the one that ends at F: all that it
    /// still has goes into the ledger, and it begins anew, empty, which is a prefix of every log. The
    /// new home gives it a log-start snapshot. Does what `cut_at` does wherever that can be done.
    pub fn set_aside(&mut self, id: TopicPartition, fork: &Fork) -> Result<Cut, Error> {
        match self.cut_at(id, fork) {
            Err(Error::NothingInCommon { start, .. }) => {
                self.move_into_ledger(id, fork, start)?;
                let partition = self.partitions.get_mut(&id).expect("it was looked up");
                let emptied = partition.reset(LogStart::default(), &mut self.journal);
                self.poison_on_error(emptied)?;
                self.cut(id, fork)
            }
            done => done,
        }
    }

    /// What the ledger says of one partition, oldest epoch first.
    pub fn set_aside_of(&self, id: TopicPartition) -> Result<Vec<Manifest>, Error> {
        let dirs = dirs_of(&*self.disk, &self.dir, id)?;
        dirs.into_iter().map(|dir| Ok(Suffix::read(self.disk.clone(), dir)?.manifest)).collect()
    }

    /// Where the log ends that was cut, and what is in the ledger of it.
    fn cut(&mut self, id: TopicPartition, fork: &Fork) -> Result<Cut, Error> {
        let suffix = cut_off_at(&self.disk, &self.dir, id, fork)?;
        let partition = self.partition_mut(id)?;
        Ok(Cut { suffix, ..partition.ends(fork)? })
    }

    /// Takes everything from `first` on out of the log, if there is anything, once it is saved.
    fn move_into_ledger(
        &mut self,
        id: TopicPartition,
        fork: &Fork,
        first: LogIndex,
    ) -> Result<(), Error> {
        let partition = self.partition_mut(id)?;
        if first > partition.shared.view().last().0 {
            return Ok(());
        }
        let settled = partition.settle();
        self.poison_on_error(settled)?;
        let suffix = self.save(id, fork, first)?;
        let taken = self.take_out(&suffix);
        self.poison_on_error(taken)
    }

    /// Writes the suffix from `first` on into the ledger, but for the files that will be renamed.
    /// Nothing has happened until the directory has its name; then the cut can only go on.
    fn save(&mut self, id: TopicPartition, fork: &Fork, first: LogIndex) -> Result<Suffix, Error> {
        let (node, reserve) = (self.identity().node, self.options.append_reserve_bytes);
        let partition = &self.partitions[&id];
        let manifest = partition.describe(first, node, fork)?;
        let head = partition.head(first)?;
        let text = manifest.encode();
        let needed_bytes = head.as_ref().map_or(0, |h| h.end - h.from) + text.len() as u64;
        let free_bytes =
            self.disk.free_bytes(&self.dir).context("measure free space of", &self.dir)?;
        let full = OutOfSpace {
            partition: id,
            needed_bytes,
            free_bytes: free_bytes.saturating_sub(reserve),
        };
        if needed_bytes > full.free_bytes {
            return Err(full.into());
        }
        let parent = partition_dir(&self.dir, id);
        let written = self.write_suffix(&parent, &manifest, head, &text);
        match written {
            Err(error) if error.is_out_of_space() => {
                let cleared = self.clear_unborn(&parent);
                self.poison_on_error(cleared)?;
                Err(full.into())
            }
            written => {
                let dir = self.poison_on_error(written)?;
                let read = Suffix::read(self.disk.clone(), dir);
                self.poison_on_error(read)
            }
        }
    }

    fn write_suffix(
        &self,
        parent: &Path,
        manifest: &Manifest,
        head: Option<Head>,
        text: &str,
    ) -> Result<PathBuf, Error> {
        let disk = &*self.disk;
        disk.create_dir_all(parent).context("create", parent)?;
        let root = parent.parent().expect("it is in the ledger");
        for dir in [root, &self.dir] {
            disk.sync_dir(dir).context("sync", dir)?;
        }
        self.clear_unborn(parent)?;
        let (epoch, first) = (manifest.new_home_epoch, manifest.first_index);
        let mut nth = 0;
        let mut dir = parent.join(name_of(epoch, first, nth));
        while disk.exists(&dir).context("look for", &dir)? {
            nth += 1;
            dir = parent.join(name_of(epoch, first, nth));
        }
        let unborn = parent.join(name_of(epoch, first, nth) + UNBORN);
        disk.create_dir_all(&unborn).context("create", &unborn)?;
        if let Some(head) = head {
            let partition = &self.partitions[&manifest.partition];
            partition.copy_head(&head, manifest, &unborn)?;
        }
        let path = unborn.join(CUTTING);
        // This syncs the directory too, and with it the name of the copy.
        disk::replace(disk, &path, text.as_bytes()).context("write", &path)?;
        disk.rename(&unborn, &dir).context("rename", &unborn)?;
        disk.sync_dir(parent).context("sync", parent)?;
        Ok(dir)
    }

    /// Removes what a save has left that did not come to its end: copies of what is in the log.
    /// Durably: a removal that reached the disk late would take what has the name by then.
    fn clear_unborn(&self, parent: &Path) -> Result<(), Error> {
        for name in self.disk.list(parent).context("list", parent)? {
            if name.ends_with(UNBORN) {
                let dir = parent.join(name);
                self.disk.remove_dir_all(&dir).context("remove", &dir)?;
                self.disk.sync_dir(parent).context("sync", parent)?;
            }
        }
        Ok(())
    }

    /// Takes out of the log what `suffix` says, of which the ledger has a copy of the first segment
    /// and gets the others.
    fn take_out(&mut self, suffix: &Suffix) -> Result<(), Error> {
        let manifest = &suffix.manifest;
        let partition = self.partitions.get_mut(&manifest.partition).expect("it was looked up");
        let (first, offset) = (manifest.first_index, manifest.first_offset);
        partition.roll_back(first, offset, &mut self.journal)?;
        partition.forget_producers_after(manifest.first_index.prev())?;
        partition.move_out(manifest.first_index, &suffix.dir)?;
        self.name_whole(suffix)
    }

    /// The suffix is whole.
    fn name_whole(&self, suffix: &Suffix) -> Result<(), Error> {
        let (from, to) = (suffix.dir.join(CUTTING), suffix.dir.join(MANIFEST));
        self.disk.rename(&from, &to).context("rename", &from)?;
        self.disk.sync_dir(&suffix.dir).context("sync", &suffix.dir)
    }

    /// Goes on with cuts that a crash has interrupted, so that no log is ever reported half cut.
    ///
    /// One whose log is damaged below the cut has to wait until it is mended.
    pub(in crate::log) fn finish_cuts(&mut self, found: &mut [Recovered]) -> Result<(), Error> {
        for recovered in found {
            self.sync_names(recovered.partition)?;
            if let Some(again) = self.finish_cut(recovered.partition)? {
                *recovered = again;
            }
        }
        Ok(())
    }

    /// Before a partition goes whose cut waits for its log to be mended: what the ledger lacks of the
    /// suffix. A damaged log may be given up, the suffix that nobody else has is not.
    pub(in crate::log) fn rescue(&self, id: TopicPartition) -> Result<(), Error> {
        let Some(suffix) = unfinished(&self.disk, &self.dir, id)? else { return Ok(()) };
        let dir = store::partition_dir(&self.dir, id);
        cut::move_segments(&*self.disk, &dir, suffix.manifest.first_index, &suffix.dir)?;
        self.name_whole(&suffix)
    }

    /// As `finish_cuts`, of one that had to wait.
    pub(in crate::log) fn go_on_with_cut(&mut self, id: TopicPartition) -> Result<(), Error> {
        self.check_alive()?;
        self.partition_mut(id)?;
        let finished = self.finish_cut(id);
        self.poison_on_error(finished).map(drop)
    }

    /// A killed process may have left names that only the cache has: that a suffix is there, or that it is
    /// whole. What is read at this start must not be otherwise after a power cut.
    fn sync_names(&self, id: TopicPartition) -> Result<(), Error> {
        let parent = partition_dir(&self.dir, id);
        if !self.disk.exists(&parent).context("look for", &parent)? {
            return Ok(());
        }
        for name in self.disk.list(&parent).context("list", &parent)? {
            let dir = parent.join(name);
            self.disk.sync_dir(&dir).context("sync", &dir)?;
        }
        self.disk.sync_dir(&parent).context("sync", &parent)
    }

    fn finish_cut(&mut self, id: TopicPartition) -> Result<Option<Recovered>, Error> {
        let Some(suffix) = unfinished(&self.disk, &self.dir, id)? else { return Ok(None) };
        let is_whole_below = {
            let view = self.partitions[&id].shared.view();
            suffix.manifest.first_index <= view.last().0.next()
        };
        if !is_whole_below {
            return Ok(None);
        }
        self.take_out(&suffix)?;
        self.read_again(id, Trust::Indexes).map(|(recovered, _)| Some(recovered))
    }
}

impl Partition {
    /// The manifest of the entries from `first` to the end.
    fn describe(&self, first: LogIndex, node: NodeId, fork: &Fork) -> Result<Manifest, Error> {
        let reader = self.reader();
        let (last, next_offset) = (reader.last(), reader.next_offset());
        let mut tally = Tally::default();
        let mut first_offset = None;
        let mut from = first;
        while from <= last.0 {
            for entry in reader.entries(from, last.0.next(), READ_BYTES)? {
                first_offset.get_or_insert(entry.base_offset);
                tally.add(&entry).map_err(|source| Error::Discontinuity {
                    partition: self.id(),
                    source: Discontinuity::Batch { index: entry.index, source },
                })?;
                from = entry.index.next();
            }
        }
        let state = &self.kept.state;
        Ok(Manifest {
            partition: self.id(),
            topic_name: self.kept.topic_name.clone(),
            node,
            replica: state.replica,
            installing: state.installing,
            old_home_epoch: state.home_epoch.max(last.1.home_epoch()),
            new_home_epoch: fork.home_epoch,
            fork: fork.at,
            first_index: first,
            last,
            first_offset: first_offset.unwrap_or(next_offset),
            next_offset,
            hw: self.kept.hw,
            content: tally.finish(),
        })
    }

    /// The part from `first` on of the segment that `first` is inside of; `None` if it begins one.
    fn head(&self, first: LogIndex) -> Result<Option<Head>, Error> {
        let Some(mut active) = self.holder(first)? else { return Ok(None) };
        let end = active.summary.size_bytes;
        self.rewind(&mut active, first)?;
        let from = active.summary.size_bytes;
        Ok((from < end).then_some(Head { active, from, end }))
    }

    /// Copies the head of a suffix into a segment of its own, synced.
    fn copy_head(&self, head: &Head, manifest: &Manifest, dir: &Path) -> Result<(), Error> {
        let term = self.shared.view().term_at(manifest.first_index);
        let header = segment::Header {
            id: self.id(),
            base_index: manifest.first_index,
            base_offset: manifest.first_offset,
            home_epoch: term.expect("the log has the entry").home_epoch(),
        };
        let source = &head.active.path;
        let from = self.shared.files.open(head.active.file, source).context("open", source)?;
        let path = dir.join(segment::file_name(manifest.first_index));
        let file = self.shared.files.disk().create(&path).context("create", &path)?;
        file.append(&mut [std::io::IoSlice::new(&header.encode())]).context("write", &path)?;
        copy(&*from, head.from, head.end, &*file).context("write", &path)?;
        file.sync_data().context("sync", &path)
    }

    /// Rolls what the journal says of a sealed log back to before `from`, synced, and before anything
    /// of it goes: as with a truncation, what comes instead must not look like damage.
    ///
    /// This goes below the high watermark where an asynchronous topic's cut does, and that is no
    /// accident to be asserted away, as it is for a truncation that Raft asks for: the entries were
    /// acknowledged in an epoch that is over and did not reach the log that goes on. They are in the
    /// ledger by now, durably, and how far they were known to be acknowledged is in the manifest.
    ///
    /// So does log start: where it was moved beyond the cut, nobody has deleted what comes there instead.
    fn roll_back(
        &mut self,
        from: LogIndex,
        offset: Offset,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        assert!(self.kept.state.is_sealed(), "{}: a cut at {from} without a seal", self.id());
        let last = from.prev();
        self.durable = self.durable.min(last);
        if self.kept.hw.index > last {
            self.kept.hw = HighWatermark { index: last, offset };
        }
        self.kept.state.applied = self.kept.state.applied.min(last);
        if self.kept.start.offset > offset {
            self.kept.start.offset = offset;
            let mut view = self.shared.view_mut();
            view.version += 1;
            view.start.offset = offset;
        }
        let change = self.keep();
        journal.append_synced(&[change])
    }
}

fn copy(from: &dyn DiskFile, mut at: u64, end: u64, to: &dyn DiskFile) -> std::io::Result<()> {
    let mut bytes = vec![0; COPY_BYTES];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(COPY_BYTES);
        let read = from.read_at(&mut bytes[..wanted], at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        to.append(&mut [std::io::IoSlice::new(&bytes[..read])])?;
        at += read as u64;
    }
    Ok(())
}
