//! Records → one uncompressed v2 batch with all that a producer may say: times, headers, producer
//! id and sequence, transaction and control marks.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::batch::{HEADER_BYTES, crc_of};

const MAGIC_V2: i8 = 2;
/// Bytes of a batch before what its length counts.
const LENGTH_OVERHEAD_BYTES: usize = 12;
const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
/// What Kafka writes where there is no timestamp, producer id, epoch or sequence.
const NONE: i8 = -1;

/// A batch under way. Base offset is 0 and leader epoch -1: the leader places the batch
/// ([`place`](crate::model::batch::place)) without touching what the CRC covers.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    body: BytesMut,
    records: i32,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            body: BytesMut::zeroed(HEADER_BYTES),
            records: 0,
            attributes: 0,
            base_timestamp: NONE.into(),
            max_timestamp: NONE.into(),
            producer_id: NONE.into(),
            producer_epoch: NONE.into(),
            base_sequence: NONE.into(),
        }
    }
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the batch an idempotent one (KIP-98).
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Makes the batch a control batch, which clients do not show.
    pub fn control(mut self) -> Self {
        self.attributes |= CONTROL;
        self
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Of the whole batch, its header included.
    pub fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// Appends a record; `timestamp` is in ms, the broker's own.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp, key, value, &[]);
    }

    pub fn push_with_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        if self.is_empty() {
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);

        let mut record =
            BytesMut::with_capacity(32 + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        record.put_i8(0);
        let delta = timestamp.checked_sub(self.base_timestamp);
        put_varlong(&mut record, delta.expect("two times of one broker are within 63 bits"));
        put_varlong(&mut record, self.records.into());
        put_bytes(&mut record, key);
        put_bytes(&mut record, value);
        put_varlong(&mut record, headers.len() as i64);
        for (name, value) in headers {
            put_bytes(&mut record, Some(name.as_bytes()));
            put_bytes(&mut record, *value);
        }
        put_varlong(&mut self.body, record.len() as i64);
        self.body.put_slice(&record);
        self.records += 1;
    }

    /// The batch, its CRC written.
    ///
    /// # Panics
    /// Without a record, which no log may hold, and at 2 GiB.
    pub fn build(self) -> Bytes {
        assert!(self.records > 0, "a batch has a record");
        let mut batch = self.body;
        let length = i32::try_from(batch.len() - LENGTH_OVERHEAD_BYTES).expect("below 2 GiB");
        let mut header = &mut batch[..HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(length);
        header.put_i32(NONE.into());
        header.put_i8(MAGIC_V2);
        header.put_u32(0);
        header.put_i16(self.attributes);
        header.put_i32(self.records - 1);
        header.put_i64(self.base_timestamp);
        header.put_i64(self.max_timestamp);
        header.put_i64(self.producer_id);
        header.put_i16(self.producer_epoch);
        header.put_i32(self.base_sequence);
        header.put_i32(self.records);
        assert!(header.is_empty(), "the header is 61 bytes");
        let crc = crc_of(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.freeze()
    }
}

fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |b| b.len() as i64));
    out.put_slice(bytes.unwrap_or_default());
}
