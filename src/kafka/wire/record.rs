//! Single records within one uncompressed v2 batch: KIP-98, and the drawing in Kafka's
//! documentation under "Record".
//!
//! ```text
//! length           varint   bytes after this field
//! attributes       i8       unused
//! timestamp delta  varlong  ms after the batch's base timestamp
//! offset delta     varint   after the batch's base offset
//! key              varint length, -1: null
//! value            varint length, -1: null
//! headers          varint count, then for each: key (varint length), value (varint, -1: null)
//! ```
//!
//! All varints are zigzag. Reading borrows from the batch and allocates nothing.

use crate::model::Offset;
use crate::model::batch::{Codec, Header};

/// Attribute bit 3: every record of the batch has the batch's maximum timestamp (KIP-32).
const LOG_APPEND_TIME: i16 = 0b1000;

/// Why records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the batch's header")]
    Header(#[from] crate::model::batch::Error),
    #[error("records are compressed with {}", .0.name())]
    Compressed(Codec),
    #[error("record {0} ends beyond its batch")]
    Short(i32),
    #[error("record {0} has a variable-length integer without an end")]
    Varint(i32),
    #[error("record {0} states the length or count {1}")]
    Length(i32, i64),
    #[error("record {0} leaves {1} of its bytes unread")]
    Unread(i32, usize),
    #[error("record {0} has offset delta {1} in a batch whose last is {2}")]
    OffsetDelta(i32, i64, i32),
    #[error("record {0} has a timestamp beyond 63 bits")]
    Timestamp(i32),
    #[error("{0} bytes follow the last record")]
    Trailing(usize),
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    /// As the batch's timestamp type has it: base and delta, or the batch's append time.
    pub timestamp: i64,
    pub offset: Offset,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record, checked when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor { rest: self.bytes, at: 0 };
        (0..self.count).map(move |_| cursor.header().expect("read once already"))
    }
}

/// The records of one batch, in order; ends after the first error.
///
/// # Errors
/// The batch's header does not parse, or its records are compressed.
pub fn records(batch: &[u8]) -> Result<Records<'_>, Error> {
    let header = Header::parse(batch)?;
    let codec = header.codec()?;
    if codec != Codec::None {
        return Err(Error::Compressed(codec));
    }
    let body = &batch[crate::model::batch::HEADER_BYTES..header.size_bytes];
    Ok(Records { cursor: Cursor { rest: body, at: 0 }, header, previous: -1, done: false })
}

/// Checks the records of a batch that a producer sent: each is whole, their offsets are dense from
/// 0 and nothing follows them. Compressed records are not looked at.
pub fn check(batch: &[u8]) -> Result<(), Error> {
    let records = match records(batch) {
        Err(Error::Compressed(_)) => return Ok(()),
        other => other?,
    };
    let last = records.header.last_offset_delta;
    for (at, record) in (0..).zip(records) {
        let delta = record?.offset_delta;
        if delta != at {
            return Err(Error::OffsetDelta(at, delta.into(), last));
        }
    }
    Ok(())
}

/// The first record of the batch with that timestamp or a later one, for ListOffsets.
pub fn first_at(batch: &[u8], timestamp: i64) -> Result<Option<(Offset, i64)>, Error> {
    for record in records(batch)? {
        let record = record?;
        if record.timestamp >= timestamp {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// See [`records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    header: Header,
    previous: i32,
    done: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.cursor.at >= self.header.records {
            self.done = true;
            let trailing = self.cursor.rest.len();
            return (trailing > 0).then_some(Err(Error::Trailing(trailing)));
        }
        let record = self.record();
        self.done = record.is_err();
        self.cursor.at += 1;
        Some(record)
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Result<Record<'a>, Error> {
        let at = self.cursor.at;
        let length = self.cursor.length()?.ok_or(Error::Length(at, -1))?;
        let mut inner = Cursor { rest: self.cursor.take(length)?, at };
        inner.take(1)?;
        let timestamp_delta = inner.varlong()?;
        let delta = inner.varlong()?;
        let last = self.header.last_offset_delta;
        let offset_delta = i32::try_from(delta)
            .ok()
            .filter(|delta| *delta > self.previous && *delta <= last)
            .ok_or(Error::OffsetDelta(at, delta, last))?;
        self.previous = offset_delta;
        let (key, value) = (inner.bytes()?, inner.bytes()?);
        let headers = inner.headers()?;
        if !inner.rest.is_empty() {
            return Err(Error::Unread(at, inner.rest.len()));
        }
        let timestamp = match self.header.attributes & LOG_APPEND_TIME {
            0 => self.header.base_timestamp.checked_add(timestamp_delta),
            _ => Some(self.header.max_timestamp),
        };
        Ok(Record {
            offset_delta,
            timestamp_delta,
            timestamp: timestamp.ok_or(Error::Timestamp(at))?,
            offset: self.offset(offset_delta)?,
            key,
            value,
            headers,
        })
    }

    fn offset(&self, delta: i32) -> Result<Offset, Error> {
        let last = self.header.last_offset_delta;
        let offset = self.header.base_offset.0.checked_add(i64::from(delta));
        offset.map(Offset).ok_or(Error::OffsetDelta(self.cursor.at, delta.into(), last))
    }
}

/// A position within the records; `at` is the record's number, for errors.
#[derive(Debug, Clone)]
struct Cursor<'a> {
    rest: &'a [u8],
    at: i32,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Error::Short(self.at))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A zigzag varint of at most 64 bits.
    fn varlong(&mut self) -> Result<i64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Error::Varint(self.at))
    }

    /// A length or a count, no more than the bytes that are there; `None` is -1.
    fn length(&mut self) -> Result<Option<usize>, Error> {
        match self.varlong()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Err(_) => Err(Error::Length(self.at, length)),
                Ok(l) if l > self.rest.len() => Err(Error::Short(self.at)),
                Ok(l) => Ok(Some(l)),
            },
        }
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Error> {
        match self.length()? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Error> {
        let key = self.bytes()?.ok_or(Error::Length(self.at, -1))?;
        Ok((key, self.bytes()?))
    }

    fn headers(&mut self) -> Result<Headers<'a>, Error> {
        let count = self.length()?.ok_or(Error::Length(self.at, -1))?;
        let before = self.rest;
        for _ in 0..count {
            self.header()?;
        }
        Ok(Headers { count, bytes: &before[..before.len() - self.rest.len()] })
    }
}
