//! Producer-state snapshots: bytes of the replica's making, kept by the index they follow.
//!
//! ```text
//!  0  magic      8 bytes  "ISOBARPS"
//!  8  version    u16      1
//! 10  reserved   u16      0
//! 12  CRC-32C    u32      of topic uuid, partition, bytes 0 to 11, index, length and content
//! 16  index      u64      the state after this entry
//! 24  length     u32
//! 28  content
//! ```
//!
//! A damaged one is passed over: the one before it and a longer read of the log give the same state.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::model::{LogIndex, TopicPartition};

use super::disk::{self, Disk};
use super::error::{Context, Error};

const MAGIC: &[u8; 8] = b"ISOBARPS";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 28;

fn path(dir: &Path, index: LogIndex) -> PathBuf {
    dir.join(format!("{:020}.producers", index.0))
}

fn index_of(name: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(".producers")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(LogIndex)).flatten()
}

fn checksum(id: TopicPartition, header: &[u8], content: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(&id.topic.0);
    let crc = crc32c::crc32c_append(crc, &id.partition.to_be_bytes());
    let crc = crc32c::crc32c_append(crc, &header[..12]);
    let crc = crc32c::crc32c_append(crc, &header[16..HEADER_BYTES]);
    crc32c::crc32c_append(crc, content).to_be_bytes()
}

/// Writes the snapshot of the state after `index`, durably.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    id: TopicPartition,
    index: LogIndex,
    content: &[u8],
) -> Result<(), Error> {
    let mut file = Vec::with_capacity(HEADER_BYTES + content.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_be_bytes());
    file.extend_from_slice(&[0; 6]);
    file.extend_from_slice(&index.0.to_be_bytes());
    let length = u32::try_from(content.len()).expect("a producer snapshot is below 4 GiB");
    file.extend_from_slice(&length.to_be_bytes());
    let crc = checksum(id, &file, content);
    file[12..16].copy_from_slice(&crc);
    file.extend_from_slice(content);
    let path = path(dir, index);
    disk::replace(disk, &path, &file).context("write", &path)
}

fn decode(bytes: Vec<u8>, id: TopicPartition, index: LogIndex) -> Option<Bytes> {
    let header = bytes.get(..HEADER_BYTES)?;
    let content = &bytes[HEADER_BYTES..];
    let good = header[..8] == MAGIC[..]
        && header[8..10] == VERSION.to_be_bytes()
        && header[12..16] == checksum(id, header, content)
        && header[16..24] == index.0.to_be_bytes()
        && header[24..28] == u32::try_from(content.len()).ok()?.to_be_bytes();
    good.then(|| Bytes::from(bytes).slice(HEADER_BYTES..))
}

fn indexes(disk: &dyn Disk, dir: &Path) -> Result<Vec<LogIndex>, Error> {
    let names = disk.list(dir).context("list", dir)?;
    Ok(names.iter().filter_map(|name| index_of(name)).collect())
}

/// The newest snapshot not above `index` that is whole.
pub(super) fn newest(
    disk: &dyn Disk,
    dir: &Path,
    id: TopicPartition,
    index: LogIndex,
) -> Result<Option<(LogIndex, Bytes)>, Error> {
    for at in indexes(disk, dir)?.into_iter().rev().filter(|at| *at <= index) {
        let path = path(dir, at);
        let read = disk.open_read(&path).and_then(|file| disk::read_all(&*file));
        // It may go while it is read: the log start has moved.
        if let Some(content) = read.ok().and_then(|bytes| decode(bytes, id, at)) {
            return Ok(Some((at, content)));
        }
    }
    Ok(None)
}

/// Removes snapshots above `last`, which a truncation left, and those below the newest that is not
/// above `start`, which nothing asks for any more.
pub(super) fn trim(
    disk: &dyn Disk,
    dir: &Path,
    start: LogIndex,
    last: LogIndex,
) -> Result<(), Error> {
    let all = indexes(disk, dir)?;
    let least = all.iter().copied().filter(|at| *at <= start).max().unwrap_or(LogIndex::ZERO);
    for at in all.into_iter().filter(|at| *at < least || *at > last) {
        let path = path(dir, at);
        disk.remove_file(&path).context("remove", &path)?;
    }
    Ok(())
}
