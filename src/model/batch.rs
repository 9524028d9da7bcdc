//! The Kafka record batch, format v2 (magic 2), as a view over its bytes: KIP-98, and the drawing
//! in Kafka's documentation under "Record Batch".
//!
//! ```text
//!  0  base offset            i64   the leader fills it in
//!  8  batch length           i32   bytes after this field
//! 12  partition leader epoch i32   the leader fills it in
//! 16  magic                  i8    2
//! 17  CRC-32C                u32   of everything from byte 21
//! 21  attributes             i16   bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control
//! 23  last offset delta      i32
//! 27  base timestamp         i64   ms
//! 35  max timestamp          i64   ms
//! 43  producer id            i64   -1: not idempotent
//! 51  producer epoch         i16
//! 53  base sequence          i32
//! 57  records count          i32
//! 61  records
//! ```
//!
//! The CRC leaves out the first 21 bytes, which is why the leader can place a batch without
//! touching what the client signed, and why a log frame has a checksum of its own.

use bytes::{Bytes, BytesMut};

use super::{LeaderEpoch, Offset};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes at the front that the batch's own CRC does not cover.
pub const UNCOVERED_BYTES: usize = 21;

/// Bytes before what `batch length` counts.
const LENGTH_OVERHEAD_BYTES: usize = 12;

const MAGIC_V2: u8 = 2;

/// Why bytes are not one well-formed v2 batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} bytes are fewer than a batch header's 61")]
    Short(usize),
    #[error("magic {0}: only record batch format v2 is served")]
    Magic(u8),
    #[error("batch length {0} does not fit the {1} bytes that are there")]
    Length(i32, usize),
    #[error("CRC-32C is {found:#010x}, the batch says {stated:#010x}")]
    Crc { stated: u32, found: u32 },
    #[error("{records} records, but a last offset delta of {last_offset_delta}")]
    Count { records: i32, last_offset_delta: i32 },
    #[error("compression codec {0} is unknown")]
    Codec(i16),
    #[error(
        "producer id {producer_id} with epoch {producer_epoch} and base sequence {base_sequence}"
    )]
    Producer { producer_id: i64, producer_epoch: i16, base_sequence: i32 },
}

/// Whether a batch's records are compressed, by its attributes alone.
pub fn is_compressed(bytes: &[u8]) -> bool {
    bytes.get(22).is_some_and(|low| low & 0b111 != 0)
}

/// Compression codec, attribute bits 0 to 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// The fields of a batch's header, as stated; `Header::parse` has checked only that they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub base_offset: Offset,
    /// Of the whole batch, this header included.
    pub size_bytes: usize,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

impl Header {
    /// Reads the header at the front of `bytes`, which must hold the whole batch and may hold more
    /// after it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() < HEADER_BYTES {
            return Err(Error::Short(bytes.len()));
        }
        if bytes[16] != MAGIC_V2 {
            return Err(Error::Magic(bytes[16]));
        }
        let length = i32::from_be_bytes(array(bytes, 8));
        let size_bytes = usize::try_from(length)
            .ok()
            .and_then(|l| l.checked_add(LENGTH_OVERHEAD_BYTES))
            .filter(|s| (HEADER_BYTES..=bytes.len()).contains(s))
            .ok_or(Error::Length(length, bytes.len()))?;
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(array(bytes, 0))),
            size_bytes,
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            records: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    pub fn codec(&self) -> Result<Codec, Error> {
        match self.attributes & 0b111 {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(Error::Codec(other)),
        }
    }

    /// All records have the batch's largest timestamp, the leader's (KIP-32).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0b1000 != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0b1_0000 != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & 0b10_0000 != 0
    }

    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// The offset after the batch's last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }

    /// Sequence of the last record; sequences wrap to 0 after `i32::MAX` (KIP-98).
    pub fn last_sequence(&self) -> i32 {
        let last = (i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) % (1 << 31);
        i32::try_from(last).expect("a remainder of 2^31 fits 31 bits")
    }
}

/// The CRC that the batch should carry.
pub fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[UNCOVERED_BYTES..])
}

/// Checks one whole batch as a stranger sent it: size, magic, CRC, counts, codec and producer
/// fields. Records are not decompressed: a broker stores what the client compressed.
pub fn check(batch: &[u8]) -> Result<Header, Error> {
    let header = Header::parse(batch)?;
    if header.size_bytes != batch.len() {
        return Err(Error::Length(header.size_bytes as i32 - 12, batch.len()));
    }
    let found = crc_of(batch);
    if found != header.crc {
        return Err(Error::Crc { stated: header.crc, found });
    }
    if header.records < 1 || header.last_offset_delta != header.records - 1 {
        let Header { records, last_offset_delta, .. } = header;
        return Err(Error::Count { records, last_offset_delta });
    }
    header.codec()?;
    let Header { producer_id, producer_epoch, base_sequence, .. } = header;
    let idempotent = producer_id >= 0 && producer_epoch >= 0 && base_sequence >= 0;
    let plain = producer_id == -1;
    if !idempotent && !plain {
        return Err(Error::Producer { producer_id, producer_epoch, base_sequence });
    }
    Ok(header)
}

/// Writes the two fields that a leader owns, in front of what the CRC covers.
pub fn place(batch: &mut BytesMut, base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes a batch the next one of an idempotent producer, and signs it anew.
pub fn produced_by(batch: &mut BytesMut, (id, epoch): (i64, i16), sequence: i32) {
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc_of(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Stamps a batch with the append time (`message.timestamp.type = LogAppendTime`): sets the
/// timestamp type and the maximum timestamp, as Kafka does, and signs it anew.
pub fn stamp(batch: &mut BytesMut, append_time_ms: i64) {
    batch[22] |= 0b1000;
    batch[35..43].copy_from_slice(&append_time_ms.to_be_bytes());
    let crc = crc_of(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Splits a concatenation of batches, as produce requests and segment slices carry them.
/// Stops at the first error, which it yields; every batch before it is whole.
pub fn split(mut bytes: Bytes) -> impl Iterator<Item = Result<Bytes, Error>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match Header::parse(&bytes) {
            Ok(header) => Some(Ok(bytes.split_to(header.size_bytes))),
            Err(error) => {
                bytes.clear();
                Some(Err(error))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of `records` empty-bodied records; the records are not parsed by anything here.
    fn sample(records: i32, body: &[u8]) -> BytesMut {
        let mut b = BytesMut::zeroed(HEADER_BYTES);
        b.extend_from_slice(body);
        let length = (b.len() - LENGTH_OVERHEAD_BYTES) as i32;
        b[8..12].copy_from_slice(&length.to_be_bytes());
        b[16] = MAGIC_V2;
        b[23..27].copy_from_slice(&(records - 1).to_be_bytes());
        b[43..51].copy_from_slice(&(-1i64).to_be_bytes());
        b[51..53].copy_from_slice(&(-1i16).to_be_bytes());
        b[53..57].copy_from_slice(&(-1i32).to_be_bytes());
        b[57..61].copy_from_slice(&records.to_be_bytes());
        let crc = crc_of(&b);
        b[17..21].copy_from_slice(&crc.to_be_bytes());
        b
    }

    #[test]
    fn placing_a_batch_leaves_its_crc_true() {
        let mut b = sample(3, b"abc");
        place(&mut b, Offset(41), 131_073);
        let header = check(&b).unwrap();
        assert_eq!((header.base_offset, header.next_offset()), (Offset(41), Offset(44)));
        assert_eq!(header.leader_epoch, 131_073);
    }

    #[test]
    fn every_flipped_bit_that_the_crc_covers_is_seen() {
        let good = sample(1, b"payload");
        for at in UNCOVERED_BYTES..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(matches!(check(&bad), Err(Error::Crc { .. })), "byte {at}");
        }
    }

    #[test]
    fn a_count_that_disagrees_with_the_offsets_is_refused() {
        let mut b = sample(3, b"");
        b[57..61].copy_from_slice(&2i32.to_be_bytes());
        let crc = crc_of(&b);
        b[17..21].copy_from_slice(&crc.to_be_bytes());
        assert!(matches!(check(&b), Err(Error::Count { records: 2, last_offset_delta: 2 })));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_before_anything_is_read() {
        let mut b = sample(1, b"");
        for length in [i32::MAX, -1, 0, 48, 50] {
            b[8..12].copy_from_slice(&length.to_be_bytes());
            assert!(matches!(check(&b), Err(Error::Length(..))), "{length}");
        }
    }

    #[test]
    fn batches_in_a_row_come_apart_and_a_torn_last_one_is_an_error() {
        let mut bytes = sample(1, b"one");
        bytes.extend_from_slice(&sample(2, b"two"));
        bytes.extend_from_slice(&sample(1, b"three")[..20]);
        let parts: Vec<_> = split(bytes.freeze()).collect();
        assert_eq!(parts.len(), 3);
        assert!(parts[0].is_ok() && parts[1].is_ok());
        assert_eq!(parts[2], Err(Error::Short(20)));
    }

    #[test]
    fn sequences_wrap_after_the_largest_int() {
        let mut b = sample(3, b"");
        b[53..57].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        assert_eq!(Header::parse(&b).unwrap().last_sequence(), 0);
    }
}
