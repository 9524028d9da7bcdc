//! Sending records of a suffix again: what is sent, the mark that each record gets, and how far a
//! replay has come, so that a second one sends nothing twice.
//!
//! ```text
//!  1. replay.toml: these offsets are in flight, as this producer's next sequence      durable
//!  2. produce, acks = all; retried with the same sequence until it is acknowledged
//!  3. the next batch: 1. again; at the end nothing is in flight                        durable
//! ```
//!
//! Whoever is interrupted between 1 and 3 sends the same bytes as the same producer with the same
//! sequence first, and the leader appends them once (KIP-98). Everything before is in the log with
//! its mark, which a diff against the log finds. If the leader has forgotten the producer, the mark
//! tells all the same, unless that batch is still on its way.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::diff::Error as DiffError;
use super::suffix::Suffix;
use crate::log::disk::{self, Lock};
use crate::log::error::{Context, Error};
use crate::model::{LeaderEpoch, Offset, TopicPartition, batch, record};

/// The header of a replayed record that says where it came from.
pub const MARK: &str = "isobar.ledger";

/// Beside the manifest.
const FILE: &str = "replay.toml";

/// Held while a replay runs.
const LOCK: &str = "replay.lock";

const VERSION: u16 = 1;

/// Largest batch of more than one record that is sent: marks make batches longer, and a topic's
/// `max.message.bytes` is a megabyte unless somebody says otherwise.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Of a record beside its key, value and headers' content, at most: lengths, deltas, counts.
const RECORD_BYTES: usize = 64;

/// Where a record was: a leader epoch names one history for ever (R2), so this names one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    pub partition: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    pub offset: Offset,
}

impl fmt::Display for Origin {
    /// `<topic uuid>/<partition>/<leader epoch>/<offset>`, the value of the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TopicPartition { topic, partition } = self.partition;
        write!(f, "{topic}/{partition}/{}/{}", self.leader_epoch, self.offset)
    }
}

impl Origin {
    /// `None` for any other header.
    pub(super) fn of_header((key, value): &record::RecordHeader) -> Option<Self> {
        if key != MARK.as_bytes() {
            return None;
        }
        let text = std::str::from_utf8(value.as_ref()?).ok()?;
        let mut parts = text.split('/');
        let mut part = || parts.next();
        let partition =
            TopicPartition { topic: part()?.parse().ok()?, partition: part()?.parse().ok()? };
        let (leader_epoch, offset) = (part()?.parse().ok()?, Offset(part()?.parse().ok()?));
        part().is_none().then_some(Self { partition, leader_epoch, offset })
    }
}

/// A batch that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Of its records, in the suffix.
    pub offsets: Vec<Offset>,
    /// Without a producer yet.
    batch: Bytes,
}

impl Outgoing {
    pub fn records(&self) -> u64 {
        self.offsets.len() as u64
    }

    /// Its bytes, as the next ones of a producer.
    pub fn produced_by(&self, producer: (i64, i16), sequence: i32) -> Bytes {
        let mut batch = BytesMut::from(&self.batch[..]);
        batch::produced_by(&mut batch, producer, sequence);
        batch.freeze()
    }
}

/// Records of one batch of a suffix, by their places in it, as they are sent again: keys, values,
/// headers and times as they were, and a mark each. The same places give the same bytes.
///
/// A compressed batch is sent whole or not at all, and without marks: nothing here decompresses what
/// a client sent. `None`: not all of it is wanted.
pub fn outgoing(
    partition: TopicPartition,
    bytes: &Bytes,
    places: &[usize],
) -> Result<Option<Vec<Outgoing>>, DiffError> {
    let header = batch::check(bytes).map_err(record::Error::from)?;
    if header.is_transactional() || header.is_control() {
        return Err(DiffError::Transactional(header.base_offset));
    }
    let offset = |at: usize| header.base_offset.plus(at as i64);
    if !matches!(header.codec(), Ok(batch::Codec::None)) {
        let is_whole = places.len() == header.records.unsigned_abs() as usize;
        let offsets = places.iter().map(|at| offset(*at)).collect();
        return Ok(is_whole.then(|| vec![Outgoing { offsets, batch: unstamped(bytes) }]));
    }
    let parsed = record::parse_with_headers(bytes)?;
    let mut sent = Vec::new();
    let mut next: Vec<(Offset, i64, &record::Record, Vec<record::RecordHeader>)> = Vec::new();
    let mut next_bytes = 0;
    let finish = |records: &mut Vec<(Offset, i64, &record::Record, Vec<record::RecordHeader>)>| {
        let built: Vec<_> =
            records.iter().map(|(_, ms, r, headers)| (*ms, *r, &headers[..])).collect();
        let batch = record::build_with_headers(&built);
        let offsets = records.iter().map(|(offset, ..)| *offset).collect();
        records.clear();
        Outgoing { offsets, batch }
    };
    for at in places {
        let (placed, headers) = &parsed[*at];
        let origin = Origin { partition, leader_epoch: header.leader_epoch, offset: placed.offset };
        let mark = (Bytes::from_static(MARK.as_bytes()), Some(origin.to_string().into()));
        let headers: Vec<_> = headers.iter().cloned().chain([mark]).collect();
        let bytes = bytes_of(&placed.record, &headers);
        if !next.is_empty() && next_bytes + bytes > BATCH_BYTES_MAX {
            sent.push(finish(&mut next));
            next_bytes = 0;
        }
        next_bytes += bytes;
        next.push((placed.offset, placed.timestamp_ms, &placed.record, headers));
    }
    if !next.is_empty() {
        sent.push(finish(&mut next));
    }
    Ok(Some(sent))
}

fn bytes_of(record: &record::Record, headers: &[record::RecordHeader]) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = headers.iter().map(|(key, value)| 16 + key.len() + len(value)).sum();
    RECORD_BYTES + len(&record.key) + len(&record.value) + headers
}

/// A batch as its producer might have sent it: without the timestamp type that a leader set.
fn unstamped(bytes: &Bytes) -> Bytes {
    let mut batch = BytesMut::from(&bytes[..]);
    batch::place(&mut batch, Offset(0), -1);
    batch[22] &= !0b1000;
    batch.freeze()
}

/// A batch that was sent, and of which no acknowledgement is on record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub sequence: i32,
    /// Of its records, in the suffix.
    pub offsets: Vec<i64>,
}

/// How far the replays of a suffix have come.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    version: u16,
    /// The last replay sent all that it was to send.
    pub is_done: bool,
    /// Unix time of the first replay's begin, and of the last change here.
    pub began_ms: i64,
    pub updated_ms: i64,
    /// Acknowledged, over all replays.
    pub records: u64,
    /// The smallest and the largest offset that one of them got in the log.
    pub first_offset: Option<i64>,
    pub last_offset: Option<i64>,
    pub in_flight: Option<InFlight>,
}

impl Progress {
    pub fn begun(now_ms: i64) -> Self {
        Self { version: VERSION, began_ms: now_ms, updated_ms: now_ms, ..Self::default() }
    }

    /// Records were acknowledged, the first of them at `base`, if the leader still knew.
    pub fn acknowledged(&mut self, records: u64, base: Option<Offset>) {
        self.records += records;
        self.in_flight = None;
        if let Some(base) = base {
            let last = base.0 + records as i64 - 1;
            self.first_offset = Some(self.first_offset.map_or(base.0, |first| first.min(base.0)));
            self.last_offset = Some(self.last_offset.map_or(last, |most| most.max(last)));
        }
    }

    fn encode(&self) -> String {
        let mut text = String::from("# Written by isobar ledger replay.\n");
        let mut line = |name: &str, value: &dyn fmt::Display| {
            writeln!(text, "{name} = {value}").expect("a string takes all that is written");
        };
        line("version", &VERSION);
        line("is_done", &self.is_done);
        line("began_ms", &self.began_ms);
        line("updated_ms", &self.updated_ms);
        line("records", &self.records);
        if let Some((first, last)) = self.first_offset.zip(self.last_offset) {
            line("first_offset", &first);
            line("last_offset", &last);
        }
        if let Some(in_flight) = &self.in_flight {
            line("\n[in_flight]\nproducer_id", &in_flight.producer_id);
            line("producer_epoch", &in_flight.producer_epoch);
            line("sequence", &in_flight.sequence);
            line("offsets", &format_args!("{:?}", in_flight.offsets));
        }
        text
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
        let text = std::str::from_utf8(bytes).map_err(|e| malformed(e.to_string()))?;
        let progress: Self = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        match progress.version {
            VERSION => Ok(progress),
            found => Err(Error::Version { path: path.to_owned(), found, known: VERSION }),
        }
    }
}

impl Suffix {
    /// How far replays have come; `None` if there was none.
    pub fn progress(&self) -> Result<Option<Progress>, Error> {
        let path = self.dir.join(FILE);
        if !self.disk.exists(&path).context("look for", &path)? {
            return Ok(None);
        }
        let bytes = self.disk.open_read(&path).and_then(|file| disk::read_all(&*file));
        Progress::decode(&bytes.context("read", &path)?, &path).map(Some)
    }

    /// Puts it on disk, durably.
    pub fn set_progress(&self, progress: &Progress) -> Result<(), Error> {
        let path = self.dir.join(FILE);
        disk::replace(&*self.disk, &path, progress.encode().as_bytes()).context("write", &path)
    }

    /// Keeps a second replay of this suffix out.
    pub fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, Error> {
        let path = self.dir.join(LOCK);
        self.disk.lock(&path, owner).context("lock", &path)
    }

    /// The batch that was in flight, as it was sent.
    pub fn in_flight(&self, offsets: &[i64]) -> Result<Option<Outgoing>, DiffError> {
        let Some(first) = offsets.first() else { return Ok(None) };
        for stored in self.batches()? {
            let stored = stored?;
            if (stored.base_offset.0..stored.next_offset.0).contains(first) {
                let place = |offset: &i64| usize::try_from(offset - stored.base_offset.0).ok();
                let places: Option<Vec<_>> = offsets.iter().map(place).collect();
                let places = places.unwrap_or_default();
                if places
                    .last()
                    .is_none_or(|at| *at as i64 >= stored.next_offset.0 - stored.base_offset.0)
                {
                    return Ok(None);
                }
                let sent = outgoing(self.manifest.partition, &stored.batch, &places)?;
                return Ok(sent.and_then(|mut sent| sent.pop()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> TopicPartition {
        TopicPartition {
            topic: "00000000-0000-0000-0000-000000000007".parse().unwrap(),
            partition: 3,
        }
    }

    fn batch_of(values: &[Bytes]) -> Bytes {
        let records: Vec<_> = values
            .iter()
            .map(|v| record::Record { key: Some(Bytes::from_static(b"k")), value: Some(v.clone()) })
            .collect();
        let headers = [(Bytes::from_static(b"h"), None)];
        let built: Vec<_> = (70..).zip(&records).map(|(ms, r)| (ms, r, &headers[..])).collect();
        let mut batch = BytesMut::from(&record::build_with_headers(&built)[..]);
        batch::place(&mut batch, Offset(40), 131_073);
        batch.freeze()
    }

    #[test]
    fn records_keep_all_that_they_had_and_say_where_they_came_from() {
        let batch = batch_of(&[b"a", b"b", b"c"].map(|v| Bytes::from_static(v)));
        let sent = outgoing(at(), &batch, &[0, 2]).unwrap().unwrap();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].offsets, [Offset(40), Offset(42)]);
        let bytes = sent[0].produced_by((9, 0), 4);
        let header = batch::check(&bytes).unwrap();
        assert_eq!((header.producer_id, header.base_sequence, header.records), (9, 4, 2));
        assert_eq!((header.base_timestamp, header.max_timestamp), (70, 72));
        let parsed = record::parse_with_headers(&bytes).unwrap();
        let (placed, headers) = &parsed[1];
        assert_eq!((placed.timestamp_ms, placed.record.value.as_deref()), (72, Some(&b"c"[..])));
        assert_eq!(headers[0], (Bytes::from_static(b"h"), None));
        let mark = "00000000-0000-0000-0000-000000000007/3/131073/42";
        assert_eq!(headers[1], (MARK.into(), Some(mark.into())));
        let origin = Origin { partition: at(), leader_epoch: 131_073, offset: Offset(42) };
        assert_eq!(Origin::of_header(&headers[1]), Some(origin));
        for other in [("x", mark), (MARK, "7/3/1/2"), (MARK, &format!("{mark}/1"))] {
            assert_eq!(
                Origin::of_header(&(other.0.to_owned().into(), Some(other.1.to_owned().into()))),
                None
            );
        }
    }

    #[test]
    fn what_would_be_too_long_is_sent_in_several_batches() {
        let value = Bytes::from(vec![7; BATCH_BYTES_MAX / 2]);
        let batch = batch_of(&[value.clone(), value.clone(), value]);
        let sent = outgoing(at(), &batch, &[0, 1, 2]).unwrap().unwrap();
        assert_eq!(sent.iter().map(Outgoing::records).collect::<Vec<_>>(), [1, 1, 1]);
        let again = outgoing(at(), &batch, &[1]).unwrap().unwrap();
        assert_eq!(again, sent[1..2], "the same records are the same bytes");
    }

    #[test]
    fn a_compressed_batch_is_sent_whole_or_not_at_all() {
        let mut batch = batch_of(&[b"a", b"b"].map(|v| Bytes::from_static(v))).to_vec();
        batch[22] |= 4;
        let crc = batch::crc_of(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = Bytes::from(batch);
        assert_eq!(outgoing(at(), &batch, &[1]).unwrap(), None);
        let sent = outgoing(at(), &batch, &[0, 1]).unwrap().unwrap();
        let bytes = sent[0].produced_by((9, 0), 0);
        assert_eq!(bytes[batch::HEADER_BYTES..], batch[batch::HEADER_BYTES..]);
        batch::check(&bytes).unwrap();
    }

    #[test]
    fn progress_comes_back_from_its_file() {
        let in_flight =
            InFlight { producer_id: 5, producer_epoch: 0, sequence: 7, offsets: vec![40, 42] };
        let mut progress =
            Progress { version: VERSION, began_ms: 1, updated_ms: 2, ..Progress::default() };
        progress.acknowledged(3, Some(Offset(50)));
        progress.acknowledged(2, None);
        progress.acknowledged(1, Some(Offset(60)));
        progress.in_flight = Some(in_flight);
        assert_eq!(
            (progress.records, progress.first_offset, progress.last_offset),
            (6, Some(50), Some(60))
        );
        let path = Path::new("replay.toml");
        assert_eq!(Progress::decode(progress.encode().as_bytes(), path).unwrap(), progress);
        let newer = progress.encode().replace("version = 1", "version = 2");
        assert!(matches!(
            Progress::decode(newer.as_bytes(), path),
            Err(Error::Version { found: 2, .. })
        ));
    }
}
