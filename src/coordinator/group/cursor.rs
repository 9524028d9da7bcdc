//! Reads Kafka's primitive types from one record's key or value. Every length is checked against
//! the bytes that are left before anything is taken, so no record can ask for more than it has.

use bytes::{Buf, Bytes};

use super::record::RecordError;

/// Whether strings, arrays and structs have the compact, tagged form (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Classic,
    Flexible,
}

pub(super) struct Cursor {
    bytes: Bytes,
    pub form: Form,
}

impl Cursor {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, form: Form::Classic }
    }

    fn need(&self, field: &'static str, bytes: usize) -> Result<(), RecordError> {
        let left = self.bytes.len();
        if left < bytes { Err(RecordError::Short { field, needed: bytes, left }) } else { Ok(()) }
    }

    pub fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        self.need(field, 2)?;
        Ok(self.bytes.get_i16())
    }

    pub fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        self.need(field, 4)?;
        Ok(self.bytes.get_i32())
    }

    pub fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        self.need(field, 8)?;
        Ok(self.bytes.get_i64())
    }

    fn uvarint(&mut self, field: &'static str) -> Result<u32, RecordError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            self.need(field, 1)?;
            let byte = self.bytes.get_u8();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Varint { field });
            }
        }
        Err(RecordError::Varint { field })
    }

    /// The length in front of a string (`classic_bytes` 2) or of bytes and arrays (4); `None` is
    /// null.
    fn length(
        &mut self,
        field: &'static str,
        classic_bytes: usize,
    ) -> Result<Option<usize>, RecordError> {
        let length = match (self.form, classic_bytes) {
            (Form::Flexible, _) => i64::from(self.uvarint(field)?) - 1,
            (Form::Classic, 2) => i64::from(self.i16(field)?),
            (Form::Classic, _) => i64::from(self.i32(field)?),
        };
        match length {
            -1 => Ok(None),
            _ => {
                usize::try_from(length).map(Some).map_err(|_| RecordError::Length { field, length })
            }
        }
    }

    fn take(&mut self, field: &'static str, bytes: usize) -> Result<Bytes, RecordError> {
        self.need(field, bytes)?;
        Ok(self.bytes.split_to(bytes))
    }

    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(field, 2)? else { return Ok(None) };
        let bytes = self.take(field, length)?;
        match std::str::from_utf8(&bytes) {
            Ok(s) => Ok(Some(s.to_owned())),
            Err(_) => Err(RecordError::Utf8 { field }),
        }
    }

    pub fn string(&mut self, field: &'static str) -> Result<String, RecordError> {
        self.nullable_string(field)?.ok_or(RecordError::Null { field })
    }

    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(field, 4)?.ok_or(RecordError::Null { field })?;
        self.take(field, length)
    }

    /// A count of elements that take at least `element_bytes_min` each.
    pub fn count(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
    ) -> Result<usize, RecordError> {
        let count = self.length(field, 4)?.ok_or(RecordError::Null { field })?;
        self.need(field, count.saturating_mul(element_bytes_min))?;
        Ok(count)
    }

    /// Passes over the tagged fields at a struct's end; the classic form has none.
    pub fn skip_tags(&mut self, field: &'static str) -> Result<(), RecordError> {
        if self.form == Form::Classic {
            return Ok(());
        }
        for _ in 0..self.uvarint(field)? {
            self.uvarint(field)?;
            let size = self.uvarint(field)? as usize;
            self.take(field, size)?;
        }
        Ok(())
    }
}
