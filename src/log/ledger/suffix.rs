//! Reading a suffix: its batches, and whether it is what its manifest says.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::manifest::{Content, Manifest, Tally, hex};
use super::{CUTTING, MANIFEST};
use crate::log::disk::{self, Disk};
use crate::log::dump;
use crate::log::entry::{Entry, Kind};
use crate::log::error::{Context, Error};
use crate::log::reader;
use crate::log::scan::{Scan, Step};
use crate::log::segment;
use crate::model::{LogIndex, Offset, Term};

/// What one replica's log had beyond the cut of one home move.
#[derive(Debug, Clone)]
pub struct Suffix {
    pub manifest: Manifest,
    pub dir: PathBuf,
    /// The cut has been finished: all of it is here and nothing of it is in the log. If not, a crash
    /// has interrupted it, and the node's next start goes on with it.
    pub is_whole: bool,
    pub(super) disk: Arc<dyn Disk>,
}

impl PartialEq for Suffix {
    fn eq(&self, other: &Self) -> bool {
        let of = |s: &Self| (s.dir.clone(), s.is_whole);
        self.manifest == other.manifest && of(self) == of(other)
    }
}

impl Eq for Suffix {}

/// One batch of a suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub term: Term,
    /// The leader's clock, in ms.
    pub append_time_ms: i64,
    /// As clients would have fetched it. Its checksum was right.
    pub batch: Bytes,
}

/// The batches of a suffix, oldest first. Ends after an error.
pub struct Batches {
    entries: Entries,
    is_over: bool,
}

impl Suffix {
    pub(super) fn read(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, Error> {
        let cutting = dir.join(CUTTING);
        let is_whole = !disk.exists(&cutting).context("look for", &cutting)?;
        let path = if is_whole { dir.join(MANIFEST) } else { cutting };
        let bytes = disk.open_read(&path).and_then(|file| disk::read_all(&*file));
        let manifest = Manifest::decode(&bytes.context("read", &path)?, &path)?;
        Ok(Self { manifest, dir, is_whole, disk })
    }

    /// The directory's name, `<new epoch>-<first index>`.
    pub fn name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The batches, oldest first. Those of a suffix that is not whole are in two places, and refused.
    pub fn batches(&self) -> Result<Batches, Error> {
        Ok(Batches { entries: self.entries()?, is_over: false })
    }

    /// Reads all of it, and compares with the manifest.
    pub fn verify(&self) -> Result<(), Error> {
        let mut entries = self.entries()?;
        let mut tally = Tally::default();
        let mut last = (LogIndex::ZERO, Term(0));
        let broken = |reason: String| Error::Malformed { path: self.dir.clone(), reason };
        while let Some(entry) = entries.next()? {
            last = (entry.index, entry.term);
            tally.add(&entry).map_err(|e| broken(format!("entry {}: {e}", entry.index)))?;
        }
        let found = tally.finish();
        if found == self.manifest.content && last == self.manifest.last {
            return Ok(());
        }
        let say = |(last, _): (LogIndex, Term), content: &Content| {
            let Content { entries, records, bytes, sha256, .. } = content;
            let sha256 = hex(sha256);
            format!("{entries} entries up to {last}, {records} records, {bytes} bytes, {sha256}")
        };
        let (stated, held) = (say(self.manifest.last, &self.manifest.content), say(last, &found));
        Err(broken(format!("the manifest says {stated}; the segments hold {held}")))
    }

    fn entries(&self) -> Result<Entries, Error> {
        if !self.is_whole {
            let reason =
                "its cut was interrupted; the node goes on with it when it starts".to_owned();
            return Err(Error::Malformed { path: self.dir.clone(), reason });
        }
        let names = self.disk.list(&self.dir).context("list", &self.dir)?;
        let segments = names
            .iter()
            .filter_map(|name| Some((segment::base_index_of(name)?, self.dir.join(name))))
            .collect();
        Ok(Entries { suffix: self.clone(), next: self.manifest.first_index, segments, open: None })
    }
}

/// Every entry of a suffix, in order and without a gap.
struct Entries {
    suffix: Suffix,
    next: LogIndex,
    segments: VecDeque<(LogIndex, PathBuf)>,
    open: Option<(PathBuf, Scan)>,
}

impl Entries {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        let id = self.suffix.manifest.partition;
        loop {
            let Some((path, scan)) = &mut self.open else {
                let Some((base, path)) = self.segments.pop_front() else { return Ok(None) };
                let scan = dump::open(&*self.suffix.disk, id, base, &path)?;
                self.open = Some((path, scan));
                continue;
            };
            let (position, index) = (scan.position(), self.next);
            let corrupt = || Error::Corrupt { partition: id, path: path.clone(), position, index };
            let frame = match scan.step().context("read", path)? {
                Step::Frame(frame) if frame.meta.index == index => frame,
                Step::End => {
                    self.open = None;
                    continue;
                }
                Step::Frame(_) | Step::Bad(_) => return Err(corrupt()),
            };
            if !scan.is_payload_whole(&frame).context("read", path)? {
                return Err(corrupt());
            }
            self.next = index.next();
            let payload = scan.payload().context("read", path)?;
            return Ok(Some(reader::entry(&frame.meta, payload)));
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Stored, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            match self.entries.next() {
                Ok(Some(entry)) if entry.kind != Kind::Batch => {}
                Ok(Some(entry)) => {
                    return Some(Ok(Stored {
                        base_offset: entry.base_offset,
                        next_offset: entry.next_offset(),
                        term: entry.term,
                        append_time_ms: entry.append_time_ms,
                        batch: entry.payload,
                    }));
                }
                end => {
                    self.is_over = true;
                    return end.err().map(Err);
                }
            }
        }
        None
    }
}
