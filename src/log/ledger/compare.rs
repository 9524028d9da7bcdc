//! What of a suffix is in the log that goes on (R16, H34).
//!
//! A record of a suffix is found in the log
//! - by its producer's id, epoch and sequence: the client sent it again after the move;
//! - by its mark: it was replayed, and its copy says where it comes from;
//! - as one of a compressed batch, by the bytes of the batch: nothing here decompresses, so its copy has no
//!   mark.
//!
//! Nothing else tells two records from one: those of a producer without an id stay unmatched.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Stored, Suffix};
use crate::log::error::Error;
use crate::model::batch::{self, Codec, HEADER_BYTES, Header};
use crate::model::record::{self, RecordHeader};
use crate::model::{Offset, Term};

/// Key of the header that says where a replayed record comes from.
pub const MARK_HEADER: &str = "isobar.ledger";

/// Sequences are numbers of 31 bits, and wrap (KIP-98).
const SEQUENCES: i64 = 1 << 31;

/// Names one record of a suffix for ever: in one term one leader gave each offset once (R2). Neither the
/// home epoch and the offset do, nor the offset alone: two leaders of one home may have used it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub topic: String,
    pub partition: i32,
    pub term: Term,
    pub offset: Offset,
}

impl fmt::Display for Mark {
    /// `<topic>/<partition>/<leader epoch>/<offset>`; no topic's name has a `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.topic, self.partition, self.term.leader_epoch(), self.offset)
    }
}

impl Mark {
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split('/');
        let mark = Self {
            topic: parts.next()?.to_owned(),
            partition: parts.next()?.parse().ok()?,
            term: Term(parts.next()?.parse().ok()?),
            offset: Offset(parts.next()?.parse().ok()?),
        };
        (parts.next().is_none() && mark.term.is_valid()).then_some(mark)
    }

    /// Of the record, if it is a copy. A copy of a copy has two marks, the last one its own.
    fn of(headers: &[RecordHeader]) -> Option<Self> {
        let (_, value) = headers.iter().rev().find(|(key, _)| key == MARK_HEADER)?;
        Self::parse(value.as_ref()?)
    }
}

/// Where a record of a suffix is besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the log, by its producer's id, epoch and sequence.
    InLog,
    /// In the log, by its mark.
    Replayed,
    /// In a compressed batch that is in the log, byte for byte.
    SameBytes,
    /// Nowhere: its producer has an id, and the log does not have it.
    Missing,
    /// Perhaps in the log: its producer has no id, so nothing tells.
    Unmatched,
}

impl Place {
    /// Whether a replay sends it.
    pub fn is_absent(self) -> bool {
        matches!(self, Self::Missing | Self::Unmatched)
    }
}

/// Numbers in ranges, both ends inclusive, that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    fn add(&mut self, mut first: i64, mut last: i64) {
        // Whatever overlaps or touches becomes one. What comes in order makes this one step.
        while let Some((&from, &to)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if to < first.saturating_sub(1) {
                break;
            }
            self.0.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.0.insert(first, last);
    }

    fn has(&self, number: i64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }
}

type Digest = [u8; 32];

/// A compressed batch without what leaders and producer ids change.
fn digest(header: &Header, batch: &[u8]) -> Digest {
    let mut sha256 = Sha256::new();
    sha256.update((header.attributes & 0b111).to_be_bytes());
    sha256.update(header.base_timestamp.to_be_bytes());
    sha256.update(header.records.to_be_bytes());
    sha256.update(&batch[HEADER_BYTES..header.size_bytes]);
    sha256.finalize().into()
}

/// What a suffix is compared with: as much of the log as it takes. Some bytes for each gap in what a
/// producer's sequences are, and for each compressed batch of the suffix.
#[derive(Debug)]
pub struct Comparison {
    topic: String,
    partition: i32,
    producers: BTreeMap<(i64, i16), Ranges>,
    terms: BTreeMap<Term, Ranges>,
    /// Of compressed batches of the suffix: how often the log has it.
    copies: BTreeMap<Digest, u64>,
}

impl Comparison {
    /// Reads all of the suffix, to know what to look for.
    pub fn new(suffix: &Suffix) -> Result<Self, Error> {
        let manifest = &suffix.manifest;
        let mut comparison = Self {
            topic: manifest.topic_name.clone(),
            partition: manifest.partition.partition,
            producers: BTreeMap::new(),
            terms: manifest.content.epochs.iter().map(|e| (e.term, Ranges::default())).collect(),
            copies: BTreeMap::new(),
        };
        for stored in suffix.batches()? {
            let stored = stored?;
            comparison.look_for(&stored.batch).map_err(|e| Error::Malformed {
                path: suffix.dir.clone(),
                reason: format!("the batch at offset {}: {e}", stored.base_offset),
            })?;
        }
        Ok(comparison)
    }

    fn look_for(&mut self, batch: &[u8]) -> Result<(), batch::Error> {
        let header = Header::parse(batch)?;
        if header.is_idempotent() {
            self.producers.entry((header.producer_id, header.producer_epoch)).or_default();
        }
        if header.codec()? != Codec::None {
            self.copies.insert(digest(&header, batch), 0);
        }
        Ok(())
    }

    /// Takes note of one batch of the log.
    pub fn add(&mut self, batch: &Bytes) -> Result<(), record::Error> {
        let header = Header::parse(batch)?;
        if let Some(seen) = self.producers.get_mut(&(header.producer_id, header.producer_epoch)) {
            let first = i64::from(header.base_sequence);
            let last = first + i64::from(header.last_offset_delta);
            seen.add(first, last.min(SEQUENCES - 1));
            if last >= SEQUENCES {
                seen.add(0, last - SEQUENCES);
            }
        }
        if header.codec()? != Codec::None {
            if let Some(count) = self.copies.get_mut(&digest(&header, batch)) {
                *count += 1;
            }
            return Ok(());
        }
        for (_, headers) in record::parse_with_headers(batch)? {
            let Some(mark) = Mark::of(&headers) else { continue };
            if mark.topic != self.topic || mark.partition != self.partition {
                continue;
            }
            if let Some(seen) = self.terms.get_mut(&mark.term) {
                seen.add(mark.offset.0, mark.offset.0);
            }
        }
        Ok(())
    }

    pub fn mark(&self, term: Term, offset: Offset) -> Mark {
        Mark { topic: self.topic.clone(), partition: self.partition, term, offset }
    }

    /// Begins to tell where the suffix's records are.
    pub fn places(&self) -> Places<'_> {
        Places { comparison: self, used: BTreeMap::new() }
    }
}

/// Tells where the records of a suffix are, whose batches it is shown in order.
#[derive(Debug)]
pub struct Places<'a> {
    comparison: &'a Comparison,
    /// One compressed batch of the log is a copy of one of the suffix.
    used: BTreeMap<Digest, u64>,
}

impl Places<'_> {
    /// Of each record of the batch.
    pub fn of(&mut self, stored: &Stored) -> Result<Vec<Place>, batch::Error> {
        let comparison = self.comparison;
        let header = Header::parse(&stored.batch)?;
        let is_copied = header.codec()? != Codec::None && {
            let digest = digest(&header, &stored.batch);
            let used = self.used.entry(digest).or_default();
            *used += 1;
            comparison.copies.get(&digest).is_some_and(|there| *used <= *there)
        };
        let sequences = comparison.producers.get(&(header.producer_id, header.producer_epoch));
        let marks = comparison.terms.get(&stored.term);
        let place = |delta: i64| {
            let sequence = (i64::from(header.base_sequence) + delta) % SEQUENCES;
            let offset = stored.base_offset.plus(delta);
            if sequences.is_some_and(|seen| seen.has(sequence)) {
                Place::InLog
            } else if marks.is_some_and(|seen| seen.has(offset.0)) {
                Place::Replayed
            } else if is_copied {
                Place::SameBytes
            } else if header.is_idempotent() {
                Place::Missing
            } else {
                Place::Unmatched
            }
        };
        Ok((0..i64::from(header.records)).map(place).collect())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn comparison() -> Comparison {
        Comparison {
            topic: "t".into(),
            partition: 3,
            producers: BTreeMap::new(),
            terms: [(Term(65_537), Ranges::default())].into(),
            copies: BTreeMap::new(),
        }
    }

    /// A batch of `count` records, of a producer if it is given.
    fn batch(
        count: usize,
        producer: Option<(i64, i16, i32)>,
        mark: Option<&str>,
        codec: u8,
    ) -> Bytes {
        let headers = mark.map(|m| (MARK_HEADER.into(), Some(m.to_owned().into())));
        let one = record::Full {
            timestamp_ms: 5,
            record: record::Record::default(),
            headers: headers.into_iter().collect(),
        };
        let mut b = BytesMut::from(&record::build_full(&vec![one; count])[..]);
        b[22] |= codec;
        let (id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
        batch::assign(&mut b, id, epoch, sequence);
        b.freeze()
    }

    fn stored(base: i64, batch: Bytes) -> Stored {
        let next_offset = Offset(base + i64::from(Header::parse(&batch).unwrap().records));
        let (base_offset, term) = (Offset(base), Term(65_537));
        Stored { base_offset, next_offset, term, append_time_ms: 0, batch }
    }

    #[test]
    fn records_are_found_by_sequence_also_where_it_wraps_and_never_by_anothers() {
        let mut c = comparison();
        let there = batch(3, Some((7, 0, i32::MAX - 1)), None, 0);
        c.look_for(&there).unwrap();
        c.add(&there).unwrap();
        c.add(&batch(3, Some((8, 0, 1)), None, 0)).unwrap();
        let of = |b| c.places().of(&stored(0, b)).unwrap();
        use Place::{InLog, Missing, Unmatched};
        let five = batch(5, Some((7, 0, i32::MAX - 2)), None, 0);
        assert_eq!(of(five), [Missing, InLog, InLog, InLog, Missing]);
        assert_eq!(of(batch(1, Some((7, 1, i32::MAX)), None, 0)), [Missing], "of another epoch");
        assert_eq!(of(batch(1, None, None, 0)), [Unmatched]);
    }

    #[test]
    fn copies_are_found_by_their_marks() {
        let mut c = comparison();
        for mark in ["t/3/65537/11", "t/2/65537/12", "u/3/65537/12", "t/3/65538/12", "t/3/65537/1x"]
        {
            c.add(&batch(1, None, Some(mark), 0)).unwrap();
        }
        let found = c.places().of(&stored(10, batch(3, None, None, 0))).unwrap();
        assert_eq!(found, [Place::Unmatched, Place::Replayed, Place::Unmatched]);
        let mark = c.mark(Term(65_537), Offset(11));
        assert_eq!(
            (mark.to_string().as_str(), Mark::parse(mark.to_string().as_bytes())),
            ("t/3/65537/11", Some(mark))
        );
        assert_eq!(Mark::parse(b"t/3/65537/11/2"), None);
    }

    #[test]
    fn a_compressed_batch_is_found_by_its_bytes_as_often_as_it_is_there() {
        let mut c = comparison();
        let zstd = batch(2, None, None, 4);
        c.look_for(&zstd).unwrap();
        c.add(&batch(2, Some((9, 0, 0)), None, 4)).unwrap();
        let mut places = c.places();
        let mut next = |b: &Bytes| places.of(&stored(0, b.clone())).unwrap()[0];
        assert_eq!((next(&zstd), next(&zstd)), (Place::SameBytes, Place::Unmatched));
        assert_eq!(next(&batch(2, None, None, 0)), Place::Unmatched, "not compressed");
    }

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        for (first, last) in [(5, 6), (1, 2), (9, 9), (7, 7), (3, 4), (20, 30), (22, 25), (8, 21)] {
            ranges.add(first, last);
        }
        assert_eq!(ranges.0, [(1, 30)].into());
        ranges.add(40, 41);
        let has = |n| ranges.has(n);
        assert_eq!(
            [0, 1, 30, 31, 39, 40, 41, 42].map(has),
            [false, true, true, false, false, true, true, false]
        );
    }
}
