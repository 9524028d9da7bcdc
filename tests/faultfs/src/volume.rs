//! One disk: files and directories in memory, what of them is on the medium, and its faults.
//!
//! Pure: no clock, no kernel, no lock. What a power cut may lose, and may not, stands in the README.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use crate::content::{Content, Moment};
use crate::dice::Dice;
use crate::names::{Ino, Names};

pub const ROOT: Ino = 1;

/// Unless a check says less: more than any of them writes.
pub const CAPACITY_BYTES: u64 = 16 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    NotFound,
    Exists,
    NotEmpty,
    NotADirectory,
    IsADirectory,
    NoSpace,
    /// No power, or a failing sync.
    Io,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File { len: u64 },
    Directory,
}

#[derive(Debug)]
enum Body {
    File(Content),
    Directory,
}

#[derive(Debug)]
struct Node {
    body: Body,
    /// How often the kernel was told of it: an open file outlives its name.
    known: u64,
}

/// What a power cut has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    pub bytes: usize,
    pub names: usize,
}

#[derive(Debug)]
pub struct Volume {
    nodes: BTreeMap<Ino, Node>,
    names: Names,
    last_ino: Ino,
    moment: Moment,
    is_on: bool,
    syncs_fail: bool,
    failed_syncs: u64,
    capacity_bytes: u64,
}

impl Default for Volume {
    fn default() -> Self {
        let root = Node { body: Body::Directory, known: 1 };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            names: Names::default(),
            last_ino: ROOT,
            moment: 0,
            is_on: true,
            syncs_fail: false,
            failed_syncs: 0,
            capacity_bytes: CAPACITY_BYTES,
        }
    }
}

// What a process may ask.
impl Volume {
    pub fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Ino, Error> {
        self.check_on()?;
        self.names.find(dir, name).ok_or(Error::NotFound)
    }

    pub fn kind(&self, ino: Ino) -> Result<Kind, Error> {
        self.check_on()?;
        Ok(match self.node(ino)? {
            Body::File(content) => Kind::File { len: content.len() as u64 },
            Body::Directory => Kind::Directory,
        })
    }

    pub fn list(&self, dir: Ino) -> Result<Vec<(OsString, Ino)>, Error> {
        self.directory(dir)?;
        Ok(self.names.list(dir).map(|(name, ino)| (name.clone(), ino)).collect())
    }

    pub fn create(&mut self, dir: Ino, name: &OsStr) -> Result<Ino, Error> {
        self.make(dir, name, Body::File(Content::default()))
    }

    pub fn make_directory(&mut self, dir: Ino, name: &OsStr) -> Result<Ino, Error> {
        self.make(dir, name, Body::Directory)
    }

    fn make(&mut self, dir: Ino, name: &OsStr, body: Body) -> Result<Ino, Error> {
        self.directory(dir)?;
        if self.names.find(dir, name).is_some() {
            return Err(Error::Exists);
        }
        self.last_ino += 1;
        self.nodes.insert(self.last_ino, Node { body, known: 0 });
        let moment = self.next();
        self.names.link(moment, dir, name, self.last_ino);
        Ok(self.last_ino)
    }

    pub fn remove(&mut self, dir: Ino, name: &OsStr) -> Result<(), Error> {
        let ino = self.lookup(dir, name)?;
        match self.node(ino)? {
            Body::File(_) => self.unlink(dir, name),
            Body::Directory => return Err(Error::IsADirectory),
        }
        Ok(())
    }

    pub fn remove_directory(&mut self, dir: Ino, name: &OsStr) -> Result<(), Error> {
        let ino = self.lookup(dir, name)?;
        self.directory(ino)?;
        if self.names.list(ino).next().is_some() {
            return Err(Error::NotEmpty);
        }
        self.unlink(dir, name);
        Ok(())
    }

    fn unlink(&mut self, dir: Ino, name: &OsStr) {
        let moment = self.next();
        self.names.unlink(moment, dir, name);
    }

    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<(), Error> {
        let ino = self.lookup(from.0, from.1)?;
        self.directory(to.0)?;
        if let Some(there) = self.names.find(to.0, to.1).filter(|there| *there != ino) {
            match (self.node(ino)?, self.node(there)?) {
                (Body::File(_), Body::Directory) => return Err(Error::IsADirectory),
                (Body::Directory, Body::File(_)) => return Err(Error::NotADirectory),
                _ if self.names.list(there).next().is_some() => return Err(Error::NotEmpty),
                _ => {}
            }
        }
        if from != to {
            let moment = self.next();
            self.names.rename(moment, from, to, ino);
        }
        Ok(())
    }

    pub fn read(&self, ino: Ino, at: u64, len: usize) -> Result<&[u8], Error> {
        self.check_on()?;
        match self.node(ino)? {
            Body::File(content) => Ok(content.read(size(at)?, len)),
            Body::Directory => Err(Error::IsADirectory),
        }
    }

    /// Writes at `at`, or at the end.
    pub fn write(&mut self, ino: Ino, at: Option<u64>, bytes: &[u8]) -> Result<(), Error> {
        let (moment, free) = (self.next(), self.free_bytes());
        let content = self.content(ino)?;
        let at = at.map_or(Ok(content.len()), size)?;
        let end = at.checked_add(bytes.len()).ok_or(Error::NoSpace)?;
        if end.saturating_sub(content.len()) as u64 > free {
            return Err(Error::NoSpace);
        }
        content.write(moment, at, bytes);
        Ok(())
    }

    pub fn resize(&mut self, ino: Ino, len: u64) -> Result<(), Error> {
        let (moment, free) = (self.next(), self.free_bytes());
        let content = self.content(ino)?;
        if len.saturating_sub(content.len() as u64) > free {
            return Err(Error::NoSpace);
        }
        content.resize(moment, size(len)?);
        Ok(())
    }

    /// What a sync that begins now will cover.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The end of a sync that began at `until`: of a file its content and size, of a directory its names.
    pub fn sync(&mut self, ino: Ino, until: Moment) -> Result<(), Error> {
        self.check_on()?;
        let fails = self.syncs_fail;
        self.failed_syncs += u64::from(fails);
        match &mut self.nodes.get_mut(&ino).ok_or(Error::NotFound)?.body {
            Body::File(content) if fails => content.forget(until),
            Body::File(content) => content.sync(until),
            Body::Directory if fails => self.names.forget(ino, until),
            Body::Directory => {
                self.names.sync(ino, until);
                self.sweep();
            }
        }
        if fails { Err(Error::Io) } else { Ok(()) }
    }

    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    fn used_bytes(&self) -> u64 {
        let used = self.nodes.values().map(|node| match &node.body {
            Body::File(content) => content.len() as u64,
            Body::Directory => 0,
        });
        used.sum()
    }

    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The kernel knows `ino` once more.
    pub fn learn(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.known += 1;
        }
    }

    /// The kernel knows `ino` so many times less.
    pub fn unlearn(&mut self, ino: Ino, times: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.known = node.known.saturating_sub(times);
        }
    }

    fn next(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    fn check_on(&self) -> Result<(), Error> {
        if self.is_on { Ok(()) } else { Err(Error::Io) }
    }

    fn node(&self, ino: Ino) -> Result<&Body, Error> {
        self.nodes.get(&ino).map(|node| &node.body).ok_or(Error::NotFound)
    }

    fn directory(&self, ino: Ino) -> Result<(), Error> {
        self.check_on()?;
        match self.node(ino)? {
            Body::Directory => Ok(()),
            Body::File(_) => Err(Error::NotADirectory),
        }
    }

    fn content(&mut self, ino: Ino) -> Result<&mut Content, Error> {
        self.check_on()?;
        match &mut self.nodes.get_mut(&ino).ok_or(Error::NotFound)?.body {
            Body::File(content) => Ok(content),
            Body::Directory => Err(Error::IsADirectory),
        }
    }

    /// Frees what nothing leads to any more, on the medium neither.
    fn sweep(&mut self) {
        let mentioned: BTreeSet<Ino> = self.names.mentioned().collect();
        self.nodes.retain(|ino, node| *ino == ROOT || node.known > 0 || mentioned.contains(ino));
        self.names.retain(|ino| self.nodes.contains_key(&ino));
    }
}

// What a check may do to it.
impl Volume {
    /// The power goes: what was not synced is lost as the dice say, and nothing answers until `power_on`.
    pub fn cut(&mut self, seed: u64) -> Lost {
        let mut dice = Dice::new(seed);
        let names = self.names.crash(dice.for_another());
        let mut bytes = 0;
        for node in self.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                bytes += content.crash(dice.for_another());
            }
        }
        self.is_on = false;
        self.sweep();
        Lost { bytes, names }
    }

    pub fn power_on(&mut self) {
        self.is_on = true;
    }

    pub fn fail_syncs(&mut self, fail: bool) {
        self.syncs_fail = fail;
    }

    /// How many syncs have failed so far.
    pub fn failed_syncs(&self) -> u64 {
        self.failed_syncs
    }

    /// Leaves room for so many bytes beside what is there.
    pub fn leave(&mut self, bytes: u64) {
        self.capacity_bytes = self.used_bytes() + bytes;
    }

    /// As much room as at first.
    pub fn leave_all(&mut self) {
        self.capacity_bytes = CAPACITY_BYTES;
    }
}

fn size(bytes: u64) -> Result<usize, Error> {
    usize::try_from(bytes).map_err(|_| Error::NoSpace)
}
