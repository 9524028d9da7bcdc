//! Carries the kernel's requests to a volume and its answers back. The kernel caches nothing: no names, no attributes
//! (a lifetime of zero), no pages (direct I/O), so that a power cut leaves nothing of what it took.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::names::Ino;
use crate::volume::{Error, Kind, ROOT, Volume};

const BLOCK_BYTES: u32 = 4096;
const NAME_BYTES_MAX: u32 = 255;
/// From <fcntl.h> and <linux/fs.h>.
const O_APPEND: i32 = 0o2000;
const NOT_CACHED: Duration = Duration::ZERO;

/// A listing as it was when the directory was opened: removals in between do not shift what is still to come.
type Listing = Vec<(OsString, INodeNo, FileType)>;

#[derive(Debug)]
pub struct Served {
    volume: Arc<Mutex<Volume>>,
    listings: Mutex<(u64, BTreeMap<u64, Listing>)>,
    sync_takes: Duration,
}

impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Errno::ENOENT,
            Error::Exists => Errno::EEXIST,
            Error::NotEmpty => Errno::ENOTEMPTY,
            Error::NotADirectory => Errno::ENOTDIR,
            Error::IsADirectory => Errno::EISDIR,
            Error::NoSpace => Errno::ENOSPC,
            Error::Io => Errno::EIO,
        }
    }
}

/// Locks, also after a thread that held it has panicked: the others must still be able to say so.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Served {
    pub fn new(volume: Arc<Mutex<Volume>>, sync_takes: Duration) -> Self {
        Self { volume, listings: Mutex::default(), sync_takes }
    }

    fn volume(&self) -> MutexGuard<'_, Volume> {
        lock(&self.volume)
    }

    /// The attributes of what the kernel is told of, which it will forget again.
    fn told(volume: &mut Volume, ino: Ino) -> Result<FileAttr, Error> {
        let attributes = attributes(volume, ino)?;
        volume.learn(ino);
        Ok(attributes)
    }

    /// A device takes its time, and meanwhile others write: what comes after its begin is not covered.
    fn sync(&self, ino: INodeNo) -> Result<(), Error> {
        let began = self.volume().moment();
        thread::sleep(self.sync_takes); // tidy: what a device does in this time is the subject
        self.volume().sync(ino.0, began)
    }
}

fn attributes(volume: &Volume, ino: Ino) -> Result<FileAttr, Error> {
    let (kind, perm, size) = match volume.kind(ino)? {
        Kind::File { len } => (FileType::RegularFile, 0o644, len),
        Kind::Directory => (FileType::Directory, 0o755, 0),
    };
    let never = SystemTime::UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: never,
        mtime: never,
        ctime: never,
        crtime: never,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn entry(reply: ReplyEntry, found: Result<FileAttr, Error>) {
    match found {
        Ok(attributes) => reply.entry(&NOT_CACHED, &attributes, Generation(0)),
        Err(error) => reply.error(error.into()),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Error>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut volume = self.volume();
        let found = volume.lookup(parent.0, name);
        entry(reply, found.and_then(|ino| Self::told(&mut volume, ino)));
    }

    fn forget(&self, _: &Request, ino: INodeNo, times: u64) {
        self.volume().unlearn(ino.0, times);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.volume(), ino.0) {
            Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut volume = self.volume();
        let resized = size.map_or(Ok(()), |size| volume.resize(ino.0, size));
        match resized.and_then(|()| attributes(&volume, ino.0)) {
            Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut volume = self.volume();
        let made = volume.make_directory(parent.0, name);
        entry(reply, made.and_then(|ino| Self::told(&mut volume, ino)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut volume = self.volume();
        let made = volume.create(parent.0, name);
        match made.and_then(|ino| Self::told(&mut volume, ino)) {
            Ok(attributes) => reply.created(
                &NOT_CACHED,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(error.into()),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.volume().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.volume().remove_directory(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        empty(reply, self.volume().rename((parent.0, name), (to.0, to_name)));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.volume().kind(ino.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.volume().read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let at = (flags.0 & O_APPEND == 0).then_some(offset);
        match self.volume().write(ino.0, at, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("a request's length")),
            Err(error) => reply.error(error.into()),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.sync(ino));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.sync(ino));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let volume = self.volume();
        let listed = volume.list(ino.0).and_then(|entries| {
            let entries = entries.into_iter().map(|(name, ino)| {
                let kind = attributes(&volume, ino)?.kind;
                Ok((name, INodeNo(ino), kind))
            });
            entries.collect::<Result<Listing, Error>>()
        });
        match listed {
            Ok(listing) => {
                let mut listings = lock(&self.listings);
                listings.0 += 1;
                let handle = listings.0;
                listings.1.insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listings = lock(&self.listings);
        let listing = listings.1.get(&handle.0).map_or(&[][..], Vec::as_slice);
        let dots = [(".", ino), ("..", INodeNo(ROOT))];
        let dots = dots.map(|(name, ino)| (OsStr::new(name), ino, FileType::Directory));
        let entries = listing.iter().map(|(name, ino, kind)| (name.as_os_str(), *ino, *kind));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (n, (name, ino, kind)) in dots.into_iter().chain(entries).enumerate().skip(from) {
            if reply.add(ino, n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.listings).1.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let volume = self.volume();
        let blocks = |bytes: u64| bytes / u64::from(BLOCK_BYTES);
        let (all, free) = (blocks(volume.capacity_bytes()), blocks(volume.free_bytes()));
        reply.statfs(all, free, free, 0, 0, BLOCK_BYTES, NAME_BYTES_MAX, BLOCK_BYTES);
    }
}
