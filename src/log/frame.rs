//! The frame around an entry on disk. Big-endian, as everything of Kafka's.
//!
//! ```text
//!  0  payload length  u32
//!  4  frame version   u8    1; 0 is no version, so zeroes are no frame
//!  5  kind            u8    1 batch, 2 empty, 3 configuration change, 4 control
//!  6  control         u8    which control entry; 0 unless kind is 4
//!  7  reserved        u8    0
//!  8  term            u32   the home epoch is its high bits
//! 12  index           u64
//! 20  base offset     i64
//! 28  append time     i64   ms
//! 36  CRC-32C         u32   of topic uuid, partition, bytes 0 to 35, and of the payload:
//!                           a batch's first 21 bytes, all of anything else
//! 40  payload
//! ```
//!
//! The batch's own CRC covers the rest of it, so every byte is covered once, and neither the payload
//! of a batch is read again to write it nor is it copied.

use crate::model::{LogIndex, Offset, Term, TopicPartition, batch};

use super::entry::{self, Entry, EntryMeta, Kind};

/// Bytes of a frame before its payload.
pub(super) const HEADER_BYTES: usize = 40;

/// Bytes that tell everything about an entry but its content: a frame's header and a batch's.
pub(super) const PEEK_BYTES: usize = HEADER_BYTES + batch::HEADER_BYTES;

/// Largest frame.
pub(super) const FRAME_BYTES_MAX: usize = HEADER_BYTES + super::PAYLOAD_BYTES_MAX as usize;

const VERSION: u8 = 1;

/// Start of every frame CRC of a partition: a frame that strayed from another file is no frame here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn of(id: TopicPartition) -> Self {
        let topic = crc32c::crc32c(&id.topic.0);
        Self(crc32c::crc32c_append(topic, &id.partition.to_be_bytes()))
    }
}

/// A frame's header, and what of its payload is needed to go on to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) meta: EntryMeta,
    /// Largest timestamp of a batch; `i64::MIN` of anything else.
    pub(super) max_timestamp: i64,
}

impl Frame {
    pub(super) fn size_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.meta.payload_bytes)
    }
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The file ends inside it.
    Short,
    Content,
}

fn kind_bytes(kind: Kind) -> [u8; 2] {
    match kind {
        Kind::Batch => [1, 0],
        Kind::Empty => [2, 0],
        Kind::ConfChange => [3, 0],
        Kind::Control(sub) => [4, sub],
    }
}

fn kind_of(bytes: [u8; 2]) -> Option<Kind> {
    match bytes {
        [1, 0] => Some(Kind::Batch),
        [2, 0] => Some(Kind::Empty),
        [3, 0] => Some(Kind::ConfChange),
        [4, sub] => Some(Kind::Control(sub)),
        _ => None,
    }
}

/// The part of a payload that the frame's CRC covers.
fn covered(kind: Kind, payload: &[u8]) -> &[u8] {
    match kind {
        Kind::Batch => &payload[..batch::UNCOVERED_BYTES],
        Kind::Empty | Kind::ConfChange | Kind::Control(_) => payload,
    }
}

/// The frame header of `entry`.
pub(super) fn header(seed: Seed, entry: &Entry) -> [u8; HEADER_BYTES] {
    let mut h = [0; HEADER_BYTES];
    let length = u32::try_from(entry.payload.len()).expect("a payload fits 31 bits");
    let term = u32::try_from(entry.term.0).expect("a term fits 31 bits");
    h[0..4].copy_from_slice(&length.to_be_bytes());
    h[4] = VERSION;
    h[5..7].copy_from_slice(&kind_bytes(entry.kind));
    h[8..12].copy_from_slice(&term.to_be_bytes());
    h[12..20].copy_from_slice(&entry.index.0.to_be_bytes());
    h[20..28].copy_from_slice(&entry.base_offset.0.to_be_bytes());
    h[28..36].copy_from_slice(&entry.append_time_ms.to_be_bytes());
    let crc = crc32c::crc32c_append(seed.0, &h[..36]);
    let crc = crc32c::crc32c_append(crc, covered(entry.kind, &entry.payload));
    h[36..40].copy_from_slice(&crc.to_be_bytes());
    h
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

/// Bytes from the front of a frame that `parse` needs, by the first bytes of it.
pub(super) fn bytes_to_parse(front: &[u8]) -> Option<usize> {
    let (length, kind) = (front.get(0..4)?, *front.get(5)?);
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    Some(if kind == 1 { PEEK_BYTES } else { HEADER_BYTES.saturating_add(length) })
}

/// Reads the frame at the front of `bytes`, which must hold a batch's header (`PEEK_BYTES`), or the
/// whole of any other entry. Checks the frame's CRC, not the batch's.
pub(super) fn parse(seed: Seed, bytes: &[u8]) -> Result<Frame, Bad> {
    if bytes.len() < HEADER_BYTES {
        return Err(Bad::Short);
    }
    let payload_bytes = u32::from_be_bytes(array(bytes, 0));
    let kind = kind_of(array(bytes, 5)).ok_or(Bad::Content)?;
    if bytes[4] != VERSION || bytes[7] != 0 || payload_bytes > super::PAYLOAD_BYTES_MAX {
        return Err(Bad::Content);
    }
    let length = payload_bytes as usize;
    let needed = if kind == Kind::Batch { batch::HEADER_BYTES } else { length };
    if length < needed {
        return Err(Bad::Content);
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + needed).ok_or(Bad::Short)?;
    let crc = crc32c::crc32c_append(seed.0, &bytes[..36]);
    let crc = crc32c::crc32c_append(crc, covered(kind, payload));
    if crc.to_be_bytes() != array(bytes, 36) {
        return Err(Bad::Content);
    }
    let base_offset = Offset(i64::from_be_bytes(array(bytes, 20)));
    let (records, max_timestamp) = match kind {
        Kind::Batch => (entry::records(payload), entry::max_timestamp(payload)),
        Kind::Empty | Kind::ConfChange | Kind::Control(_) => (0, i64::MIN),
    };
    // The count is under the batch's CRC, which is not checked here; garbage must not overflow.
    let next_offset = base_offset.0.checked_add(records).map(Offset).ok_or(Bad::Content)?;
    let meta = EntryMeta {
        index: LogIndex(u64::from_be_bytes(array(bytes, 12))),
        term: Term(u64::from(u32::from_be_bytes(array(bytes, 8)))),
        kind,
        base_offset,
        next_offset,
        append_time_ms: i64::from_be_bytes(array(bytes, 28)),
        payload_bytes,
    };
    Ok(Frame { meta, max_timestamp })
}

/// Whether a payload is the one that was written: of a batch its own CRC, of the rest nothing, since
/// `parse` has seen all of it.
pub(super) fn is_payload_whole(kind: Kind, payload: &[u8]) -> bool {
    match kind {
        Kind::Batch => batch::check(payload).is_ok(),
        Kind::Empty | Kind::ConfChange | Kind::Control(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{batch_entry, entry, partition};

    fn framed(entry: &Entry) -> Vec<u8> {
        [&header(Seed::of(partition(1)), entry)[..], &entry.payload].concat()
    }

    #[test]
    fn a_frame_gives_back_its_entry_and_is_drawn_as_documented() {
        let mut e = entry(7, 0x20001, Kind::Control(9), 41, b"abc");
        e.append_time_ms = 5;
        let bytes = framed(&e);
        assert_eq!(
            bytes[..36],
            hex("00000003 01 04 09 00 00020001 0000000000000007 0000000000000029 0000000000000005")
        );
        let frame = parse(Seed::of(partition(1)), &bytes).unwrap();
        assert_eq!((frame.meta, frame.size_bytes()), (e.meta(), 43));
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    #[test]
    fn every_flipped_bit_of_a_framed_batch_is_seen_by_one_of_the_two_checksums() {
        let e = batch_entry(3, 0x20001, 100, 4, b"payload");
        let good = framed(&e);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let seen = match parse(Seed::of(partition(1)), &bad) {
                    Err(_) => true,
                    Ok(f) => !is_payload_whole(f.meta.kind, &bad[HEADER_BYTES..]),
                };
                assert!(seen, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_frame_of_another_partition_or_of_zeroes_is_none() {
        let bytes = framed(&entry(1, 0x20001, Kind::Empty, 0, b""));
        assert_eq!(parse(Seed::of(partition(2)), &bytes), Err(Bad::Content));
        assert_eq!(parse(Seed::of(partition(1)), &[0; 200]), Err(Bad::Content));
        assert_eq!(parse(Seed::of(partition(1)), &bytes[..39]), Err(Bad::Short));
    }
}
