//! An entry: what Raft agrees on, and for a batch also what Kafka serves.

use bytes::Bytes;

use crate::model::{LogIndex, Offset, Term, batch};

/// What an entry is. Only a batch takes offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One v2 record batch, as the client sent it and the leader placed it.
    Batch,
    /// The first entry of a new leader's term.
    Empty,
    ConfChange,
    /// An entry of the replica's own: mode change, log start, hand-off. The byte says which; the
    /// log does not know.
    Control(u8),
}

/// The append time of an entry that has none.
pub const NO_TIME_MS: i64 = 0;

/// One entry of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub index: LogIndex,
    pub term: Term,
    pub kind: Kind,
    /// Of a batch its first record's offset; of others the offset that the next record will have.
    pub base_offset: Offset,
    /// The leader's wall clock at append, in ms; travels with the entry, so it is the same
    /// everywhere, and with it the places where segments roll. [`NO_TIME_MS`] of Raft's own entries.
    pub append_time_ms: i64,
    pub payload: Bytes,
}

/// An entry without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryMeta {
    pub index: LogIndex,
    pub term: Term,
    pub kind: Kind,
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub append_time_ms: i64,
    pub payload_bytes: u32,
}

/// Why entries do not continue a log, for the one who receives them from a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Discontinuity {
    #[error("entry {found} where {expected} continues the log")]
    Index { expected: LogIndex, found: LogIndex },
    #[error("entry {index} has term {found}, below {last} before it")]
    Term { index: LogIndex, last: Term, found: Term },
    #[error("entry {index} has term {found}, above 31 bits")]
    TermRange { index: LogIndex, found: u64 },
    #[error("entry {index} has base offset {found} where {expected} continues the log")]
    Offset { index: LogIndex, expected: Offset, found: Offset },
    #[error("entry {index} of {bytes} bytes is above {}", super::PAYLOAD_BYTES_MAX)]
    Size { index: LogIndex, bytes: usize },
    #[error("entry {index} is no record batch: {source}")]
    Batch { index: LogIndex, source: batch::Error },
    #[error("entry {index}: the batch says base offset {found}, its entry {expected}")]
    Placed { index: LogIndex, expected: Offset, found: Offset },
}

impl Entry {
    /// The offset of the next record.
    ///
    /// # Panics
    /// On a batch without a header; `check_continues` refuses those that come from outside.
    pub fn next_offset(&self) -> Offset {
        match self.kind {
            Kind::Batch => self.base_offset.plus(records(&self.payload)),
            Kind::Empty | Kind::ConfChange | Kind::Control(_) => self.base_offset,
        }
    }

    pub fn meta(&self) -> EntryMeta {
        EntryMeta {
            index: self.index,
            term: self.term,
            kind: self.kind,
            base_offset: self.base_offset,
            next_offset: self.next_offset(),
            append_time_ms: self.append_time_ms,
            payload_bytes: u32::try_from(self.payload.len()).expect("a payload fits 31 bits"),
        }
    }
}

/// Records of a batch, by its last offset delta.
pub(super) fn records(batch: &[u8]) -> i64 {
    let delta = batch[23..27].try_into().expect("four bytes");
    i64::from(i32::from_be_bytes(delta)) + 1
}

/// Largest timestamp of a batch.
pub(super) fn max_timestamp(batch: &[u8]) -> i64 {
    i64::from_be_bytes(batch[35..43].try_into().expect("eight bytes"))
}

/// Whether `entries` continue a log that ends with `last` and `next_offset`: for what a peer sent,
/// before it is given to `Store::commit`, which asserts it. Checks every batch's CRC too.
pub fn check_continues(
    last: (LogIndex, Term),
    next_offset: Offset,
    entries: &[Entry],
) -> Result<(), Discontinuity> {
    let ((mut index, mut term), mut offset) = (last, next_offset);
    for entry in entries {
        check_position(index.next(), term, offset, entry)?;
        if entry.kind == Kind::Batch {
            let header = batch::check(&entry.payload)
                .map_err(|source| Discontinuity::Batch { index: entry.index, source })?;
            if header.base_offset != entry.base_offset {
                return Err(Discontinuity::Placed {
                    index: entry.index,
                    expected: entry.base_offset,
                    found: header.base_offset,
                });
            }
        }
        (index, term, offset) = (entry.index, entry.term, entry.next_offset());
    }
    Ok(())
}

pub(super) fn check_position(
    expected: LogIndex,
    last: Term,
    next_offset: Offset,
    entry: &Entry,
) -> Result<(), Discontinuity> {
    let Entry { index, term, base_offset, .. } = *entry;
    if index != expected {
        return Err(Discontinuity::Index { expected, found: index });
    }
    if !term.is_valid() {
        return Err(Discontinuity::TermRange { index, found: term.0 });
    }
    if term < last {
        return Err(Discontinuity::Term { index, last, found: term });
    }
    if base_offset != next_offset {
        return Err(Discontinuity::Offset { index, expected: next_offset, found: base_offset });
    }
    if entry.payload.len() > super::PAYLOAD_BYTES_MAX as usize {
        return Err(Discontinuity::Size { index, bytes: entry.payload.len() });
    }
    if entry.kind == Kind::Batch && entry.payload.len() < batch::HEADER_BYTES {
        let source = batch::Error::Short(entry.payload.len());
        return Err(Discontinuity::Batch { index, source });
    }
    Ok(())
}
