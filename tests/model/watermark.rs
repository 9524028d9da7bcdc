//! The high watermark travels apart from appends (R27, H37): on another connection, so later,
//! earlier, twice or never, against a learner whose tail may be another leader's.
//!
//! ```text
//!  leader of 1.0: [a b c]  ──append(term, at, entry)──▶  learner: log, on disk up to, verified up to
//!  leader of 1.1: [a d]    ──hw(term, index)──────────▶  shows min(hw, verified), of one term
//!  leader of 2.0: [a b ?]                                 checkpoints what it shows; crashes; restarts
//! ```
//!
//! One home whose leaders follow each other: an election drops or keeps what was not committed, the
//! last one is of the next home epoch, over a cut that keeps what was shown (sync). What was sent
//! stays on its way for ever. The learner takes appends by Raft's rule (previous index and term
//! match, no older term), writes, syncs, and may lose what it has not synced.
//!
//! Bounds: records, terms, crashes. Not here: acknowledgements (all that is committed counts as
//! shown), more than one learner, the client's side.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;
use crate::log::{Entry, Log, Term};

#[derive(Clone, Debug)]
struct Watermark {
    records: u8,
    elections: u8,
    epochs: u8,
    crashes: u8,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Show no further than what an append has verified.
    Verified,
    /// What is verified is so by the term that is current, and is forgotten with it.
    OfThatTerm,
    /// A watermark names its term, and one of another term than the last append's waits.
    HwNamesTerm,
    /// The checkpoint that a restart serves from is never beyond what is on the disk.
    CheckpointOnDisk,
    /// The term that an append or a watermark brought is on the disk before anything follows it.
    TermOnDisk,
}

/// One entry at a time, with what must stand before it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Append {
    term: Term,
    at: u8,
    before: Term,
    entry: Entry,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    leader: Log,
    term: Term,
    commit: u8,
    dropped: BTreeSet<Log>,
    next: u8,
    /// Sent, and therefore to arrive at any time, any number of times.
    appends: BTreeSet<Append>,
    watermarks: BTreeSet<(Term, u8)>,
    learner: Learner,
    crashes: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Learner {
    log: Log,
    synced: Log,
    term: Term,
    synced_term: Term,
    /// The last index that an append of `term` has verified.
    verified: u8,
    hw: u8,
    checkpoint: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Propose,
    Commit,
    Elect(Log),
    Move,
    Append(Append),
    Watermark(Term, u8),
    Sync,
    Checkpoint,
    Crash,
}

const SAME: &str = "I9 what the learner shows is what was committed there";
const BACK: &str = "I8 a restarted learner never shows what its disk has lost";
const SHOWN: &str = "the learner shows a record of a later epoch";
const DIVERGED: &str = "the learner holds a tail that was never committed, below a known watermark";

impl Watermark {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// How far the learner serves.
    fn shown(&self, learner: &Learner) -> u8 {
        let verified =
            if self.keeps(Rule::Verified) { learner.verified } else { learner.log.len() };
        learner.hw.min(verified).max(learner.checkpoint).min(learner.log.len())
    }

    fn see_term(&self, learner: &mut Learner, term: Term) {
        if term > learner.term {
            learner.term = term;
            if self.keeps(Rule::TermOnDisk) {
                learner.synced_term = term;
            }
            if self.keeps(Rule::OfThatTerm) {
                learner.verified = 0;
            }
        }
    }

    fn take(&self, learner: &mut Learner, append: Append) {
        if append.term < learner.term {
            return;
        }
        let before = learner.log.get(append.at - 1).map_or(Term(0), |entry| entry.term);
        if append.at > learner.log.len() + 1 || before != append.before {
            return;
        }
        self.see_term(learner, append.term);
        if learner.log.get(append.at) != Some(append.entry) {
            learner.log = learner.log.prefix(append.at - 1);
            learner.log.push(append.entry);
            // Truncating reaches the disk before anything is written over it.
            learner.synced = learner.synced.prefix(learner.synced.common(&learner.log));
        }
        learner.verified = learner.verified.max(append.at);
    }

    fn hear(&self, learner: &mut Learner, term: Term, index: u8) {
        if self.keeps(Rule::HwNamesTerm) && term != learner.term {
            return;
        }
        learner.hw = learner.hw.max(index);
    }
}

impl Model for Watermark {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let term = Term::new(1, 0);
        let learner = Learner {
            log: Log::default(),
            synced: Log::default(),
            term,
            synced_term: term,
            verified: 0,
            hw: 0,
            checkpoint: 0,
        };
        vec![State {
            leader: Log::default(),
            term,
            commit: 0,
            dropped: BTreeSet::new(),
            next: 1,
            appends: BTreeSet::new(),
            watermarks: BTreeSet::new(),
            learner,
            crashes: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.next <= self.records && !state.leader.is_full() {
            actions.push(Action::Propose);
        }
        if state.commit < state.leader.len() && state.leader.last_term() == state.term {
            actions.push(Action::Commit);
        }
        let committed = state.leader.prefix(state.commit);
        if state.term.election() < self.elections && !state.leader.is_full() {
            let mut logs: BTreeSet<Log> =
                state.dropped.iter().filter(|log| log.starts_with(&committed)).copied().collect();
            logs.extend([state.leader, committed]);
            actions.extend(logs.into_iter().map(Action::Elect));
        }
        if state.term.epoch() < self.epochs && !state.leader.is_full() {
            actions.push(Action::Move);
        }
        actions.extend(state.appends.iter().copied().map(Action::Append));
        actions.extend(state.watermarks.iter().map(|(term, hw)| Action::Watermark(*term, *hw)));
        let learner = &state.learner;
        if learner.synced != learner.log {
            actions.push(Action::Sync);
        }
        if learner.checkpoint < self.shown(learner) {
            actions.push(Action::Checkpoint);
        }
        if state.crashes < self.crashes {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Propose => {
                let entry = Entry { term: state.term, value: state.next };
                state.next += 1;
                push(&mut state, entry);
            }
            Action::Commit => {
                state.commit = state.leader.len();
                state.watermarks.insert((state.term, state.commit));
            }
            Action::Elect(log) => {
                if state.leader.len() > state.commit && state.leader != log {
                    state.dropped.insert(state.leader);
                }
                let term = state.term.next();
                lead(&mut state, log, term);
            }
            Action::Move => {
                let cut = state.leader.prefix(state.commit);
                let term = Term::new(state.term.epoch() + 1, 0);
                lead(&mut state, cut, term);
                state.dropped.clear();
            }
            Action::Append(append) => self.take(&mut state.learner, append),
            Action::Watermark(term, index) => self.hear(&mut state.learner, term, index),
            Action::Sync => state.learner.synced = state.learner.log,
            Action::Checkpoint => {
                let shown = self.shown(&state.learner);
                let on_disk = state.learner.synced.len();
                let keeps = self.keeps(Rule::CheckpointOnDisk);
                state.learner.checkpoint = if keeps { shown.min(on_disk) } else { shown };
            }
            Action::Crash => {
                state.crashes += 1;
                let learner = &mut state.learner;
                learner.log = learner.synced;
                learner.term = learner.synced_term;
                learner.verified = 0;
                learner.hw = 0;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(SAME, |model, state| {
                let shown = model.shown(&state.learner);
                let committed = state.leader.prefix(state.commit);
                // An old committed entry stays: elections and the cut keep it.
                shown <= committed.len() && committed.starts_with(&state.learner.log.prefix(shown))
            }),
            Property::<Self>::always(BACK, |_, state| {
                let Learner { checkpoint, log, .. } = &state.learner;
                *checkpoint <= log.len()
            }),
            Property::<Self>::sometimes(SHOWN, |model, state| {
                let learner = &state.learner;
                let shown = learner.log.prefix(model.shown(learner));
                shown.last_term().epoch() > 1
            }),
            Property::<Self>::sometimes(DIVERGED, |_, state| {
                let known = state.learner.log.prefix(state.learner.hw);
                !state.leader.starts_with(&known)
            }),
        ]
    }
}

fn push(state: &mut State, entry: Entry) {
    state.leader.push(entry);
    send(state, state.leader.len());
}

/// A new leader: its empty entry, and appends of everything from what may be known.
fn lead(state: &mut State, log: Log, term: Term) {
    state.leader = log;
    state.term = term;
    (1..=log.len()).for_each(|at| send(state, at));
    push(state, Entry { term, value: 0 });
}

fn send(state: &mut State, at: u8) {
    let entry = state.leader.get(at).expect("within the log");
    let before = state.leader.get(at - 1).map_or(Term(0), |entry| entry.term);
    state.appends.insert(Append { term: state.term, at, before, entry });
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Propose => write!(f, "the leader appends a record and sends it"),
            Self::Commit => write!(f, "the leader commits all it has, and sends its watermark"),
            Self::Elect(log) => write!(f, "an election: the new leader has {log}"),
            Self::Move => write!(f, "the home moves; the cut keeps what was committed"),
            Self::Append(Append { term, at, entry, .. }) => {
                write!(f, "the learner gets an append of {term}: {entry} at {at}")
            }
            Self::Watermark(term, index) => write!(f, "the learner gets HW {index} of {term}"),
            Self::Sync => write!(f, "the learner syncs"),
            Self::Checkpoint => write!(f, "the learner checkpoints its HW"),
            Self::Crash => write!(f, "the learner loses what it has not synced, and restarts"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let small = Watermark { records: 2, elections: 1, epochs: 1, crashes: 0, off: None };
    let base = Watermark { records: 2, elections: 1, epochs: 2, crashes: 1, off: None };
    let off = |name: &str, rule, text, property, bounds: &Watermark| {
        let model = Watermark { off: Some(rule), ..bounds.clone() };
        Case::caught(&format!("watermark/off/{name}"), text, property, model)
    };
    let one = Watermark { records: 1, ..base.clone() };
    vec![
        Case::clean("watermark/move", one, &[SHOWN]),
        Case::clean("watermark/elections", small.clone(), &[]),
        off("verified", Rule::Verified, "R27 show no further than verified", SAME, &small),
        off("term", Rule::OfThatTerm, "R27 verified by that very term", SAME, &base),
        off("hw-term", Rule::HwNamesTerm, "R27 a watermark names its term", SAME, &base),
        off("checkpoint", Rule::CheckpointOnDisk, "a checkpoint is on disk", BACK, &base),
        off("term-on-disk", Rule::TermOnDisk, "a term is on disk before its entries", SAME, &base),
        Case::walks(
            "watermark/walk",
            Watermark { records: 5, elections: 3, epochs: 3, crashes: 2, off: None },
        ),
    ]
}
