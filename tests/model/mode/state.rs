//! What the model of modes remembers, and how a log tells the mode.

use std::collections::BTreeSet;

use crate::log::{Entry, Log, Term};

/// DCs with data.
pub const N: usize = 2;

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode {
    pub sid: u8,
    pub degraded: bool,
}

pub const SYNC: Mode = Mode { sid: 0, degraded: false };

/// Of a mode's entry. Records are small numbers, and 0 is the empty entry of a term.
const MODE: u8 = 8;

impl Mode {
    pub fn value(self) -> u8 {
        MODE + self.sid * 2 + u8::from(self.degraded)
    }

    pub fn of(entry: Entry) -> Option<Self> {
        let word = entry.value.checked_sub(MODE)?;
        Some(Self { sid: word / 2, degraded: word % 2 == 1 })
    }
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    pub epoch: u8,
    pub expected: u8,
    pub mode: Mode,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Leader {
    pub term: Term,
    pub commit: u8,
    /// What the other DC has, as heard.
    pub gate: u8,
    pub hw: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Dc {
    pub log: Log,
    /// Tails that an election dropped, and another may bring back.
    pub dropped: BTreeSet<Log>,
    pub promised: u8,
    pub leader: Option<Leader>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Chosen {
    pub cut: Log,
    pub lossless: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub epoch: u8,
    pub home: usize,
    pub mode: Mode,
    /// The mode that each epoch began with.
    pub began: [Mode; 4],
    /// All that was ever on record: whoever leads may have heard of any of it.
    pub recorded: BTreeSet<(u8, Mode)>,
    pub asks: BTreeSet<Ask>,
    pub sealing: bool,
    pub chosen: Option<Chosen>,
    pub dcs: [Dc; N],
    pub next: u8,
    pub acked: BTreeSet<(u8, u8, Entry)>,
    pub claim_broken: bool,
    pub lost: bool,
}

impl State {
    pub fn new() -> Self {
        let dc = Dc { log: Log::default(), dropped: BTreeSet::new(), promised: 1, leader: None };
        let mut dcs = [dc.clone(), dc];
        dcs[0].leader = Some(Leader { term: Term::new(1, 0), commit: 0, gate: 0, hw: 0 });
        Self {
            epoch: 1,
            home: 0,
            mode: SYNC,
            began: [SYNC; 4],
            recorded: BTreeSet::from([(1, SYNC)]),
            asks: BTreeSet::new(),
            sealing: false,
            chosen: None,
            dcs,
            next: 1,
            acked: BTreeSet::new(),
            claim_broken: false,
            lost: false,
        }
    }

    /// The modes in a log of an epoch, oldest first, each with its index.
    pub fn modes<'a>(&'a self, log: &'a Log, epoch: u8) -> impl Iterator<Item = (u8, Mode)> + 'a {
        let ours = log.iter().filter(move |(_, entry)| entry.term.epoch() == epoch);
        ours.filter_map(|(index, entry)| Some((index, Mode::of(entry)?)))
    }

    pub fn newest(&self, log: &Log, epoch: u8) -> (u8, Mode) {
        self.modes(log, epoch).last().unwrap_or((0, self.began[usize::from(epoch)]))
    }

    /// What weakens holds from its commit on, what strengthens from its append on.
    pub fn is_degraded(&self, log: &Log, commit: u8, epoch: u8) -> bool {
        let committed = self.modes(log, epoch).filter(|(index, _)| *index <= commit).last();
        let applied = committed.map_or(self.began[usize::from(epoch)], |(_, mode)| mode);
        let mut pending = self.modes(log, epoch).filter(|(index, _)| *index > commit);
        applied.degraded && pending.all(|(_, mode)| mode.degraded)
    }

    pub fn leads_degraded(&self, at: usize, leader: &Leader) -> bool {
        self.is_degraded(&self.dcs[at].log, leader.commit, leader.term.epoch())
    }

    /// Every log that a next leader of this DC may have.
    pub fn electable(&self, at: usize, leader: &Leader) -> BTreeSet<Log> {
        let dc = &self.dcs[at];
        let committed = dc.log.prefix(leader.commit);
        let brought = dc.dropped.iter().filter(|log| log.starts_with(&committed)).copied();
        brought.chain([dc.log, committed]).collect()
    }

    pub fn leader(&mut self, at: usize) -> &mut Leader {
        self.dcs[at].leader.as_mut().expect("a step of a DC that leads")
    }
}
