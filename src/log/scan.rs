//! Reading a segment's frames in order. Payloads are slices of what was read, never copies.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::model::batch;

use super::disk::DiskFile;
use super::entry::Kind;
use super::frame::{self, Bad, Frame, Seed};

/// Bytes read at once by a walk over small frames. It is sequential; larger gains nothing.
const CHUNK_BYTES: usize = 256 * 1024;

/// Bytes read at once where frames are larger than this and only their headers are wanted.
const HOP_BYTES: usize = 4096;

/// How far to read ahead.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ahead {
    /// So many bytes at first, for an answer of about that size; afterwards only what is asked.
    Once(usize),
    /// For a walk to the end.
    ToEnd,
}

/// A walk over frames, from a position that is a frame's first byte.
pub(super) struct Scan {
    file: Arc<dyn DiskFile>,
    seed: Seed,
    /// Of the next frame.
    position: u64,
    end: u64,
    ahead: Ahead,
    chunk: Bytes,
    /// Where `chunk` begins in the file.
    chunk_position: u64,
    /// Of the frame that the last step found.
    found_position: u64,
    found_bytes: u64,
}

/// One step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Frame(Frame),
    /// No frame; `position` stays before it.
    Bad(Bad),
    End,
}

impl Scan {
    /// From `position` up to `end`, which is where the file, or what is visible of it, ends.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        seed: Seed,
        position: u64,
        end: u64,
        ahead: Ahead,
    ) -> Self {
        Self {
            file,
            seed,
            position,
            end,
            ahead,
            chunk: Bytes::new(),
            chunk_position: 0,
            found_position: position,
            found_bytes: 0,
        }
    }

    /// Of the frame that `step` reads next, or found bad.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next frame. Its frame CRC is checked, its batch's is not: see `payload`.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        let front = self.bytes(self.position, frame::PEEK_BYTES)?;
        let parsed = match frame::bytes_to_parse(&front) {
            None => Err(Bad::Short),
            Some(needed) if needed <= front.len() => frame::parse(self.seed, &front),
            Some(needed) if needed > frame::FRAME_BYTES_MAX => Err(Bad::Content),
            Some(needed) => frame::parse(self.seed, &self.bytes(self.position, needed)?),
        };
        let found = match parsed {
            Ok(found) if self.position + found.size_bytes() > self.end => {
                return Ok(Step::Bad(Bad::Short));
            }
            Ok(found) => found,
            Err(bad) => return Ok(Step::Bad(bad)),
        };
        self.found_position = self.position;
        self.found_bytes = found.size_bytes();
        self.position += found.size_bytes();
        Ok(Step::Frame(found))
    }

    /// The payload of the frame that the last step found. Not checked.
    pub(super) fn payload(&mut self) -> io::Result<Bytes> {
        Ok(self.frame()?.slice(frame::HEADER_BYTES..))
    }

    /// All of the frame that the last step found.
    pub(super) fn frame(&mut self) -> io::Result<Bytes> {
        let bytes = self.bytes(self.found_position, self.found_bytes as usize)?;
        if (bytes.len() as u64) < self.found_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Whether the payload of the frame that the last step found is what was written.
    pub(super) fn is_payload_whole(&mut self, found: &Frame) -> io::Result<bool> {
        Ok(frame::is_payload_whole(found.meta.kind, &self.payload()?))
    }

    /// The header of the batch that the last step found; `None` where that was none.
    pub(super) fn batch_header(&mut self, found: &Frame) -> io::Result<Option<batch::Header>> {
        if found.meta.kind != Kind::Batch {
            return Ok(None);
        }
        batch::Header::parse(&self.payload()?)
            .map(Some)
            .map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Up to `wanted` bytes at `position`; fewer only before the end.
    fn bytes(&mut self, position: u64, wanted: usize) -> io::Result<Bytes> {
        let there = usize::try_from(self.end - position).unwrap_or(usize::MAX);
        let wanted = wanted.min(there);
        let held = position >= self.chunk_position
            && position + wanted as u64 <= self.chunk_position + self.chunk.len() as u64;
        if !held {
            let ahead = match self.ahead {
                Ahead::Once(bytes) => {
                    self.ahead = Ahead::Once(HOP_BYTES);
                    bytes
                }
                Ahead::ToEnd if self.found_bytes > HOP_BYTES as u64 => HOP_BYTES,
                Ahead::ToEnd => CHUNK_BYTES,
            };
            let mut chunk = BytesMut::zeroed(ahead.max(wanted).min(there));
            let read = self.file.read_at(&mut chunk, position)?;
            chunk.truncate(read);
            self.chunk = chunk.freeze();
            self.chunk_position = position;
        }
        let start = (position - self.chunk_position) as usize;
        Ok(self.chunk.slice(start..(start + wanted).min(self.chunk.len())))
    }
}
