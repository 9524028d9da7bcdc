//! Coordinator records in record batches (KIP-98's format v2, which `model::batch` draws).
//!
//! ```text
//! record: length varint, attributes i8, timestamp delta varlong, offset delta varint,
//!         key length varint, key, value length varint (-1: tombstone), value, header count varint
//! ```
//!
//! Batches are written uncompressed: they are small, and links compress.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::group::Record;
use crate::model::batch::{self, Codec, HEADER_BYTES, Header};

/// Largest batch that is written, and largest that several writes are gathered into. Kafka's
/// default `message.max.bytes` is 1 MiB.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a record takes at most beside its key and value: five varints of up to five bytes, the
/// attributes and one of ten.
const RECORD_OVERHEAD_BYTES: usize = 36;

/// Why a batch holds no coordinator records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("not a record batch")]
    Batch(#[from] batch::Error),
    #[error("{0:?}: coordinators write uncompressed batches")]
    Compressed(Codec),
    #[error("record {0} of the batch is malformed")]
    Record(i32),
    #[error("a transactional batch: offsets inside transactions are not served")]
    Transactional,
}

/// Upper bound of what a record adds to a batch.
pub fn size_bytes(record: &Record) -> usize {
    RECORD_OVERHEAD_BYTES + record.key.len() + record.value.as_ref().map_or(0, Bytes::len)
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut zigzag = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

/// One batch of all `records`, at least one. The leader fills in where it goes.
pub fn encode(records: &[Record], unix_ms: i64) -> Bytes {
    assert!(!records.is_empty(), "a batch of nothing");
    let count = i32::try_from(records.len()).expect("records of 31 bits");
    let mut out = BytesMut::zeroed(HEADER_BYTES);
    let mut body = BytesMut::new();
    for (delta, record) in (0i64..).zip(records) {
        body.clear();
        body.put_i8(0);
        put_varint(&mut body, 0);
        put_varint(&mut body, delta);
        put_varint(&mut body, record.key.len() as i64);
        body.put_slice(&record.key);
        match &record.value {
            Some(value) => {
                put_varint(&mut body, value.len() as i64);
                body.put_slice(value);
            }
            None => put_varint(&mut body, -1),
        }
        put_varint(&mut body, 0);
        put_varint(&mut out, body.len() as i64);
        out.put_slice(&body);
    }
    let length = i32::try_from(out.len() - 12).expect("a batch of 31 bits");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    out[16] = 2;
    out[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    out[27..35].copy_from_slice(&unix_ms.to_be_bytes());
    out[35..43].copy_from_slice(&unix_ms.to_be_bytes());
    out[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    out[51..53].copy_from_slice(&(-1i16).to_be_bytes());
    out[53..57].copy_from_slice(&(-1i32).to_be_bytes());
    out[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = batch::crc_of(&out);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

/// The records of a batch; none in a control batch.
///
/// # Errors
/// Anything but an uncompressed, well-formed batch.
pub fn decode(batch: &Bytes) -> Result<Vec<Record>, Error> {
    let header = Header::parse(batch)?;
    if header.is_control() {
        return Ok(Vec::new());
    }
    if header.is_transactional() {
        return Err(Error::Transactional);
    }
    match header.codec()? {
        Codec::None => {}
        codec => return Err(Error::Compressed(codec)),
    }
    let mut bytes = batch.slice(HEADER_BYTES..header.size_bytes);
    (0..header.records).map(|i| record(&mut bytes).ok_or(Error::Record(i))).collect()
}

fn take(bytes: &mut Bytes, length: i64) -> Option<Bytes> {
    let length = usize::try_from(length).ok().filter(|l| *l <= bytes.len())?;
    Some(bytes.split_to(length))
}

/// `None`: malformed. Headers are passed over with the rest of the record.
fn record(bytes: &mut Bytes) -> Option<Record> {
    let length = varint(bytes)?;
    let mut record = take(bytes, length)?;
    record.try_get_i8().ok()?;
    varint(&mut record)?;
    varint(&mut record)?;
    let key_length = varint(&mut record)?;
    let key = take(&mut record, key_length)?;
    let value = match varint(&mut record)? {
        -1 => None,
        length => Some(take(&mut record, length)?),
    };
    Some(Record { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn a_batch_is_well_formed_and_reads_back(
            records in proptest::collection::vec((bytes(), proptest::option::of(bytes())), 1..40),
            unix_ms in 0..i64::MAX,
        ) {
            let records: Vec<Record> =
                records.into_iter().map(|(key, value)| Record { key, value }).collect();
            let encoded = encode(&records, unix_ms);
            let header = batch::check(&encoded).unwrap();
            prop_assert_eq!(header.max_timestamp, unix_ms);
            prop_assert!(encoded.len() <= HEADER_BYTES + records.iter().map(size_bytes).sum::<usize>());
            prop_assert_eq!(decode(&encoded).unwrap(), records);
        }

        #[test]
        fn damaged_records_are_an_error_or_other_records_but_no_panic(
            records in proptest::collection::vec((bytes(), proptest::option::of(bytes())), 1..4),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let records: Vec<Record> =
                records.into_iter().map(|(key, value)| Record { key, value }).collect();
            let mut damaged = BytesMut::from(&encode(&records, 0)[..]);
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
            let _ = decode(&damaged.freeze());
        }
    }

    /// Byte for byte what Kafka's `MemoryRecords` writes for one record with key `k`, value `v`.
    #[test]
    fn a_record_is_laid_out_as_in_kafka() {
        let record =
            Record { key: Bytes::from_static(b"k"), value: Some(Bytes::from_static(b"v")) };
        let encoded = encode(&[record], 0);
        assert_eq!(&encoded[HEADER_BYTES..], &[16, 0, 0, 0, 2, b'k', 2, b'v', 0]);
    }
}
