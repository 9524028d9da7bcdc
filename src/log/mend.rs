//! Putting entries from peers in place of damaged ones (R21).
//!
//! ```text
//!   damaged      | closed | ##bad## | closed | last |          wanted: exactly that segment
//!   or           | closed | closed  | la##                     wanted: from there to what the log had promised
//!
//!   <data dir>/mend/<partition>/<first index>.log              written and synced beside the log,
//!   ── renamed over the damaged files, the directory synced ─▶ then the log is read again
//! ```
//!
//! Nothing is cut first. Until the new files are whole and synced the old ones stay as they are, and a
//! crash between two renames leaves damage that the next start finds again. Segment files are the same
//! everywhere, so a mended one is the file that was there before.
//!
//! What a damaged log had, its end above all, is not forgotten here: the durable mark, high watermark and
//! applied index in the journal stay. The watermark stays even when the log is whole again: peers hand out what is
//! committed at home, of which less may have been seen (R5).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{LogIndex, Offset, Term, TopicPartition};

use super::disk::Disk;
use super::entry::{Discontinuity, Entry, check_continues};
use super::error::{Context, Error};
use super::files::Files;
use super::opening;
use super::partition::{Append, Partition};
use super::reader::Reader;
use super::recovery::Trust;
use super::segment;
use super::state::{Change, HighWatermark, Kept, LogStart};
use super::store::{Recovered, Store};
use super::view::{Closed, Shared, View};
use super::write::Config;

/// Under the data directory; emptied when it is opened.
pub(super) const DIR: &str = "mend";

/// What must be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    pub partition: TopicPartition,
    /// The entry before the first that is wanted.
    pub after: (LogIndex, Term),
    /// The last that is wanted; `None` where the log's end is gone, so that only the group can tell.
    pub last: Option<LogIndex>,
    /// The damaged file, and the first entry that cannot be read.
    pub path: PathBuf,
    pub damaged: LogIndex,
    /// Up to here it was all on disk.
    pub marked: LogIndex,
}

/// Why entries from a peer were not taken.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    #[error(transparent)]
    Discontinuity(#[from] Discontinuity),
    #[error("no room beside the damaged log")]
    OutOfSpace,
    #[error(transparent)]
    Log(#[from] Error),
}

/// A mend that has begun. Belongs on a thread that may wait for the disk; touches nothing that the
/// store writes.
#[derive(Debug)]
pub struct Mend {
    log: Arc<Shared>,
    kept: Option<Box<Kept>>,
    scratch: Partition,
    wants: Wants,
}

/// One closed segment made anew, for [`Store::swap`].
#[derive(Debug)]
pub struct Spare {
    partition: TopicPartition,
    segment: Closed,
}

impl Spare {
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }
}

fn scratch_dir(log: &Shared) -> PathBuf {
    data_dir(log).join(DIR).join(log.id.to_string())
}

fn data_dir(log: &Shared) -> &Path {
    let root = log.dir.parent().and_then(Path::parent);
    root.expect("a partition's directory is two below the data directory")
}

/// Segments in `dir`, ascending.
fn bases(disk: &dyn Disk, dir: &Path) -> Result<Vec<LogIndex>, Error> {
    let names = disk.list(dir).context("list", dir)?;
    let mut bases: Vec<LogIndex> =
        names.iter().filter_map(|name| segment::base_index_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

impl Store {
    /// Begins to mend a damaged log, whose new segments are cut as `config` says. Memory and a look at
    /// the directory only.
    pub fn mend(&self, partition: TopicPartition, config: Config) -> Result<Option<Mend>, Error> {
        let found = self.partitions.get(&partition).ok_or(Error::UnknownPartition(partition))?;
        let log = found.shared.clone();
        let Some((wants, offset)) = wants(&log)? else { return Ok(None) };
        let kept = Some(Box::new(found.kept.clone()));
        Mend::begin(log, wants, offset, config, kept).map(Some)
    }

    /// Puts what a mend has gathered in the place of what is damaged, reads the log again and takes it
    /// in; durable on return. It may be damaged elsewhere: then there is more to mend.
    pub fn adopt(&mut self, mut mend: Mend) -> Result<(Recovered, Reader), Error> {
        self.check_alive()?;
        let id = mend.log.id;
        // Removed meanwhile, and perhaps made anew.
        let old = self.partitions.get(&id).filter(|p| Arc::ptr_eq(&p.shared, &mend.log));
        let old = old.ok_or(Error::UnknownPartition(id))?;
        let (config, promised) = (old.config, old.kept.state.promised);
        if let Some(kept) = &mut mend.kept {
            // It may have been sealed since the mend began (R10).
            kept.state.promised = promised;
        }
        let log = mend.log.clone();
        let finished = mend.finish();
        let (mut partition, recovered) = self.poison_on_error(finished)?;
        forget_all(&self.files, &log.view());
        partition.config = config;
        let change = Change::Keep(id, Box::new(partition.kept.clone()));
        let written = self.journal.append_synced(&[change]);
        self.poison_on_error(written)?;
        let reader = partition.reader();
        self.partitions.insert(id, partition);
        Ok((recovered, reader))
    }

    /// Reads a log again, after a read has met damage at `index` that the start did not see. Takes as
    /// long as one segment takes to read. What has been synced by now is on disk as the durable mark before it is told
    /// as damaged: after a power cut it would look like a write that was torn.
    pub fn doubt(
        &mut self,
        id: TopicPartition,
        index: LogIndex,
    ) -> Result<(Recovered, Reader), Error> {
        self.check_alive()?;
        let old = self.partitions.get_mut(&id).ok_or(Error::UnknownPartition(id))?;
        let marked = old.keep();
        let (recovered, reader) = self.read_again(id, Trust::AllBut(index))?;
        if recovered.corruption.is_some() {
            let written = self.journal.append_synced(&[marked]);
            self.poison_on_error(written)?;
        }
        Ok((recovered, reader))
    }

    /// Puts a spare in the place of the closed segment that it is a copy of; `false` if that has gone
    /// meanwhile, or was another.
    pub fn swap(&mut self, spare: Spare) -> Result<bool, Error> {
        self.check_alive()?;
        let Spare { partition: id, segment } = spare;
        let found = self.partitions.get(&id).ok_or(Error::UnknownPartition(id))?;
        let log = found.shared.clone();
        let position = |view: &View| view.closed.iter().position(|c| c.summary == segment.summary);
        let Some(at) = position(&log.view()) else { return Ok(false) };
        let old = log.view().closed[at].clone();
        let replaced = replace(self.files.disk(), &segment.path, &old.path)
            .and_then(|()| self.disk.sync_dir(&log.dir).context("sync", &log.dir));
        self.poison_on_error(replaced)?;
        let mut view = log.view_mut();
        self.files.forget(old.file);
        self.files.forget(old.index_file);
        self.files.forget(segment.file);
        let (file, index_file) = (self.files.id(), self.files.id());
        view.closed[at] = Arc::new(Closed { file, index_file, path: old.path.clone(), ..segment });
        view.version += 1;
        Ok(true)
    }
}

/// Of a segment that is made anew: one file, whatever the configuration says by now.
const UNCUT: Config = Config { segment_bytes: u32::MAX, segment_ms: i64::MAX };

/// What a damaged log wants, and the base offset there.
fn wants(log: &Shared) -> Result<Option<(Wants, Offset)>, Error> {
    let there = bases(log.files.disk(), &log.dir)?;
    let view = log.view();
    let Some(corruption) = view.corruption else { return Ok(None) };
    let (base, offset) = match &view.active {
        Some(active) => (active.summary.base_index, active.summary.base_offset),
        None => (view.last().0.next(), view.next_offset()),
    };
    let from = base.max(view.start.index.next());
    let after = from.prev();
    let term = view.term_at(after).expect("the log holds what is before its damage");
    let last = there.iter().find(|b| **b > base).map(|b| b.prev());
    let wants = Wants {
        partition: log.id,
        after: (after, term),
        last,
        path: log.dir.join(segment::file_name(base)),
        damaged: corruption.first,
        marked: corruption.last,
    };
    Ok(Some((wants, offset)))
}

impl Reader {
    /// Begins to make a closed segment anew; `None` if there is none that begins at `base_index`.
    pub fn mend_segment(&self, base_index: LogIndex) -> Result<Option<Mend>, Error> {
        let log = self.shared.clone();
        let (wants, offset) = {
            let view = log.view();
            let Some(n) = view.closed.iter().position(|c| c.summary.base_index == base_index)
            else {
                return Ok(None);
            };
            let summary = &view.closed[n].summary;
            let after = base_index.prev();
            let Some(term) = view.term_at(after) else { return Ok(None) };
            let wants = Wants {
                partition: log.id,
                after: (after, term),
                last: Some(summary.last_index),
                path: view.closed[n].path.to_path_buf(),
                damaged: base_index,
                marked: summary.last_index,
            };
            (wants, summary.base_offset)
        };
        Mend::begin(log, wants, offset, UNCUT, None).map(Some)
    }
}

impl Mend {
    fn begin(
        log: Arc<Shared>,
        wants: Wants,
        offset: Offset,
        config: Config,
        kept: Option<Box<Kept>>,
    ) -> Result<Self, Error> {
        let (disk, dir) = (log.files.disk(), scratch_dir(&log));
        if disk.exists(&dir).context("look for", &dir)? {
            disk.remove_dir_all(&dir).context("remove", &dir)?;
        }
        disk.create_dir_all(&dir).context("create", &dir)?;
        let (index, term) = wants.after;
        let start = LogStart { index, term, offset };
        let shared = Shared::new(log.id, dir.into(), log.files.clone(), View::empty(start));
        let nothing = Kept {
            topic_name: String::new(),
            state: Default::default(),
            start,
            hw: HighWatermark::default(),
            durable: index,
            resetting: None,
        };
        let scratch = Partition::new(Arc::new(shared), config, nothing, index);
        Ok(Self { log, kept, scratch, wants })
    }

    pub fn wants(&self) -> &Wants {
        &self.wants
    }

    /// The entry that is wanted next; `None` when all have come of those that are known to be wanted.
    pub fn next(&self) -> Option<LogIndex> {
        let next = self.scratch.shared.view().last().0.next();
        self.wants.last.is_none_or(|last| next <= last).then_some(next)
    }

    /// Takes entries from a peer that are known to be of the group's log. Those beyond what is wanted
    /// are left out.
    pub fn take(&mut self, mut entries: Vec<Entry>) -> Result<(), MendError> {
        if let Some(last) = self.wants.last {
            entries.retain(|e| e.index <= last);
        }
        let Some(first) = entries.first() else { return Ok(()) };
        let (last, mut offset) = {
            let view = self.scratch.shared.view();
            (view.last(), view.next_offset())
        };
        let is_first_of_log = self.log.view().start.index == last.0;
        if is_first_of_log {
            // The log start may lie inside a segment, or a batch.
            offset = offset.min(first.base_offset);
        }
        check_continues(last, offset, &entries)?;
        match self.scratch.append(&entries) {
            Ok(_) => Ok(()),
            Err(Append::OutOfSpace) => Err(MendError::OutOfSpace),
            Err(Append::Failed(error)) => Err(error.into()),
        }
    }

    /// Everything taken so far is on disk, names included; what comes after is quick.
    pub fn settle(&mut self) -> Result<(), Error> {
        if let Some(dirty) = self.scratch.dirty()? {
            dirty.file.sync_data().context("sync", &dirty.path)?;
        }
        self.scratch.save_index();
        self.scratch.sync_dir()
    }

    /// Puts the new entries in the place of the damaged ones, and reads the log again.
    ///
    /// # Panics
    /// If the mend is not of a damaged log.
    fn finish(mut self) -> Result<(Partition, Recovered), Error> {
        self.settle()?;
        let Self { log, kept, scratch, wants } = self;
        let mut kept = *kept.expect("a mend of a damaged log");
        let (disk, dir) = (log.files.disk(), log.dir.clone());
        forget_all(&log.files, &scratch.shared.view());
        let end = scratch.shared.view().last().0;
        let new = bases(disk, &scratch.shared.dir)?;
        let first = wants.after.0.next();
        let gone = |base: &LogIndex| {
            // The damaged file may begin before the log start.
            let is_damaged = dir.join(segment::file_name(*base)) == wants.path;
            is_damaged || *base >= first && wants.last.is_none_or(|last| *base <= last)
        };
        for base in bases(disk, &dir)?.into_iter().rev().filter(gone) {
            let path = dir.join(segment::file_name(base));
            remove_if_there(disk, &segment::index_path(&path))?;
            if !new.contains(&base) {
                remove_if_there(disk, &path)?;
            }
        }
        for base in new {
            let name = segment::file_name(base);
            replace(disk, &scratch.shared.dir.join(&name), &dir.join(&name))?;
        }
        disk.sync_dir(&dir).context("sync", &dir)?;
        disk.remove_dir_all(&scratch.shared.dir).context("remove", &scratch.shared.dir)?;
        if wants.last.is_none() {
            kept.durable = end;
        }
        opening::one(&log.files, data_dir(&log), log.id, kept, Trust::Indexes)
    }

    /// The segment as it was, for a log that is in use.
    ///
    /// # Panics
    /// If the mend is not of a segment.
    pub fn spare(mut self) -> Result<Spare, Error> {
        assert!(self.kept.is_none(), "a mend of a segment");
        self.settle()?;
        let active = self.scratch.shared.view().active.clone();
        let Some(active) = active else {
            let (partition, path) = (self.log.id, self.wants.path);
            return Err(Error::Corrupt { partition, path, position: 0, index: self.wants.damaged });
        };
        let segment = active.close(&self.log.files, true);
        Ok(Spare { partition: self.log.id, segment })
    }
}

/// Renames a segment over another, its index with it. Durable when the directory is synced.
fn replace(disk: &dyn Disk, new: &Path, old: &Path) -> Result<(), Error> {
    let (new_index, old_index) = (segment::index_path(new), segment::index_path(old));
    // An index that is older than its segment would be believed, and so would one that a power cut
    // left beside the damaged segment.
    remove_if_there(disk, &old_index)?;
    disk.rename(new, old).context("rename", new)?;
    let dir = old.parent().expect("a segment is in a directory");
    disk.sync_dir(dir).context("sync", dir)?;
    if disk.exists(&new_index).context("look for", &new_index)? {
        disk.rename(&new_index, &old_index).context("rename", &new_index)?;
    }
    Ok(())
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.context("remove", path),
    }
}

pub(super) fn forget_all(files: &Files, view: &View) {
    for closed in &view.closed {
        files.forget(closed.file);
        files.forget(closed.index_file);
    }
    if let Some(active) = &view.active {
        files.forget(active.file);
    }
}
