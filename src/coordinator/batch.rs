//! Coordinator records in record batches, which `model::record` draws.
//!
//! Batches are written uncompressed: they are small, and links compress.

use bytes::Bytes;

use super::group::Record;
use crate::model::Offset;
use crate::model::batch::{self, Header};
use crate::model::record;

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
    #[error(transparent)]
    Record(#[from] record::Error),
    #[error("the record at offset {0} has no key")]
    Key(Offset),
    #[error("a transactional batch: offsets inside transactions are not served")]
    Transactional,
}

/// Upper bound of what a record adds to a batch.
pub fn size_bytes(record: &Record) -> usize {
    RECORD_OVERHEAD_BYTES + record.key.len() + record.value.as_ref().map_or(0, Bytes::len)
}

/// One batch of all `records`, at least one. The leader fills in where it goes.
pub fn encode(records: &[Record], unix_ms: i64) -> Bytes {
    let keyed = |r: &Record| record::Record { key: Some(r.key.clone()), value: r.value.clone() };
    let records: Vec<record::Record> = records.iter().map(keyed).collect();
    record::build(&records, unix_ms)
}

/// The records of a batch; none in a control batch.
///
/// # Errors
/// Anything but an uncompressed, well-formed batch of keyed records.
pub fn decode(batch: &Bytes) -> Result<Vec<Record>, Error> {
    let header = Header::parse(batch)?;
    if header.is_control() {
        return Ok(Vec::new());
    }
    if header.is_transactional() {
        return Err(Error::Transactional);
    }
    let placed = record::parse(batch)?.into_iter();
    let keyed = |record::Placed { offset, record, .. }| {
        let key = record.key.ok_or(Error::Key(offset))?;
        Ok(Record { key, value: record.value })
    };
    placed.map(keyed).collect()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::model::batch::HEADER_BYTES;

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
