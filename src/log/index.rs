//! The sparse index of a segment: where entries are, by log index and by offset.
//!
//! One entry for the first frame and then for the first after every 4 KiB. It is what translates
//! between Raft's index and Kafka's offset, and finds timestamps. Of the segment that is written it
//! is in memory; at the roll it is written beside the segment, once, and read from there afterwards.
//! It is never synced and never needed: what is missing or damaged is made again from the segment.
//!
//! ```text
//!  0  magic            8 bytes  "ISOBARIX"
//!  8  version          u16      1
//! 10  reserved         u16      0
//! 12  entries          u32
//! 16  summary length   u32
//! 20  CRC-32C          u32      of bytes 0 to 19 and of the summary
//! 24  summary          what is known of the segment's entries up to `size`
//!     entries, 40 bytes each:
//!      0  log index                    u64
//!      8  base offset                  i64
//!     16  max timestamp before it      i64   ms
//!     24  max append time before it    i64   ms
//!     32  position in the segment      u32
//!     36  CRC-32C                      u32   of bytes 0 to 35
//! ```

use crate::model::{LogIndex, Offset, Term};

use super::segment::{EpochStart, Summary};

/// Bytes of a segment from one index entry to the next, at least: Kafka's `index.interval.bytes`.
pub(super) const INTERVAL_BYTES: u64 = 4096;

pub(super) const ENTRY_BYTES: usize = 40;
const HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"ISOBARIX";
const VERSION: u16 = 1;

/// Largest summary that is believed: a million epochs. Above it the file is damaged.
const SUMMARY_BYTES_MAX: usize = 20 << 20;

/// A frame of the segment, and the maxima of everything before it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) index: LogIndex,
    pub(super) base_offset: Offset,
    pub(super) timestamp_before: i64,
    pub(super) append_time_before_ms: i64,
    pub(super) position: u32,
}

/// An index file's header, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) summary: Summary,
    pub(super) entries: u32,
    /// Where the first entry is in the index file.
    pub(super) entries_position: u64,
}

impl IndexEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.index.0.to_be_bytes());
        out.extend_from_slice(&self.base_offset.0.to_be_bytes());
        out.extend_from_slice(&self.timestamp_before.to_be_bytes());
        out.extend_from_slice(&self.append_time_before_ms.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        let crc = crc32c::crc32c(&out[at..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// `None` if damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
        if crc32c::crc32c(&bytes[..36]).to_be_bytes() != bytes[36..] {
            return None;
        }
        Some(Self {
            index: LogIndex(u64::from_be_bytes(array(bytes, 0))),
            base_offset: Offset(i64::from_be_bytes(array(bytes, 8))),
            timestamp_before: i64::from_be_bytes(array(bytes, 16)),
            append_time_before_ms: i64::from_be_bytes(array(bytes, 24)),
            position: u32::from_be_bytes(array(bytes, 32)),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

/// The index file of a segment.
pub(super) fn encode(summary: &Summary, entries: &[IndexEntry]) -> Vec<u8> {
    let body = encode_summary(summary);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + entries.len() * ENTRY_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    let count = u32::try_from(entries.len()).expect("one entry for 4 KiB of a 4 GiB segment");
    out.extend_from_slice(&count.to_be_bytes());
    let length = u32::try_from(body.len()).expect("a summary is small");
    out.extend_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &body);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&body);
    for entry in entries {
        entry.encode(&mut out);
    }
    out
}

/// Bytes from the front of an index file that `decode_head` needs, by its first 24.
pub(super) fn head_bytes(front: &[u8]) -> Option<usize> {
    if front.len() < HEADER_BYTES || front[0..8] != MAGIC[..] {
        return None;
    }
    let summary = u32::from_be_bytes(array(front, 16)) as usize;
    (summary <= SUMMARY_BYTES_MAX).then_some(HEADER_BYTES + summary)
}

/// `None` if torn, rotten or of another version: then the segment itself is read.
pub(super) fn decode_head(bytes: &[u8]) -> Option<Head> {
    let whole = head_bytes(bytes)?;
    let body = bytes.get(HEADER_BYTES..whole)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), body);
    let known = u16::from_be_bytes(array(bytes, 8)) == VERSION;
    if !known || crc.to_be_bytes() != bytes[20..24] {
        return None;
    }
    let entries = u32::from_be_bytes(array(bytes, 12));
    Some(Head { summary: decode_summary(body)?, entries, entries_position: whole as u64 })
}

/// ```text
///  0 base index u64 | 8 base offset i64 | 16 size u64 | 24 last index u64 | 32 last term u32
/// 36 next offset i64 | 44 first append time i64 | 52 last append time i64 | 60 max timestamp i64
/// 68 epochs u32 | 72 per epoch: term u32, first index u64, first offset i64
/// ```
fn encode_summary(s: &Summary) -> Vec<u8> {
    let term = |t: Term| u32::try_from(t.0).expect("a term fits 31 bits").to_be_bytes();
    let mut out = Vec::with_capacity(72 + s.epochs.len() * 20);
    out.extend_from_slice(&s.base_index.0.to_be_bytes());
    out.extend_from_slice(&s.base_offset.0.to_be_bytes());
    out.extend_from_slice(&s.size_bytes.to_be_bytes());
    out.extend_from_slice(&s.last_index.0.to_be_bytes());
    out.extend_from_slice(&term(s.last_term));
    out.extend_from_slice(&s.next_offset.0.to_be_bytes());
    out.extend_from_slice(&s.first_append_time_ms.to_be_bytes());
    out.extend_from_slice(&s.last_append_time_ms.to_be_bytes());
    out.extend_from_slice(&s.max_timestamp.to_be_bytes());
    let epochs = u32::try_from(s.epochs.len()).expect("fewer epochs than entries");
    out.extend_from_slice(&epochs.to_be_bytes());
    for epoch in &s.epochs {
        out.extend_from_slice(&term(epoch.term));
        out.extend_from_slice(&epoch.index.0.to_be_bytes());
        out.extend_from_slice(&epoch.offset.0.to_be_bytes());
    }
    out
}

fn decode_summary(b: &[u8]) -> Option<Summary> {
    let epochs = u32::from_be_bytes(b.get(68..72)?.try_into().ok()?) as usize;
    if b.len() != 72 + epochs.checked_mul(20)? {
        return None;
    }
    let term = |at| Term(u64::from(u32::from_be_bytes(array(b, at))));
    let epoch = |at| EpochStart {
        term: term(at),
        index: LogIndex(u64::from_be_bytes(array(b, at + 4))),
        offset: Offset(i64::from_be_bytes(array(b, at + 12))),
    };
    Some(Summary {
        base_index: LogIndex(u64::from_be_bytes(array(b, 0))),
        base_offset: Offset(i64::from_be_bytes(array(b, 8))),
        size_bytes: u64::from_be_bytes(array(b, 16)),
        last_index: LogIndex(u64::from_be_bytes(array(b, 24))),
        last_term: term(32),
        next_offset: Offset(i64::from_be_bytes(array(b, 36))),
        first_append_time_ms: i64::from_be_bytes(array(b, 44)),
        last_append_time_ms: i64::from_be_bytes(array(b, 52)),
        max_timestamp: i64::from_be_bytes(array(b, 60)),
        epochs: (0..epochs).map(|n| epoch(72 + n * 20)).collect(),
    })
}

/// What is looked for in an index: the last entry at or before it is where to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Index(LogIndex),
    Offset(Offset),
    /// The last entry before which everything is older.
    Timestamp(i64),
}

impl Target {
    /// Whether all of a segment lies before the target.
    pub(super) fn is_after(self, segment: &Summary) -> bool {
        match self {
            Self::Index(index) => segment.last_index < index,
            Self::Offset(offset) => segment.next_offset <= offset,
            Self::Timestamp(timestamp) => segment.max_timestamp < timestamp,
        }
    }

    /// Whether reading may begin at `entry`.
    pub(super) fn is_at_or_after(self, entry: &IndexEntry) -> bool {
        match self {
            Self::Index(index) => entry.index <= index,
            // Entries without offsets share the next record's: the last of them still leads to it.
            Self::Offset(offset) => entry.base_offset <= offset,
            Self::Timestamp(timestamp) => entry.timestamp_before < timestamp,
        }
    }
}

/// Position to read `target` from: of the last of `count` entries at or before it, fetched by
/// `entry`, which says `None` for a damaged one. `None`: from the segment's first frame.
pub(super) fn find(
    count: usize,
    target: Target,
    mut entry: impl FnMut(usize) -> Option<IndexEntry>,
) -> Option<IndexEntry> {
    let (mut low, mut high) = (0, count);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let candidate = entry(middle)?;
        if target.is_at_or_after(&candidate) {
            found = Some(candidate);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u32) -> Vec<IndexEntry> {
        (0..count)
            .map(|n| IndexEntry {
                index: LogIndex(u64::from(n) * 10 + 5),
                base_offset: Offset(i64::from(n) * 100),
                timestamp_before: if n == 0 { i64::MIN } else { i64::from(n) * 1000 },
                append_time_before_ms: 7,
                position: 56 + n * 4096,
            })
            .collect()
    }

    fn summary() -> Summary {
        let epoch = |n| EpochStart { term: Term(n), index: LogIndex(n), offset: Offset(n as i64) };
        let mut s = Summary::new(LogIndex(5), Offset(0));
        s.size_bytes = 77;
        s.last_index = LogIndex(60);
        s.epochs = vec![epoch(3), epoch(9)];
        s.last_term = Term(9);
        s
    }

    #[test]
    fn an_index_file_gives_back_what_was_written() {
        let bytes = encode(&summary(), &entries(3));
        let head = decode_head(&bytes).unwrap();
        assert_eq!((&head.summary, head.entries), (&summary(), 3));
        let first = head.entries_position as usize;
        for (n, expected) in entries(3).iter().enumerate() {
            let at = first + n * ENTRY_BYTES;
            assert_eq!(IndexEntry::decode(&bytes[at..at + ENTRY_BYTES]), Some(*expected));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_of_an_index_file_is_believed() {
        let good = encode(&summary(), &[]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(decode_head(&bad), None, "byte {at}");
            assert_eq!(decode_head(&good[..at]), None, "cut at {at}");
        }
        let mut entry = Vec::new();
        entries(1)[0].encode(&mut entry);
        for at in 0..entry.len() {
            let mut bad = entry.clone();
            bad[at] ^= 4;
            assert_eq!(IndexEntry::decode(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_search_ends_at_the_last_entry_not_after_its_target() {
        let all = entries(4);
        let table = [
            (Target::Index(LogIndex(4)), None),
            (Target::Index(LogIndex(5)), Some(0)),
            (Target::Index(LogIndex(14)), Some(0)),
            (Target::Index(LogIndex(15)), Some(1)),
            (Target::Index(LogIndex(1000)), Some(3)),
            (Target::Offset(Offset(299)), Some(2)),
            (Target::Timestamp(1000), Some(0)),
            (Target::Timestamp(1001), Some(1)),
            (Target::Timestamp(i64::MAX), Some(3)),
        ];
        for (target, expected) in table {
            let found = find(all.len(), target, |n| all.get(n).copied());
            assert_eq!(found, expected.map(|n: usize| all[n]), "{target:?}");
        }
    }

    #[test]
    fn a_damaged_entry_sends_the_reader_to_the_start_of_the_segment() {
        let all = entries(4);
        let found = find(4, Target::Offset(Offset(300)), |n| (n != 3).then(|| all[n]));
        assert_eq!(found, None);
    }
}
