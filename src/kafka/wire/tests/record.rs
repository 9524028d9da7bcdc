//! Records: built, read back, read by the oracle, and hostile ones.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as theirs;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::BatchBuilder;
use super::super::record::{self, Error};
use crate::model::{Offset, batch};

type Field = Option<Vec<u8>>;
type Sample = (i32, Field, Field, Vec<(String, Field)>);

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let bytes = || proptest::option::of(vec(any::<u8>(), 0..200));
    vec((0..100_000i32, bytes(), bytes(), vec(("[a-z]{1,9}", bytes()), 0..3)), 1..20)
}

fn build(samples: &[Sample]) -> Bytes {
    let mut builder = BatchBuilder::new().producer(7, 1, 100);
    for (timestamp, key, value, headers) in samples {
        let headers: Vec<_> = headers.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
        let (key, value) = (key.as_deref(), value.as_deref());
        builder.push_with_headers(1_000_000 + i64::from(*timestamp), key, value, &headers);
    }
    builder.build()
}

/// A batch of one record with these bytes as its records, CRC and lengths right.
fn with_body(body: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(5, None, None);
    let mut bytes = BytesMut::from(&builder.build()[..batch::HEADER_BYTES]);
    bytes.extend_from_slice(body);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = batch::crc_of(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

proptest! {
    #[test]
    fn a_built_batch_is_sound_and_reads_back(samples in samples()) {
        let bytes = build(&samples);
        let header = batch::check(&bytes).unwrap();
        prop_assert_eq!(header.records as usize, samples.len());
        let newest = samples.iter().map(|s| s.0).max().unwrap();
        prop_assert_eq!(header.max_timestamp, 1_000_000 + i64::from(newest));
        record::check(&bytes).unwrap();
        let read: Vec<_> = record::records(&bytes).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read.len(), samples.len());
        for (at, (record, (timestamp, key, value, headers))) in read.iter().zip(&samples).enumerate() {
            prop_assert_eq!(record.offset, Offset(at as i64));
            prop_assert_eq!(record.timestamp, 1_000_000 + i64::from(*timestamp));
            prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
            let expected: Vec<_> =
                headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
            prop_assert_eq!(record.headers.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_oracle_reads_the_same_records(samples in samples()) {
        let mut bytes = build(&samples);
        let set = theirs::RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(set.records.len(), samples.len());
        for (at, (record, (timestamp, key, value, _))) in set.records.iter().zip(&samples).enumerate() {
            prop_assert_eq!(record.offset, at as i64);
            prop_assert_eq!(record.timestamp, 1_000_000 + i64::from(*timestamp));
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            prop_assert_eq!((record.producer_id, record.producer_epoch), (7, 1));
            prop_assert_eq!(record.sequence, 100 + at as i32);
        }
    }

    #[test]
    fn no_bytes_make_reading_records_panic(body in vec(any::<u8>(), 0..300)) {
        let bytes = with_body(&body);
        let read = record::records(&bytes).unwrap().count();
        prop_assert!(read <= 2);
        let _ = (record::check(&bytes), record::first_at(&bytes, i64::MAX));
    }

    #[test]
    fn a_flipped_byte_is_an_error_or_another_record_and_never_a_panic(
        samples in samples(), at: prop::sample::Index, to: u8,
    ) {
        let mut bytes = BytesMut::from(&build(&samples)[..]);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(records) = record::records(&bytes) {
            records.for_each(drop);
        }
    }
}

#[test]
fn hostile_records_are_refused_by_name() {
    // Length, attributes, timestamp delta, offset delta, key, value, headers; zigzag, so 1 is -1.
    let cases: &[(&[u8], Error)] = &[
        (&[12, 0, 0, 0, 1, 1], Error::Short(0)),
        (&[1], Error::Length(0, -1)),
        (&[3], Error::Length(0, -2)),
        (&[0xff; 11], Error::Varint(0)),
        (&[12, 0, 0, 0, 3, 1, 0], Error::Length(0, -2)),
        (&[12, 0, 0, 0, 1, 3, 0], Error::Length(0, -2)),
        (&[12, 0, 0, 0, 1, 1, 1], Error::Length(0, -1)),
        (&[12, 0, 0, 0, 1, 1, 8], Error::Short(0)),
        (&[12, 0, 0, 2, 1, 1, 0], Error::OffsetDelta(0, 1, 0)),
        (&[12, 0, 0, 1, 1, 1, 0], Error::OffsetDelta(0, -1, 0)),
        (&[14, 0, 0, 0, 1, 1, 0, 9], Error::Unread(0, 1)),
        (&[12, 0, 0, 0, 1, 1, 0, 9, 9], Error::Trailing(2)),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], Error::Length(0, -1)),
    ];
    for (body, expected) in cases {
        assert_eq!(record::check(&with_body(body)).as_ref(), Err(expected), "{body:?}");
    }
    record::check(&with_body(&[12, 0, 0, 0, 1, 1, 0])).unwrap();
}

#[test]
fn a_time_is_found_at_its_first_record_also_where_times_go_back() {
    let mut builder = BatchBuilder::new();
    for timestamp in [10, 30, 20, 40] {
        builder.push(timestamp, None, Some(b"v"));
    }
    let mut bytes = BytesMut::from(&builder.build()[..]);
    batch::place(&mut bytes, Offset(100), 3);
    let found = |timestamp| record::first_at(&bytes, timestamp).unwrap();
    assert_eq!(found(0), Some((Offset(100), 10)));
    assert_eq!(found(11), Some((Offset(101), 30)));
    assert_eq!(found(31), Some((Offset(103), 40)));
    assert_eq!(found(41), None);
}

#[test]
fn with_log_append_time_every_record_has_the_time_of_the_batch() {
    let mut builder = BatchBuilder::new();
    builder.push(10, None, None);
    builder.push(90, None, None);
    let mut bytes = BytesMut::from(&builder.build()[..]);
    bytes[22] |= 0b1000;
    let times: Vec<i64> = record::records(&bytes).unwrap().map(|r| r.unwrap().timestamp).collect();
    assert_eq!(times, [90, 90]);
}

#[test]
fn compressed_records_are_said_to_be_compressed() {
    let mut bytes = BytesMut::from(&with_body(&[1, 2, 3])[..]);
    bytes[22] |= 4;
    assert_eq!(record::records(&bytes).err(), Some(Error::Compressed(batch::Codec::Zstd)));
    record::check(&bytes).unwrap();
}
