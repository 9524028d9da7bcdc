//! Taking entries away again: Raft's conflicting suffixes, and a log that begins anew.

use std::path::Path;

use crate::model::LogIndex;

use super::active::Active;
use super::disk::Disk;
use super::error::{Context, Error};
use super::journal::Journal;
use super::partition::Partition;
use super::state::{HighWatermark, LogStart};
use super::view::View;
use super::{producers, segment};

impl Partition {
    /// Drops the entry `from` and all after it.
    ///
    /// The durable mark is lowered first, or the entries that come instead, torn by a crash, would
    /// look like damage. And the cut is synced before anything is written behind it, or a crash could
    /// leave new entries followed by old ones that were never theirs.
    pub(super) fn truncate(&mut self, from: LogIndex, journal: &mut Journal) -> Result<(), Error> {
        let (start, last, damaged) = {
            let view = self.shared.view();
            (view.start, view.last().0, view.corruption.is_some())
        };
        assert!(from > start.index, "{}: truncation at {from}, before log start", self.id());
        let spared = from > self.kept.hw.index || self.kept.state.installing;
        assert!(spared, "{}: truncation at {from}, below HW {:?}", self.id(), self.kept.hw);
        if from > last && !damaged {
            return Ok(());
        }
        assert!(from <= last.next(), "{}: truncation at {from} leaves damage", self.id());
        if self.kept.durable >= from {
            self.durable = self.durable.min(from.prev());
            let change = self.keep();
            journal.append_synced(&[change])?;
        }
        self.forget_producers_after(from.prev())?;
        self.cut(from)
    }

    /// Removes producer snapshots of states after `last`. Before the entries go: the directory is
    /// synced with them, so that none comes back and is taken for a state of those that come instead.
    pub(super) fn forget_producers_after(&self, last: LogIndex) -> Result<(), Error> {
        let start = self.shared.view().start.index;
        producers::trim(self.shared.files.disk(), &self.shared.dir, start, last)
    }

    /// Cuts the view, then the files: readers see the shorter log before a byte of it changes, and
    /// everything before `from` all the time. What is below the journalled mark is not touched.
    pub(super) fn cut(&mut self, from: LogIndex) -> Result<(), Error> {
        let last = self.cut_view(from)?;
        self.remove_segments_from(from)?;
        self.cut_last(last)
    }

    /// As `cut`, but the files go to the directory `to`, which has a copy of what the segment that is
    /// cut held from `from` on. The last segment first, each move durable: so a crash leaves a log
    /// without a hole, and each entry in one of the two places.
    pub(super) fn move_out(&mut self, from: LogIndex, to: &Path) -> Result<(), Error> {
        let last = self.cut_view(from)?;
        move_segments(self.shared.files.disk(), &self.shared.dir, from, to)?;
        self.cut_last(last)
    }

    /// Lets the view end before `from`; the segment that it then ends with.
    fn cut_view(&mut self, from: LogIndex) -> Result<Option<Active>, Error> {
        self.durable = self.durable.min(from.prev());
        let mut active = self.holder(from)?;
        if let Some(active) = &mut active {
            self.rewind(active, from)?;
        }
        {
            let mut view = self.shared.view_mut();
            view.version += 1;
            view.corruption = None;
            let first_gone = active.as_ref().map_or(from, |a| a.summary.base_index);
            let keep = view.closed.partition_point(|c| c.summary.base_index < first_gone);
            for gone in view.closed.drain(keep..) {
                if active.as_ref().is_none_or(|a| a.file != gone.file) {
                    self.shared.files.forget(gone.file);
                }
                self.shared.files.forget(gone.index_file);
            }
            let replaced = std::mem::replace(&mut view.active, active.clone());
            if let Some(replaced) = replaced
                && active.as_ref().is_none_or(|a| a.file != replaced.file)
            {
                self.shared.files.forget(replaced.file);
            }
            view.rebuild_epochs();
        }
        Ok(active)
    }

    fn cut_last(&mut self, last: Option<Active>) -> Result<(), Error> {
        if let Some(active) = &last {
            self.cut_file(active)?;
        }
        self.dir_is_dirty = true;
        self.sync_dir()
    }

    /// The last segment that begins before `from`, with its index in memory.
    pub(super) fn holder(&self, from: LogIndex) -> Result<Option<Active>, Error> {
        let closed = {
            let view = self.shared.view();
            if let Some(active) = view.active.as_ref().filter(|a| a.summary.base_index < from) {
                return Ok(Some(active.clone()));
            }
            view.closed.iter().rfind(|c| c.summary.base_index < from).cloned()
        };
        closed.map(|closed| self.reopen(&closed)).transpose()
    }

    /// Lets `active` end before the entry `from`.
    pub(super) fn rewind(&self, active: &mut Active, from: LogIndex) -> Result<(), Error> {
        if active.summary.last_index < from {
            return Ok(());
        }
        let path = active.path.clone();
        let file = self.shared.files.open(active.file, &path).context("open", &path)?;
        let end = active.summary.size_bytes;
        active.rewind(from);
        active.extend(&file, self.shared.seed, end, from, from).context("read", &path)?;
        if active.summary.last_index != from.prev() {
            return Err(self.corrupt(&path, active));
        }
        Ok(())
    }

    /// Cuts the file of `active` after its last entry.
    fn cut_file(&mut self, active: &Active) -> Result<(), Error> {
        let disk = self.shared.files.disk();
        // An index of entries that are not there any more must not outlive them.
        let index_path = segment::index_path(&active.path);
        if disk.exists(&index_path).context("look for", &index_path)? {
            disk.remove_file(&index_path).context("remove", &index_path)?;
            disk.sync_dir(&self.shared.dir).context("sync", &self.shared.dir)?;
        }
        self.indexed_bytes = 0;
        let path = &active.path;
        let file = self.shared.files.open(active.file, path).context("open", path)?;
        file.truncate(active.summary.size_bytes).context("truncate", path)?;
        file.sync_data().context("sync", path)
    }

    /// Removes segments that begin at `from` or later, the last first, each durably: a crash leaves
    /// no hole.
    fn remove_segments_from(&mut self, from: LogIndex) -> Result<(), Error> {
        let disk = self.shared.files.disk();
        let names = disk.list(&self.shared.dir).context("list", &self.shared.dir)?;
        for name in names.iter().rev() {
            if segment::base_index_of(name).is_some_and(|base| base >= from) {
                let path = self.shared.dir.join(name);
                self.remove_file_if_there(&segment::index_path(&path))?;
                self.remove_file_if_there(&path)?;
                disk.sync_dir(&self.shared.dir).context("sync", &self.shared.dir)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_file_if_there(&self, path: &Path) -> Result<(), Error> {
        match self.shared.files.disk().remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", path),
        }
    }

    /// Empties the log and lets it begin at `start`.
    ///
    /// The journal says so before the first file goes and again after the last has gone; a crash
    /// between the two is finished at recovery. Nothing is appended before the second.
    pub(super) fn reset(&mut self, start: LogStart, journal: &mut Journal) -> Result<(), Error> {
        self.kept.resetting = Some(start);
        self.durable = LogIndex::ZERO;
        let change = self.keep();
        journal.append_synced(&[change])?;
        {
            let mut view = self.shared.view_mut();
            let version = view.version + 1;
            for closed in &view.closed {
                self.shared.files.forget(closed.file);
                self.shared.files.forget(closed.index_file);
            }
            if let Some(active) = &view.active {
                self.shared.files.forget(active.file);
            }
            *view = View { version, ..View::empty(start) };
        }
        empty(self.shared.files.disk(), &self.shared.dir)?;
        (self.dir_is_dirty, self.indexed_bytes) = (false, 0);
        self.kept.resetting = None;
        self.kept.start = start;
        self.kept.hw = HighWatermark { index: start.index, offset: start.offset };
        self.durable = start.index;
        let change = self.keep();
        journal.append_synced(&[change])
    }
}

/// Moves segments that begin at `from` or later from one directory to another, without their indexes:
/// the last first, each durably.
pub(super) fn move_segments(
    disk: &dyn Disk,
    dir: &Path,
    from: LogIndex,
    to: &Path,
) -> Result<(), Error> {
    for name in disk.list(dir).context("list", dir)?.iter().rev() {
        if segment::base_index_of(name).is_some_and(|base| base >= from) {
            let path = dir.join(name);
            let index = segment::index_path(&path);
            if disk.exists(&index).context("look for", &index)? {
                disk.remove_file(&index).context("remove", &index)?;
            }
            disk.rename(&path, &to.join(name)).context("rename", &path)?;
            disk.sync_dir(to).context("sync", to)?;
            disk.sync_dir(dir).context("sync", dir)?;
        }
    }
    Ok(())
}

/// Removes everything of a log but its partition file, durably.
pub(super) fn empty(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    for name in disk.list(dir).context("list", dir)? {
        if name != super::store::PARTITION_FILE {
            let path = dir.join(name);
            disk.remove_file(&path).context("remove", &path)?;
        }
    }
    disk.sync_dir(dir).context("sync", dir)
}
