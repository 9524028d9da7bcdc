//! Reading a partition's log beside the one that writes it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{LogIndex, Offset, Term, batch};

use super::entry::{Entry, EntryMeta, Kind};
use super::error::Error;
use super::frame;
use super::index::{INTERVAL_BYTES, Target};
use super::scan::Ahead;
use super::segment::EpochStart;
use super::state::LogStart;
use super::timestamp;
use super::view::{Corruption, Shared, View};
use super::walk::Next;

/// Reads a partition's log. Cheap to clone; any number read beside the writer. Every call may read
/// the disk, so none belongs on a loop that serves many groups, but for those that say so.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

/// The answer to a search by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamped {
    pub offset: Offset,
    /// Of the record at `offset`, in ms.
    pub timestamp: i64,
    pub term: Term,
}

/// One segment, for retention and for shipping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentMeta {
    pub base_index: LogIndex,
    pub base_offset: Offset,
    pub last_index: LogIndex,
    pub last_term: Term,
    pub next_offset: Offset,
    pub size_bytes: u64,
    pub last_append_time_ms: i64,
    pub is_closed: bool,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Where the log begins. Memory only.
    pub fn start(&self) -> LogStart {
        self.shared.view().start
    }

    /// The last entry, or the place before the log start. Memory only.
    pub fn last(&self) -> (LogIndex, Term) {
        self.shared.view().last()
    }

    /// What is damaged, and so is not in this log. Memory only.
    pub fn corruption(&self) -> Option<Corruption> {
        self.shared.view().corruption
    }

    /// The log end offset. Memory only.
    pub fn next_offset(&self) -> Offset {
        self.shared.view().next_offset()
    }

    /// Term of the entry, or of the place before the log start; `None` outside. Memory only.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.shared.view().term_at(index)
    }

    /// The largest epoch not above `term` and its end offset, as Kafka's OffsetForLeaderEpoch wants
    /// it; not bounded by the HW. `None` for a term above all. Memory only.
    pub fn end_offset(&self, term: Term) -> Option<(Term, Offset)> {
        self.shared.view().end_offset(term)
    }

    /// First entries of the terms from the log start on. Memory only.
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.shared.view().epochs.clone()
    }

    /// Segments, oldest first. Memory only.
    pub fn segments(&self) -> Vec<SegmentMeta> {
        let view = self.shared.view();
        let closed = view.closed.iter().map(|c| (&c.summary, true));
        let active = view.active.as_ref().map(|a| (&a.summary, false));
        closed
            .chain(active)
            .map(|(s, is_closed)| SegmentMeta {
                base_index: s.base_index,
                base_offset: s.base_offset,
                last_index: s.last_index,
                last_term: s.last_term,
                next_offset: s.next_offset,
                size_bytes: s.size_bytes,
                last_append_time_ms: s.last_append_time_ms,
                is_closed,
            })
            .collect()
    }

    /// The log start that makes `offset` the first to be read (DeleteRecords): it sits before the
    /// segment that holds it, keeps that segment, and is not beyond the entry `hw`. Memory only.
    pub fn start_for(&self, offset: Offset, hw: LogIndex) -> Result<LogStart, Error> {
        let view = self.shared.view();
        check_offset(&view, offset)?;
        let closed = view.closed.iter().map(|c| &c.summary);
        let held = closed.chain(view.active.as_ref().map(|a| &a.summary)).rfind(|s| {
            let is_kept = s.base_offset <= offset && s.base_index.prev() <= hw;
            is_kept && s.base_index > view.start.index
        });
        let Some(held) = held else { return Ok(LogStart { offset, ..view.start }) };
        let index = held.base_index.prev();
        let term = view.term_at(index).expect("an entry before a segment has a term");
        Ok(LogStart { index, term, offset })
    }

    /// Whole batches from the one that holds `from` up to `limit` (exclusive: a high watermark),
    /// of at most `max_bytes` together; the first also if it is larger (KIP-74). Empty where
    /// nothing is below `limit`. They share the memory of one read. One that is damaged ends them, and is an
    /// error where it would be the first: not all clients check it.
    pub fn read(&self, from: Offset, max_bytes: usize, limit: Offset) -> Result<Vec<Bytes>, Error> {
        self.uncrossed(
            |view| {
                check_offset(view, from)?;
                Ok(view.place(Target::Offset(from)))
            },
            |place| {
                let mut batches: Vec<Bytes> = Vec::new();
                let mut bytes = 0;
                self.walk(place, Target::Offset(from), ahead(max_bytes), |frame, scan| {
                    let meta = &frame.meta;
                    if meta.kind != Kind::Batch || meta.next_offset <= from {
                        return Ok(Next::Go);
                    }
                    let size = meta.payload_bytes as usize;
                    let full = !batches.is_empty() && bytes + size > max_bytes;
                    if meta.next_offset > limit || full {
                        return Ok(Next::Stop);
                    }
                    let batch = scan.payload()?;
                    if !frame::is_payload_whole(meta.kind, &batch) {
                        if batches.is_empty() {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                        return Ok(Next::Stop);
                    }
                    bytes += size;
                    batches.push(batch);
                    Ok(Next::Go)
                })?;
                Ok((!batches.is_empty()).then_some(batches))
            },
        )
        .map(Option::unwrap_or_default)
    }

    /// Entries from `from` up to `to` (exclusive) of at most `max_bytes` of payload together, and at
    /// least one. Batches are checked against their CRC.
    pub fn entries(
        &self,
        from: LogIndex,
        to: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        let look = |view: &View| {
            check_index(view, from)?;
            Ok(view.place(Target::Index(from)))
        };
        let entries = self.uncrossed(look, |place| {
            let mut entries = Vec::new();
            let mut bytes = 0;
            self.walk(place, Target::Index(from), ahead(max_bytes), |frame, scan| {
                if frame.meta.index < from {
                    return Ok(Next::Go);
                }
                let size = frame.meta.payload_bytes as usize;
                let full = !entries.is_empty() && bytes + size > max_bytes;
                if frame.meta.index >= to || full {
                    return Ok(Next::Stop);
                }
                if !scan.is_payload_whole(frame)? {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                bytes += size;
                entries.push(entry(&frame.meta, scan.payload()?));
                Ok(Next::Go)
            })?;
            Ok((!entries.is_empty()).then_some(entries))
        })?;
        Ok(entries.unwrap_or_default())
    }

    /// Every entry from `from` to the end with its batch's header, oldest first, for rebuilding
    /// producer state. Ends early if the log is truncated below meanwhile.
    pub fn headers(
        &self,
        mut from: LogIndex,
        mut visit: impl FnMut(&EntryMeta, Option<&batch::Header>),
    ) -> Result<(), Error> {
        while from <= self.last().0 {
            let look = |view: &View| {
                check_index(view, from)?;
                Ok(view.place(Target::Index(from)))
            };
            let found = self.uncrossed(look, |place| {
                let mut found = Vec::new();
                self.walk(place, Target::Index(from), Ahead::ToEnd, |frame, scan| {
                    if frame.meta.index >= from {
                        found.push((frame.meta, scan.batch_header(frame)?));
                    }
                    Ok(if found.len() < HEADERS_AT_ONCE { Next::Go } else { Next::Stop })
                })?;
                Ok((!found.is_empty()).then_some(found))
            })?;
            let Some(found) = found else { return Ok(()) };
            for (meta, header) in &found {
                visit(meta, header.as_ref());
                from = meta.index.next();
            }
        }
        Ok(())
    }

    /// The first record with a timestamp of at least `timestamp`, in ms, below `limit`.
    ///
    /// Exact in uncompressed batches. Of a compressed one, which a broker here never opens, it is
    /// the first record, whose timestamp may be smaller: a consumer that seeks there reads a few
    /// records too many and misses none.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        limit: Offset,
    ) -> Result<Option<Timestamped>, Error> {
        let mut least = LogIndex::ZERO;
        loop {
            let look = |view: &View| {
                let place = view.place_after(least, timestamp);
                Ok(place.map(|place| (place, view.start.offset)))
            };
            let found = self.uncrossed_at(look, |(place, start)| {
                let mut found = None;
                let mut ended = LogIndex::ZERO;
                let target = Target::Timestamp(timestamp);
                self.walk(place, target, Ahead::ToEnd, |frame, scan| {
                    let meta = &frame.meta;
                    ended = meta.index;
                    if meta.kind != Kind::Batch || frame.max_timestamp < timestamp {
                        return Ok(Next::Go);
                    }
                    if meta.base_offset >= limit {
                        return Ok(Next::Stop);
                    }
                    let at_least = (*start).max(meta.base_offset);
                    let record =
                        timestamp::first_at_or_after(&scan.payload()?, timestamp, at_least);
                    found =
                        record.filter(|(offset, _)| *offset < limit).map(|(offset, timestamp)| {
                            Timestamped { offset, timestamp, term: meta.term }
                        });
                    Ok(if found.is_some() { Next::Stop } else { Next::Go })
                })?;
                Ok((found, ended))
            })?;
            match found {
                None => return Ok(None),
                Some((Some(found), _)) => return Ok(Some(found)),
                // Nothing in that segment after all: the batch's header promised a record that its
                // body does not have, or it is below the log start. On with the next.
                Some((None, ended)) if ended > least => least = ended,
                Some((None, _)) => return Ok(None),
            }
        }
    }

    /// Producer state after the newest entry not above `index` of which there is a snapshot.
    pub fn producer_snapshot(&self, index: LogIndex) -> Result<Option<(LogIndex, Bytes)>, Error> {
        super::producers::newest(self.shared.files.disk(), &self.shared.dir, self.shared.id, index)
    }
}

/// Largest answer that is read at once. A caller without a limit must not make us allocate a whole
/// segment; beyond this the frames are read one after another.
const AHEAD_BYTES_MAX: usize = 8 << 20;

/// How far to read ahead for an answer of `max_bytes`: it begins within an index interval.
pub(super) fn ahead(max_bytes: usize) -> Ahead {
    if max_bytes > AHEAD_BYTES_MAX {
        return Ahead::ToEnd;
    }
    Ahead::Once(max_bytes + INTERVAL_BYTES as usize)
}

/// Headers gathered before they are handed on: memory against look-ups.
const HEADERS_AT_ONCE: usize = 4096;

pub(super) fn entry(meta: &EntryMeta, payload: Bytes) -> Entry {
    Entry {
        index: meta.index,
        term: meta.term,
        kind: meta.kind,
        base_offset: meta.base_offset,
        append_time_ms: meta.append_time_ms,
        payload,
    }
}

fn check_offset(view: &View, offset: Offset) -> Result<(), Error> {
    let (start, end) = (view.start.offset, view.next_offset());
    if offset < start || offset > end {
        return Err(Error::OutOfRange { offset, start, end });
    }
    Ok(())
}

pub(super) fn check_index(view: &View, index: LogIndex) -> Result<(), Error> {
    let (first, last) = (view.start.index.next(), view.last().0);
    if index < first {
        return Err(Error::Compacted { index, first });
    }
    if index > last {
        return Err(Error::Unavailable { index, last });
    }
    Ok(())
}
