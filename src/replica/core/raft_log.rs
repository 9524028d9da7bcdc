//! The log as raft-rs sees it: the recent entries in memory, where each term began, and a request
//! to the disk for everything older.
//!
//! Invariants: `recent` is contiguous and ends at `last`; everything after `min(applied, persisted)`
//! is in it, so only sends to a lagging replica ever miss, and those may wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::entry;
use crate::log;
use crate::model::{LogIndex, Offset, Term};

/// Bytes of entries kept in memory per replica beyond those that must be: what a learner a round
/// trip or two behind needs (100 ms at 40 MB/s).
const RECENT_BYTES_MAX: usize = 4 << 20;

/// Bytes that an entry costs beside its payload, for the bound above and for those of messages.
pub const ENTRY_OVERHEAD_BYTES: usize = 128;

/// The point before the first entry that the log still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    pub index: LogIndex,
    pub term: Term,
    /// Base offset of the entry after `index`.
    pub offset: Offset,
}

/// A read that only the disk can answer; [`RaftLog::entries`] asked for it.
#[derive(Debug)]
pub struct Wanted {
    pub low: LogIndex,
    /// Exclusive.
    pub high: LogIndex,
    pub bytes_max: u64,
    pub context: GetEntriesContext,
}

#[derive(Debug)]
pub struct RaftLog {
    start: Start,
    /// Where each term began: (term, first index, its base offset), ascending.
    epochs: Vec<(Term, LogIndex, Offset)>,
    /// Each entry with the offset after it.
    recent: VecDeque<(Entry, Offset)>,
    recent_bytes: usize,
    last: LogIndex,
    /// After the applied entry: where a replaced suffix begins at the earliest.
    applied_end: Offset,
    persisted: LogIndex,
    applied: LogIndex,
    hard_state: HardState,
    conf_state: ConfState,
    /// Opaque to Raft: the state at `start`, for a replica that must begin there.
    start_state: Bytes,
    wanted: RefCell<Vec<Wanted>>,
    fetched: BTreeMap<u64, Vec<Entry>>,
}

/// What a log is built from after a restart.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    pub start: Start,
    pub start_state: Bytes,
    pub epochs: Vec<(Term, LogIndex, Offset)>,
    pub last: LogIndex,
    /// After the entry at `applied`.
    pub applied_end: Offset,
    /// All entries after `applied`, and as many before as are at hand.
    pub recent: Vec<log::Entry>,
    pub applied: LogIndex,
    pub hard_state: HardState,
    pub conf_state: ConfState,
}

pub(super) fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl RaftLog {
    /// # Panics
    /// If entries after `applied` are not all at hand: they cannot be fetched later.
    pub fn new(restored: Restored) -> Self {
        let mut log = Self {
            start: restored.start,
            epochs: restored.epochs,
            recent: VecDeque::new(),
            recent_bytes: 0,
            last: restored.last,
            applied_end: restored.applied_end,
            persisted: restored.last,
            applied: restored.applied,
            hard_state: restored.hard_state,
            conf_state: restored.conf_state,
            start_state: restored.start_state,
            wanted: RefCell::default(),
            fetched: BTreeMap::new(),
        };
        let mut due = restored.applied.next();
        for ours in restored.recent.iter().filter(|e| e.index > restored.applied) {
            assert!(ours.index == due, "every entry that is not applied is at hand");
            due = due.next();
            log.push(entry::to_raft(ours), ours);
        }
        assert!(
            due == restored.last.next(),
            "entries from {due:?} to {:?} are missing",
            restored.last
        );
        log
    }

    fn push(&mut self, raft: Entry, ours: &log::Entry) {
        self.recent_bytes += cost(&raft);
        self.recent.push_back((raft, ours.next_offset()));
    }

    pub fn start(&self) -> Start {
        self.start
    }

    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Of the last entry, or of the one before the log where it has none.
    pub fn last_term(&self) -> Term {
        let newest = self.epochs.last().filter(|_| self.last > self.start.index);
        newest.map_or(self.start.term, |(term, ..)| *term)
    }

    /// Where the next entry begins.
    pub fn next_offset(&self) -> Offset {
        self.recent.back().map_or(self.applied_end, |(_, end)| *end)
    }

    pub fn persisted(&self) -> LogIndex {
        self.persisted
    }

    pub fn epochs(&self) -> &[(Term, LogIndex, Offset)] {
        &self.epochs
    }

    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Appends what a Ready brought; a first index at or below `last` replaces the suffix from
    /// there. Returns the entries as the disk takes them, and where the suffix was cut.
    ///
    /// # Panics
    /// On a gap in indexes or offsets, which Raft rules out and `entry::check` has tested.
    pub fn append(&mut self, entries: Vec<Entry>) -> (Vec<log::Entry>, Option<LogIndex>) {
        let Some(first) = entries.first().map(|e| LogIndex(e.index)) else {
            return (Vec::new(), None);
        };
        assert!(first <= self.last.next(), "entry {first:?} after {:?} leaves a gap", self.last);
        let cut = (first <= self.last).then_some(first);
        if cut.is_some() {
            self.cut_from(first);
        }
        let mut written = Vec::with_capacity(entries.len());
        for raft in entries {
            let ours = entry::from_raft(&raft, self.next_offset())
                .expect("an entry that follows the last");
            if self.epochs.last().is_none_or(|(term, ..)| *term != ours.term) {
                self.epochs.push((ours.term, ours.index, ours.base_offset));
            }
            self.last = ours.index;
            self.push(raft, &ours);
            written.push(ours);
        }
        self.evict();
        (written, cut)
    }

    fn cut_from(&mut self, first: LogIndex) {
        assert!(first > self.applied, "a committed entry is never replaced");
        while self.recent.back().is_some_and(|(e, _)| e.index >= first.0) {
            let (old, _) = self.recent.pop_back().expect("there is one");
            self.recent_bytes -= cost(&old);
        }
        let kept = self.epochs.partition_point(|(_, index, _)| *index < first);
        self.epochs.truncate(kept);
        self.last = first.prev();
        self.persisted = self.persisted.min(self.last);
    }

    /// The disk has everything up to here.
    pub fn set_persisted(&mut self, index: LogIndex) {
        self.persisted = self.persisted.max(index.min(self.last));
        self.evict();
    }

    pub fn set_applied(&mut self, index: LogIndex) {
        if index > self.applied {
            self.applied_end = self.end_in_memory(index).unwrap_or(self.applied_end);
            self.applied = index;
            self.evict();
        }
    }

    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The offset after an entry that is still in memory.
    fn end_in_memory(&self, index: LogIndex) -> Option<Offset> {
        let (first, _) = self.recent.front()?;
        let position = usize::try_from(index.0.checked_sub(first.index)?).ok()?;
        Some(self.recent.get(position)?.1)
    }

    fn evict(&mut self) {
        let keep_after = self.applied.min(self.persisted);
        while self.recent_bytes > RECENT_BYTES_MAX {
            match self.recent.front() {
                Some((first, _)) if first.index <= keep_after.0 => {
                    self.recent_bytes -= cost(first);
                    self.recent.pop_front();
                }
                _ => break,
            }
        }
    }

    /// The log now begins after `start`: retention, or a snapshot that replaces everything.
    pub fn move_start(&mut self, start: Start, state: Bytes) {
        assert!(start.index <= self.applied, "only applied entries leave the log");
        if start.index > self.start.index {
            self.start = start;
            self.start_state = state;
            let gone = self.epochs.partition_point(|(_, index, _)| *index <= start.index);
            // The term that holds `start` still has entries after it, so its beginning stays.
            self.epochs.drain(..gone.saturating_sub(1));
        }
    }

    /// Begins anew after a log-start snapshot.
    pub fn reset(&mut self, start: Start, state: Bytes, conf_state: ConfState) {
        self.start = start;
        self.start_state = state;
        self.epochs.clear();
        self.epochs.push((start.term, start.index, start.offset));
        self.recent.clear();
        self.recent_bytes = 0;
        self.last = start.index;
        self.persisted = start.index;
        self.applied = start.index;
        self.applied_end = start.offset;
        self.conf_state = conf_state;
        self.fetched.clear();
    }

    /// Whether something was asked for that only the disk has: an answer to a heartbeat does that, where
    /// the replica that gave it lags.
    pub fn has_wanted(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }

    pub fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(self.wanted.get_mut())
    }

    /// Entries that the disk gave for a [`Wanted`]; Raft asks again for them at once.
    pub fn set_fetched(&mut self, entries: &[log::Entry]) {
        self.fetched.clear();
        if let Some(first) = entries.first() {
            self.fetched.insert(first.index.0, entries.iter().map(entry::to_raft).collect());
        }
    }

    pub fn clear_fetched(&mut self) {
        self.fetched.clear();
    }
}

fn limited(entries: impl Iterator<Item = Entry>, bytes_max: u64) -> Vec<Entry> {
    let mut size = 0u64;
    let fits = |entry: &Entry| {
        let first = size == 0;
        size += cost(entry) as u64;
        first || size <= bytes_max
    };
    entries.take_while(fits).collect()
}

impl Storage for RaftLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low <= self.start.index.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last.0 + 1,
            "entries up to {high} asked of a log that ends at {}",
            self.last
        );
        if let Some(first) = self.recent.front().map(|(e, _)| e.index).filter(|first| low >= *first)
        {
            let range = (low - first) as usize..(high - first) as usize;
            return Ok(limited(self.recent.range(range).map(|(e, _)| e.clone()), bytes_max));
        }
        if let Some(entries) = self.fetched.get(&low) {
            let wanted = entries.iter().take_while(|e| e.index < high).cloned();
            return Ok(limited(wanted, bytes_max));
        }
        assert!(context.can_async(), "entries {low}..{high} are needed at once and not in memory");
        self.wanted.borrow_mut().push(Wanted {
            low: LogIndex(low),
            high: LogIndex(high),
            bytes_max,
            context,
        });
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.index.0 {
            return Ok(self.start.term.0);
        }
        if index < self.start.index.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last.0 {
            return Err(StorageError::Unavailable.into());
        }
        let after = self.epochs.partition_point(|(_, first, _)| first.0 <= index);
        let (term, ..) =
            self.epochs[after.checked_sub(1).expect("the first epoch covers the start")];
        Ok(term.0)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.0)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if request_index > self.start.index.0 {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot::default();
        snapshot.data = self.start_state.clone();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.start.index.0;
        metadata.term = self.start.term.0;
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Kind;

    fn raft_entry(index: u64, context: Bytes) -> Entry {
        let mut entry = Entry::default();
        (entry.index, entry.term) = (index, 1 << 17);
        entry.context = context;
        entry
    }

    /// Seed 1882640248472278 of the simulator: the time of Raft's own entry was that of the entry
    /// before it, which a log-start snapshot does not bring along.
    #[test]
    fn a_log_that_begins_at_a_snapshot_writes_the_same_entry_as_one_that_has_all() {
        let mut whole = RaftLog::new(Restored::default());
        let timed = entry::context(Kind::Control(2), 1_700_000_037_406, Offset::ZERO);
        whole.append(vec![raft_entry(1, timed)]);
        let mut begun = RaftLog::new(Restored::default());
        let start = Start { index: LogIndex(1), term: Term(1 << 17), offset: Offset::ZERO };
        begun.reset(start, Bytes::new(), ConfState::default());
        let next = vec![raft_entry(2, Bytes::new())];
        assert_eq!(begun.append(next.clone()), whole.append(next));
    }
}
