//! Records as a message carries them: batches in a row, in as many pieces as they were read in.

use bytes::{Bytes, BytesMut};

/// Record batches, end to end. A fetch gathers the slices between the log's frames, so they may be
/// in pieces; equal are records of equal bytes, however they are cut.
#[derive(Debug, Clone, Default)]
pub struct Records(Vec<Bytes>);

impl Records {
    pub fn parts(&self) -> &[Bytes] {
        &self.0
    }

    pub fn push(&mut self, part: Bytes) {
        self.0.push(part);
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// All in one piece; copies, unless they are one piece already.
    pub fn into_bytes(mut self) -> Bytes {
        if self.0.len() == 1 {
            return self.0.remove(0);
        }
        let mut all = BytesMut::with_capacity(self.len());
        self.0.iter().for_each(|part| all.extend_from_slice(part));
        all.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(parts: Vec<Bytes>) -> Self {
        Self(parts)
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}
