//! Which names lead to which files: as the processes see them, on the medium, and the changes between.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::content::Moment;
use crate::dice::Dice;

pub type Ino = u64;

/// The names of one directory.
pub type Entries = BTreeMap<OsString, Ino>;

#[derive(Debug)]
enum Change {
    Link { dir: Ino, name: OsString, ino: Ino },
    Unlink { dir: Ino, name: OsString },
    Rename { from: (Ino, OsString), to: (Ino, OsString), ino: Ino },
}

impl Change {
    fn dirs(&self) -> [Ino; 2] {
        match self {
            Self::Link { dir, .. } | Self::Unlink { dir, .. } => [*dir; 2],
            Self::Rename { from, to, .. } => [from.0, to.0],
        }
    }

    fn apply(&self, all: &mut BTreeMap<Ino, Entries>) {
        match self {
            Self::Link { dir, name, ino } => {
                all.entry(*dir).or_default().insert(name.clone(), *ino);
            }
            Self::Unlink { dir, name } => {
                all.entry(*dir).or_default().remove(name);
            }
            Self::Rename { from, to, ino } => {
                // If an earlier change was lost, another file may stand under the old name.
                let old = all.entry(from.0).or_default();
                if old.get(&from.1) == Some(ino) {
                    old.remove(&from.1);
                }
                all.entry(to.0).or_default().insert(to.1.clone(), *ino);
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Names {
    now: BTreeMap<Ino, Entries>,
    durable: BTreeMap<Ino, Entries>,
    unsynced: Vec<(Moment, Change)>,
}

impl Names {
    pub fn find(&self, dir: Ino, name: &OsStr) -> Option<Ino> {
        self.now.get(&dir)?.get(name).copied()
    }

    pub fn list(&self, dir: Ino) -> impl Iterator<Item = (&OsString, Ino)> {
        self.now.get(&dir).into_iter().flatten().map(|(name, ino)| (name, *ino))
    }

    pub fn link(&mut self, moment: Moment, dir: Ino, name: &OsStr, ino: Ino) {
        self.change(moment, Change::Link { dir, name: name.to_owned(), ino });
    }

    pub fn unlink(&mut self, moment: Moment, dir: Ino, name: &OsStr) {
        self.change(moment, Change::Unlink { dir, name: name.to_owned() });
    }

    /// Atomic: never under both names, never under none.
    pub fn rename(&mut self, moment: Moment, from: (Ino, &OsStr), to: (Ino, &OsStr), ino: Ino) {
        let owned = |(dir, name): (Ino, &OsStr)| (dir, name.to_owned());
        self.change(moment, Change::Rename { from: owned(from), to: owned(to), ino });
    }

    fn change(&mut self, moment: Moment, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push((moment, change));
    }

    /// Makes durable what had changed in `dir` by `until`. A rename between two directories comes with either, and
    /// with it what it follows in the other.
    pub fn sync(&mut self, dir: Ino, until: Moment) {
        let changes = self.take(dir, until);
        changes.iter().for_each(|change| change.apply(&mut self.durable));
    }

    /// A sync of `dir` has failed: processes still see what no later sync will write.
    pub fn forget(&mut self, dir: Ino, until: Moment) {
        self.take(dir, until);
    }

    fn take(&mut self, dir: Ino, until: Moment) -> Vec<Change> {
        let mut dirs = vec![dir];
        let mut taken = Vec::new();
        let mut left = Vec::new();
        for (moment, change) in std::mem::take(&mut self.unsynced).into_iter().rev() {
            if moment <= until && change.dirs().iter().any(|dir| dirs.contains(dir)) {
                dirs.extend(change.dirs());
                taken.push(change);
            } else {
                left.push((moment, change));
            }
        }
        self.unsynced = left.into_iter().rev().collect();
        taken.into_iter().rev().collect()
    }

    /// What a power cut leaves: what was synced, and any of the later changes. Returns how many are lost.
    pub fn crash(&mut self, dice: &mut Dice) -> usize {
        let mut lost = 0;
        for (_, change) in std::mem::take(&mut self.unsynced) {
            if dice.survives() {
                change.apply(&mut self.durable);
            } else {
                lost += 1;
            }
        }
        self.now.clone_from(&self.durable);
        lost
    }

    /// Everything that a name leads to, or may lead to after a power cut.
    pub fn mentioned(&self) -> impl Iterator<Item = Ino> {
        let unsynced = self.unsynced.iter().filter_map(|(_, change)| match change {
            Change::Link { ino, .. } | Change::Rename { ino, .. } => Some(*ino),
            Change::Unlink { .. } => None,
        });
        let named = self.now.values().chain(self.durable.values());
        named.flat_map(Entries::values).copied().chain(unsynced)
    }

    /// Forgets the entries of directories that are gone.
    pub fn retain(&mut self, is_there: impl Fn(Ino) -> bool) {
        self.now.retain(|ino, _| is_there(*ino));
        self.durable.retain(|ino, _| is_there(*ino));
    }
}
