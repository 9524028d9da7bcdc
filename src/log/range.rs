//! Committed entries as bytes between nodes: frames as they lie in a segment, for a replica that is
//! far behind or whose disk has lost them.
//!
//! Both ends check every frame and every batch, so a sender never hands on what has rotted on its own
//! disk, and a receiver takes nothing that changed on the way. What the checksums cannot tell, that
//! these are the entries of the group's log and not only some entries of the partition, is told by
//! their terms: see `replica::core::catch_up`.

use bytes::{Bytes, BytesMut};

use crate::model::{LogIndex, TopicPartition};

use super::entry::{Entry, Kind};
use super::error::Error;
use super::frame::{self, HEADER_BYTES, Seed};
use super::index::Target;
use super::reader::{Reader, ahead, check_index};
use super::segment::Summary;
use super::walk::Next;

/// Why bytes from a peer are no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    #[error("byte {at} begins no frame of {partition}")]
    Frame { partition: TopicPartition, at: usize },
    #[error("entry {index} at byte {at} is not what was written")]
    Payload { index: LogIndex, at: usize },
}

impl Reader {
    /// Frames of the entries from `from` up to `to` (exclusive), of at most `max_bytes` together, and
    /// at least one. A range ends with its segment.
    pub fn range(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Bytes, Error> {
        if from >= to {
            return Ok(Bytes::new());
        }
        let look = |view: &super::view::View| {
            check_index(view, from)?;
            Ok(view.place(Target::Index(from)))
        };
        let range = self.uncrossed(look, |place| {
            let mut range = BytesMut::new();
            self.walk(place, Target::Index(from), ahead(max_bytes), |frame, scan| {
                if frame.meta.index < from {
                    return Ok(Next::Go);
                }
                let size = frame.size_bytes() as usize;
                let full = !range.is_empty() && range.len() + size > max_bytes;
                if frame.meta.index >= to || full {
                    return Ok(Next::Stop);
                }
                if !scan.is_payload_whole(frame)? {
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
                range.extend_from_slice(&scan.frame()?);
                Ok(Next::Go)
            })?;
            Ok((!range.is_empty()).then_some(range.freeze()))
        })?;
        Ok(range.unwrap_or_default())
    }

    /// About how many bytes the entries from `from` up to `to` (exclusive) take: whole segments
    /// exactly, parts of one by their share of its entries. Memory only.
    pub fn bytes_between(&self, from: LogIndex, to: LogIndex) -> u64 {
        let view = self.shared.view();
        let share = |s: &Summary| {
            let (first, past) = (s.base_index.max(from), s.last_index.next().min(to));
            let entries = past.0.saturating_sub(first.0);
            let all = s.last_index.next().0.saturating_sub(s.base_index.0).max(1);
            (u128::from(s.size_bytes) * u128::from(entries) / u128::from(all)) as u64
        };
        let closed = view.closed.iter().map(|c| &c.summary);
        closed.chain(view.active.as_ref().map(|a| &a.summary)).map(share).sum()
    }
}

/// The entries of a range, whose payloads share its memory. Every checksum is checked.
pub fn parse_range(partition: TopicPartition, range: &Bytes) -> Result<Vec<Entry>, BadRange> {
    let seed = Seed::of(partition);
    let mut entries = Vec::new();
    let mut at = 0;
    while at < range.len() {
        let bad = BadRange::Frame { partition, at };
        let frame = frame::parse(seed, &range[at..]).map_err(|_| bad.clone())?;
        let end = at + HEADER_BYTES + frame.meta.payload_bytes as usize;
        if end > range.len() {
            return Err(bad);
        }
        let payload = range.slice(at + HEADER_BYTES..end);
        let meta = frame.meta;
        let is_placed = || {
            let header = crate::model::batch::Header::parse(&payload);
            header.is_ok_and(|header| header.base_offset == meta.base_offset)
        };
        let is_whole = frame::is_payload_whole(meta.kind, &payload);
        if !is_whole || meta.kind == Kind::Batch && !is_placed() {
            return Err(BadRange::Payload { index: meta.index, at });
        }
        entries.push(super::reader::entry(&meta, payload));
        at = end;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::{all_entries, append_batches, files, partition, store_with};

    #[test]
    fn ranges_together_are_the_log_and_each_ends_with_its_segment() {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, 1000);
        for _ in 0..10 {
            append_batches(&mut store, 3, &[b'x'; 100]);
        }
        let reader = store.reader(partition(0)).unwrap();
        let (last, _) = reader.last();
        let ends: Vec<LogIndex> = reader.segments().iter().map(|s| s.last_index).collect();
        assert!(ends.len() > 3, "several segments");
        for max_bytes in [1, 500, 1 << 20] {
            let mut from = LogIndex(1);
            let mut all = Vec::new();
            while from <= last {
                let range = reader.range(from, last.next(), max_bytes).unwrap();
                let entries = parse_range(partition(0), &range).unwrap();
                let end = entries.last().unwrap().index;
                assert!(range.len() <= max_bytes || entries.len() == 1);
                assert!(max_bytes < 1000 || ends.contains(&end));
                from = end.next();
                all.extend(entries);
            }
            assert_eq!(all, all_entries(&store));
        }
        let total: u64 = reader.segments().iter().map(|s| s.size_bytes).sum();
        assert_eq!(reader.bytes_between(LogIndex(1), last.next()), total);
        assert_eq!(reader.bytes_between(last.next(), last.next()), 0);
    }

    #[test]
    fn no_flipped_bit_passes_and_no_entry_of_another_partition() {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, 1 << 20);
        append_batches(&mut store, 2, b"payload");
        let reader = store.reader(partition(0)).unwrap();
        let good = reader.range(LogIndex(1), LogIndex(3), 1 << 20).unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 4;
            assert!(parse_range(partition(0), &bad.into()).is_err(), "byte {at}");
        }
        assert!(parse_range(partition(1), &good).is_err());
        assert!(parse_range(partition(0), &good.slice(..good.len() - 1)).is_err());
    }

    #[test]
    fn what_has_rotted_on_the_disk_is_not_handed_on() {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, 1 << 20);
        append_batches(&mut store, 2, &[b'x'; 100]);
        let reader = store.reader(partition(0)).unwrap();
        let path = files(&disk, ".log")[0].clone();
        disk.flip(&path, disk.content(&path).len() as u64 - 5, 2);
        let refused = reader.range(LogIndex(1), LogIndex(3), 1 << 20);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    }
}
