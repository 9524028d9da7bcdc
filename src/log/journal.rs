//! The state journal: what the replicas of one disk must never forget, in one file that is only
//! appended to, so that one sync makes the votes of thousands of groups durable.
//!
//! ```text
//! file    0  magic           8 bytes   "ISOBARSJ"
//!         8  version         u16       1
//!        10  reserved        u16       0
//!        12  disk uuid       16 bytes
//!        28  generation      u64       as in the file's name
//!        36  snapshot bytes  u64       up to here everything was synced before the file got its name
//!        44  CRC-32C         u32       of bytes 0 to 43
//!        48  records
//!
//! record  0  length          u32       of the body
//!         4  CRC-32C         u32       of disk uuid, generation, length, synced and body
//!         8  synced          u64       bytes of this file that were synced when this was written
//!        16  body            prost     one `state::Record`
//! ```
//!
//! A bad record is a torn tail, and cut, unless a later record says that it had been synced: then a
//! vote or a promise may be lost, and the disk must not take part (R21). A journal that has grown is
//! replaced by a snapshot of all states: a new file, synced, then renamed, then its directory synced;
//! only then the old one goes. So a crash leaves the old file or the new one, both whole.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::TopicPartition;

use super::disk::{self, Disk, DiskFile};
use super::error::{Context, Error};
use super::state::{Change, Kept};
use super::sync::Dirty;

const MAGIC: &[u8; 8] = b"ISOBARSJ";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;
const RECORD_HEADER_BYTES: usize = 16;

/// Largest body that is believed. A state is some hundred bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

pub(super) type States = BTreeMap<TopicPartition, Kept>;

#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    disk_uuid: [u8; 16],
    generation: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    size: u64,
    snapshot_bytes: u64,
    synced: u64,
}

fn file_name(generation: u64) -> String {
    format!("{generation:020}.journal")
}

fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The newest journal in `dir`, if there is one.
fn newest(disk: &dyn Disk, dir: &Path) -> Result<Option<(u64, PathBuf)>, Error> {
    let names = disk.list(dir).context("list", dir)?;
    let newest = names.iter().filter_map(|name| generation_of(name)).max();
    Ok(newest.map(|generation| (generation, dir.join(file_name(generation)))))
}

impl Journal {
    /// What the journal in `dir` says. `None` if there is none. `evict` reads from the device, not
    /// from a cache that a failed sync may have left wrong.
    pub(super) fn load(
        disk: &dyn Disk,
        dir: &Path,
        disk_uuid: [u8; 16],
        evict: bool,
    ) -> Result<Option<(u64, States)>, Error> {
        let Some((generation, path)) = newest(disk, dir)? else { return Ok(None) };
        let bytes = if evict {
            let file = disk.open(&path).context("open", &path)?;
            file.sync_data().context("sync", &path)?;
            file.evict().context("evict", &path)?;
            disk::read_all(&*file)
        } else {
            disk.open_read(&path).and_then(|file| disk::read_all(&*file))
        };
        let bytes = bytes.context("read", &path)?;
        let states = parse(&bytes, &path, disk_uuid, generation)?;
        Ok(Some((generation, states)))
    }

    /// Begins generation `generation` with a snapshot of `states`, durable on return, and removes
    /// whatever was before.
    pub(super) fn begin<'a>(
        disk: Arc<dyn Disk>,
        dir: &Path,
        disk_uuid: [u8; 16],
        generation: u64,
        states: impl Iterator<Item = (TopicPartition, &'a Kept)>,
    ) -> Result<Self, Error> {
        let bytes = snapshot(disk_uuid, generation, states);
        let path = dir.join(file_name(generation));
        disk::replace(&*disk, &path, &bytes).context("write", &path)?;
        for name in disk.list(dir).context("list", dir)? {
            let old = generation_of(&name).is_some_and(|g| g < generation);
            if old || name.ends_with(".tmp") {
                let path = dir.join(name);
                disk.remove_file(&path).context("remove", &path)?;
            }
        }
        let file = disk.open(&path).context("open", &path)?;
        let size = bytes.len() as u64;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            disk_uuid,
            generation,
            path,
            file,
            size,
            snapshot_bytes: size,
            synced: size,
        })
    }

    /// Appends `changes` as one write, not synced. Where there is no room and `may_skip`, nothing is
    /// written: a checkpoint is not worth more than the space that votes need.
    pub(super) fn append(&mut self, changes: &[Change], may_skip: bool) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(changes.len() * 128);
        for change in changes {
            encode(self.disk_uuid, self.generation, self.synced, &change.encode(), &mut bytes);
        }
        match self.file.append(&mut [IoSlice::new(&bytes)]) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) if may_skip && disk::is_out_of_space(&error) => {
                self.file.truncate(self.size).context("truncate", &self.path)
            }
            Err(error) => Err(error).context("append to", &self.path),
        }
    }

    /// Whether the file has grown enough to be replaced by a snapshot.
    pub(super) fn is_due_for_snapshot(&self, journal_bytes: u64) -> bool {
        self.size > journal_bytes.max(4 * self.snapshot_bytes)
    }

    /// Replaces the journal by a snapshot; everything in it is durable then.
    pub(super) fn replace<'a>(
        &mut self,
        states: impl Iterator<Item = (TopicPartition, &'a Kept)>,
    ) -> Result<(), Error> {
        let generation = self.generation + 1;
        *self = Self::begin(self.disk.clone(), &self.dir, self.disk_uuid, generation, states)?;
        Ok(())
    }

    pub(super) fn dirty(&self) -> Dirty {
        Dirty { file: self.file.clone(), path: self.path.clone() }
    }

    /// After `dirty` was synced.
    pub(super) fn mark_synced(&mut self) {
        self.synced = self.size;
    }

    /// Appends and syncs at once.
    pub(super) fn append_synced(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.append(changes, false)?;
        self.file.sync_data().context("sync", &self.path)?;
        self.mark_synced();
        Ok(())
    }
}

fn seed(disk_uuid: [u8; 16], generation: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&disk_uuid), &generation.to_be_bytes())
}

fn checksum(seed: u32, length: [u8; 4], synced: [u8; 8], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, &length);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &synced), body)
}

fn encode(disk_uuid: [u8; 16], generation: u64, synced: u64, body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() <= BODY_BYTES_MAX, "a state of {} bytes", body.len());
    let length = (body.len() as u32).to_be_bytes();
    let synced = synced.to_be_bytes();
    let crc = checksum(seed(disk_uuid, generation), length, synced, body);
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&synced);
    out.extend_from_slice(body);
}

fn snapshot<'a>(
    disk_uuid: [u8; 16],
    generation: u64,
    states: impl Iterator<Item = (TopicPartition, &'a Kept)>,
) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    for (id, kept) in states {
        let body = Change::Keep(id, Box::new(kept.clone())).encode();
        encode(disk_uuid, generation, 0, &body, &mut out);
    }
    let size = out.len() as u64;
    out[0..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_be_bytes());
    out[12..28].copy_from_slice(&disk_uuid);
    out[28..36].copy_from_slice(&generation.to_be_bytes());
    out[36..44].copy_from_slice(&size.to_be_bytes());
    let crc = crc32c::crc32c(&out[..44]);
    out[44..48].copy_from_slice(&crc.to_be_bytes());
    out
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

/// The record at `at`: what had been synced when it was written, and its body.
fn record(bytes: &[u8], at: usize, seed: u32) -> Option<(u64, &[u8])> {
    let header = bytes.get(at..at + RECORD_HEADER_BYTES)?;
    let length = u32::from_be_bytes(array(header, 0)) as usize;
    if length == 0 || length > BODY_BYTES_MAX {
        return None;
    }
    let body = bytes.get(at + RECORD_HEADER_BYTES..at + RECORD_HEADER_BYTES + length)?;
    let crc = checksum(seed, array(header, 0), array(header, 8), body);
    let good = crc.to_be_bytes() == header[4..8];
    good.then(|| (u64::from_be_bytes(array(header, 8)), body))
}

fn parse(bytes: &[u8], path: &Path, disk_uuid: [u8; 16], generation: u64) -> Result<States, Error> {
    let corrupt = |position: usize| Error::JournalCorrupt {
        path: path.to_owned(),
        position: position as u64,
    };
    // The header was synced before the file had this name.
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| corrupt(0))?;
    if header[..8] != MAGIC[..] || crc32c::crc32c(&header[..44]).to_be_bytes() != header[44..48] {
        return Err(corrupt(0));
    }
    let version = u16::from_be_bytes(array(header, 8));
    if version != VERSION {
        return Err(Error::Version { path: path.to_owned(), found: version, known: VERSION });
    }
    if header[12..28] != disk_uuid || header[28..36] != generation.to_be_bytes() {
        let reason = "this journal was made for another disk".to_owned();
        return Err(Error::Malformed { path: path.to_owned(), reason });
    }
    let snapshot_bytes = u64::from_be_bytes(array(header, 36));
    let seed = seed(disk_uuid, generation);
    let mut states = States::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let Some((_, body)) = record(bytes, at, seed) else { break };
        let change = Change::decode(body).ok_or_else(|| Error::Malformed {
            path: path.to_owned(),
            reason: format!("the record at byte {at} is of no kind that this binary knows"),
        })?;
        apply(&mut states, change);
        at += RECORD_HEADER_BYTES + body.len();
    }
    let was_synced =
        |later: usize| record(bytes, later, seed).is_some_and(|(synced, _)| synced > at as u64);
    if (at as u64) < snapshot_bytes || (at + 1..bytes.len()).any(was_synced) {
        return Err(corrupt(at));
    }
    Ok(states)
}

fn apply(states: &mut States, change: Change) {
    match change {
        Change::Keep(id, kept) => {
            states.insert(id, *kept);
        }
        Change::Checkpoint(id, hw, durable) => {
            if let Some(kept) = states.get_mut(&id) {
                (kept.hw, kept.durable) = (hw, durable);
            }
        }
        Change::Remove(id) => {
            states.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::sim::SimDisk;
    use crate::log::state::{HighWatermark, LogStart, ReplicaState};
    use crate::log::tests::partition;
    use crate::model::{LogIndex, Offset, Term};

    const UUID: [u8; 16] = [7; 16];

    fn kept(term: u64) -> Kept {
        Kept {
            topic_name: "t".into(),
            state: ReplicaState { term: Term(term), ..ReplicaState::default() },
            start: LogStart::default(),
            hw: HighWatermark::default(),
            durable: LogIndex(0),
            resetting: None,
        }
    }

    fn keep(n: i32, term: u64) -> Change {
        Change::Keep(partition(n), Box::new(kept(term)))
    }

    fn begin(disk: &SimDisk) -> Journal {
        disk.create_dir_all(Path::new("/j")).unwrap();
        let first = kept(1);
        let states = [(partition(0), &first)];
        Journal::begin(Arc::new(disk.clone()), Path::new("/j"), UUID, 1, states.into_iter())
            .unwrap()
    }

    fn load(disk: &SimDisk) -> Result<Option<(u64, States)>, Error> {
        Journal::load(disk, Path::new("/j"), UUID, false)
    }

    #[test]
    fn the_last_word_on_each_partition_counts() {
        let disk = SimDisk::new(1);
        let mut journal = begin(&disk);
        let hw = HighWatermark { index: LogIndex(4), offset: Offset(5) };
        let changes = [
            keep(1, 10),
            keep(2, 20),
            keep(1, 11),
            Change::Checkpoint(partition(1), hw, LogIndex(6)),
            Change::Remove(partition(2)),
        ];
        journal.append_synced(&changes).unwrap();
        let (generation, states) = load(&disk).unwrap().unwrap();
        assert_eq!(generation, 1);
        assert_eq!(states.keys().copied().collect::<Vec<_>>(), [partition(0), partition(1)]);
        let one = &states[&partition(1)];
        assert_eq!((one.state.term, one.hw, one.durable), (Term(11), hw, LogIndex(6)));
    }

    #[test]
    fn a_torn_tail_is_cut_at_every_byte() {
        let disk = SimDisk::new(1);
        let mut journal = begin(&disk);
        journal.append_synced(&[keep(0, 2)]).unwrap();
        let synced = journal.size;
        journal.append(&[keep(0, 3)], false).unwrap();
        let path = journal.path.clone();
        for size in (synced..journal.size).rev() {
            journal.file.truncate(size).unwrap();
            let (_, states) = load(&disk).unwrap().unwrap();
            assert_eq!(
                states[&partition(0)].state.term,
                Term(2),
                "{} cut to {size}",
                path.display()
            );
        }
    }

    #[test]
    fn damage_that_a_later_record_proves_to_have_been_synced_is_no_torn_tail() {
        let disk = SimDisk::new(1);
        let mut journal = begin(&disk);
        let first = journal.size;
        journal.append_synced(&[keep(0, 2)]).unwrap();
        let second = journal.size;
        journal.append_synced(&[keep(0, 3)]).unwrap();
        disk.flip(&journal.path, second + 20, 1);
        // The last record is damaged, nothing follows: it could be torn.
        assert_eq!(load(&disk).unwrap().unwrap().1[&partition(0)].state.term, Term(2));
        disk.flip(&journal.path, second + 20, 1);
        disk.flip(&journal.path, first + 20, 1);
        assert!(
            matches!(load(&disk), Err(Error::JournalCorrupt { position, .. }) if position == first)
        );
        disk.flip(&journal.path, first + 20, 1);
        for in_snapshot in [0, 9, 47, 50, 70] {
            disk.flip(&journal.path, in_snapshot, 1);
            assert!(matches!(load(&disk), Err(Error::JournalCorrupt { .. })), "{in_snapshot}");
            disk.flip(&journal.path, in_snapshot, 1);
        }
    }

    #[test]
    fn a_snapshot_replaces_all_that_was_before() {
        let disk = SimDisk::new(1);
        let mut journal = begin(&disk);
        journal.append_synced(&[keep(1, 9)]).unwrap();
        let nine = kept(9);
        journal.replace([(partition(1), &nine)].into_iter()).unwrap();
        let (generation, states) = load(&disk).unwrap().unwrap();
        assert_eq!((generation, states.len()), (2, 1));
        assert_eq!(disk.list(Path::new("/j")).unwrap(), [file_name(2)]);
    }
}
