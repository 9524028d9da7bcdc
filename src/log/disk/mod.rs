//! The disk seam: everything that the log asks of a disk, each call fallible.
//!
//! `OsDisk` is the machine's. `sim::SimDisk` is the simulator's: seeded, in memory, and as unkind as
//! disks are (unsynced writes and directory entries lost or torn at a crash, a failed fsync that
//! marks its pages clean, bit rot, no space). Both are used through `dyn`, so that no type parameter
//! climbs into the rooms above; a virtual call is nothing beside a system call.

mod os;
pub mod sim;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use os::OsDisk;

/// A file system. Paths are absolute or relative to wherever the implementation likes, as long as
/// it is the same place for every call.
pub trait Disk: Debug + Send + Sync {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Names in `dir`, sorted, so that nothing depends on the order of a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Opens an existing file for reading and appending.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading only: `dump` beside a running node.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file that is empty afterwards, whatever was there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Atomic within a directory; durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove_file(&self, path: &Path) -> io::Result<()>;

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the directory's entries durable: a synced file is not there after a crash until its
    /// name is.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Takes the lock file `path` for `owner` until the guard is dropped. `Err(WouldBlock)` with the
    /// present owner's words as message where another process has it.
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>>;

    /// Whether several threads may sync and recover at once. The simulator says no, or no run of
    /// it would repeat.
    fn is_parallel(&self) -> bool;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all of `slices` at the end, in as few system calls as the system allows. After an
    /// error any part of it may have been written.
    fn append(&self, slices: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Reads at `position`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize>;

    /// fdatasync: the content and the size are durable afterwards. Never retried (R20).
    fn sync_data(&self) -> io::Result<()>;

    fn truncate(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Forgets cached content that is clean, so that reads that follow come from the device: after
    /// a failed fsync and a restart the cache still shows what never reached it (H28).
    fn evict(&self) -> io::Result<()>;
}

/// Held for as long as a process owns a directory.
pub trait Lock: Debug + Send + Sync {}

/// Whether `error` says that there is no room, which is back-pressure and not a broken disk (R22).
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The whole of a small file.
pub fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes `dir` and what is missing of its ancestors, each with its name durable before the next is
/// made. So is the name of the lowest that was there: who made it may have been killed before that.
pub fn create_dir_all_durable(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let was_there = disk.exists(dir)?;
    if !was_there {
        create_dir_all_durable(disk, parent)?;
        disk.create_dir_all(dir)?;
    }
    match disk.sync_dir(parent) {
        // Where we may not look we have made nothing.
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Replaces `path` by `bytes` so that a crash leaves the old content or the new, never a part:
/// a file of another name, synced, then renamed, then the directory synced.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    let file = disk.create(temporary)?;
    file.append(&mut [IoSlice::new(bytes)])?;
    file.sync_data()?;
    disk.rename(temporary, path)?;
    disk.sync_dir(path.parent().expect("a file is in a directory"))
}
