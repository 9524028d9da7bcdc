//! Reads the primitives of Kafka's protocol out of one frame. Nothing is believed: a length is
//! compared with the bytes that are there before anything is taken or allocated.

use bytes::Bytes;

use super::error::Fault;

/// Elements of arrays in one request, nested ones counted too; beyond it the request is refused. The
/// largest clusters have some 200,000 partitions. With it no frame, however large and full of the
/// smallest elements, costs more than 256 MiB beside its own strings, rather than gigabytes.
pub const REQUEST_ELEMENTS_MAX: usize = 1 << 20;

/// No structure of a table is larger in memory, its strings and arrays aside; `tables!` asserts it.
pub const ELEMENT_BYTES_MAX: usize = 256;

/// The same of a response, which comes from a broker that we chose to ask: Metadata of 200,000
/// partitions with three lists of nine nodes each fits.
pub const RESPONSE_ELEMENTS_MAX: usize = 1 << 24;

/// The protocol's bound on a string, in its old (i16) and its compact form alike.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A position in one frame.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    end: usize,
    elements_left: usize,
}

type Result<T> = std::result::Result<T, Fault>;

macro_rules! integers {
    ($($name:ident)*) => { $(
        pub fn $name(&mut self) -> Result<$name> {
            Ok($name::from_be_bytes(self.array()?))
        }
    )* };
}

impl Reader {
    pub fn of_request(frame: Bytes) -> Self {
        Self::new(frame, REQUEST_ELEMENTS_MAX)
    }

    pub fn of_response(frame: Bytes) -> Self {
        Self::new(frame, RESPONSE_ELEMENTS_MAX)
    }

    fn new(frame: Bytes, elements_left: usize) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, elements_left }
    }

    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// What was not read yet.
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..self.end)
    }

    /// Leaves out so many bytes, or what there is.
    pub fn skip_at_most(&mut self, bytes: usize) {
        self.at += self.remaining().min(bytes);
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8]> {
        let remaining = self.remaining();
        if bytes > remaining {
            return Err(Fault::Short(bytes - remaining));
        }
        self.at += bytes;
        Ok(&self.frame[self.at - bytes..self.at])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("a slice of N bytes"))
    }

    integers! { i8 i16 i32 i64 }

    /// An unsigned LEB128 integer of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                return Err(Fault::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Varint)
    }

    /// A length before a value: `None` is null. Compact lengths are one more than the length.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>> {
        let length = match (flexible, wide) {
            (true, _) => return Ok((self.uvarint()? as usize).checked_sub(1)),
            (false, true) => self.i32()?,
            (false, false) => i32::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            other => usize::try_from(other).map(Some).map_err(|_| Fault::Negative(other)),
        }
    }

    /// The count of an array whose elements take at least `min_bytes` each.
    pub fn count(&mut self, flexible: bool, min_bytes: usize) -> Result<Option<usize>> {
        let Some(count) = self.length(flexible, true)? else { return Ok(None) };
        let remaining = self.remaining();
        if count > remaining / min_bytes.max(1) {
            return Err(Fault::Count { count, remaining });
        }
        self.elements_left = self.elements_left.checked_sub(count).ok_or(Fault::Elements)?;
        Ok(Some(count))
    }

    pub fn string(&mut self, flexible: bool) -> Result<Option<String>> {
        let Some(length) = self.length(flexible, false)? else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(Fault::StringLength(length));
        }
        let string = std::str::from_utf8(self.take(length)?).map_err(|_| Fault::Utf8)?;
        Ok(Some(string.to_owned()))
    }

    /// A slice of the frame, not a copy of it.
    pub fn bytes(&mut self, flexible: bool) -> Result<Option<Bytes>> {
        let Some(length) = self.length(flexible, true)? else { return Ok(None) };
        self.take(length)?;
        Ok(Some(self.frame.slice(self.at - length..self.at)))
    }

    /// The tagged fields at the end of a structure (KIP-482). `known` reads the field of a tag and
    /// says whether there is one; what it does not know is skipped.
    pub fn tagged_fields<E: From<Fault>>(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        let count = self.uvarint()?;
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let remaining = self.remaining();
            if size > remaining {
                return Err(Fault::Short(size - remaining).into());
            }
            let (end, field_end) = (self.end, self.at + size);
            self.end = field_end;
            let was_known = known(self, tag)?;
            if was_known && self.at < field_end {
                return Err(Fault::Tag(field_end - self.at).into());
            }
            (self.at, self.end) = (field_end, end);
        }
        Ok(())
    }

    /// Ends a message: what follows it is an error.
    pub fn finish(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            trailing => Err(Fault::Trailing(trailing)),
        }
    }
}
