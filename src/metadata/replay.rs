//! From the records of `__meta` to the image: pure, so that a test can feed it any log.
//!
//! A log that starts at 0 starts with the empty image; any other must start with a snapshot.

use super::apply::{Outcome, apply};
use super::command::{self, Command};
use super::image::Image;
use super::snapshot::{self, Assembly, Part};
use crate::model::Offset;

/// Records after which a snapshot is due. Replaying so many takes a fraction of a second.
pub const SNAPSHOT_RECORDS: u64 = 10_000;

/// Bytes of commands after which a snapshot is due, or twice the size of the last snapshot if that
/// is more: so a large image is not written out for every few commands, and the log of `__meta`
/// stays below about four images.
pub const SNAPSHOT_BYTES: u64 = 4 << 20;

/// A log that cannot be replayed. The node must not go on: its image would be another cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("__meta at offset {at}: {source}")]
    Command { at: Offset, source: command::Error },
    #[error("__meta starts at offset {start}, which is not the start of a whole snapshot")]
    NoSnapshot { start: Offset },
    #[error("__meta: the snapshot at offset {at}: {source}")]
    Snapshot { at: Offset, source: snapshot::Error },
    #[error(
        "__meta: the snapshot at offset {at} differs from this node's image: one of them is wrong"
    )]
    Diverged { at: Offset },
    #[error("__meta: offset {found} where {expected} was due")]
    Gap { expected: Offset, found: Offset },
}

/// Reads the log of `__meta` record by record.
#[derive(Debug, Clone)]
pub struct Replay {
    image: Image,
    /// `false` until the snapshot at log start is whole.
    complete: bool,
    start: Offset,
    assembly: Assembly,
    since: Since,
    last_snapshot: Option<Offset>,
}

/// What was read since the last whole snapshot.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    records: u64,
    bytes: u64,
    snapshot_bytes: u64,
}

impl Replay {
    /// For a log whose first record is at `start`.
    pub fn new(start: Offset) -> Self {
        Self {
            image: Image { next_offset: start, ..Image::default() },
            complete: start == Offset::ZERO,
            start,
            assembly: Assembly::default(),
            since: Since::default(),
            last_snapshot: None,
        }
    }

    /// The offset of the record that is due.
    pub fn next_offset(&self) -> Offset {
        self.image.next_offset
    }

    /// The image, once there is one.
    pub fn image(&self) -> Option<&Image> {
        self.complete.then_some(&self.image)
    }

    /// Where the last whole snapshot starts: log start may move there.
    pub fn last_snapshot(&self) -> Option<Offset> {
        self.last_snapshot
    }

    /// Whether so much was read since the last snapshot that the leader should write another.
    pub fn is_snapshot_due(&self) -> bool {
        let bytes_max = SNAPSHOT_BYTES.max(2 * self.since.snapshot_bytes);
        self.complete && (self.since.records >= SNAPSHOT_RECORDS || self.since.bytes >= bytes_max)
    }

    /// Takes the record at `offset`.
    pub fn step(&mut self, offset: Offset, value: Option<&[u8]>) -> Result<Outcome, Error> {
        let expected = self.next_offset();
        if offset != expected {
            return Err(Error::Gap { expected, found: offset });
        }
        let failed = |source| Error::Command { at: offset, source };
        let value = value.ok_or(command::Error::Empty).map_err(failed)?;
        let command = Command::decode(value).map_err(failed)?;
        match command {
            Command::Snapshot(part) => self.take_part(offset, &part).map(|()| Ok(())),
            _ if !self.complete => Err(Error::NoSnapshot { start: self.start }),
            command => {
                self.assembly.clear();
                self.since.records += 1;
                self.since.bytes += value.len() as u64;
                Ok(apply(&mut self.image, offset, command))
            }
        }
    }

    fn take_part(&mut self, offset: Offset, part: &Part) -> Result<(), Error> {
        let whole = self.assembly.add(offset, part);
        self.image.next_offset = offset.plus(1);
        let Some((at, bytes)) = whole else {
            return if self.complete || self.assembly.is_open() {
                Ok(())
            } else {
                Err(Error::NoSnapshot { start: self.start })
            };
        };
        let read = snapshot::decode(&bytes, self.image.next_offset);
        let read = read.map_err(|source| Error::Snapshot { at, source })?;
        if !self.complete {
            self.image = read;
            self.complete = true;
        } else if snapshot::encode(&read) != snapshot::encode(&self.image) {
            return Err(Error::Diverged { at });
        }
        self.last_snapshot = Some(at);
        self.since = Since { snapshot_bytes: bytes.len() as u64, ..Since::default() };
        Ok(())
    }
}
