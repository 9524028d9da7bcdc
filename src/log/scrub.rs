//! Reading closed segments whole, to find what has rotted and to compare with other DCs (R21).

use sha2::{Digest, Sha256};

use crate::model::LogIndex;

use super::error::{Context, Error};
use super::reader::Reader;
use super::scan::{Ahead, Scan, Step};
use super::segment::{self, Header};
use super::view::Closed;

/// Bytes hashed at once.
const CHUNK_BYTES: usize = 256 * 1024;

impl Reader {
    /// Checks every frame and batch of the closed segment that begins at `base_index`, and hashes
    /// its file: the same in every DC. `None` if there is no such closed segment.
    pub fn scrub(&self, base_index: LogIndex) -> Result<Option<[u8; 32]>, Error> {
        self.of_closed(base_index, |closed| {
            self.check_segment(closed)?;
            self.hash_segment(closed)
        })
    }

    /// The same without the hash; whether there is such a segment.
    pub fn check(&self, base_index: LogIndex) -> Result<bool, Error> {
        let checked = self.of_closed(base_index, |closed| self.check_segment(closed))?;
        Ok(checked.is_some())
    }

    /// The entry that a read has found damaged since this was last asked. Memory only.
    pub fn take_suspect(&self) -> Option<LogIndex> {
        self.shared.take_suspect()
    }

    fn of_closed<T>(
        &self,
        base_index: LogIndex,
        look: impl Fn(&Closed) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let closed = {
            let view = self.shared.view();
            view.closed.iter().find(|c| c.summary.base_index == base_index).cloned()
        };
        let Some(closed) = closed else { return Ok(None) };
        let result = look(&closed);
        let still_there = {
            let view = self.shared.view();
            view.closed.iter().any(|c| c.file == closed.file)
        };
        // What was cut or removed meanwhile says nothing.
        if still_there { result.map(Some) } else { Ok(None) }
    }

    fn check_segment(&self, closed: &Closed) -> Result<(), Error> {
        let path = &closed.path;
        let file = self.shared.files.open(closed.file, path).context("open", path)?;
        let (first, end) = (segment::HEADER_BYTES as u64, closed.summary.size_bytes);
        let mut scan = Scan::new(file.clone(), self.shared.seed, first, end, Ahead::ToEnd);
        let mut last = closed.summary.base_index.prev();
        let mut header = [0; segment::HEADER_BYTES];
        let read = file.read_at(&mut header, 0).context("read", path)?;
        if Header::decode(&header[..read], self.shared.id, last.next()).is_err() {
            let (partition, path) = (self.shared.id, path.to_path_buf());
            return Err(Error::Corrupt { partition, path, position: 0, index: last.next() });
        }
        loop {
            let position = scan.position();
            let good = match scan.step().context("read", path)? {
                Step::Frame(frame) => {
                    last = frame.meta.index;
                    scan.is_payload_whole(&frame).context("read", path)?
                }
                Step::Bad(_) => false,
                Step::End => break,
            };
            if !good {
                let (partition, path) = (self.shared.id, path.to_path_buf());
                return Err(Error::Corrupt { partition, path, position, index: last });
            }
        }
        Ok(())
    }

    fn hash_segment(&self, closed: &Closed) -> Result<[u8; 32], Error> {
        let path = &closed.path;
        let file = self.shared.files.open(closed.file, path).context("open", path)?;
        let end = closed.summary.size_bytes;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut position = 0;
        while position < end {
            let read = file.read_at(&mut chunk, position).context("read", path)?;
            if read == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
                    .context("read", path);
            }
            hash.update(&chunk[..read]);
            position += read as u64;
        }
        Ok(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::{all_entries, append, append_batches, files, partition, store_with};

    #[test]
    fn segments_of_the_same_entries_are_the_same_files_however_they_were_written() {
        let (one, other) = (SimDisk::new(1), SimDisk::new(2));
        let (mut a, mut b) = (store_with(&one, 1000), store_with(&other, 1000));
        for _ in 0..10 {
            append_batches(&mut a, 3, &[b'x'; 100]);
        }
        append(&mut b, all_entries(&a));
        let (a, b) = (a.reader(partition(0)).unwrap(), b.reader(partition(0)).unwrap());
        assert_eq!(a.segments(), b.segments());
        for segment in a.segments().iter().filter(|s| s.is_closed) {
            let hash = a.scrub(segment.base_index).unwrap();
            assert!(hash.is_some());
            assert_eq!(hash, b.scrub(segment.base_index).unwrap());
        }
        assert_eq!(a.scrub(a.segments().last().unwrap().base_index).unwrap(), None);
    }

    #[test]
    fn a_rotten_bit_is_found_wherever_it_is() {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, 400);
        append_batches(&mut store, 6, &[b'x'; 100]);
        let reader = store.reader(partition(0)).unwrap();
        let base = reader.segments()[0].base_index;
        let path = files(&disk, ".log")[0].clone();
        for at in 0..disk.content(&path).len() {
            disk.flip(&path, at as u64, 2);
            assert!(matches!(reader.scrub(base), Err(Error::Corrupt { .. })), "byte {at}");
            disk.flip(&path, at as u64, 2);
        }
        assert!(reader.scrub(base).unwrap().is_some());
    }
}
