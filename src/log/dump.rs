//! Printing a log: one line a batch up to the checkpointed HW, nothing that differs between nodes.
//!
//! Reads beside a running node, without its lock and without writing anything: what is below HW is
//! never written again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::model::{LeaderEpoch, LogIndex, Offset, TopicId, TopicPartition, batch};

use super::disk::{Disk, DiskFile};
use super::entry::Kind;
use super::error::{Context, Error};
use super::frame::Seed;
use super::identity::{self, Identity};
use super::journal::{Journal, States};
use super::scan::{Ahead, Scan, Step};
use super::segment::{self, Header};
use super::state::{self, HighWatermark};
use super::store;

/// How often a journal that is replaced while it is read is looked for again.
const JOURNAL_READS_MAX: usize = 5;

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub codec: &'static str,
    pub crc: u32,
    /// Of the whole batch, as clients fetch it.
    pub sha256: [u8; 32],
}

impl Line {
    /// Of one whole batch, which is checked.
    pub fn of(batch: &[u8]) -> Result<Self, batch::Error> {
        Ok(Self::new(&batch::check(batch)?, batch))
    }

    fn new(header: &batch::Header, bytes: &[u8]) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.next_offset().plus(-1),
            leader_epoch: header.leader_epoch,
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            codec: header.codec().map_or("unknown", batch::Codec::name),
            crc: header.crc,
            sha256: Sha256::digest(bytes).into(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "base={} last={} epoch={} base_timestamp={} max_timestamp={} codec={} crc={:08x} sha256=",
            self.base_offset,
            self.last_offset,
            self.leader_epoch,
            self.base_timestamp,
            self.max_timestamp,
            self.codec,
            self.crc,
        )?;
        self.sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The lines of one partition, oldest first. Ends after an error.
pub struct Dump(Kept);

/// The batches of one partition up to the checkpointed HW, oldest first. Ends after an error.
pub struct Kept {
    disk: Arc<dyn Disk>,
    id: TopicPartition,
    /// Where the log begins.
    start: Offset,
    hw: HighWatermark,
    segments: VecDeque<(LogIndex, PathBuf)>,
    open: Option<(PathBuf, Scan)>,
    is_over: bool,
}

/// Opens partition `partition` of `topic`, a name or a uuid, in the data directory `dir`.
pub fn dump(disk: Arc<dyn Disk>, dir: &Path, topic: &str, partition: i32) -> Result<Dump, Error> {
    let Some(identity) = Identity::load(&*disk, dir)? else {
        let reason = "not there: this is no data directory of a node".to_owned();
        return Err(Error::Malformed { path: dir.join(identity::FILE), reason });
    };
    let states = states(&*disk, dir, identity.disk_uuid)?;
    let (id, kept) = find(&states, dir, topic, partition)?;
    Kept::open(disk, dir, id, kept).map(Dump)
}

fn states(disk: &dyn Disk, dir: &Path, disk_uuid: [u8; 16]) -> Result<States, Error> {
    let journal = store::journal_dir(dir);
    let mut tries = 1;
    loop {
        match Journal::load(disk, &journal, disk_uuid, false) {
            Ok(loaded) => return Ok(loaded.map_or_else(States::new, |(_, states)| states)),
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && tries < JOURNAL_READS_MAX =>
            {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn find<'a>(
    states: &'a States,
    dir: &Path,
    topic: &str,
    partition: i32,
) -> Result<(TopicPartition, &'a state::Kept), Error> {
    let uuid = topic.parse::<TopicId>().ok();
    let is_asked = |id: &TopicPartition, kept: &state::Kept| {
        kept.topic_name == topic || uuid == Some(id.topic)
    };
    let mut found =
        states.iter().filter(|(id, kept)| id.partition == partition && is_asked(id, kept));
    match (found.next(), found.next()) {
        (Some((id, kept)), None) => Ok((*id, kept)),
        // None, or a name that a topic had and another has: its uuid must be given.
        _ => {
            let wanted = format!("{topic}-{partition}");
            Err(Error::UnknownTopic { wanted, dir: dir.to_owned(), there: list(states) })
        }
    }
}

/// `orders (uuid) 0 1 2; words (uuid) 0`, or `none`.
fn list(states: &States) -> String {
    let mut topics: BTreeMap<(&str, TopicId), Vec<String>> = BTreeMap::new();
    for (id, kept) in states {
        let partitions = topics.entry((kept.topic_name.as_str(), id.topic)).or_default();
        partitions.push(id.partition.to_string());
    }
    if topics.is_empty() {
        return "none".to_owned();
    }
    let one = |((name, id), partitions): (&(&str, TopicId), &Vec<String>)| {
        format!("{name} ({id}) {}", partitions.join(" "))
    };
    topics.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Kept {
    fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: TopicPartition,
        kept: &state::Kept,
    ) -> Result<Self, Error> {
        let partition_dir = store::partition_dir(dir, id);
        let names = disk.list(&partition_dir).context("list", &partition_dir)?;
        let segments = names
            .iter()
            .filter_map(|name| Some((segment::base_index_of(name)?, partition_dir.join(name))))
            .collect();
        let (start, hw) = (kept.start.offset, kept.hw);
        let mut opened = Self { disk, id, start, hw, segments, open: None, is_over: false };
        // Left over from moving the log start.
        opened.skip_to(kept.start.index.next());
        Ok(opened)
    }

    /// Of a partition in the data directory `dir`; `None` if it has no replica there.
    pub fn of(disk: Arc<dyn Disk>, dir: &Path, id: TopicPartition) -> Result<Option<Self>, Error> {
        let Some(identity) = Identity::load(&*disk, dir)? else { return Ok(None) };
        let states = states(&*disk, dir, identity.disk_uuid)?;
        states.get(&id).map(|kept| Self::open(disk, dir, id, kept)).transpose()
    }

    /// Leaves out segments that have only entries before `first`.
    pub fn skip_to(&mut self, first: LogIndex) {
        while self.segments.get(1).is_some_and(|(base, _)| *base <= first) {
            self.segments.pop_front();
        }
    }

    /// Offsets that are there, the end exclusive.
    pub fn offsets(&self) -> (Offset, Offset) {
        (self.start, self.hw.offset)
    }

    fn next_batch(&mut self) -> Result<Option<(batch::Header, Bytes)>, Error> {
        loop {
            let Some((path, scan)) = &mut self.open else {
                match self.segments.pop_front() {
                    Some((base, path)) if base <= self.hw.index => {
                        let scan = open(&*self.disk, self.id, base, &path)?;
                        self.open = Some((path, scan));
                        continue;
                    }
                    _ => return Ok(None),
                }
            };
            let corrupt = |position, index| Error::Corrupt {
                partition: self.id,
                path: path.clone(),
                position,
                index,
            };
            let position = scan.position();
            let frame = match scan.step().context("read", path)? {
                Step::Frame(frame) if frame.meta.index > self.hw.index => return Ok(None),
                Step::Frame(frame) => frame,
                Step::End => {
                    self.open = None;
                    continue;
                }
                Step::Bad(_) => return Err(corrupt(position, self.hw.index)),
            };
            if frame.meta.kind != Kind::Batch || frame.meta.next_offset <= self.start {
                continue;
            }
            let bytes = scan.payload().context("read", path)?;
            let header = batch::check(&bytes).map_err(|_| corrupt(position, frame.meta.index))?;
            return Ok(Some((header, bytes)));
        }
    }
}

pub(super) fn open(
    disk: &dyn Disk,
    id: TopicPartition,
    base: LogIndex,
    path: &Path,
) -> Result<Scan, Error> {
    let (file, _) = open_file(disk, id, base, path)?;
    let size = file.len().context("measure", path)?;
    let first = segment::HEADER_BYTES as u64;
    Ok(Scan::new(file, Seed::of(id), first, size, Ahead::ToEnd))
}

/// A segment's file, and its header, which is the right one.
pub(super) fn open_file(
    disk: &dyn Disk,
    id: TopicPartition,
    base: LogIndex,
    path: &Path,
) -> Result<(Arc<dyn DiskFile>, Header), Error> {
    let file = disk.open_read(path).context("open", path)?;
    let mut header = [0; segment::HEADER_BYTES];
    let read = file.read_at(&mut header, 0).context("read", path)?;
    let header = Header::decode(&header[..read], id, base).map_err(|_| Error::Corrupt {
        partition: id,
        path: path.to_owned(),
        position: 0,
        index: base,
    })?;
    Ok((file, header))
}

impl Iterator for Kept {
    type Item = Result<(batch::Header, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_batch().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Iterator for Dump {
    type Item = Result<Line, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next()?;
        Some(next.map(|(header, bytes)| Line::new(&header, &bytes)))
    }
}
