//! The segment that is written: what is known of it, and its index, in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::model::{LogIndex, Offset};

use super::disk::{Disk, DiskFile};
use super::files::{FileId, Files};
use super::frame::{Bad, Frame, Seed};
use super::index::{self, INTERVAL_BYTES, IndexEntry};
use super::scan::{Ahead, Scan, Step};
use super::segment::{self, Summary};
use super::view::Closed;

/// The segment that is written. Its index is here.
#[derive(Debug, Clone)]
pub(super) struct Active {
    pub(super) file: FileId,
    pub(super) path: Arc<Path>,
    pub(super) summary: Summary,
    pub(super) index: Vec<IndexEntry>,
}

/// Where a walk over frames ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At the end of the file, or before the entry that was asked for.
    Clean,
    /// At bytes that are no frame, or none that continues the log.
    Bad,
}

impl Active {
    pub(super) fn new(
        file: FileId,
        path: Arc<Path>,
        base_index: LogIndex,
        base_offset: Offset,
    ) -> Self {
        let summary = Summary::new(base_index, base_offset);
        Self { file, path, summary, index: Vec::new() }
    }

    /// Counts in the frame that begins where those before it ended.
    pub(super) fn add(&mut self, frame: &Frame) {
        let position = self.summary.size_bytes;
        let due =
            self.index.last().is_none_or(|e| position >= u64::from(e.position) + INTERVAL_BYTES);
        if due {
            self.index.push(IndexEntry {
                index: frame.meta.index,
                base_offset: frame.meta.base_offset,
                timestamp_before: self.summary.max_timestamp,
                append_time_before_ms: self.summary.last_append_time_ms,
                position: u32::try_from(position).expect("a segment is below 4 GiB"),
            });
        }
        self.summary.add(frame);
    }

    /// Forgets everything after the last index entry at or before `index`, to walk on from there.
    pub(super) fn rewind(&mut self, index: LogIndex) {
        let keep = self.index.partition_point(|e| e.index <= index);
        self.index.truncate(keep);
        self.summary = match self.index.pop() {
            Some(entry) => self.summary.rewound(&entry),
            None => Summary::new(self.summary.base_index, self.summary.base_offset),
        };
    }

    /// Walks the frames after those that are known, up to `end` in the file and up to the entry
    /// `before`, and counts them in. The payloads of entries from `check_from` on are checked too.
    pub(super) fn extend(
        &mut self,
        file: &Arc<dyn DiskFile>,
        seed: Seed,
        end: u64,
        before: LogIndex,
        check_from: LogIndex,
    ) -> io::Result<End> {
        let mut scan = Scan::new(file.clone(), seed, self.summary.size_bytes, end, Ahead::ToEnd);
        while self.summary.last_index.next() < before {
            let frame = match scan.step()? {
                Step::Frame(frame) => frame,
                Step::Bad(Bad::Short | Bad::Content) => return Ok(End::Bad),
                Step::End => return Ok(End::Clean),
            };
            let summary = &self.summary;
            let continues = frame.meta.index == summary.last_index.next()
                && frame.meta.term >= summary.last_term
                && frame.meta.base_offset == summary.next_offset;
            if !continues || frame.meta.index >= check_from && !scan.is_payload_whole(&frame)? {
                return Ok(End::Bad);
            }
            self.add(&frame);
        }
        Ok(End::Clean)
    }

    /// Writes the index beside the segment. It is not synced: it can always be made again, so only
    /// the name changes at once.
    pub(super) fn save_index(&self, disk: &dyn Disk) -> io::Result<()> {
        let path = segment::index_path(&self.path);
        let temporary = path.with_extension("index.tmp");
        let bytes = index::encode(&self.summary, &self.index);
        let file = disk.create(&temporary)?;
        file.append(&mut [io::IoSlice::new(&bytes)])?;
        disk.rename(&temporary, &path)
    }

    /// This segment, closed; `indexed` says whether its index is on disk.
    pub(super) fn close(self, files: &Files, indexed: bool) -> Closed {
        let head = index::encode(&self.summary, &[]).len() as u64;
        let entries = if indexed { self.index.len() } else { 0 };
        Closed {
            file: self.file,
            path: self.path,
            summary: self.summary,
            index_file: files.id(),
            index_entries: u32::try_from(entries).expect("one entry for 4 KiB"),
            index_position: head,
            held: Box::default(),
        }
    }

    /// This segment, closed, with one in so many entries of its index in memory.
    pub(super) fn close_held(mut self, files: &Files, one_in: usize) -> Closed {
        let held = std::mem::take(&mut self.index).into_iter().step_by(one_in).collect();
        Closed { held, ..self.close(files, false) }
    }

    /// What the index file beside the segment says, if it is whole and of this segment. It may end
    /// before the segment does.
    pub(super) fn load_index(&mut self, disk: &dyn Disk) -> io::Result<bool> {
        let path = segment::index_path(&self.path);
        if !disk.exists(&path)? {
            return Ok(false);
        }
        let bytes = super::disk::read_all(&*disk.open_read(&path)?)?;
        let Some(head) = index::decode_head(&bytes) else { return Ok(false) };
        let entries = &bytes[head.entries_position as usize..];
        let ours = head.summary.base_index == self.summary.base_index
            && head.summary.base_offset == self.summary.base_offset;
        if !ours || entries.len() != head.entries as usize * index::ENTRY_BYTES {
            return Ok(false);
        }
        let entries: Option<Vec<IndexEntry>> =
            entries.chunks(index::ENTRY_BYTES).map(IndexEntry::decode).collect();
        let Some(entries) = entries else { return Ok(false) };
        self.index = entries;
        self.summary = head.summary;
        Ok(true)
    }
}

/// The head of a closed segment's index file, if it covers the whole segment of `size` bytes. Its
/// entries are checked one by one as they are used.
pub(super) fn closed_index(
    disk: &dyn Disk,
    segment_path: &Path,
    size: u64,
) -> io::Result<Option<index::Head>> {
    /// Enough for a dozen epochs; more take a second read.
    const FRONT_BYTES: usize = 512;
    let path = segment::index_path(segment_path);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let file = disk.open_read(&path)?;
    let mut bytes = vec![0; FRONT_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let Some(needed) = index::head_bytes(&bytes) else { return Ok(None) };
    if needed > bytes.len() {
        bytes.resize(needed, 0);
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
    }
    let Some(head) = index::decode_head(&bytes) else { return Ok(None) };
    let whole = head.entries_position + u64::from(head.entries) * index::ENTRY_BYTES as u64;
    let covers = head.summary.size_bytes == size && file.len()? == whole;
    Ok(covers.then_some(head))
}
