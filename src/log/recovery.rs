//! Reading a partition's files after a restart: what is whole, what is torn, what is damaged (R21).
//!
//! ```text
//!  segments  | closed | closed | closed | last              |
//!  known     synced when they were closed | mark |  torn?   |
//!            bad here: damage, reported, nothing cut | bad here: cut, synced
//! ```
//!
//! The durable mark is the journal's, or the end of the last closed segment if that is further.
//! Before anything of the last segment is believed it is synced and its cached pages are dropped:
//! what a killed process left in the page cache reaches the disk now, and what a failed sync only
//! seemed to write is gone (H28).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{LogIndex, TopicPartition};

use super::active::{self, Active, End};
use super::disk::DiskFile;
use super::error::{Context, Error};
use super::files::Files;
use super::frame::Seed;
use super::segment::{self, BadHeader, Header};
use super::state::{Kept, LogStart};
use super::view::{Corruption, View};
use super::{cut, producers};

/// A partition's log as its files have it.
pub(super) struct Found {
    pub(super) view: View,
    /// Bytes that were cut.
    pub(super) torn_bytes: u64,
}

/// What a recovery believes without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Closed segments by their indexes, and payloads before the mark: for a quick start.
    Indexes,
    /// The same, but for the segment that holds this entry, which is read from front to back.
    AllBut(LogIndex),
    Nothing,
}

impl Trust {
    fn holds_for(self, base: LogIndex, last: LogIndex) -> bool {
        match self {
            Self::Indexes => true,
            Self::AllBut(index) => index < base || last < index,
            Self::Nothing => false,
        }
    }
}

struct Recovery<'a> {
    trust: Trust,
    files: &'a Arc<Files>,
    dir: &'a Path,
    id: TopicPartition,
    seed: Seed,
    start: LogStart,
    /// Everything up to here had been synced.
    mark: LogIndex,
    view: View,
    torn_bytes: u64,
}

/// A segment file, by its name.
#[derive(Debug, Clone)]
struct Named {
    base: LogIndex,
    path: Arc<Path>,
}

/// Recovers the log in `dir`, of which the journal says `kept`. Finishes what a crash interrupted.
pub(super) fn recover(
    files: &Arc<Files>,
    dir: &Path,
    id: TopicPartition,
    kept: &mut Kept,
    trust: Trust,
) -> Result<Found, Error> {
    if let Some(start) = kept.resetting.take() {
        cut::empty(files.disk(), dir)?;
        kept.start = start;
        kept.hw = super::HighWatermark { index: start.index, offset: start.offset };
        kept.durable = start.index;
        return Ok(Found { view: View::empty(start), torn_bytes: 0 });
    }
    let mut recovery = Recovery {
        trust,
        files,
        dir,
        id,
        seed: Seed::of(id),
        start: kept.start,
        mark: kept.durable.max(kept.start.index),
        view: View::empty(kept.start),
        torn_bytes: 0,
    };
    recovery.run()?;
    let Recovery { mut view, torn_bytes, .. } = recovery;
    view.rebuild_epochs();
    if view.corruption.is_none() {
        producers::trim(files.disk(), dir, kept.start.index, view.last().0)?;
    }
    Ok(Found { view, torn_bytes })
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut segments = self.segments()?;
        let Some(last) = segments.pop() else { return self.check_mark() };
        for named in segments {
            if !self.closed(&named)? {
                return Ok(());
            }
        }
        self.mark = self.mark.max(last.base.prev());
        // A killed process may have left names, too, that only the cache has.
        self.files.disk().sync_dir(self.dir).context("sync", self.dir)?;
        self.last(&last)?;
        self.check_mark()
    }

    /// Segments in order. What ends before the log start is left over from moving it, and goes.
    fn segments(&self) -> Result<Vec<Named>, Error> {
        let names = self.files.disk().list(self.dir).context("list", self.dir)?;
        let mut segments: Vec<Named> = names
            .iter()
            .filter_map(|name| {
                let base = segment::base_index_of(name)?;
                Some(Named { base, path: self.dir.join(name).into() })
            })
            .collect();
        let first = self.start.index.next();
        let ended = segments.iter().skip(1).take_while(|s| s.base <= first).count();
        for named in segments.drain(..ended) {
            self.remove(&named)?;
        }
        Ok(segments)
    }

    fn remove(&self, named: &Named) -> Result<(), Error> {
        let disk = self.files.disk();
        for path in [segment::index_path(&named.path), PathBuf::from(&*named.path)] {
            if disk.exists(&path).context("look for", &path)? {
                disk.remove_file(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Reports damage from the entry after the last good one on. The files stay as they are.
    fn damaged(&mut self, first: LogIndex) {
        let last = self.mark.max(first);
        self.view.corruption = Some(Corruption { first, last });
    }

    /// The entry that continues what is known.
    fn next_index(&self) -> LogIndex {
        self.view.last().0.next()
    }

    /// Whether everything that had been synced is there.
    fn check_mark(&mut self) -> Result<(), Error> {
        let last = self.view.last().0;
        if self.view.corruption.is_none() && last < self.mark {
            self.damaged(last.next());
        }
        Ok(())
    }

    /// Whether a segment with this header may follow what is known. The first may begin before the
    /// log start.
    fn continues(&self, header: &Header) -> bool {
        match self.view.closed.last() {
            Some(before) => {
                header.base_index == before.summary.last_index.next()
                    && header.base_offset == before.summary.next_offset
            }
            None => {
                header.base_index <= self.start.index.next()
                    && header.base_offset <= self.start.offset
            }
        }
    }

    /// The header of a segment; `None` if it is damaged or does not continue the log.
    fn header(&self, named: &Named, file: &dyn DiskFile) -> Result<Option<Header>, Error> {
        let mut bytes = [0; segment::HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0).context("read", &named.path)?;
        match Header::decode(&bytes[..read], self.id, named.base) {
            Ok(header) => Ok(Some(header).filter(|h| self.continues(h))),
            Err(BadHeader::Damaged) => Ok(None),
            Err(BadHeader::Version(found)) => Err(Error::Version {
                path: named.path.to_path_buf(),
                found,
                known: segment::VERSION,
            }),
        }
    }

    /// Takes in a closed segment, by its index if that is whole. `false` on damage.
    fn closed(&mut self, named: &Named) -> Result<bool, Error> {
        // Whatever is not the last was synced before the next began.
        let disk = self.files.disk();
        let id = self.files.id();
        let file = disk.open(&named.path).context("open", &named.path)?;
        let size = file.len().context("measure", &named.path)?;
        let Some(header) = self.header(named, &*file)? else {
            self.damaged(self.next_index());
            return Ok(false);
        };
        let known =
            active::closed_index(disk, &named.path, size).context("read index of", &named.path)?;
        let mut active = Active::new(id, named.path.clone(), named.base, header.base_offset);
        let ours = |s: &segment::Summary| {
            s.base_index == header.base_index && s.base_offset == header.base_offset
        };
        let believed = known.filter(|head| {
            ours(&head.summary) && self.trust.holds_for(named.base, head.summary.last_index)
        });
        if let Some(head) = believed {
            active.summary = head.summary;
            let mut closed = active.close(self.files, true);
            closed.index_entries = head.entries;
            closed.index_position = head.entries_position;
            self.view.closed.push(Arc::new(closed));
            return Ok(true);
        }
        // All of it is read, so all of it is checked.
        let end = active
            .extend(&file, self.seed, size, LogIndex(u64::MAX), LogIndex::ZERO)
            .context("read", &named.path)?;
        if end == End::Bad {
            let next = active.summary.last_index.next();
            self.view.active = Some(active);
            self.damaged(next);
            return Ok(false);
        }
        let indexed = active.save_index(disk).is_ok();
        self.view.closed.push(Arc::new(active.close(self.files, indexed)));
        Ok(true)
    }

    /// Takes in the last segment: by the index that was saved of it up to the mark, and from there
    /// frame by frame.
    fn last(&mut self, named: &Named) -> Result<(), Error> {
        let file = self.files.disk().open(&named.path).context("open", &named.path)?;
        file.sync_data().context("sync", &named.path)?;
        file.evict().context("evict", &named.path)?;
        let size = file.len().context("measure", &named.path)?;
        let Some(header) = self.header(named, &*file)? else {
            return self.headless(named, size);
        };
        let mut active =
            Active::new(self.files.id(), named.path.clone(), named.base, header.base_offset);
        let is_trusted = self.trust.holds_for(named.base, LogIndex(u64::MAX));
        let resumes =
            is_trusted && self.resume(&mut active, &file, size).context("read", &named.path)?;
        if !resumes {
            active = Active::new(active.file, named.path.clone(), named.base, header.base_offset);
        }
        // From the mark's own entry on payloads are checked too: its batch says the next offset.
        let check_from = if is_trusted { self.mark } else { LogIndex::ZERO };
        let end = active
            .extend(&file, self.seed, size, LogIndex(u64::MAX), check_from)
            .context("read", &named.path)?;
        let next = active.summary.last_index.next();
        let good = active.summary.size_bytes;
        if next <= self.mark {
            self.view.active = Some(active);
            self.damaged(next);
            return Ok(());
        }
        if end == End::Bad || good < size {
            file.truncate(good).context("truncate", &named.path)?;
            file.sync_data().context("sync", &named.path)?;
            self.torn_bytes = size - good;
        }
        if active.summary.is_empty() {
            return self.headless(named, size);
        }
        self.view.active = Some(active);
        Ok(())
    }

    /// A last segment without a header, or without an entry: a crash came while it was begun.
    fn headless(&mut self, named: &Named, size: u64) -> Result<(), Error> {
        let next = self.next_index();
        if next != named.base && next <= self.mark || named.base <= self.mark {
            self.damaged(next);
            return Ok(());
        }
        self.torn_bytes = size;
        self.remove(named)?;
        self.files.disk().sync_dir(self.dir).context("sync", self.dir)
    }

    /// Loads what was saved of the last segment's index, up to the mark; `false` if that does not
    /// lead to a frame.
    fn resume(
        &self,
        active: &mut Active,
        file: &Arc<dyn DiskFile>,
        size: u64,
    ) -> std::io::Result<bool> {
        let base = (active.summary.base_index, active.summary.base_offset);
        if !active.load_index(self.files.disk())? {
            return Ok(false);
        }
        active.rewind(self.mark);
        let at = active.summary.size_bytes;
        if (active.summary.base_index, active.summary.base_offset) != base || at >= size {
            return Ok(false);
        }
        // The saved index was never synced and may be older than a truncation: its word on where a
        // frame begins is believed only if one does.
        let mut probe = active.clone();
        let next = active.summary.last_index.next();
        let end = probe.extend(file, self.seed, size, next.next(), LogIndex(u64::MAX))?;
        Ok(end == End::Clean && probe.summary.last_index == next)
    }
}
