//! Open files, few at a time: thousands of partitions share a bounded number of descriptors.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, DiskFile};

/// Names one file in one of its lives: a segment that is removed and written anew is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// Least recently used files are closed first. A file in use outlives its place here.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    open_max: usize,
    next_id: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    clock: u64,
    files: HashMap<FileId, (u64, Arc<dyn DiskFile>)>,
    by_use: BTreeMap<u64, FileId>,
}

impl Open {
    fn touch(&mut self, id: FileId) -> Option<Arc<dyn DiskFile>> {
        self.clock += 1;
        let (used, file) = self.files.get_mut(&id)?;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, id);
        Some(file.clone())
    }

    fn insert(&mut self, id: FileId, file: Arc<dyn DiskFile>, open_max: usize) {
        self.clock += 1;
        if let Some((used, _)) = self.files.insert(id, (self.clock, file)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, id);
        while self.files.len() > open_max {
            let (_, oldest) = self.by_use.pop_first().expect("every open file has a last use");
            self.files.remove(&oldest);
        }
    }
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Self {
        Self { disk, open_max, next_id: AtomicU64::new(0), open: Mutex::default() }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn id(&self) -> FileId {
        FileId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The file at `path`, opened if it is not.
    pub(super) fn open(&self, id: FileId, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.lock().touch(id) {
            return Ok(file);
        }
        // Outside the lock: two may open the same file at once, and one of the two is closed again.
        let file = self.disk.open(path)?;
        self.lock().insert(id, file.clone(), self.open_max);
        Ok(file)
    }

    pub(super) fn create(&self, id: FileId, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.create(path)?;
        self.lock().insert(id, file.clone(), self.open_max);
        Ok(file)
    }

    pub(super) fn forget(&self, id: FileId) {
        let mut open = self.lock();
        if let Some((used, _)) = open.files.remove(&id) {
            open.by_use.remove(&used);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // Nothing is half done under this lock, so a panic of another thread leaves it whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
