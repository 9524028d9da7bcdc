//! What of a suffix is in the log after all, and what is not (R16).
//!
//! A producer that had no answer sends again, to the new home: what it had written to the old one is
//! then in both logs (H34). Three things tell:
//!
//! - **the sequence**: a record with the same producer id, producer epoch and sequence is the same
//!   record, whatever else is said of it. It is *there*;
//! - **the mark**: `isobar ledger replay` writes where a record came from into a header of it. It was
//!   *replayed*;
//! - **the content**: a record with the same time, key, value and headers that is not there by its
//!   sequence is *alike*. It has no producer id, or its producer began a new epoch before it sent
//!   again (KIP-360). A producer that means to write the same twice in a millisecond is not told from
//!   one that sent twice, so this is a hint and not a proof. Each record of the log speaks for one
//!   record of the suffix.
//!
//! The records of a compressed batch are compared by content only as a whole batch, byte for byte:
//! nothing here decompresses what a client sent. By sequence they are compared one by one.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::replay::Origin;
use super::suffix::Stored;
use crate::model::{Offset, TopicPartition, batch, record};

/// Records of a suffix that is compared, at most: they are held in memory, at some 200 bytes each.
pub const RECORDS_MAX: u64 = 10_000_000;

/// Offsets, from and to (exclusive), without gaps.
pub type Ranges = Vec<(Offset, Offset)>;

/// Why two logs were not compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] crate::log::Error),
    #[error(transparent)]
    Record(#[from] record::Error),
    #[error(
        "it has {0} records, and at most {RECORDS_MAX} are compared; `isobar ledger export` writes \
         them for a comparison elsewhere"
    )]
    TooLarge(u64),
    #[error("the batch at offset {0} belongs to a transaction; those are not replayed yet")]
    Transactional(Offset),
}

/// Some records of a suffix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    pub records: u64,
    pub offsets: Ranges,
    /// Smallest and largest timestamp, in ms; `None` without a record. Those of a record in a
    /// compressed batch are the batch's.
    pub timestamps: Option<(i64, i64)>,
}

impl Part {
    fn add(&mut self, offset: Offset, (first, last): (i64, i64)) {
        self.records += 1;
        match self.offsets.last_mut() {
            Some((_, end)) if *end == offset => *end = offset.plus(1),
            _ => self.offsets.push((offset, offset.plus(1))),
        }
        let (least, most) = self.timestamps.unwrap_or((first, last));
        self.timestamps = Some((least.min(first), most.max(last)));
    }
}

/// What one producer has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    pub there: u64,
    pub replayed: u64,
    pub alike: u64,
    pub missing: u64,
}

/// A suffix against a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// In the log, by producer id, epoch and sequence.
    pub there: Part,
    /// In the log, by the mark that a replay gave it.
    pub replayed: Part,
    /// Perhaps in the log: by time, key, value and headers.
    pub alike: Part,
    /// Not in the log.
    pub missing: Part,
    /// Batches with a missing record: how many, their bytes, and their SHA-256 one after another.
    pub missing_batches: u64,
    pub missing_bytes: u64,
    pub missing_sha256: [u8; 32],
    /// By producer id and epoch; `None`: records without one, which cannot be matched by sequence.
    pub producers: BTreeMap<Option<(i64, i16)>, Counts>,
    /// Records in compressed batches: whether they are alike was seen only for whole batches.
    pub compressed_records: u64,
    /// Records of the log that were looked at.
    pub log_records: u64,
}

/// Producer id, producer epoch, sequence.
type Sequence = (i64, i16, i32);

/// Of a record's content.
type Hash = [u8; 16];

struct Record {
    origin: Origin,
    timestamps: (i64, i64),
    sequence: Option<Sequence>,
    hash: Hash,
    /// Where replays say that it came from: of the log.
    marks: Vec<Origin>,
}

/// Records of one batch, by their place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub missing: Vec<usize>,
    pub alike: Vec<usize>,
}

/// How far the comparison of a suffix has come: all of its records, and what the log has of them.
pub struct Comparison {
    partition: TopicPartition,
    records: Vec<Record>,
    /// Records after which a batch ends, with its bytes.
    batches: Vec<(usize, Bytes)>,
    is_there: HashMap<Sequence, bool>,
    is_replayed: HashMap<Origin, bool>,
    /// How many records of the log with this content are not there by sequence.
    alike: HashMap<Hash, u32>,
    compressed_records: u64,
    log_records: u64,
}

impl Comparison {
    /// Of a suffix: all of its batches, and how many records its manifest says they have.
    pub fn of(
        partition: TopicPartition,
        records: u64,
        batches: impl Iterator<Item = Result<Stored, crate::log::Error>>,
    ) -> Result<Self, Error> {
        if records > RECORDS_MAX {
            return Err(Error::TooLarge(records));
        }
        let mut to = Self {
            partition,
            records: Vec::new(),
            batches: Vec::new(),
            is_there: HashMap::new(),
            is_replayed: HashMap::new(),
            alike: HashMap::new(),
            compressed_records: 0,
            log_records: 0,
        };
        for stored in batches {
            let bytes = stored?.batch;
            let (header, found) = records_of(to.partition, &bytes)?;
            if !matches!(header.codec(), Ok(batch::Codec::None)) {
                to.compressed_records += found.len() as u64;
            }
            for record in found {
                to.is_there.extend(record.sequence.map(|sequence| (sequence, false)));
                to.is_replayed.insert(record.origin, false);
                to.alike.insert(record.hash, 0);
                to.records.push(record);
            }
            to.batches.push((to.records.len(), bytes));
        }
        Ok(to)
    }

    /// One batch of the log, at or behind the place where the two logs part.
    pub fn see(&mut self, batch: &Bytes) -> Result<(), Error> {
        let (_, records) = records_of(self.partition, batch)?;
        self.log_records += records.len() as u64;
        for record in records {
            let mut is_told = false;
            if let Some(is_there) = record.sequence.and_then(|s| self.is_there.get_mut(&s)) {
                (*is_there, is_told) = (true, true);
            }
            for mark in &record.marks {
                if let Some(is_replayed) = self.is_replayed.get_mut(mark) {
                    (*is_replayed, is_told) = (true, true);
                }
            }
            if let Some(count) = self.alike.get_mut(&record.hash).filter(|_| !is_told) {
                *count += 1;
            }
        }
        Ok(())
    }

    /// The log has been seen to its end.
    pub fn finish(self) -> Diff {
        self.finish_with(|_, _| ())
    }

    /// As `finish`; tells of each batch with a missing or an alike record which records those are, by
    /// their place in it.
    pub fn finish_with(mut self, mut wanted: impl FnMut(&Bytes, Wanted)) -> Diff {
        let mut diff = Diff {
            compressed_records: self.compressed_records,
            log_records: self.log_records,
            ..Diff::default()
        };
        let mut sha256 = Sha256::new();
        let mut records = self.records.iter();
        let mut before = 0;
        for (end, bytes) in &self.batches {
            let mut of_batch = Wanted { missing: Vec::new(), alike: Vec::new() };
            for (at, record) in (0..).zip(records.by_ref().take(end - before)) {
                let producer = record.sequence.map(|(id, epoch, _)| (id, epoch));
                let counts = diff.producers.entry(producer).or_default();
                let (part, count) = if record.sequence.is_some_and(|s| self.is_there[&s]) {
                    (&mut diff.there, &mut counts.there)
                } else if self.is_replayed[&record.origin] {
                    (&mut diff.replayed, &mut counts.replayed)
                } else {
                    match self.alike.get_mut(&record.hash).filter(|left| **left > 0) {
                        Some(left) => {
                            *left -= 1;
                            of_batch.alike.push(at);
                            (&mut diff.alike, &mut counts.alike)
                        }
                        None => {
                            of_batch.missing.push(at);
                            (&mut diff.missing, &mut counts.missing)
                        }
                    }
                };
                part.add(record.origin.offset, record.timestamps);
                *count += 1;
            }
            if !of_batch.missing.is_empty() {
                diff.missing_batches += 1;
                diff.missing_bytes += bytes.len() as u64;
                sha256.update(bytes);
            }
            if !of_batch.missing.is_empty() || !of_batch.alike.is_empty() {
                wanted(bytes, of_batch);
            }
            before = *end;
        }
        diff.missing_sha256 = sha256.finalize().into();
        diff
    }
}

fn records_of(
    partition: TopicPartition,
    bytes: &Bytes,
) -> Result<(batch::Header, Vec<Record>), Error> {
    let header = batch::check(bytes).map_err(record::Error::from)?;
    let sequence = |at: i32| {
        // Sequences wrap to 0 after `i32::MAX` (KIP-98).
        let wrapped = (i64::from(header.base_sequence) + i64::from(at)) % (1 << 31);
        let wrapped = i32::try_from(wrapped).expect("a remainder of 2^31 fits 31 bits");
        header.is_idempotent().then_some((header.producer_id, header.producer_epoch, wrapped))
    };
    let span = (header.base_timestamp, header.max_timestamp);
    let record = |at: i32, timestamps, hash, marks| {
        let offset = header.base_offset.plus(i64::from(at));
        let origin = Origin { partition, leader_epoch: header.leader_epoch, offset };
        Record { origin, timestamps, sequence: sequence(at), hash, marks }
    };
    if !matches!(header.codec(), Ok(batch::Codec::None)) {
        let whole = Sha256::new()
            .chain_update(header.base_timestamp.to_be_bytes())
            .chain_update(&bytes[batch::HEADER_BYTES..]);
        let hash = |at: i32| short(whole.clone().chain_update(at.to_be_bytes()));
        let records = (0..header.records).map(|at| record(at, span, hash(at), Vec::new()));
        return Ok((header, records.collect()));
    }
    let parsed = record::parse_with_headers(bytes)?;
    let stamped = header.is_log_append_time().then_some(header.max_timestamp);
    let records = (0..).zip(&parsed).map(|(at, (placed, headers))| {
        let shown = stamped.unwrap_or(placed.timestamp_ms);
        let marks = headers.iter().filter_map(Origin::of_header).collect();
        record(at, (shown, shown), content(placed, headers), marks)
    });
    Ok((header, records.collect()))
}

/// Of time, key, value and headers: the time as the client gave it, also where the leader stamps.
fn content(placed: &record::Placed, headers: &[record::RecordHeader]) -> Hash {
    let mut hash = Sha256::new().chain_update(placed.timestamp_ms.to_be_bytes());
    let mut field = |bytes: Option<&Bytes>| {
        let length = bytes.map_or(-1, |bytes| bytes.len() as i64);
        hash.update(length.to_be_bytes());
        hash.update(bytes.map_or(&[][..], |bytes| bytes));
    };
    field(placed.record.key.as_ref());
    field(placed.record.value.as_ref());
    for (key, value) in headers {
        field(Some(key));
        field(value.as_ref());
    }
    short(hash)
}

/// Half of a SHA-256: two different records have the same by chance once in 2^64 pairs of 2^32.
fn short(hash: Sha256) -> Hash {
    hash.finalize()[..16].try_into().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Term;

    fn at() -> TopicPartition {
        TopicPartition {
            topic: "00000000-0000-0000-0000-000000000007".parse().unwrap(),
            partition: 3,
        }
    }

    const PLAIN: (i64, i16, i32) = (-1, -1, -1);
    const GZIP: u8 = 1;

    /// A batch with a record for each value, at `base`.
    fn batch_of(base: i64, producer: (i64, i16, i32), values: &[&'static str], codec: u8) -> Bytes {
        let record = |value: &&'static str| record::Record {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(value.as_bytes())),
        };
        let records: Vec<_> = values.iter().map(record).collect();
        let mut batch = record::build(&records, 77).to_vec();
        batch[0..8].copy_from_slice(&base.to_be_bytes());
        batch[22] |= codec;
        batch[43..51].copy_from_slice(&producer.0.to_be_bytes());
        batch[51..53].copy_from_slice(&producer.1.to_be_bytes());
        batch[53..57].copy_from_slice(&producer.2.to_be_bytes());
        let crc = batch::crc_of(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    fn compare(suffix: &[Bytes], log: &[Bytes]) -> Diff {
        let stored = suffix.iter().map(|batch| {
            let header = batch::check(batch).unwrap();
            Ok(Stored {
                base_offset: header.base_offset,
                next_offset: header.next_offset(),
                term: Term(131_072),
                append_time_ms: 0,
                batch: batch.clone(),
            })
        });
        let mut comparison = Comparison::of(at(), suffix.len() as u64, stored).unwrap();
        log.iter().for_each(|batch| comparison.see(batch).unwrap());
        comparison.finish()
    }

    fn offsets(part: &Part) -> Vec<(i64, i64)> {
        part.offsets.iter().map(|(from, to)| (from.0, to.0)).collect()
    }

    #[test]
    fn the_same_sequence_is_the_same_record_and_another_epoch_is_not() {
        let suffix = [
            batch_of(40, (5, 0, 9), &["a", "b", "c"], 0),
            batch_of(43, (5, 0, 12), &["d"], 0),
            batch_of(44, (6, 1, i32::MAX), &["e", "f"], GZIP),
        ];
        let log = [
            batch_of(40, (5, 0, 10), &["b", "c"], 0),
            batch_of(42, (5, 1, 12), &["other"], 0),
            batch_of(43, (6, 1, 0), &["f"], 0),
        ];
        let diff = compare(&suffix, &log);
        assert_eq!(offsets(&diff.there), [(41, 43), (45, 46)], "sequences wrap");
        assert_eq!(offsets(&diff.missing), [(40, 41), (43, 45)]);
        assert_eq!((diff.alike.records, diff.log_records, diff.compressed_records), (0, 4, 2));
        let counts = |there, missing| Counts { there, missing, ..Counts::default() };
        let expected = [(Some((5, 0)), counts(2, 2)), (Some((6, 1)), counts(1, 1))];
        assert_eq!(diff.producers, expected.into());
        assert_eq!(diff.missing_batches, 3);
        assert_eq!(diff.missing_bytes, suffix.iter().map(|b| b.len() as u64).sum::<u64>());
        let sha256: [u8; 32] = Sha256::digest(suffix.concat()).into();
        assert_eq!(diff.missing_sha256, sha256);
    }

    #[test]
    fn each_record_of_the_log_speaks_for_one_that_is_alike() {
        let suffix = [
            batch_of(7, PLAIN, &["a", "a", "b"], 0),
            batch_of(10, (5, 0, 3), &["c", "d"], 0),
            batch_of(12, PLAIN, &["z", "z"], GZIP),
            batch_of(14, PLAIN, &["y"], GZIP),
        ];
        let log = [
            batch_of(7, PLAIN, &["a"], 0),
            batch_of(8, (5, 1, 0), &["c"], 0),
            batch_of(9, (5, 0, 4), &["d"], 0),
            batch_of(10, PLAIN, &["z", "z"], GZIP),
        ];
        let diff = compare(&suffix, &log);
        assert_eq!(offsets(&diff.there), [(11, 12)]);
        assert_eq!(offsets(&diff.alike), [(7, 8), (10, 11), (12, 14)]);
        assert_eq!(offsets(&diff.missing), [(8, 10), (14, 15)]);
        assert_eq!(diff.missing.timestamps, Some((77, 77)));
        assert_eq!(diff.producers[&None], Counts { alike: 3, missing: 3, ..Counts::default() });
        assert_eq!(
            diff.missing_batches, 2,
            "of the first batch one record is alike, and two are not"
        );
    }

    #[test]
    fn a_suffix_that_memory_might_not_hold_is_refused_before_it_is_read() {
        let refused = Comparison::of(at(), RECORDS_MAX + 1, std::iter::empty()).err().unwrap();
        assert!(refused.to_string().contains("10000001 records"), "{refused}");
    }
}
