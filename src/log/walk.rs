//! How readers get at files that a writer may cut meanwhile.

use std::io;
use std::path::Path;

use crate::model::LogIndex;

use super::error::{Context, Error};
use super::frame::Frame;
use super::index::{self, IndexEntry, Target};
use super::reader::Reader;
use super::scan::{Ahead, Scan, Step};
use super::segment;
use super::view::{Closed, Place, View};

/// How often a read that a truncation crossed is tried again before the writer is made to wait for
/// it. Truncations come with changes of the leader; more than a few in one read would be a storm.
const CROSSED_READS_MAX: usize = 4;

/// Whether to go on with the next frame.
pub(super) enum Next {
    Go,
    Stop,
}

impl Reader {
    pub(super) fn uncrossed<T>(
        &self,
        look: impl Fn(&View) -> Result<Option<Place>, Error>,
        read: impl Fn(&Place) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        Ok(self.uncrossed_at(look, read)?.flatten())
    }

    /// Looks something up in the view and reads the files it names, again if the view's bytes
    /// changed meanwhile.
    pub(super) fn uncrossed_at<P, T>(
        &self,
        look: impl Fn(&View) -> Result<Option<P>, Error>,
        read: impl Fn(&P) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        for _ in 0..CROSSED_READS_MAX {
            let (place, version) = {
                let view = self.shared.view();
                if view.removed {
                    return Err(Error::Removed(self.shared.id));
                }
                (look(&view)?, view.version)
            };
            let Some(place) = place else { return Ok(None) };
            let result = read(&place);
            if self.shared.view().version == version {
                return self.suspected(result).map(Some);
            }
        }
        // The writer waits for this one.
        let view = self.shared.view();
        if view.removed {
            return Err(Error::Removed(self.shared.id));
        }
        let read = look(&view)?.map(|place| read(&place)).transpose();
        self.suspected(read)
    }

    /// What a truncation has crossed looks damaged, and says nothing; what is read in the end does.
    fn suspected<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Corrupt { index, .. }) = &read {
            self.shared.suspect(*index);
        }
        read
    }

    /// Calls `visit` for the frames from `place` to the end of its segment.
    pub(super) fn walk(
        &self,
        place: &Place,
        target: Target,
        ahead: Ahead,
        mut visit: impl FnMut(&Frame, &mut Scan) -> io::Result<Next>,
    ) -> Result<(), Error> {
        let files = &self.shared.files;
        let (file, path, position, end) = match place {
            Place::Active { file, path, position, end } => (*file, path, *position, *end),
            Place::Closed(closed) => {
                let position = self.position_in(closed, target)?;
                (closed.file, &closed.path, position, closed.summary.size_bytes)
            }
        };
        let opened = files.open(file, path).context("open", path)?;
        let mut scan = Scan::new(opened, self.shared.seed, position, end, ahead);
        // Damage in the first frame that is read is told as of the segment's first: it is looked for there.
        let mut index = base_of(path).prev();
        loop {
            let at = scan.position();
            let corrupt = |index: LogIndex| {
                let (partition, path) = (self.shared.id, path.to_path_buf());
                Error::Corrupt { partition, path, position: at, index }
            };
            match scan.step().context("read", path)? {
                Step::Frame(frame) => {
                    index = frame.meta.index;
                    match visit(&frame, &mut scan) {
                        Ok(Next::Go) => {}
                        Ok(Next::Stop) => return Ok(()),
                        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                            return Err(corrupt(index));
                        }
                        Err(error) => return Err(error).context("read", path),
                    }
                }
                Step::End => return Ok(()),
                Step::Bad(_) => return Err(corrupt(index.next())),
            }
        }
    }

    /// Where to begin in a closed segment, by its index file; at the front if that is no help.
    fn position_in(&self, closed: &Closed, target: Target) -> Result<u64, Error> {
        let front = segment::HEADER_BYTES as u64;
        if !closed.held.is_empty() {
            let found = index::find(closed.held.len(), target, |n| Some(closed.held[n]));
            return Ok(found.map_or(front, |e| e.position.into()));
        }
        if closed.index_entries == 0 {
            return Ok(front);
        }
        let path = segment::index_path(&closed.path);
        let Ok(file) = self.shared.files.open(closed.index_file, &path) else { return Ok(front) };
        let found = index::find(closed.index_entries as usize, target, |n| {
            let mut bytes = [0; index::ENTRY_BYTES];
            let at = closed.index_position + (n * index::ENTRY_BYTES) as u64;
            file.read_at(&mut bytes, at).ok().filter(|n| *n == bytes.len())?;
            IndexEntry::decode(&bytes)
        });
        let inside = |e: &IndexEntry| {
            u64::from(e.position) < closed.summary.size_bytes && u64::from(e.position) >= front
        };
        Ok(found.filter(inside).map_or(front, |e| e.position.into()))
    }
}

/// The first entry of a segment, by its file's name.
fn base_of(path: &Path) -> LogIndex {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(segment::base_index_of).expect("a segment's name")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::log::Write;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::{TERM, append_batches, batches, partition, store_with};
    use crate::model::{Offset, Term};

    #[test]
    fn a_read_that_a_truncation_crosses_is_made_again() {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, 1 << 20);
        append_batches(&mut store, 4, b"old");
        let reader = store.reader(partition(0)).unwrap();
        let (store, reads) = (RefCell::new(store), Cell::new(0));
        let look = |view: &View| Ok(view.place(Target::Index(LogIndex(1))));
        let terms = reader.uncrossed(look, |place| {
            reads.set(reads.get() + 1);
            if reads.get() == 1 {
                let entries = batches((LogIndex(1), Term(TERM)), Offset(2), TERM + 1, 3, b"new");
                let truncate_from = Some(LogIndex(2));
                let write = Write { truncate_from, entries, ..Write::to(partition(0)) };
                store.borrow_mut().commit(vec![write]).unwrap();
            }
            let mut terms = Vec::new();
            reader.walk(place, Target::Index(LogIndex(1)), Ahead::ToEnd, |frame, _| {
                terms.push(frame.meta.term.0);
                Ok(Next::Go)
            })?;
            Ok(Some(terms))
        });
        assert_eq!(terms.unwrap().unwrap(), [TERM, TERM + 1, TERM + 1, TERM + 1]);
        assert_eq!(reads.get(), 2);
    }
}
