//! One segment: its header, its name, and what is known of it without reading it.
//!
//! ```text
//!  0  magic         8 bytes  "ISOBARLG"
//!  8  version       u16      1
//! 10  reserved      u16      0
//! 12  partition     i32
//! 16  topic uuid    16 bytes
//! 32  base index    u64      of its first entry, as in its name
//! 40  base offset   i64      of its first entry
//! 48  home epoch    u32      of its first entry
//! 52  CRC-32C       u32      of bytes 0 to 51
//! 56  frames
//! ```

use std::path::{Path, PathBuf};

use crate::model::{HomeEpoch, LogIndex, Offset, Term, TopicId, TopicPartition};

use super::entry::NO_TIME_MS;
use super::frame::Frame;
use super::index::IndexEntry;

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = 56;

const MAGIC: &[u8; 8] = b"ISOBARLG";
pub(super) const VERSION: u16 = 1;

/// An epoch's first entry, in a log or in one segment of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    pub term: Term,
    pub index: LogIndex,
    pub offset: Offset,
}

/// What is known of a segment's entries. Follows from them alone, so it is the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub base_index: LogIndex,
    pub base_offset: Offset,
    /// Of the file, its header included.
    pub size_bytes: u64,
    /// Of the last entry; `base_index - 1` without any.
    pub last_index: LogIndex,
    /// Zero without entries.
    pub last_term: Term,
    pub next_offset: Offset,
    /// Of the first entry that has one; until then `NO_TIME_MS`.
    pub first_append_time_ms: i64,
    /// Largest, since leaders' clocks differ.
    pub last_append_time_ms: i64,
    /// Of all batches; `i64::MIN` without any.
    pub max_timestamp: i64,
    pub epochs: Vec<EpochStart>,
}

impl Summary {
    pub(super) fn new(base_index: LogIndex, base_offset: Offset) -> Self {
        Self {
            base_index,
            base_offset,
            size_bytes: HEADER_BYTES as u64,
            last_index: base_index.prev(),
            last_term: Term(0),
            next_offset: base_offset,
            first_append_time_ms: NO_TIME_MS,
            last_append_time_ms: i64::MIN,
            max_timestamp: i64::MIN,
            epochs: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.last_index < self.base_index
    }

    /// What was known before the entry at `entry`, to go on from there.
    pub(super) fn rewound(&self, entry: &IndexEntry) -> Self {
        let mut epochs = self.epochs.clone();
        epochs.retain(|e| e.index < entry.index);
        let had_time = entry.append_time_before_ms > NO_TIME_MS;
        Self {
            first_append_time_ms: if had_time { self.first_append_time_ms } else { NO_TIME_MS },
            size_bytes: u64::from(entry.position),
            last_index: entry.index.prev(),
            last_term: epochs.last().map_or(Term(0), |e| e.term),
            next_offset: entry.base_offset,
            last_append_time_ms: entry.append_time_before_ms,
            max_timestamp: entry.timestamp_before,
            epochs,
            ..*self
        }
    }

    /// Counts one more entry in.
    pub(super) fn add(&mut self, frame: &Frame) {
        let meta = &frame.meta;
        if self.first_append_time_ms == NO_TIME_MS {
            self.first_append_time_ms = meta.append_time_ms;
        }
        if meta.term != self.last_term {
            let (term, index, offset) = (meta.term, meta.index, meta.base_offset);
            self.epochs.push(EpochStart { term, index, offset });
        }
        self.size_bytes += frame.size_bytes();
        self.last_index = meta.index;
        self.last_term = meta.term;
        self.next_offset = meta.next_offset;
        self.last_append_time_ms = self.last_append_time_ms.max(meta.append_time_ms);
        self.max_timestamp = self.max_timestamp.max(frame.max_timestamp);
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { size_bytes: self.size_bytes, first_append_time_ms: self.first_append_time_ms }
    }
}

/// As much of a segment as decides where the next begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    size_bytes: u64,
    /// As in [`Summary`].
    first_append_time_ms: i64,
}

impl Default for Extent {
    fn default() -> Self {
        Self { size_bytes: HEADER_BYTES as u64, first_append_time_ms: NO_TIME_MS }
    }
}

impl Extent {
    /// Whether an entry of `frame_bytes` begins a new segment. Asks the entries only, never a clock,
    /// so that segments are the same files in every DC.
    pub(super) fn rolls_before(
        &self,
        frame_bytes: u64,
        append_time_ms: i64,
        config: &super::Config,
    ) -> bool {
        let first = self.first_append_time_ms;
        let has_entries = self.size_bytes > HEADER_BYTES as u64;
        let full = self.size_bytes + frame_bytes > u64::from(config.segment_bytes);
        let is_old =
            first != NO_TIME_MS && append_time_ms.saturating_sub(first) >= config.segment_ms;
        has_entries && (full || is_old)
    }

    pub(super) fn add(&mut self, frame_bytes: u64, append_time_ms: i64) {
        self.size_bytes += frame_bytes;
        if self.first_append_time_ms == NO_TIME_MS {
            self.first_append_time_ms = append_time_ms;
        }
    }
}

/// File name of a segment: its first index, so that names sort as entries do.
pub(super) fn file_name(base_index: LogIndex) -> String {
    format!("{:020}.log", base_index.0)
}

pub(super) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("index")
}

/// The base index in a segment's name.
pub(super) fn base_index_of(name: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(LogIndex)).flatten()
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: TopicPartition,
    pub(super) base_index: LogIndex,
    pub(super) base_offset: Offset,
    pub(super) home_epoch: HomeEpoch,
}

/// Why a segment's header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Torn, rotten, or of another file.
    Damaged,
    Version(u16),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut h = [0; HEADER_BYTES];
        h[0..8].copy_from_slice(MAGIC);
        h[8..10].copy_from_slice(&VERSION.to_be_bytes());
        h[12..16].copy_from_slice(&self.id.partition.to_be_bytes());
        h[16..32].copy_from_slice(&self.id.topic.0);
        h[32..40].copy_from_slice(&self.base_index.0.to_be_bytes());
        h[40..48].copy_from_slice(&self.base_offset.0.to_be_bytes());
        h[48..52].copy_from_slice(&self.home_epoch.as_u32().to_be_bytes());
        let crc = crc32c::crc32c(&h[..52]);
        h[52..56].copy_from_slice(&crc.to_be_bytes());
        h
    }

    /// Reads the header of the segment of `id` whose name says `base_index`.
    pub(super) fn decode(
        bytes: &[u8],
        id: TopicPartition,
        base_index: LogIndex,
    ) -> Result<Self, BadHeader> {
        let whole = bytes.len() >= HEADER_BYTES && bytes[0..8] == MAGIC[..];
        if !whole || crc32c::crc32c(&bytes[..52]).to_be_bytes() != bytes[52..56] {
            return Err(BadHeader::Damaged);
        }
        let version = u16::from_be_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let partition = i32::from_be_bytes(array(bytes, 12));
        let header = Self {
            id: TopicPartition { topic: TopicId(array(bytes, 16)), partition },
            base_index: LogIndex(u64::from_be_bytes(array(bytes, 32))),
            base_offset: Offset(i64::from_be_bytes(array(bytes, 40))),
            home_epoch: HomeEpoch::new(u32::from_be_bytes(array(bytes, 48)))
                .ok_or(BadHeader::Damaged)?,
        };
        let ours = header.id == id && header.base_index == base_index;
        if ours { Ok(header) } else { Err(BadHeader::Damaged) }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Config;

    /// Sizes and append times of entries, and before which of them a segment of at most 1,000 bytes
    /// and ten seconds ends.
    #[test]
    fn a_segment_ends_by_size_or_by_the_age_of_its_first_entry_that_has_a_time() {
        let config = Config { segment_bytes: 1_000, segment_ms: 10_000 };
        type Row<'a> = (&'a [(u64, i64)], Option<usize>);
        let tables: [Row<'_>; 6] = [
            (&[(100, 1_000), (100, 10_999)], None),
            (&[(100, 1_000), (100, 11_000)], Some(1)),
            (&[(600, 1_000), (600, 1_000)], Some(1)),
            (&[(2_000, 1_000)], None),
            (&[(50, NO_TIME_MS), (100, 70_000), (50, NO_TIME_MS), (100, 80_000)], Some(3)),
            (&[(50, NO_TIME_MS), (960, 70_000)], Some(1)),
        ];
        for (entries, expected) in tables {
            let mut extent = Extent::default();
            let ends = entries.iter().position(|(bytes, ms)| {
                let ends = extent.rolls_before(*bytes, *ms, &config);
                extent.add(*bytes, *ms);
                ends
            });
            assert_eq!(ends, expected, "{entries:?}");
        }
    }
}
