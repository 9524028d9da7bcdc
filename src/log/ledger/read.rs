//! A suffix as a log that nobody writes: records from any offset, and by time, as from any other.

use std::path::Path;
use std::sync::Arc;

use super::suffix::Suffix;
use super::{Ledger, MANIFEST};
use crate::log::active::{Active, End};
use crate::log::disk::Disk;
use crate::log::dump;
use crate::log::error::{Context, Error};
use crate::log::files::Files;
use crate::log::frame::Seed;
use crate::log::reader::Reader;
use crate::log::segment;
use crate::log::state::LogStart;
use crate::log::view::{Closed, Shared, View};
use crate::model::{LogIndex, TopicPartition};

/// Files that one reader keeps open: whoever reads is in one segment, and now and then in the next.
const OPEN_FILES_MAX: usize = 2;

/// Of a segment's index entries, 4 KiB apart, one in so many stays in memory: 40 bytes for 64 KiB of a
/// suffix, and a read walks over 32 KiB that it does not want.
const HELD_ONE_IN: usize = 16;

impl Ledger {
    /// Reads suffixes of one log, one behind the other, as one: a log that was cut at two forks, one after the
    /// other, has its end in two. Oldest entries first.
    ///
    /// Reads all of it once, frame by frame, for an index in memory: there is none in a ledger. That takes as
    /// long as the disk takes for it. Refuses what is not as the manifests say, or has a gap. Batches are
    /// not checked; who reads them is a client, and checks them.
    ///
    /// # Panics
    /// Without a suffix.
    pub fn reader(parts: &[Suffix]) -> Result<Reader, Error> {
        let (front, disk) = (&parts[0].manifest, parts[0].disk.clone());
        let files = Arc::new(Files::new(disk, OPEN_FILES_MAX));
        let first = front.content.epochs.first().map(|e| e.term);
        let mut view = View::empty(LogStart {
            index: front.first_index.prev(),
            term: first.unwrap_or(front.last.1),
            offset: front.first_offset,
        });
        for part in parts {
            let ends = (view.last().0.next(), view.next_offset());
            let begins = (part.manifest.first_index, part.manifest.first_offset);
            if ends != begins {
                let reason =
                    format!("it begins at {begins:?}, and what is before it ends at {ends:?}");
                return Err(Error::Malformed { path: part.dir.clone(), reason });
            }
            part.read_into(&mut view, &files)?;
        }
        view.rebuild_epochs();
        let dir = parts[0].dir.as_path().into();
        Ok(Reader::new(Arc::new(Shared::new(front.partition, dir, files, view))))
    }
}

impl Suffix {
    fn read_into(&self, view: &mut View, files: &Files) -> Result<(), Error> {
        let manifest = &self.manifest;
        let names = self.disk.list(&self.dir).context("list", &self.dir)?;
        for (base, name) in names.iter().filter_map(|n| Some((segment::base_index_of(n)?, n))) {
            view.closed.push(Arc::new(self.segment(files, base, name)?));
        }
        let found = (view.last(), view.next_offset());
        if self.is_whole && found == (manifest.last, manifest.next_offset) {
            return Ok(());
        }
        let reason = format!(
            "the segments end at {:?}, offset {}; {MANIFEST} says {:?}, offset {}",
            found.0, found.1, manifest.last, manifest.next_offset
        );
        Err(Error::Malformed { path: self.dir.clone(), reason })
    }

    /// Whether it has not been removed since it was read.
    pub fn is_there(&self) -> Result<bool, Error> {
        let path = self.dir.join(MANIFEST);
        self.disk.exists(&path).context("look for", &path)
    }

    fn segment(&self, files: &Files, base: LogIndex, name: &str) -> Result<Closed, Error> {
        let id = self.manifest.partition;
        let path = self.dir.join(name);
        let (file, header) = dump::open_file(&*self.disk, id, base, &path)?;
        let size = file.len().context("measure", &path)?;
        let mut active = Active::new(files.id(), path.as_path().into(), base, header.base_offset);
        let all = LogIndex(u64::MAX);
        match active.extend(&file, Seed::of(id), size, all, all).context("read", &path)? {
            End::Clean => Ok(active.close_held(files, HELD_ONE_IN)),
            End::Bad => Err(Error::Corrupt {
                partition: id,
                path,
                position: active.summary.size_bytes,
                index: active.summary.last_index.next(),
            }),
        }
    }
}

impl Reader {
    /// A log without an entry, which begins there.
    pub fn of_nothing(id: TopicPartition, start: LogStart, disk: Arc<dyn Disk>) -> Self {
        let files = Arc::new(Files::new(disk, OPEN_FILES_MAX));
        Self::new(Arc::new(Shared::new(id, Path::new("").into(), files, View::empty(start))))
    }
}
