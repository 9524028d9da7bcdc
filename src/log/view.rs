//! What is visible of a partition's log: shared by the one that writes and all that read.
//!
//! Readers hold the lock for a look-up only, never while they read a file. Bytes below what the view
//! shows are never written again unless `version` has grown first; so a reader that finds the
//! version unchanged after its read has read what the view showed, whole.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::model::{LogIndex, Offset, Term, TopicPartition};

use super::active::Active;
use super::entry::Entry;
use super::files::{FileId, Files};
use super::frame::Seed;
use super::index::{IndexEntry, Target};
use super::segment::{EpochStart, Summary};
use super::state::LogStart;

/// A segment that is not written any more. Its index is read from its file.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) file: FileId,
    pub(super) path: Arc<Path>,
    pub(super) summary: Summary,
    pub(super) index_file: FileId,
    /// Entries of the index file; 0 where it could not be written: then reads begin at the front.
    pub(super) index_entries: u32,
    pub(super) index_position: u64,
    /// Of a segment that gets no index file, one in a ledger: its index, thinned. Else empty.
    pub(super) held: Box<[IndexEntry]>,
}

/// Damage that recovery found before the durable mark (R21): the entries cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corruption {
    pub first: LogIndex,
    /// The last entry that had been synced, as far as is known.
    pub last: LogIndex,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) start: LogStart,
    pub(super) closed: Vec<Arc<Closed>>,
    pub(super) active: Option<Active>,
    pub(super) epochs: Vec<EpochStart>,
    pub(super) corruption: Option<Corruption>,
    /// Grows before bytes that were visible change or go.
    pub(super) version: u64,
    pub(super) removed: bool,
}

/// A partition's log, as its writer and its readers share it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: TopicPartition,
    pub(super) dir: Arc<Path>,
    pub(super) seed: Seed,
    pub(super) files: Arc<Files>,
    view: RwLock<View>,
    /// The entry that a reader last found damaged; 0 for none.
    suspect: AtomicU64,
}

/// Where to read from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Active { file: FileId, path: Arc<Path>, position: u64, end: u64 },
    Closed(Arc<Closed>),
}

impl Shared {
    pub(super) fn new(id: TopicPartition, dir: Arc<Path>, files: Arc<Files>, view: View) -> Self {
        let suspect = AtomicU64::new(0);
        Self { id, dir, seed: Seed::of(id), files, view: RwLock::new(view), suspect }
    }

    pub(super) fn suspect(&self, index: LogIndex) {
        self.suspect.store(index.0, Ordering::Relaxed);
    }

    pub(super) fn take_suspect(&self) -> Option<LogIndex> {
        Some(LogIndex(self.suspect.swap(0, Ordering::Relaxed))).filter(|i| *i > LogIndex::ZERO)
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        // A writer that panicked has ended the partition's life; what it showed is still whole.
        self.view.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl View {
    pub(super) fn empty(start: LogStart) -> Self {
        let mut view = Self {
            start,
            closed: Vec::new(),
            active: None,
            epochs: Vec::new(),
            corruption: None,
            version: 0,
            removed: false,
        };
        view.rebuild_epochs();
        view
    }

    fn summaries(&self) -> impl DoubleEndedIterator<Item = &Summary> {
        let closed = self.closed.iter().map(|c| &c.summary);
        closed.chain(self.active.as_ref().map(|a| &a.summary))
    }

    /// The last summary that has an entry.
    fn last_summary(&self) -> Option<&Summary> {
        self.summaries().rev().find(|s| !s.is_empty())
    }

    /// The last entry, or the one before the log start.
    pub(super) fn last(&self) -> (LogIndex, Term) {
        self.last_summary()
            .map(|s| (s.last_index, s.last_term))
            .filter(|(index, _)| *index >= self.start.index)
            .unwrap_or((self.start.index, self.start.term))
    }

    pub(super) fn next_offset(&self) -> Offset {
        let end = self.last_summary().map_or(self.start.offset, |s| s.next_offset);
        end.max(self.start.offset)
    }

    /// Whether no entry is there after the log start.
    pub(super) fn is_empty(&self) -> bool {
        self.last().0 == self.start.index
    }

    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last().0 {
            return None;
        }
        let after = self.epochs.partition_point(|e| e.index <= index);
        after.checked_sub(1).map(|n| self.epochs[n].term)
    }

    /// Kafka's `endOffsetFor` (KIP-101): the largest epoch not above `term`, and where it ends.
    pub(super) fn end_offset(&self, term: Term) -> Option<(Term, Offset)> {
        let above = self.epochs.partition_point(|e| e.term <= term);
        let floor = above.checked_sub(1).map(|n| self.epochs[n].term);
        match (floor, self.epochs.get(above)) {
            (floor, Some(next)) => Some((floor.unwrap_or(term), next.offset)),
            (Some(floor), None) if floor == term => Some((term, self.next_offset())),
            (_, None) => None,
        }
    }

    /// Makes the epoch table from the log start and the segments. An epoch that ended before the
    /// log start is not in it, so that a replica that began from a snapshot has the same table.
    pub(super) fn rebuild_epochs(&mut self) {
        let mut epochs: Vec<EpochStart> = Vec::new();
        for e in self.summaries().flat_map(|s| &s.epochs) {
            if epochs.last().is_none_or(|last| last.term != e.term) {
                epochs.push(*e);
            }
        }
        let LogStart { index, term, offset } = self.start;
        epochs.retain(|e| e.index > index);
        if index > LogIndex::ZERO {
            epochs.insert(0, EpochStart { term, index: index.next(), offset });
        }
        for e in &mut epochs {
            e.offset = e.offset.max(offset);
        }
        epochs.dedup_by(|later, earlier| later.term == earlier.term);
        self.epochs = epochs;
    }

    /// Keeps the epoch table up with `entries`, which were appended.
    pub(super) fn extend_epochs(&mut self, entries: &[Entry]) {
        for e in entries {
            if self.epochs.last().is_none_or(|last| last.term != e.term) {
                let offset = e.base_offset.max(self.start.offset);
                self.epochs.push(EpochStart { term: e.term, index: e.index, offset });
            }
        }
    }

    /// Where the entry of `target` is, or the first after it. `None` beyond the last segment.
    pub(super) fn place(&self, target: Target) -> Option<Place> {
        self.place_in(target, self.closed.partition_point(|c| target.is_after(&c.summary)))
    }

    /// The first segment with entries after `index` and a timestamp of at least `timestamp`. By
    /// timestamp segments are in no order, so this looks at each.
    pub(super) fn place_after(&self, index: LogIndex, timestamp: i64) -> Option<Place> {
        let fits = |s: &Summary| s.last_index > index && s.max_timestamp >= timestamp;
        let n = self.closed.iter().position(|c| fits(&c.summary)).unwrap_or(self.closed.len());
        self.place_in(Target::Timestamp(timestamp), n).filter(|_| {
            n < self.closed.len() || self.active.as_ref().is_some_and(|a| fits(&a.summary))
        })
    }

    /// In the closed segment `n`, or after all of them in the active one.
    fn place_in(&self, target: Target, n: usize) -> Option<Place> {
        if let Some(closed) = self.closed.get(n) {
            return Some(Place::Closed(closed.clone()));
        }
        let active = self.active.as_ref().filter(|a| !target.is_after(&a.summary))?;
        let found = super::index::find(active.index.len(), target, |n| Some(active.index[n]));
        Some(Place::Active {
            file: active.file,
            path: active.path.clone(),
            position: found.map_or(super::segment::HEADER_BYTES as u64, |e| e.position.into()),
            end: active.summary.size_bytes,
        })
    }
}
