//! What the core model remembers: `__meta`, three DCs, answers on their way, and what clients were
//! told.

use std::collections::BTreeSet;

use crate::log::{Entry, Log, Term};

/// DCs: the first home A, then B and C.
pub const N: usize = 3;

/// Home epochs that a run may reach.
pub const EPOCHS_MAX: usize = 4;

pub fn name(dc: usize) -> char {
    char::from(b'A' + dc as u8)
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Sync,
    Async,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Leader {
    pub term: Term,
    pub commit: u8,
    pub hw: u8,
    pub mode: Mode,
    /// Whether `__meta` has recorded the sync that this leader enforces: before, its promise is
    /// async's.
    pub confirmed: bool,
    pub sid: u8,
    pub matched: [u8; N],
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Dc {
    pub log: Log,
    /// Tails that an election dropped; a replica that was away may bring one back.
    pub dropped: BTreeSet<Log>,
    pub known_commit: u8,
    pub promised: u8,
    pub joined: u8,
    pub leader: Option<Leader>,
    /// The ledger: what was beyond a cut, by index.
    pub saved: BTreeSet<(u8, Entry)>,
}

/// What a sealed DC reported of its persisted log.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Sealed {
    pub last: (Term, u8),
    /// Only for the mutation that believes it.
    pub commit: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Meta {
    pub epoch: u8,
    pub home: usize,
    pub mode: Mode,
    pub sid: u8,
    /// (epoch, sid): a grant may arrive at any time, and again.
    pub granted: BTreeSet<(u8, u8)>,
    pub ever_sync: bool,
    pub sealing: Option<[Option<Sealed>; N]>,
    /// The cut of each epoch: how much of the log it took over.
    pub cuts: [u8; EPOCHS_MAX + 1],
}

/// "I have persisted up to here", to the leader of that term.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    pub term: Term,
    pub dc: usize,
    pub index: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acked {
    pub index: u8,
    pub entry: Entry,
    /// What was promised with it.
    pub mode: Mode,
    pub epoch: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub meta: Meta,
    pub dcs: [Dc; N],
    pub answers: BTreeSet<Answer>,
    pub next: u8,
    pub acked: BTreeSet<Acked>,
    /// Shown to a consumer somewhere, under sync.
    pub exposed: BTreeSet<(u8, Entry)>,
    /// A verdict said RPO = 0, and an ack of that epoch is missing.
    pub claim_broken: bool,
    /// A home of a sealed epoch acknowledged a sync record beyond the cut.
    pub beyond_cut: bool,
    pub failovers: u8,
}

impl State {
    pub fn new(mode: Mode) -> Self {
        let dc = Dc {
            log: Log::default(),
            dropped: BTreeSet::new(),
            known_commit: 0,
            promised: 1,
            joined: 1,
            leader: None,
            saved: BTreeSet::new(),
        };
        let mut dcs = [dc.clone(), dc.clone(), dc];
        let confirmed = mode == Mode::Sync;
        let term = Term::new(1, 0);
        let matched = [0; N];
        dcs[0].leader = Some(Leader { term, commit: 0, hw: 0, mode, confirmed, sid: 0, matched });
        let meta = Meta {
            epoch: 1,
            home: 0,
            mode,
            sid: 0,
            granted: BTreeSet::new(),
            ever_sync: mode == Mode::Sync,
            sealing: None,
            cuts: [0; EPOCHS_MAX + 1],
        };
        Self {
            meta,
            dcs,
            answers: BTreeSet::new(),
            next: 1,
            acked: BTreeSet::new(),
            exposed: BTreeSet::new(),
            claim_broken: false,
            beyond_cut: false,
            failovers: 0,
        }
    }

    /// The log of whoever is home now.
    pub fn home_log(&self) -> &Log {
        &self.dcs[self.meta.home].log
    }
}
