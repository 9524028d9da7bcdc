//! What is on the simulated medium, and what a crash leaves of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone)]
pub(super) enum FileChange {
    Append { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone)]
pub(super) enum DirChange {
    Link(PathBuf, usize),
    MakeDir(PathBuf),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
    RemoveDir(PathBuf),
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) cached: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// From `durable` to `cached`; but for what a failed sync has dropped.
    pub(super) unsynced: Vec<FileChange>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    pub(super) files: BTreeMap<PathBuf, usize>,
    pub(super) dirs: BTreeSet<PathBuf>,
}

impl Names {
    pub(super) fn apply(&mut self, change: &DirChange) {
        match change {
            DirChange::Link(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            DirChange::MakeDir(dir) => {
                self.dirs.insert(dir.clone());
            }
            DirChange::Unlink(path) => {
                self.files.remove(path);
            }
            DirChange::Rename(from, to) => self.rename(from, to),
            DirChange::RemoveDir(dir) => {
                self.files.retain(|path, _| !path.starts_with(dir));
                self.dirs.retain(|path| !path.starts_with(dir));
            }
        }
    }

    /// What is in a directory that is not there is not there either.
    pub(super) fn drop_orphans(&mut self) {
        let dirs = self.dirs.clone();
        let is_reachable = |path: &Path| path.ancestors().skip(1).all(|dir| dirs.contains(dir));
        self.files.retain(|path, _| is_reachable(path));
        self.dirs.retain(|path| is_reachable(path));
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(inode) = self.files.remove(from) {
            self.files.insert(to.to_owned(), inode);
            return;
        }
        let moved = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_owned(),
        };
        // What was moved overwrites what was there.
        let (mut files, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.files).into_iter().partition(|(p, _)| p.starts_with(from));
        files = files.into_iter().map(|(path, inode)| (moved(&path), inode)).collect();
        self.files = others;
        self.files.extend(files);
        self.dirs = self.dirs.iter().map(|path| moved(path)).collect();
    }
}

impl Inode {
    /// What a crash leaves.
    pub(super) fn crash(&mut self, rng: &mut SmallRng) {
        let mut left = std::mem::take(&mut self.durable);
        let changes = std::mem::take(&mut self.unsynced);
        // A device may write back nothing, all, a beginning, or sectors as it likes.
        let mode = rng.gen_range(0..4);
        let whole = rng.gen_range(0..=changes.len());
        for (n, change) in changes.iter().enumerate() {
            match (mode, change) {
                (0, _) => break,
                (2, _) if n > whole => break,
                (1, FileChange::Append { at, bytes }) => write_at(&mut left, *at, bytes),
                (2, FileChange::Append { at, bytes }) => {
                    let torn =
                        if n == whole { rng.gen_range(0..=bytes.len()) } else { bytes.len() };
                    write_at(&mut left, *at, &bytes[..torn]);
                }
                (3, FileChange::Append { at, bytes }) => scatter(&mut left, *at, bytes, rng),
                (3, FileChange::Truncate(_)) if rng.gen_bool(0.5) => {}
                (_, FileChange::Truncate(len)) => left.truncate(*len),
                _ => unreachable!("four modes"),
            }
        }
        self.durable = left.clone();
        self.cached = left;
    }
}

pub(super) fn write_at(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes some of the sectors that `bytes` touch.
fn scatter(content: &mut Vec<u8>, at: usize, bytes: &[u8], rng: &mut SmallRng) {
    let mut from = 0;
    while from < bytes.len() {
        let to = (SECTOR_BYTES - (at + from) % SECTOR_BYTES + from).min(bytes.len());
        if rng.gen_bool(0.5) {
            write_at(content, at + from, &bytes[from..to]);
        }
        from = to;
    }
}
