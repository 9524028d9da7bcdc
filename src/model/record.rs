//! The records inside a batch (magic 2, KIP-98): built and parsed for Isobar's own partitions,
//! `__meta` and Kafka's internal topics. What clients send is never looked into, but for an
//! export, a diff or a replay of a ledger that somebody asks for.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//!   | key length varint (-1: null) | key | value length varint (-1: null) | value
//!   | headers count varint | per header: key length, key, value length (-1: null), value
//! ```
//!
//! Varints are zigzag, as in protobuf's `sint`. Only uncompressed batches: what this node writes to
//! its own partitions it writes uncompressed, and whatever else stands there was not written by it.

use bytes::{BufMut, Bytes, BytesMut};

use super::Offset;
use super::batch::{self, HEADER_BYTES};

/// One record, without headers: nothing of ours has any. See `parse_with_headers`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// A record with where and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub record: Record,
}

/// A header's key and value.
pub type RecordHeader = (Bytes, Option<Bytes>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Batch(#[from] batch::Error),
    #[error("the batch at offset {0} is compressed with {1}; Isobar's own partitions never are")]
    Compressed(Offset, &'static str),
    #[error("the batch at offset {base}: record {record} of {records}: {what} at byte {at}")]
    Malformed { base: Offset, record: i32, records: i32, what: &'static str, at: usize },
}

/// Builds one uncompressed batch, offsets from 0, CRC set; a leader places it.
///
/// # Panics
/// Without a record, or with 2 GiB of them: callers bound what they write.
pub fn build(records: &[Record], timestamp_ms: i64) -> Bytes {
    let stamped: Vec<_> = records.iter().map(|r| (timestamp_ms, r, &[][..])).collect();
    build_with_headers(&stamped)
}

/// As `build`, each record with its timestamp and headers.
///
/// # Panics
/// As `build`.
pub fn build_with_headers(records: &[(i64, &Record, &[RecordHeader])]) -> Bytes {
    let first_ms = records.first().expect("a batch has a record").0;
    let largest_ms = records.iter().map(|r| r.0).max().unwrap_or(first_ms);
    let body: usize = records.iter().map(|(_, r, _)| 32 + len(&r.key) + len(&r.value)).sum();
    let mut b = BytesMut::with_capacity(HEADER_BYTES + body);
    b.put_bytes(0, HEADER_BYTES);
    let mut one = BytesMut::new();
    for (delta, (timestamp_ms, record, headers)) in (0i64..).zip(records) {
        one.clear();
        one.put_i8(0);
        put_varlong(&mut one, timestamp_ms.wrapping_sub(first_ms));
        put_varlong(&mut one, delta);
        put_bytes(&mut one, record.key.as_deref());
        put_bytes(&mut one, record.value.as_deref());
        put_varlong(&mut one, headers.len() as i64);
        for (key, value) in *headers {
            put_bytes(&mut one, Some(key));
            put_bytes(&mut one, value.as_deref());
        }
        put_varlong(&mut b, one.len() as i64);
        b.extend_from_slice(&one);
    }
    let length = i32::try_from(b.len() - 12).expect("a batch is below 2 GiB");
    let count = i32::try_from(records.len()).expect("a batch is below 2 GiB");
    b[8..12].copy_from_slice(&length.to_be_bytes());
    b[16] = 2;
    b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    b[27..35].copy_from_slice(&first_ms.to_be_bytes());
    b[35..43].copy_from_slice(&largest_ms.to_be_bytes());
    b[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    b[51..53].copy_from_slice(&(-1i16).to_be_bytes());
    b[53..57].copy_from_slice(&(-1i32).to_be_bytes());
    b[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b.freeze()
}

/// The records of one whole, uncompressed batch; keys and values share its bytes.
pub fn parse(batch: &Bytes) -> Result<Vec<Placed>, Error> {
    let parsed = parse_with_headers(batch)?;
    Ok(parsed.into_iter().map(|(placed, _)| placed).collect())
}

/// As `parse`, with the headers of each record.
pub fn parse_with_headers(batch: &Bytes) -> Result<Vec<(Placed, Vec<RecordHeader>)>, Error> {
    let header = batch::Header::parse(batch)?;
    let base = header.base_offset;
    match header.codec()? {
        batch::Codec::None => {}
        other => return Err(Error::Compressed(base, other.name())),
    }
    let mut cursor = Cursor { bytes: batch.slice(..header.size_bytes), at: HEADER_BYTES };
    let mut parsed = Vec::new();
    for record in 0..header.records {
        let one = cursor.record().map_err(|what| Error::Malformed {
            base,
            record,
            records: header.records,
            what,
            at: cursor.at,
        })?;
        let (timestamp_delta, content, headers) = one;
        let placed = Placed {
            offset: base.plus(i64::from(record)),
            timestamp_ms: header.base_timestamp.saturating_add(timestamp_delta),
            record: content,
        };
        parsed.push((placed, headers));
    }
    if cursor.at != header.size_bytes {
        let (record, records) = (header.records, header.records);
        let what = "bytes after the last record";
        return Err(Error::Malformed { base, record, records, what, at: cursor.at });
    }
    Ok(parsed)
}

fn len(bytes: &Option<Bytes>) -> usize {
    bytes.as_ref().map_or(0, Bytes::len)
}

fn put_varlong(to: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.put_u8(zigzag as u8);
}

fn put_bytes(to: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(to, -1),
        Some(bytes) => {
            put_varlong(to, bytes.len() as i64);
            to.extend_from_slice(bytes);
        }
    }
}

/// Reads forward; every length is checked against the bytes that remain before anything is taken.
struct Cursor {
    bytes: Bytes,
    at: usize,
}

impl Cursor {
    /// The timestamp delta, the record and its headers.
    fn record(&mut self) -> Result<(i64, Record, Vec<RecordHeader>), &'static str> {
        let length = self.varlong()?;
        let end = usize::try_from(length)
            .ok()
            .and_then(|l| self.at.checked_add(l))
            .filter(|end| *end <= self.bytes.len())
            .ok_or("a record length that does not fit")?;
        self.byte()?;
        let timestamp_delta = self.varlong()?;
        self.varlong()?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let count = self.varlong()?;
        // Each header takes two bytes at least, so a count cannot ask for more work than bytes.
        if count < 0 || count > (self.bytes.len() - self.at) as i64 / 2 {
            return Err("a count of headers that does not fit");
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let key = self.nullable()?.ok_or("a header without a key")?;
            headers.push((key, self.nullable()?));
        }
        if self.at != end {
            return Err("a record length that disagrees with its fields");
        }
        Ok((timestamp_delta, Record { key, value }, headers))
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.at).ok_or("the end of the batch")?;
        self.at += 1;
        Ok(byte)
    }

    fn varlong(&mut self) -> Result<i64, &'static str> {
        let mut zigzag = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err("a varint of more than ten bytes")
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, &'static str> {
        let length = self.varlong()?;
        if length == -1 {
            return Ok(None);
        }
        let end = usize::try_from(length)
            .ok()
            .and_then(|l| self.at.checked_add(l))
            .filter(|end| *end <= self.bytes.len())
            .ok_or("a length that does not fit")?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(Some(taken))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
        (bytes(), bytes())
            .prop_map(|(k, v)| Record { key: k.map(Into::into), value: v.map(Into::into) })
    }

    proptest! {
        #[test]
        fn what_is_built_is_a_batch_that_checks_and_parses_back(
            records in proptest::collection::vec(record(), 1..20),
            base in 0i64..1 << 40,
        ) {
            let mut bytes = BytesMut::from(&build(&records, 77)[..]);
            batch::place(&mut bytes, Offset(base), 5);
            let bytes = bytes.freeze();
            prop_assert!(batch::check(&bytes).is_ok());
            let parsed = parse(&bytes).unwrap();
            prop_assert_eq!(parsed.len(), records.len());
            for (i, (placed, record)) in parsed.iter().zip(&records).enumerate() {
                prop_assert_eq!(placed.offset, Offset(base + i as i64));
                prop_assert_eq!(placed.timestamp_ms, 77);
                prop_assert_eq!(&placed.record, record);
            }
        }

        #[test]
        fn no_flipped_byte_makes_parsing_panic(
            records in proptest::collection::vec(record(), 1..4),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
        ) {
            let mut bytes = BytesMut::from(&build(&records, 77)[..]);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = parse(&bytes.freeze());
        }
    }

    #[test]
    fn a_compressed_batch_is_refused_by_name() {
        let mut bytes = BytesMut::from(&build(&[Record::default()], 0)[..]);
        bytes[22] = 4;
        assert_eq!(parse(&bytes.freeze()), Err(Error::Compressed(Offset(0), "zstd")));
    }

    #[test]
    fn varints_are_the_ones_of_protobuf() {
        for (value, bytes) in [
            (0i64, &[0u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (-64, &[127]),
            (64, &[128, 1]),
            (300, &[0xd8, 4]),
        ] {
            let mut b = BytesMut::new();
            put_varlong(&mut b, value);
            assert_eq!(&b[..], bytes, "{value}");
            let mut cursor = Cursor { bytes: b.freeze(), at: 0 };
            assert_eq!(cursor.varlong(), Ok(value));
        }
    }
}
