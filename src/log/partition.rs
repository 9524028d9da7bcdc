//! The one that writes a partition's log.
//!
//! Errors here are fatal (R20), but for `Append::OutOfSpace`, after which nothing has changed.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use crate::model::{HomeEpoch, LogIndex, TopicPartition};

use super::active::Active;
use super::disk;
use super::entry::{self, Entry, Kind};
use super::error::{Context, Error};
use super::frame::{self, Frame};
use super::segment;
use super::state::{Change, HighWatermark, Kept, LogStart, Position};
use super::sync::Dirty;
use super::view::{Closed, Shared};
use super::write::Config;
use super::{producers, reader::Reader};

/// A segment's index is written for the first time at this size, so that a start after a crash
/// reads no more than half of what is there, and
const INDEX_BYTES_MIN: u64 = 16 << 20;
/// then whenever the segment has doubled, or grown by this.
const INDEX_BYTES_STEP: u64 = 128 << 20;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Config,
    /// As the journal has it; `durable` there lags the one here.
    pub(super) kept: Kept,
    /// The last entry that is synced.
    pub(super) durable: LogIndex,
    /// A file was created or removed since the directory was synced.
    pub(super) dir_is_dirty: bool,
    /// Bytes of the active segment that its index file covers.
    pub(super) indexed_bytes: u64,
    /// The log is a prefix of the one that ends there and that this epoch takes over. Found out since
    /// the log was read, and true while the replica is sealed: nothing else writes to it then.
    pub(super) prefix_of: Option<(HomeEpoch, Position)>,
}

/// How an append ended, when it did not end well.
pub(super) enum Append {
    OutOfSpace,
    Failed(Error),
}

impl From<Error> for Append {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What an append did.
#[derive(Debug, Default)]
pub(super) struct Appended {
    pub(super) bytes: u64,
    /// First indexes of segments that were begun.
    pub(super) rolled: Vec<LogIndex>,
    /// Files synced on the way: segments that were closed.
    pub(super) files_synced: usize,
}

/// Bytes that `entries` take on disk, but for a segment header or two.
pub(super) fn size_on_disk(entries: &[Entry]) -> u64 {
    entries.iter().map(|e| (frame::HEADER_BYTES + e.payload.len()) as u64).sum()
}

impl Partition {
    pub(super) fn new(shared: Arc<Shared>, config: Config, kept: Kept, durable: LogIndex) -> Self {
        let indexed_bytes = shared.view().active.as_ref().map_or(0, |a| a.summary.size_bytes);
        let (dir_is_dirty, prefix_of) = (false, None);
        Self { shared, config, kept, durable, dir_is_dirty, indexed_bytes, prefix_of }
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    pub(super) fn id(&self) -> TopicPartition {
        self.shared.id
    }

    /// The change that makes the journal say what is true now.
    pub(super) fn keep(&mut self) -> Change {
        self.kept.durable = self.durable;
        Change::Keep(self.id(), Box::new(self.kept.clone()))
    }

    pub(super) fn checkpoint(&mut self, hw: HighWatermark) -> Change {
        (self.kept.hw, self.kept.durable) = (hw, self.durable);
        Change::Checkpoint(self.id(), hw, self.durable)
    }

    /// Appends `entries`, one vectored write a segment.
    ///
    /// # Panics
    /// If they do not continue the log: `check_continues` is for what comes from outside.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<Appended, Append> {
        let mut appended = Appended::default();
        let Some(first) = entries.first() else { return Ok(appended) };
        self.assert_continues(entries);
        self.reopen_last_closed()?;
        let mut rest = entries;
        while !rest.is_empty() {
            let run = self.run(rest);
            if run == 0 {
                self.roll(&mut appended)?;
                continue;
            }
            let (now, later) = rest.split_at(run);
            match self.append_run(now, &mut appended) {
                Ok(()) => rest = later,
                Err(Append::OutOfSpace) => {
                    // What this call wrote in earlier segments goes too. It is not in any mark.
                    if appended.bytes > 0 {
                        self.cut(first.index)?;
                    }
                    return Err(Append::OutOfSpace);
                }
                Err(failed) => return Err(failed),
            }
        }
        self.save_index_if_due();
        Ok(appended)
    }

    fn assert_continues(&self, entries: &[Entry]) {
        let view = self.shared.view();
        assert_eq!(view.corruption, None, "{}: append to a damaged log", self.id());
        let ((mut index, mut term), mut offset) = (view.last(), view.next_offset());
        if view.is_empty() {
            // A log start may lie inside a batch, whose base offset is smaller then.
            offset = offset.min(entries[0].base_offset);
        }
        for e in entries {
            if let Err(error) = entry::check_position(index.next(), term, offset, e) {
                panic!("{}: append: {error}", self.id());
            }
            (index, term, offset) = (e.index, e.term, e.next_offset());
        }
    }

    /// How many of `entries` go into the active segment.
    fn run(&self, entries: &[Entry]) -> usize {
        let view = self.shared.view();
        let mut extent = match &view.active {
            Some(active) => active.summary.extent(),
            None => segment::Extent::default(),
        };
        let fits = |e: &&Entry| {
            let bytes = (frame::HEADER_BYTES + e.payload.len()) as u64;
            let fits = !extent.rolls_before(bytes, e.append_time_ms, &self.config);
            extent.add(bytes, e.append_time_ms);
            fits
        };
        entries.iter().take_while(fits).count()
    }

    /// Writes `entries` at the end of the active segment, which is created with its first.
    fn append_run(&mut self, entries: &[Entry], appended: &mut Appended) -> Result<(), Append> {
        let seed = self.shared.seed;
        let files = self.shared.files.clone();
        let present = {
            let view = self.shared.view();
            view.active.as_ref().map(|a| (a.file, a.path.clone(), a.summary.size_bytes))
        };
        let is_new = present.is_none();
        let (file_id, path, size) = present.unwrap_or_else(|| {
            let path = self.shared.dir.join(segment::file_name(entries[0].index));
            (files.id(), path.into(), 0)
        });
        let segment_header = self.segment_header(&entries[0]).encode();
        let headers: Vec<_> = entries.iter().map(|e| frame::header(seed, e)).collect();
        let mut slices = Vec::with_capacity(entries.len() * 2 + 1);
        if is_new {
            slices.push(IoSlice::new(&segment_header));
        }
        for (header, entry) in headers.iter().zip(entries) {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&entry.payload));
        }
        let bytes: u64 = slices.iter().map(|s| s.len() as u64).sum();
        let opened = if is_new { files.create(file_id, &path) } else { files.open(file_id, &path) };
        let written = opened.and_then(|file| {
            file.append(&mut slices).map_err(|error| {
                // Only a full disk is survived, and then the file must be as it was.
                match disk::is_out_of_space(&error) {
                    true => file.truncate(size).err().unwrap_or(error),
                    false => error,
                }
            })
        });
        match written {
            Ok(()) => {}
            Err(error) if disk::is_out_of_space(&error) => {
                if is_new {
                    files.forget(file_id);
                    self.remove_file_if_there(&path)?;
                }
                return Err(Append::OutOfSpace);
            }
            Err(error) => {
                return Err(Append::Failed(Error::Io {
                    what: "append to",
                    path: path.to_path_buf(),
                    source: error,
                }));
            }
        }
        appended.bytes += bytes;
        if is_new {
            self.dir_is_dirty = true;
            self.indexed_bytes = 0;
            appended.rolled.push(entries[0].index);
        }
        let mut view = self.shared.view_mut();
        let active = view.active.get_or_insert_with(|| {
            Active::new(file_id, path, entries[0].index, entries[0].base_offset)
        });
        for entry in entries {
            active.add(&frame_of(entry));
        }
        view.extend_epochs(entries);
        Ok(())
    }

    fn segment_header(&self, first: &Entry) -> segment::Header {
        segment::Header {
            id: self.id(),
            base_index: first.index,
            base_offset: first.base_offset,
            home_epoch: first.term.home_epoch(),
        }
    }

    /// Closes the active segment. It is synced first, and its name too: so damage in a closed
    /// segment is never taken for a torn tail.
    fn roll(&mut self, appended: &mut Appended) -> Result<(), Error> {
        if let Some(dirty) = self.dirty()? {
            dirty.file.sync_data().context("sync", &dirty.path)?;
            appended.files_synced += 1;
        }
        self.sync_dir()?;
        self.mark_synced();
        let active = self.shared.view().active.clone();
        let active = active.expect("only a segment with entries is closed");
        let indexed = active.save_index(self.shared.files.disk()).is_ok();
        let closed = active.close(&self.shared.files, indexed);
        let mut view = self.shared.view_mut();
        view.active = None;
        view.closed.push(Arc::new(closed));
        Ok(())
    }

    /// Makes the last closed segment the active one, if there is none: after a truncation it is the
    /// next entry that decides whether a segment begins, as it did where nothing was truncated.
    fn reopen_last_closed(&mut self) -> Result<(), Error> {
        let last = {
            let view = self.shared.view();
            if view.active.is_some() {
                return Ok(());
            }
            view.closed.last().cloned()
        };
        let Some(closed) = last else { return Ok(()) };
        let active = self.reopen(&closed)?;
        self.indexed_bytes = active.summary.size_bytes;
        let mut view = self.shared.view_mut();
        view.closed.pop();
        view.active = Some(active);
        Ok(())
    }

    /// A closed segment with its index in memory.
    pub(super) fn reopen(&self, closed: &Closed) -> Result<Active, Error> {
        let Closed { file, path, summary, .. } = closed;
        let mut active = Active::new(*file, path.clone(), summary.base_index, summary.base_offset);
        let loaded = active.load_index(self.shared.files.disk()).context("read index of", path)?;
        if loaded && active.summary == *summary {
            return Ok(active);
        }
        let mut active = Active::new(*file, path.clone(), summary.base_index, summary.base_offset);
        let opened = self.shared.files.open(*file, path).context("open", path)?;
        let (seed, end) = (self.shared.seed, summary.size_bytes);
        let past = summary.last_index.next();
        active.extend(&opened, seed, end, past, past).context("read", path)?;
        if active.summary != *summary {
            return Err(self.corrupt(path, &active));
        }
        Ok(active)
    }

    pub(super) fn corrupt(&self, path: &Path, read: &Active) -> Error {
        Error::Corrupt {
            partition: self.id(),
            path: path.to_owned(),
            position: read.summary.size_bytes,
            index: read.summary.last_index.next(),
        }
    }

    /// Moves the log start forward; the segments below it are handed back, to be removed when the
    /// journal has it.
    ///
    /// # Panics
    /// If it would move back, or beyond the log (R24).
    pub(super) fn move_start(&mut self, start: LogStart) -> Vec<Arc<Closed>> {
        let mut view = self.shared.view_mut();
        let old = view.start;
        let forward = start.index >= old.index && start.offset >= old.offset;
        assert!(forward, "{}: log start from {old:?} back to {start:?}", self.shared.id);
        let known = view.term_at(start.index);
        assert_eq!(known, Some(start.term), "{}: log start at {start:?}", self.shared.id);
        let gone = view.closed.partition_point(|c| c.summary.last_index <= start.index);
        view.version += 1;
        view.start = start;
        let gone = view.closed.drain(..gone).collect();
        view.rebuild_epochs();
        self.kept.start = start;
        gone
    }

    /// Removes segments that `move_start` gave.
    pub(super) fn remove_below_start(&self, gone: &[Arc<Closed>]) -> Result<(), Error> {
        for closed in gone {
            self.shared.files.forget(closed.file);
            self.shared.files.forget(closed.index_file);
            self.remove_file_if_there(&segment::index_path(&closed.path))?;
            self.remove_file_if_there(&closed.path)?;
        }
        let (start, last) = (self.kept.start.index, self.shared.view().last().0);
        producers::trim(self.shared.files.disk(), &self.shared.dir, start, last)
    }

    /// The file to sync, if an entry is not synced.
    pub(super) fn dirty(&self) -> Result<Option<Dirty>, Error> {
        let view = self.shared.view();
        let Some(active) = view.active.as_ref().filter(|_| view.last().0 > self.durable) else {
            return Ok(None);
        };
        let (id, path) = (active.file, active.path.clone());
        drop(view);
        let file = self.shared.files.open(id, &path).context("open", &path)?;
        Ok(Some(Dirty { file, path: path.to_path_buf() }))
    }

    /// After `dirty` was synced.
    pub(super) fn mark_synced(&mut self) {
        self.durable = self.shared.view().last().0;
    }

    pub(super) fn sync_dir(&mut self) -> Result<(), Error> {
        if self.dir_is_dirty {
            let dir = &self.shared.dir;
            self.shared.files.disk().sync_dir(dir).context("sync", dir)?;
            self.dir_is_dirty = false;
        }
        Ok(())
    }

    /// Writes the active segment's index if it has grown much; so a crash makes for a short read.
    fn save_index_if_due(&mut self) {
        let size = self.shared.view().active.as_ref().map_or(0, |a| a.summary.size_bytes);
        let step = self.indexed_bytes.clamp(INDEX_BYTES_MIN, INDEX_BYTES_STEP);
        if size >= self.indexed_bytes + step {
            self.save_index();
        }
    }

    /// Writes the active segment's index. Without it the next start reads more; so no error.
    pub(super) fn save_index(&mut self) {
        let active = self.shared.view().active.clone();
        if let Some(active) = active.filter(|a| a.summary.size_bytes > self.indexed_bytes)
            && active.save_index(self.shared.files.disk()).is_ok()
        {
            self.indexed_bytes = active.summary.size_bytes;
        }
    }
}

fn frame_of(entry: &Entry) -> Frame {
    let max_timestamp = match entry.kind {
        Kind::Batch => entry::max_timestamp(&entry.payload),
        Kind::Empty | Kind::ConfChange | Kind::Control(_) => i64::MIN,
    };
    Frame { meta: entry.meta(), max_timestamp }
}
