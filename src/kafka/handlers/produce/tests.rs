use bytes::BytesMut;

use super::*;

const MAX: usize = 1000;

/// A batch of `records` records with these attributes; `edit` may break it before the CRC.
fn batch(records: i32, attributes: i16, edit: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut b = BytesMut::zeroed(batch::HEADER_BYTES + 10);
    let length = (b.len() - 12) as i32;
    b[8..12].copy_from_slice(&length.to_be_bytes());
    b[16] = 2;
    b[21..23].copy_from_slice(&attributes.to_be_bytes());
    b[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    b[43..57].fill(0xff);
    b[57..61].copy_from_slice(&records.to_be_bytes());
    edit(&mut b);
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b.freeze()
}

fn code(records: Bytes, version: i16) -> ErrorCode {
    check(records, version, MAX).map_or_else(|refused| refused.code, |_| ErrorCode::None)
}

#[test]
fn what_strangers_send_gets_the_code_that_says_what_is_wrong() {
    let good = || batch(2, 0, |_| {});
    let twice = Bytes::from([good(), good()].concat());
    let bad_crc = {
        let mut bytes = BytesMut::from(&good()[..]);
        bytes[65] ^= 1;
        bytes.freeze()
    };
    let zstd = batch(1, 4, |_| {});
    let table = [
        ("a good batch", good(), 9, ErrorCode::None),
        ("no records", Bytes::new(), 9, ErrorCode::InvalidRecord),
        ("two batches", twice, 9, ErrorCode::InvalidRecord),
        ("half a batch", good().slice(..40), 9, ErrorCode::CorruptMessage),
        ("a torn batch", good().slice(..65), 9, ErrorCode::CorruptMessage),
        ("a flipped bit", bad_crc, 9, ErrorCode::CorruptMessage),
        ("magic 1", batch(1, 0, |b| b[16] = 1), 9, ErrorCode::InvalidRecord),
        ("no record in it", batch(0, 0, |_| {}), 9, ErrorCode::InvalidRecord),
        ("a count that lies", batch(1, 0, |b| b[60] = 9), 9, ErrorCode::InvalidRecord),
        ("codec 7", batch(1, 7, |_| {}), 9, ErrorCode::UnsupportedCompressionType),
        ("zstd before version 7", zstd.clone(), 6, ErrorCode::UnsupportedCompressionType),
        ("zstd", zstd, 7, ErrorCode::None),
        ("a control batch", batch(1, 0x20, |_| {}), 9, ErrorCode::InvalidRecord),
        ("a transaction", batch(1, 0x10, |_| {}), 9, ErrorCode::InvalidTxnState),
        ("the broker's timestamp", batch(1, 8, |_| {}), 9, ErrorCode::InvalidTimestamp),
        ("too large", Bytes::from(vec![0; MAX + 1]), 9, ErrorCode::MessageTooLarge),
    ];
    for (what, records, version, expected) in table {
        assert_eq!(code(records, version), expected, "{what}");
    }
}

#[test]
fn acks_are_zero_one_or_all() {
    assert_eq!(required(0), Some(Acks::Leader));
    assert_eq!(required(1), Some(Acks::Leader));
    assert_eq!(required(-1), Some(Acks::All));
    for other in [2, -2, i16::MAX, i16::MIN] {
        assert_eq!(required(other), None);
    }
}
