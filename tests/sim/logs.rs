//! What the oracle remembers of a log, and how it compares entries.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use isobar::log::{Entry, Kind, Reader, Write};
use isobar::model::LogIndex;

/// An entry, as far as comparisons need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub term: u64,
    pub base: i64,
    pub next: i64,
    pub is_batch: bool,
    /// Of kind, base offset, append time and payload.
    pub hash: u64,
}

/// One log, by index; everything at or below `start` has left it.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub start: u64,
    pub entries: BTreeMap<u64, Seen>,
}

pub fn hash_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Of bytes, of which there are many.
pub fn hash_of_bytes(bytes: &[u8]) -> u64 {
    hash_of((bytes.len(), crc32c::crc32c(bytes)))
}

impl Seen {
    pub fn of(entry: &Entry) -> Self {
        let Entry { kind, base_offset, append_time_ms, payload, .. } = entry;
        Self {
            term: entry.term.0,
            base: base_offset.0,
            next: entry.next_offset().0,
            is_batch: *kind == Kind::Batch,
            hash: hash_of((kind, base_offset, append_time_ms, hash_of_bytes(payload))),
        }
    }
}

impl Log {
    pub fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(self.start, |(index, _)| *index)
    }

    /// Whether it holds the entry of that index and term, or held it before the log began here.
    pub fn has(&self, index: u64, term: u64) -> bool {
        index <= self.start || self.entries.get(&index).is_some_and(|seen| seen.term == term)
    }

    pub fn apply(&mut self, write: &Write) {
        if let Some(reset) = write.reset {
            self.entries.clear();
            self.start = reset.index.0;
        }
        if let Some(from) = write.truncate_from {
            self.entries.split_off(&from.0);
        }
        self.entries.extend(write.entries.iter().map(|e| (e.index.0, Seen::of(e))));
    }

    /// All that a reader finds on its disk, and of segments that cannot be read what they may have and do by its terms.
    pub fn read_around(reader: &Reader, known: &[&BTreeMap<u64, Seen>]) -> Self {
        let start = reader.start().index;
        let mut log = Self { start: start.0, entries: BTreeMap::new() };
        for segment in reader.segments() {
            let from = segment.base_index.max(start.next());
            match read(reader, from, segment.last_index.next()) {
                Some(entries) => log.entries.extend(entries),
                None => log.entries.extend((from.0..=segment.last_index.0).filter_map(|index| {
                    let term = reader.term_at(LogIndex(index))?.0;
                    let mut known = known.iter().filter_map(|entries| entries.get(&index));
                    Some((index, *known.find(|seen| seen.term == term)?))
                })),
            }
        }
        log
    }

    /// All that a reader finds on its disk.
    pub fn read(reader: &Reader) -> Option<Self> {
        let start = reader.start().index;
        let entries = read(reader, start.next(), reader.last().0.next())?;
        Some(Self { start: start.0, entries })
    }
}

/// Entries from one up to before another.
fn read(reader: &Reader, mut from: LogIndex, end: LogIndex) -> Option<BTreeMap<u64, Seen>> {
    let mut entries = BTreeMap::new();
    while from < end {
        let some = reader.entries(from, end, 1 << 20).ok()?;
        let Some(last) = some.last() else { break };
        from = last.index.next();
        entries.extend(some.iter().map(|e| (e.index.0, Seen::of(e))));
    }
    Some(entries)
}
