//! Writes the primitives of Kafka's protocol as a list of chunks, so that records are handed on and
//! never copied.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::Fault;
use super::reader::STRING_BYTES_MAX;

/// Bytes values below this are copied into the chunk around them; from it on they are a chunk of
/// their own. A vectored write costs some tens of nanoseconds a chunk, a copy of 512 bytes as much.
const COPY_BYTES_MAX: usize = 512;

#[derive(Debug)]
enum Chunk {
    Own(BytesMut),
    Shared(Bytes),
}

/// A message under way. Writing cannot fail; the first value that has no place on the wire (a
/// string or a field that is too long) is remembered, and `finish` says so.
#[derive(Debug, Default)]
pub struct Writer {
    done: Vec<Chunk>,
    tail: BytesMut,
    fault: Option<Fault>,
}

macro_rules! integers {
    ($($name:ident $put:ident)*) => { $(
        pub fn $name(&mut self, value: $name) {
            self.tail.$put(value);
        }
    )* };
}

impl Writer {
    pub fn new() -> Self {
        Self { tail: BytesMut::with_capacity(256), ..Self::default() }
    }

    integers! { i8 put_i8 i16 put_i16 i32 put_i32 i64 put_i64 }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// A length that was already compared with what the form may carry.
    fn length(&mut self, length: Option<usize>, flexible: bool, wide: bool) {
        let fits = "a length within the bounds of its form";
        match (flexible, wide, length) {
            (true, _, None) => self.uvarint(0),
            (true, _, Some(l)) => self.uvarint(u32::try_from(l + 1).expect(fits)),
            (false, true, None) => self.i32(-1),
            (false, true, Some(l)) => self.i32(i32::try_from(l).expect(fits)),
            (false, false, None) => self.i16(-1),
            (false, false, Some(l)) => self.i16(i16::try_from(l).expect(fits)),
        }
    }

    pub fn count(&mut self, count: Option<usize>, flexible: bool) {
        match count {
            Some(c) if i32::try_from(c).is_err() => self.fail(Fault::BytesLength(c)),
            _ => self.length(count, flexible, true),
        }
    }

    pub fn string(&mut self, string: Option<&str>, flexible: bool) {
        match string {
            Some(s) if s.len() > STRING_BYTES_MAX => self.fail(Fault::StringLength(s.len())),
            _ => {
                self.length(string.map(str::len), flexible, false);
                self.raw(string.unwrap_or_default().as_bytes());
            }
        }
    }

    /// The parts in a row as one bytes (or records) value.
    pub fn bytes(&mut self, parts: Option<&[Bytes]>, flexible: bool) {
        let length = parts.map(|parts| parts.iter().map(Bytes::len).sum::<usize>());
        if let Some(l) = length.filter(|l| i32::try_from(*l).is_err()) {
            return self.fail(Fault::BytesLength(l));
        }
        self.length(length, flexible, true);
        for part in parts.unwrap_or_default() {
            if part.len() <= COPY_BYTES_MAX {
                self.raw(part);
            } else {
                let own = self.tail.split();
                self.done.extend([Chunk::Own(own), Chunk::Shared(part.clone())]);
            }
        }
    }

    /// The tagged fields at the end of a structure: `each` gives them, in ascending order of tags.
    pub fn tagged_fields(&mut self, each: impl FnOnce(&mut Tags)) {
        let mut tags = Tags { count: 0, fields: BytesMut::new(), fault: None };
        each(&mut tags);
        self.uvarint(tags.count);
        self.raw(&tags.fields);
        if let Some(fault) = tags.fault {
            self.fail(fault);
        }
    }

    /// The chunks, in order, none of them empty.
    pub fn finish(self) -> Result<Chunks, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let chunks =
            self.done.into_iter().chain([Chunk::Own(self.tail)]).map(|chunk| match chunk {
                Chunk::Own(bytes) => bytes.freeze(),
                Chunk::Shared(bytes) => bytes,
            });
        Ok(Chunks(chunks.filter(|c| !c.is_empty()).collect()))
    }

    /// Like `finish`, for a writer whose first four bytes wait for the length of what follows.
    pub fn finish_frame(mut self) -> Result<Chunks, Fault> {
        let done = self.done.iter().map(|chunk| match chunk {
            Chunk::Own(bytes) => bytes.len(),
            Chunk::Shared(bytes) => bytes.len(),
        });
        let length = done.sum::<usize>() + self.tail.len() - 4;
        let Ok(stated) = i32::try_from(length) else { return Err(Fault::BytesLength(length)) };
        let first = match self.done.first_mut() {
            Some(Chunk::Own(bytes)) => bytes,
            Some(Chunk::Shared(_)) => {
                unreachable!("the length comes before the first shared chunk")
            }
            None => &mut self.tail,
        };
        first[..4].copy_from_slice(&stated.to_be_bytes());
        self.finish()
    }
}

/// Tagged fields under way.
#[derive(Debug)]
pub struct Tags {
    count: u32,
    fields: BytesMut,
    fault: Option<Fault>,
}

impl Tags {
    pub fn field(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let mut content = Writer::default();
        write(&mut content);
        match content.finish() {
            Err(fault) => self.fault = self.fault.or(Some(fault)),
            Ok(chunks) => {
                let mut head = Writer::default();
                head.uvarint(tag);
                head.uvarint(u32::try_from(chunks.len()).expect("a tagged field is small"));
                self.count += 1;
                self.fields.put_slice(&head.tail);
                chunks.0.iter().for_each(|chunk| self.fields.put_slice(chunk));
            }
        }
    }
}

/// An encoded message as the chunks of a vectored write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunks(pub Vec<Bytes>);

impl Chunks {
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All in one piece; copies, unless it is one piece already. For tests and for small messages.
    pub fn into_bytes(mut self) -> Bytes {
        if self.0.len() == 1 {
            return self.0.remove(0);
        }
        let mut all = BytesMut::with_capacity(self.len());
        self.0.iter().for_each(|chunk| all.put_slice(chunk));
        all.freeze()
    }
}
