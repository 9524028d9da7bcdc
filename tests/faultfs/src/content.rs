//! A file's bytes: as reads see them, as they are on the medium, and what lies between.

use crate::dice::Dice;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The order of changes on one volume.
pub type Moment = u64;

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Default)]
pub struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// From `durable` to `now`, but for what a failed sync has forgotten.
    unsynced: Vec<(Moment, Change)>,
}

impl Content {
    pub fn len(&self) -> usize {
        self.now.len()
    }

    /// Fewer bytes than asked only at the end.
    pub fn read(&self, at: usize, len: usize) -> &[u8] {
        let from = at.min(self.now.len());
        &self.now[from..from.saturating_add(len).min(self.now.len())]
    }

    pub fn write(&mut self, moment: Moment, at: usize, bytes: &[u8]) {
        put(&mut self.now, at, bytes);
        self.unsynced.push((moment, Change::Write { at, bytes: bytes.to_vec() }));
    }

    pub fn resize(&mut self, moment: Moment, len: usize) {
        self.now.resize(len, 0);
        self.unsynced.push((moment, Change::Resize(len)));
    }

    /// Makes durable what had changed by `until`: later writes of another thread wait for a later sync.
    pub fn sync(&mut self, until: Moment) {
        let covered = self.unsynced.partition_point(|(moment, _)| *moment <= until);
        for (_, change) in self.unsynced.drain(..covered) {
            match change {
                Change::Write { at, bytes } => put(&mut self.durable, at, &bytes),
                Change::Resize(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// A sync has failed: its pages are marked clean, reads still see them, no later sync writes them (Rebello et
    /// al., ATC '20).
    pub fn forget(&mut self, until: Moment) {
        self.unsynced.retain(|(moment, _)| *moment > until);
    }

    /// What a power cut leaves: what was synced, and of each later change what the dice say, writes by their
    /// sectors. Returns how many bytes written later are not there.
    pub fn crash(&mut self, dice: &mut Dice) -> usize {
        let mut lost = 0;
        for (_, change) in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Resize(len) if dice.survives() => self.durable.resize(len, 0),
                Change::Resize(_) => {}
                Change::Write { at, bytes } => {
                    for (at, sector) in sectors(at, &bytes) {
                        if dice.survives() {
                            put(&mut self.durable, at, sector);
                        } else {
                            lost += sector.len();
                        }
                    }
                }
            }
        }
        self.now.clone_from(&self.durable);
        lost
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The parts of a write, by the sectors that they are in.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let begin = from;
        let room = SECTOR_BYTES - (at + begin) % SECTOR_BYTES;
        from = (begin + room).min(bytes.len());
        (begin < from).then(|| (at + begin, &bytes[begin..from]))
    })
}
