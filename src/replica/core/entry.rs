//! A log entry as Raft carries it, and back.
//!
//! Raft's `data` is the payload and its `context` is what else our frame holds:
//!
//! ```text
//! context of a batch or control entry: kind u8 | append time i64 | base offset i64   (17 bytes)
//! context of Raft's own entries (empty, configuration change): none
//! ```
//!
//! Raft's own entries take no offset and have no time. Their offset follows from the entry before
//! them; a time that did would need that entry, and a replica that begins at a log-start snapshot
//! never had it. So every replica derives the same.

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb;

use crate::log::{Entry, Kind, NO_TIME_MS};
use crate::model::{LogIndex, Offset, Term, batch};

const CONTEXT_BYTES: usize = 17;
const KIND_BATCH: u8 = 0;
/// Control kinds follow at this value plus their own number.
const KIND_CONTROL: u8 = 16;

/// Why an entry that a peer sent is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("entry {index}: a context of {found} bytes with kind {kind}, due are 0 or 17 bytes")]
    Context { index: LogIndex, found: usize, kind: u8 },
    #[error("entry {index}: {error}")]
    Batch { index: LogIndex, error: batch::Error },
    #[error("entry {index}: base offset {found}, due is {due}")]
    Offset { index: LogIndex, found: Offset, due: Offset },
}

/// The context of an entry that we propose.
pub fn context(kind: Kind, append_time_ms: i64, base_offset: Offset) -> Bytes {
    let kind = match kind {
        Kind::Batch => KIND_BATCH,
        Kind::Control(sub) => KIND_CONTROL + sub,
        Kind::Empty | Kind::ConfChange => return Bytes::new(),
    };
    let mut context = BytesMut::with_capacity(CONTEXT_BYTES);
    context.put_u8(kind);
    context.put_i64(append_time_ms);
    context.put_i64(base_offset.0);
    context.freeze()
}

pub fn to_raft(entry: &Entry) -> eraftpb::Entry {
    let mut raft = eraftpb::Entry::default();
    raft.term = entry.term.0;
    raft.index = entry.index.0;
    raft.data = entry.payload.clone();
    raft.context = context(entry.kind, entry.append_time_ms, entry.base_offset);
    raft.set_entry_type(match entry.kind {
        Kind::ConfChange => eraftpb::EntryType::EntryConfChangeV2,
        Kind::Batch | Kind::Empty | Kind::Control(_) => eraftpb::EntryType::EntryNormal,
    });
    raft
}

/// Reads what [`to_raft`] or Raft itself made. `due` is the offset after the entry before.
pub fn from_raft(raft: &eraftpb::Entry, due: Offset) -> Result<Entry, Error> {
    let index = LogIndex(raft.index);
    let (kind, append_time_ms, base_offset) = match raft.get_entry_type() {
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
            (Kind::ConfChange, NO_TIME_MS, due)
        }
        eraftpb::EntryType::EntryNormal if raft.context.is_empty() => {
            (Kind::Empty, NO_TIME_MS, due)
        }
        eraftpb::EntryType::EntryNormal => parse_context(index, &raft.context)?,
    };
    if base_offset != due {
        return Err(Error::Offset { index, found: base_offset, due });
    }
    Ok(Entry {
        index,
        term: Term(raft.term),
        kind,
        base_offset,
        append_time_ms,
        payload: raft.data.clone(),
    })
}

fn parse_context(index: LogIndex, context: &[u8]) -> Result<(Kind, i64, Offset), Error> {
    let found = context.len();
    let kind = context.first().copied().unwrap_or_default();
    let fields: &[u8; CONTEXT_BYTES] =
        context.try_into().map_err(|_| Error::Context { index, found, kind })?;
    let number = |at: usize| {
        i64::from_be_bytes(fields[at..at + 8].try_into().expect("a slice of eight bytes"))
    };
    let kind = match kind {
        KIND_BATCH => Kind::Batch,
        control if control >= KIND_CONTROL => Kind::Control(control - KIND_CONTROL),
        _ => return Err(Error::Context { index, found, kind }),
    };
    Ok((kind, number(1), Offset(number(9))))
}

/// Checks an entry from a peer beyond its context: a batch must be whole and carry the CRC that
/// its producer gave it (every batch is checked on arrival, also here).
pub fn check(raft: &eraftpb::Entry) -> Result<(), Error> {
    let index = LogIndex(raft.index);
    if raft.get_entry_type() != eraftpb::EntryType::EntryNormal || raft.context.is_empty() {
        return Ok(());
    }
    let (kind, ..) = parse_context(index, &raft.context)?;
    if kind == Kind::Batch {
        batch::check(&raft.data).map_err(|error| Error::Batch { index, error })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind) -> Entry {
        Entry {
            index: LogIndex(7),
            term: Term(131_073),
            kind,
            base_offset: Offset(40),
            append_time_ms: match kind {
                Kind::Batch | Kind::Control(_) => 99,
                Kind::Empty | Kind::ConfChange => NO_TIME_MS,
            },
            payload: Bytes::from_static(b"x"),
        }
    }

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for kind in [Kind::Batch, Kind::Empty, Kind::ConfChange, Kind::Control(3)] {
            let entry = sample(kind);
            assert_eq!(from_raft(&to_raft(&entry), Offset(40)).unwrap(), entry);
        }
    }

    #[test]
    fn an_entry_that_leaves_a_gap_in_the_offsets_is_refused() {
        let refused = from_raft(&to_raft(&sample(Kind::Batch)), Offset(41));
        assert!(matches!(refused, Err(Error::Offset { .. })));
    }

    #[test]
    fn a_context_of_another_length_or_kind_is_refused() {
        let mut raft = to_raft(&sample(Kind::Batch));
        raft.context = Bytes::from_static(b"abc");
        assert!(matches!(check(&raft), Err(Error::Context { found: 3, .. })));
        let mut nine = to_raft(&sample(Kind::Batch)).context.to_vec();
        nine[0] = 9;
        raft.context = nine.into();
        assert!(matches!(check(&raft), Err(Error::Context { kind: 9, .. })));
    }
}
