//! What a suffix is: `manifest.toml`, for people, for reports and for whoever checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::log::entry::{Entry, Kind};
use crate::log::error::Error;
use crate::log::identity::quoted;
use crate::log::segment::EpochStart;
use crate::log::state::{HighWatermark, Position};
use crate::model::{
    HomeEpoch, LogIndex, NodeId, Offset, ReplicaId, Term, TopicId, TopicPartition, batch,
};

const VERSION: u16 = 1;

/// Producers that a manifest names, at most: a line each, so some megabytes. Records of those beyond
/// it are counted all the same.
const PRODUCERS_MAX: usize = 20_000;

/// What a suffix is, where it was cut off, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub partition: TopicPartition,
    pub topic_name: String,
    pub node: NodeId,
    pub replica: ReplicaId,
    /// The replica was installing a snapshot or refetching: it had lost its standing (R23).
    pub installing: bool,
    /// That the replica was in. What it has may be of earlier ones alone.
    pub old_home_epoch: HomeEpoch,
    pub new_home_epoch: HomeEpoch,
    /// F. The suffix may begin below it, where the two logs parted.
    pub fork: Position,
    pub first_index: LogIndex,
    pub last: (LogIndex, Term),
    /// Of the first record, if there is one; the offset that it would have had otherwise.
    pub first_offset: Offset,
    pub next_offset: Offset,
    /// What this replica knew to be acknowledged, at its last checkpoint: more may have been.
    pub hw: HighWatermark,
    pub content: Content,
}

/// What the entries of a suffix come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub entries: u64,
    pub batches: u64,
    pub records: u64,
    /// Of the batches.
    pub bytes: u64,
    /// Smallest and largest timestamp of the records, in ms; `None` without a record.
    pub timestamps: Option<(i64, i64)>,
    pub epochs: Vec<EpochStart>,
    /// Of the batches, one after another.
    pub sha256: [u8; 32],
    /// Idempotent producers, by id and epoch. Records of others are what is left of `records`.
    pub producers: Vec<Producer>,
    /// Producers that were too many to name.
    pub producers_left_out: u64,
}

/// What one idempotent producer has in a suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// Of its first record here.
    pub first_sequence: i32,
    /// Of its last record here; sequences wrap.
    pub last_sequence: i32,
    pub batches: u64,
    pub records: u64,
}

/// Counts entries that are read in order.
#[derive(Default)]
pub(super) struct Tally {
    entries: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    timestamps: Option<(i64, i64)>,
    epochs: Vec<EpochStart>,
    sha256: Sha256,
    producers: BTreeMap<(i64, i16), Producer>,
    left_out: BTreeSet<(i64, i16)>,
}

impl Tally {
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), batch::Error> {
        self.entries += 1;
        if self.epochs.last().is_none_or(|e| e.term != entry.term) {
            let (term, index, offset) = (entry.term, entry.index, entry.base_offset);
            self.epochs.push(EpochStart { term, index, offset });
        }
        if entry.kind == Kind::Batch {
            self.add_batch(&entry.payload)?;
        }
        Ok(())
    }

    fn add_batch(&mut self, bytes: &[u8]) -> Result<(), batch::Error> {
        let header = batch::check(bytes)?;
        let records = header.records.unsigned_abs().into();
        self.batches += 1;
        self.records += records;
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        let (first, last) = (header.base_timestamp, header.max_timestamp);
        let (least, most) = self.timestamps.unwrap_or((first, last));
        self.timestamps = Some((least.min(first), most.max(last)));
        if header.is_idempotent() {
            self.add_producer(&header, records);
        }
        Ok(())
    }

    fn add_producer(&mut self, header: &batch::Header, records: u64) {
        let key = (header.producer_id, header.producer_epoch);
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&key) {
            self.left_out.insert(key);
            return;
        }
        let producer = self.producers.entry(key).or_insert(Producer {
            id: key.0,
            epoch: key.1,
            first_sequence: header.base_sequence,
            last_sequence: header.base_sequence,
            batches: 0,
            records: 0,
        });
        producer.last_sequence = header.last_sequence();
        producer.batches += 1;
        producer.records += records;
    }

    pub(super) fn finish(self) -> Content {
        Content {
            entries: self.entries,
            batches: self.batches,
            records: self.records,
            bytes: self.bytes,
            timestamps: self.timestamps,
            epochs: self.epochs,
            sha256: self.sha256.finalize().into(),
            producers: self.producers.into_values().collect(),
            producers_left_out: self.left_out.len() as u64,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u16,
    topic_id: String,
    topic: String,
    partition: i32,
    node: u64,
    replica: u64,
    installing: bool,
    old_home_epoch: u32,
    new_home_epoch: u32,
    fork_index: u64,
    fork_term: u64,
    fork_offset: i64,
    first_index: u64,
    last_index: u64,
    last_term: u64,
    first_offset: i64,
    next_offset: i64,
    entries: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    hw_index: u64,
    hw_offset: i64,
    first_timestamp: Option<i64>,
    last_timestamp: Option<i64>,
    sha256: String,
    producers_left_out: u64,
    #[serde(default)]
    epoch: Vec<Epoch>,
    #[serde(default)]
    producer: Vec<Producer>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Epoch {
    term: u64,
    index: u64,
    offset: i64,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let pairs = text.len() == 64 && text.is_ascii();
    for (n, byte) in bytes.iter_mut().enumerate() {
        let pair = text.get(2 * n..2 * n + 2).filter(|_| pairs)?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

impl Manifest {
    /// Offsets of the records here that this replica knew to be acknowledged, end exclusive; more may
    /// have been. `None` if it knew of none.
    pub fn known_acknowledged(&self) -> Option<(Offset, Offset)> {
        let end = self.hw.offset.min(self.next_offset);
        (end > self.first_offset).then_some((self.first_offset, end))
    }

    pub fn sha256_text(&self) -> String {
        hex(&self.content.sha256)
    }

    pub(super) fn encode(&self) -> String {
        let mut text =
            String::from("# Written by isobar. What this replica's log had beyond a cut.\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{name} = {value}").expect("a string takes all that is written");
        };
        line("version", &VERSION);
        line("topic_id", &quoted(&self.partition.topic.to_string()));
        line("topic", &quoted(&self.topic_name));
        line("partition", &self.partition.partition);
        line("node", &self.node);
        line("replica", &self.replica);
        line("installing", &self.installing);
        line("old_home_epoch", &self.old_home_epoch);
        line("new_home_epoch", &self.new_home_epoch);
        line("fork_index", &self.fork.index);
        line("fork_term", &self.fork.term);
        line("fork_offset", &self.fork.offset);
        line("first_index", &self.first_index);
        line("last_index", &self.last.0);
        line("last_term", &self.last.1);
        line("first_offset", &self.first_offset);
        line("next_offset", &self.next_offset);
        line("entries", &self.content.entries);
        line("batches", &self.content.batches);
        line("records", &self.content.records);
        line("bytes", &self.content.bytes);
        line("hw_index", &self.hw.index);
        line("hw_offset", &self.hw.offset);
        if let Some((first, last)) = self.content.timestamps {
            line("first_timestamp", &first);
            line("last_timestamp", &last);
        }
        line("sha256", &quoted(&self.sha256_text()));
        line("producers_left_out", &self.content.producers_left_out);
        for e in &self.content.epochs {
            line("\n[[epoch]]\nterm", &e.term);
            line("index", &e.index);
            line("offset", &e.offset);
        }
        for p in &self.content.producers {
            line("\n[[producer]]\nid", &p.id);
            line("epoch", &p.epoch);
            line("first_sequence", &p.first_sequence);
            line("last_sequence", &p.last_sequence);
            line("batches", &p.batches);
            line("records", &p.records);
        }
        text
    }

    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
        let text = std::str::from_utf8(bytes).map_err(|e| malformed(e.to_string()))?;
        /// Alone, so that a newer one is refused by its version and not by a field.
        #[derive(serde::Deserialize)]
        struct Version {
            version: u16,
        }
        let Version { version } = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if version != VERSION {
            return Err(Error::Version { path: path.to_owned(), found: version, known: VERSION });
        }
        let file: File = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        file.into_manifest().ok_or_else(|| malformed("a value that no isobar wrote".to_owned()))
    }
}

impl File {
    fn into_manifest(self) -> Option<Manifest> {
        let term = |raw: u64| Some(Term(raw)).filter(|term| term.is_valid());
        let topic: TopicId = self.topic_id.parse().ok()?;
        let epoch = |e: Epoch| {
            let (index, offset) = (LogIndex(e.index), Offset(e.offset));
            Some(EpochStart { term: term(e.term)?, index, offset })
        };
        debug_assert_eq!(self.version, VERSION);
        Some(Manifest {
            partition: TopicPartition { topic, partition: self.partition },
            topic_name: self.topic,
            node: NodeId::new(self.node).ok()?,
            replica: ReplicaId(self.replica),
            installing: self.installing,
            old_home_epoch: HomeEpoch::new(self.old_home_epoch)?,
            new_home_epoch: HomeEpoch::new(self.new_home_epoch)?,
            fork: Position {
                index: LogIndex(self.fork_index),
                term: term(self.fork_term)?,
                offset: Offset(self.fork_offset),
            },
            first_index: LogIndex(self.first_index),
            last: (LogIndex(self.last_index), term(self.last_term)?),
            first_offset: Offset(self.first_offset),
            next_offset: Offset(self.next_offset),
            hw: HighWatermark { index: LogIndex(self.hw_index), offset: Offset(self.hw_offset) },
            content: Content {
                entries: self.entries,
                batches: self.batches,
                records: self.records,
                bytes: self.bytes,
                timestamps: self.first_timestamp.zip(self.last_timestamp),
                epochs: self.epoch.into_iter().map(epoch).collect::<Option<_>>()?,
                sha256: unhex(&self.sha256)?,
                producers: self.producer,
                producers_left_out: self.producers_left_out,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{batch_entry, entry, partition};

    /// A batch of three records of a producer.
    fn produced(index: u64, base: i64, producer: (i64, i16), sequence: i32) -> Entry {
        let mut batch = batch_entry(index, 131_073, base, 3, b"value").payload.to_vec();
        batch[43..51].copy_from_slice(&producer.0.to_be_bytes());
        batch[51..53].copy_from_slice(&producer.1.to_be_bytes());
        batch[53..57].copy_from_slice(&sequence.to_be_bytes());
        let crc = batch::crc_of(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        entry(index, 131_073, Kind::Batch, base, &batch)
    }

    fn sample() -> Manifest {
        let mut tally = Tally::default();
        let entries = [
            entry(7, 131_072, Kind::Empty, 40, b""),
            produced(8, 40, (5, 0), 9),
            produced(9, 43, (4, 1), i32::MAX - 1),
            produced(10, 46, (5, 0), 12),
            batch_entry(11, 131_073, 49, 2, b"plain"),
        ];
        entries.iter().for_each(|e| tally.add(e).unwrap());
        Manifest {
            partition: partition(3),
            topic_name: "or\"ders".into(),
            node: NodeId::new(2).unwrap(),
            replica: ReplicaId(4),
            installing: false,
            old_home_epoch: HomeEpoch::FIRST,
            new_home_epoch: HomeEpoch::new(2).unwrap(),
            fork: Position { index: LogIndex(12), term: Term(131_074), offset: Offset(44) },
            first_index: LogIndex(7),
            last: (LogIndex(11), Term(131_073)),
            first_offset: Offset(40),
            next_offset: Offset(51),
            hw: HighWatermark { index: LogIndex(8), offset: Offset(43) },
            content: tally.finish(),
        }
    }

    #[test]
    fn producers_are_counted_and_sequences_wrap() {
        let content = sample().content;
        assert_eq!((content.entries, content.batches, content.records), (5, 4, 11));
        assert_eq!(content.timestamps, Some((40, 50)), "their times are their offsets");
        let producer = |id, epoch, first_sequence, last_sequence, batches, records| Producer {
            id,
            epoch,
            first_sequence,
            last_sequence,
            batches,
            records,
        };
        let expected = [producer(4, 1, i32::MAX - 1, 0, 1, 3), producer(5, 0, 9, 14, 2, 6)];
        assert_eq!(content.producers, expected);
    }

    #[test]
    fn a_manifest_comes_back_from_its_file_and_no_other_version_does() {
        let manifest = sample();
        let text = manifest.encode();
        let path = Path::new("manifest.toml");
        assert_eq!(Manifest::decode(text.as_bytes(), path).unwrap(), manifest);
        assert_eq!(manifest.known_acknowledged(), Some((Offset(40), Offset(43))));
        let newer = text.replace("version = 1", "version = 2\nmore = 1");
        let refused = Manifest::decode(newer.as_bytes(), path).unwrap_err();
        assert!(matches!(refused, Error::Version { found: 2, known: 1, .. }), "{refused}");
        for broken in [&text[..text.len() / 2], &text.replace("sha256 = \"", "sha256 = \"zz")] {
            let refused = Manifest::decode(broken.as_bytes(), path).unwrap_err();
            assert!(matches!(refused, Error::Malformed { .. }), "{refused}");
        }
    }
}
