//! The simulator's disk: in memory, seeded, and as unkind as disks are.
//!
//! What a crash leaves of a file is what was synced, and of each write since then nothing, all, a
//! torn part, or single sectors with holes of zeroes between them. What it leaves of a directory is
//! what was synced and any subset of the links, new directories, renames and removals since. A failed sync loses what
//! it should have made durable, and marks it clean: the next one succeeds, and only `evict` or a
//! crash shows what is there. Bits rot where a test says. The same seed and the same calls give the
//! same disk.
//!
//! Not simulated: misdirected writes (`write_durable` puts any bytes anywhere).

mod medium;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Disk, DiskFile, Lock};
use medium::{DirChange, FileChange, Inode, Names, write_at};

/// The capacity of a disk that is never full: nobody counts what is on it.
const ENDLESS_BYTES: u64 = 1 << 40;

#[derive(Debug)]
struct State {
    rng: SmallRng,
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    /// By the directory that must be synced.
    unsynced_names: Vec<(PathBuf, DirChange)>,
    locks: BTreeMap<PathBuf, (u64, String)>,
    capacity_bytes: u64,
    /// Grows at a crash; handles from before it are dead.
    life: u64,
    /// Changes that may still happen before the disk crashes by itself.
    changes_left: Option<u64>,
    /// Syncs that fail, by a part of the file's path.
    failing_syncs: Vec<String>,
    counts: Counts,
}

/// What a disk was asked to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub appends: u64,
    pub bytes_appended: u64,
    pub syncs: u64,
    pub changes: u64,
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
    path: PathBuf,
    is_writable: bool,
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {} on this disk", path.display()))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

impl State {
    /// Counts a change; fails if the disk crashes at it.
    fn change(&mut self) -> io::Result<()> {
        self.counts.changes += 1;
        match &mut self.changes_left {
            Some(0) => Err(io::Error::other("the simulated machine has crashed")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.files.values().map(|inode| self.inodes[*inode].cached.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            ENDLESS_BYTES => ENDLESS_BYTES,
            capacity => capacity.saturating_sub(self.used_bytes()),
        }
    }

    fn change_names(&mut self, dir: PathBuf, change: DirChange) -> io::Result<()> {
        self.change()?;
        self.names.apply(&change);
        self.unsynced_names.push((dir, change));
        Ok(())
    }
}

impl SimDisk {
    /// An empty disk, whose faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let dirs = BTreeSet::from([PathBuf::from("/")]);
        let names = Names { files: BTreeMap::new(), dirs };
        let state = State {
            rng: SmallRng::seed_from_u64(seed),
            inodes: Vec::new(),
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            locks: BTreeMap::new(),
            capacity_bytes: ENDLESS_BYTES,
            life: 0,
            changes_left: None,
            failing_syncs: Vec::new(),
            counts: Counts::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        // A test that panicked in one thread must still be able to say why in another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine loses power and comes back: unsynced content and names are lost or torn, locks
    /// are free, handles from before fail.
    pub fn crash(&self) {
        let mut state = self.lock_state();
        let State { rng, inodes, .. } = &mut *state;
        for inode in inodes.iter_mut() {
            inode.crash(rng);
        }
        for (_, change) in std::mem::take(&mut state.unsynced_names) {
            if state.rng.gen_bool(0.5) {
                state.durable_names.apply(&change);
            }
        }
        state.durable_names.drop_orphans();
        state.names = state.durable_names.clone();
        state.end_life();
    }

    /// The process dies and the machine does not: what was written stays in the page cache.
    pub fn kill(&self) {
        self.lock_state().end_life();
    }

    /// Lets every change after the next `changes` fail, until `crash` or `kill`.
    pub fn crash_after(&self, changes: u64) {
        self.lock_state().changes_left = Some(changes);
    }

    /// Lets the next sync of a file whose path contains `part` fail and drop what it was to sync.
    pub fn fail_sync(&self, part: &str) {
        self.lock_state().failing_syncs.push(part.to_owned());
    }

    /// Bytes that fit on the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock_state().capacity_bytes = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.lock_state().used_bytes()
    }

    pub fn counts(&self) -> Counts {
        self.lock_state().counts
    }

    /// Flips `bits` of the byte at `position`, in the cache and on the device.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, path: &Path, position: u64, bits: u8) {
        let mut state = self.lock_state();
        let inode = *state.names.files.get(path).expect("the file exists");
        let inode = &mut state.inodes[inode];
        let at = usize::try_from(position).expect("a position in memory");
        inode.cached[at] ^= bits;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= bits;
        }
    }

    /// The content of a file, as reads see it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.lock_state();
        state.inodes[*state.names.files.get(path).expect("the file exists")].cached.clone()
    }

    /// Makes `content` the durable content of a file, as another hand would.
    pub fn write_durable(&self, path: &Path, content: &[u8]) {
        let mut state = self.lock_state();
        let inode = state.inodes.len();
        let (cached, durable) = (content.to_vec(), content.to_vec());
        state.inodes.push(Inode { cached, durable, unsynced: Vec::new() });
        state.names.files.insert(path.to_owned(), inode);
        state.durable_names.files.insert(path.to_owned(), inode);
    }

    /// Every file, by path.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock_state().names.files.keys().cloned().collect()
    }

    fn file(&self, path: &Path, is_writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock_state();
        let inode = *state.names.files.get(path).ok_or_else(|| not_found(path))?;
        let (disk, life, path) = (self.clone(), state.life, path.to_owned());
        Ok(Arc::new(SimFile { disk, inode, life, path, is_writable }))
    }
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.changes_left = None;
        self.failing_syncs.clear();
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let missing = |dir: &&Path| !state.names.dirs.contains(*dir);
        let missing: Vec<PathBuf> =
            dir.ancestors().take_while(missing).map(Path::to_owned).collect();
        for dir in missing.into_iter().rev() {
            state.change_names(parent(&dir), DirChange::MakeDir(dir))?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        if !state.names.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        // Paths are in the order of their components: what is below a directory follows it.
        let from = dir.to_owned();
        let files = state.names.files.range(from.clone()..).map(|(path, _)| path);
        let files = files.take_while(|path| path.starts_with(dir));
        let dirs = state.names.dirs.range(from..).take_while(|path| path.starts_with(dir));
        let inside = files.chain(dirs).filter(|path| path.parent() == Some(dir));
        let inside = inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(inside.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock_state();
        Ok(state.names.files.contains_key(path) || state.names.dirs.contains(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.file(path, true)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.file(path, false)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        {
            let mut state = self.lock_state();
            if !state.names.dirs.contains(&parent(path)) {
                return Err(not_found(&parent(path)));
            }
            state.change()?;
            match state.names.files.get(path).copied() {
                Some(inode) => {
                    let inode = &mut state.inodes[inode];
                    inode.cached.clear();
                    inode.unsynced.push(FileChange::Truncate(0));
                }
                None => {
                    let inode = state.inodes.len();
                    state.inodes.push(Inode::default());
                    state.names.files.insert(path.to_owned(), inode);
                    let link = DirChange::Link(path.to_owned(), inode);
                    state.unsynced_names.push((parent(path), link));
                }
            }
        }
        self.file(path, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.names.files.contains_key(from) && !state.names.dirs.contains(from) {
            return Err(not_found(from));
        }
        state.change_names(parent(to), DirChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.names.files.contains_key(path) {
            return Err(not_found(path));
        }
        state.change_names(parent(path), DirChange::Unlink(path.to_owned()))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.names.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        state.change_names(parent(dir), DirChange::RemoveDir(dir.to_owned()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.change()?;
        state.counts.syncs += 1;
        let unsynced = std::mem::take(&mut state.unsynced_names);
        for (of, change) in unsynced {
            if of == dir {
                state.durable_names.apply(&change);
            } else {
                state.unsynced_names.push((of, change));
            }
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.lock_state().free_bytes())
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn Lock>> {
        let mut state = self.lock_state();
        let life = state.life;
        if let Some((_, holder)) = state.locks.get(path) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, holder.clone()));
        }
        state.locks.insert(path.to_owned(), (life, owner.to_owned()));
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), life }))
    }

    fn is_parallel(&self) -> bool {
        false
    }
}

impl SimFile {
    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock_state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("this handle is from before the crash"))
        }
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.live()
    }
}

impl DiskFile for SimFile {
    fn append(&self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.writable()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let crashed = state.change();
        if crashed.is_err() {
            // Power goes in the middle of a write.
            let torn = state.rng.gen_range(0..=bytes.len());
            bytes.truncate(torn);
        }
        let room = state.free_bytes();
        let fits = bytes.len() as u64 <= room;
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        state.counts.appends += 1;
        state.counts.bytes_appended += bytes.len() as u64;
        let inode = &mut state.inodes[self.inode];
        let at = inode.cached.len();
        inode.cached.extend_from_slice(&bytes);
        inode.unsynced.push(FileChange::Append { at, bytes });
        crashed?;
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.live()?;
        let content = &state.inodes[self.inode].cached;
        let at = usize::try_from(position).unwrap_or(usize::MAX).min(content.len());
        let read = bytes.len().min(content.len() - at);
        bytes[..read].copy_from_slice(&content[at..at + read]);
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.writable()?;
        state.change()?;
        state.counts.syncs += 1;
        let path = self.path.to_string_lossy();
        let failing = state.failing_syncs.iter().position(|part| path.contains(part.as_str()));
        if let Some(n) = failing {
            state.failing_syncs.remove(n);
            state.inodes[self.inode].unsynced.clear();
            return Err(io::Error::other("the simulated device failed to sync"));
        }
        let inode = &mut state.inodes[self.inode];
        for change in std::mem::take(&mut inode.unsynced) {
            match change {
                FileChange::Append { at, bytes } => write_at(&mut inode.durable, at, &bytes),
                FileChange::Truncate(len) => inode.durable.truncate(len),
            }
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        state.change()?;
        let len = usize::try_from(len).expect("a length in memory");
        let inode = &mut state.inodes[self.inode];
        inode.cached.resize(len, 0);
        inode.unsynced.push(FileChange::Truncate(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.live()?.inodes[self.inode].cached.len() as u64)
    }

    fn evict(&self) -> io::Result<()> {
        let mut state = self.live()?;
        let inode = &mut state.inodes[self.inode];
        // Dirty pages stay; after a sync, failed or not, there are none.
        if inode.unsynced.is_empty() {
            inode.cached = inode.durable.clone();
        }
        Ok(())
    }
}
