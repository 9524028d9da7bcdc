//! Finding a record by time inside one batch (KIP-32, KIP-33).

use crate::model::Offset;
use crate::model::batch::{self, Codec, Header};

/// Bytes of a varint, at most.
const VARINT_BYTES_MAX: usize = 10;

/// The first record with a timestamp of at least `timestamp` and an offset of at least `least`, and
/// its timestamp. The records of a compressed batch are not looked at: its first counts for all.
pub(super) fn first_at_or_after(
    batch: &[u8],
    timestamp: i64,
    least: Offset,
) -> Option<(Offset, i64)> {
    let header = Header::parse(batch).ok()?;
    if header.max_timestamp < timestamp || header.next_offset() <= least {
        return None;
    }
    let first = header.base_offset.max(least);
    if header.is_log_append_time() {
        return Some((first, header.max_timestamp));
    }
    if header.codec() != Ok(Codec::None) {
        return Some((first, header.base_timestamp));
    }
    let mut records = &batch[batch::HEADER_BYTES..header.size_bytes];
    for _ in 0..header.records {
        let (timestamp_delta, offset_delta) = next_record(&mut records)?;
        let at = header.base_timestamp.checked_add(timestamp_delta)?;
        let offset = header.base_offset.0.checked_add(offset_delta).map(Offset)?;
        if at >= timestamp && offset >= least {
            return Some((offset, at));
        }
    }
    None
}

/// Takes one record off the front: its timestamp delta and offset delta. A client's records were
/// checked as one CRC, not one by one, so nothing about them is believed.
fn next_record(records: &mut &[u8]) -> Option<(i64, i64)> {
    let length = usize::try_from(varint(records)?).ok()?;
    let mut record = records.get(..length)?;
    *records = &records[length..];
    let (_attributes, rest) = record.split_first()?;
    record = rest;
    let timestamp_delta = varint(&mut record)?;
    let offset_delta = varint(&mut record)?;
    Some((timestamp_delta, offset_delta))
}

/// A zig-zag varint.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for n in 0..VARINT_BYTES_MAX {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * n as u32)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::batch_of_records;

    #[test]
    fn the_first_record_late_enough_is_found() {
        let batch = batch_of_records(100, &[10, 30, 20, 40]);
        let table = [
            (0, 0, Some((100, 10))),
            (10, 0, Some((100, 10))),
            (11, 0, Some((101, 30))),
            (20, 0, Some((101, 30))),
            (31, 0, Some((103, 40))),
            (41, 0, None),
            (0, 102, Some((102, 20))),
            (21, 102, Some((103, 40))),
            (0, 104, None),
        ];
        for (timestamp, least, expected) in table {
            let found = first_at_or_after(&batch, timestamp, Offset(least));
            let expected = expected.map(|(offset, at)| (Offset(offset), at));
            assert_eq!(found, expected, "{timestamp} from {least}");
        }
    }

    #[test]
    fn a_compressed_batch_answers_with_its_first_record() {
        let mut batch = batch_of_records(100, &[10, 30]);
        batch[22] |= 4;
        assert_eq!(first_at_or_after(&batch, 20, Offset(0)), Some((Offset(100), 10)));
        assert_eq!(first_at_or_after(&batch, 31, Offset(0)), None);
    }

    #[test]
    fn log_append_time_is_the_time_of_every_record() {
        let mut batch = batch_of_records(100, &[10, 30]);
        batch[22] |= 8;
        assert_eq!(first_at_or_after(&batch, 20, Offset(101)), Some((Offset(101), 30)));
    }

    #[test]
    fn records_that_lie_about_their_length_end_the_search() {
        let good = batch_of_records(100, &[10, 30]);
        for at in batch::HEADER_BYTES..good.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = first_at_or_after(&bad, 20, Offset(0));
            }
        }
    }
}
