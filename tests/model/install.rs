//! Learners that begin from a snapshot (R23, R24, H26): what is being installed is not there yet.
//!
//! ```text
//!  home:     log start ──────────── end      retention moves the log start, never beyond the watermark
//!  learner:  (from ─── to]                    who ends before the log start gets a snapshot of it:
//!            begin (the old log goes) ──▶ installing ──▶ whole ──▶ appends again
//! ```
//!
//! One DC of three learners beside the home (n = 1, k = 1). One order of records, so a log is where
//! it begins and ends. Snapshots travel apart: late, twice, to whoever they were meant for. A crash
//! in the middle of an install loses what had arrived. A failover takes a majority's reports, and
//! copies the longest log.
//!
//! Bounds: records, crashes. Not here: what is in a snapshot; ranges for a damaged log (they are
//! stepped as appends: `docs/adr/0010`).

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;

const LEARNERS: usize = 3;
const MAJORITY: usize = 2;

#[derive(Clone, Debug)]
struct Install {
    records: u8,
    crashes: u8,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Who has come as far as the snapshot keeps its log.
    KeepMatching,
    /// A crash does not make an unfinished install look like a log.
    InstallingIsDurable,
    /// Nothing is answered, and so counted, while installing.
    NotCounted,
    NotSealed,
    /// A log start moves only below the watermark.
    StartBelowHw,
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Learner {
    from: u8,
    to: u8,
    /// The snapshot that is on its way in.
    installing: Option<u8>,
    /// Took for a log what was not whole: its state is missing.
    hollow: bool,
    matched: u8,
    report: Option<u8>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    start: u8,
    end: u8,
    acked: u8,
    /// (learner, log start), sent and to arrive any time.
    snapshots: BTreeSet<(usize, u8)>,
    learners: [Learner; LEARNERS],
    crashes: u8,
    sealing: bool,
    /// Who the cut was taken from, and the cut.
    chosen: Option<(usize, u8)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Append,
    Receive(usize),
    Answered(usize),
    Acknowledge,
    MoveStart,
    SendSnapshot(usize),
    Begin(usize, u8),
    Finish(usize),
    Crash(usize),
    BeginSeal,
    Seal(usize),
    Choose(usize, usize),
}

const IN_CUT: &str = "I1 what is acknowledged is within the cut";
const WHOLE: &str = "R23 the cut is taken from a whole log";
const START: &str = "I11 what is not acknowledged is not beyond the log start";
const INSTALLED: &str = "a failover from a log that began at a snapshot";
const DURING: &str = "a failover while a learner is installing";

impl Install {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    fn begin(&self, learner: &mut Learner, start: u8) {
        // Also where the snapshot is older than the log: it was sent before the last one.
        let has = learner.to >= start;
        if has && self.keeps(Rule::KeepMatching) {
            return;
        }
        learner.installing = Some(start);
        learner.from = start;
        learner.to = start;
    }

    fn crash(&self, learner: &mut Learner) {
        if let Some(start) = learner.installing {
            learner.from = start;
            learner.to = start;
            if !self.keeps(Rule::InstallingIsDurable) {
                learner.installing = None;
                learner.hollow = true;
            }
        }
    }

    fn learner_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let learner = &state.learners[at];
        let sealed = learner.report.is_some();
        let installing = learner.installing.is_some();
        let counts = !installing || !self.keeps(Rule::NotCounted);
        if !sealed && counts && learner.to < state.end && learner.to >= state.start {
            actions.push(Action::Receive(at));
        }
        if counts && learner.matched < learner.to && !sealed {
            actions.push(Action::Answered(at));
        }
        if learner.to < state.start && !state.snapshots.contains(&(at, state.start)) {
            actions.push(Action::SendSnapshot(at));
        }
        if installing {
            actions.push(Action::Finish(at));
        }
        if state.crashes < self.crashes && installing {
            actions.push(Action::Crash(at));
        }
        let eligible = !installing || !self.keeps(Rule::NotSealed);
        if state.sealing && state.chosen.is_none() && !sealed && eligible {
            actions.push(Action::Seal(at));
        }
    }
}

impl Model for Install {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            start: 0,
            end: 0,
            acked: 0,
            snapshots: BTreeSet::new(),
            learners: [Learner::default(); LEARNERS],
            crashes: 0,
            sealing: false,
            chosen: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.end < self.records {
            actions.push(Action::Append);
        }
        if state.acked < majority(state) {
            actions.push(Action::Acknowledge);
        }
        let limit = if self.keeps(Rule::StartBelowHw) { state.acked } else { state.end };
        if state.start < limit {
            actions.push(Action::MoveStart);
        }
        (0..LEARNERS).for_each(|at| self.learner_actions(state, at, actions));
        actions.extend(
            state
                .snapshots
                .iter()
                .filter(|(at, _)| state.learners[*at].report.is_none())
                .map(|(at, start)| Action::Begin(*at, *start)),
        );
        if !state.sealing {
            actions.push(Action::BeginSeal);
        } else if state.chosen.is_none() {
            let reported = |at: &usize| state.learners[*at].report.is_some();
            for a in (0..LEARNERS).filter(reported) {
                actions.extend((a + 1..LEARNERS).filter(reported).map(|b| Action::Choose(a, b)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let learners = &mut state.learners;
        match action {
            Action::Append => state.end += 1,
            Action::Receive(at) => learners[at].to += 1,
            Action::Answered(at) => learners[at].matched = learners[at].to,
            Action::Acknowledge => state.acked = majority(&state),
            Action::MoveStart => state.start += 1,
            Action::SendSnapshot(at) => {
                state.snapshots.insert((at, state.start));
            }
            Action::Begin(at, start) => self.begin(&mut learners[at], start),
            Action::Finish(at) => learners[at].installing = None,
            Action::Crash(at) => {
                state.crashes += 1;
                self.crash(&mut learners[at]);
            }
            Action::BeginSeal => state.sealing = true,
            Action::Seal(at) => learners[at].report = Some(learners[at].to),
            Action::Choose(a, b) => {
                let best = if learners[a].report >= learners[b].report { a } else { b };
                state.chosen = learners[best].report.map(|cut| (best, cut));
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(IN_CUT, |_, state| {
                state.chosen.is_none_or(|(_, cut)| state.acked <= cut)
            }),
            Property::<Self>::always(WHOLE, |_, state| {
                state.chosen.is_none_or(|(at, _)| {
                    let Learner { from, installing, hollow, .. } = state.learners[at];
                    from <= state.start && installing.is_none() && !hollow
                })
            }),
            Property::<Self>::always(START, |_, state| state.start <= state.acked),
            Property::<Self>::sometimes(INSTALLED, |_, state| {
                state.chosen.is_some_and(|(at, cut)| {
                    state.learners[at].from > 0 && cut > state.learners[at].from
                })
            }),
            Property::<Self>::sometimes(DURING, |_, state| {
                let installing = state.learners.iter().any(|l| l.installing.is_some());
                state.chosen.is_some() && installing
            }),
        ]
    }
}

fn majority(state: &State) -> u8 {
    let mut matched = state.learners.map(|learner| learner.matched);
    matched.sort_unstable();
    matched[LEARNERS - MAJORITY]
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "the home appends a record"),
            Self::Receive(at) => write!(f, "learner {} persists the next record", at + 1),
            Self::Answered(at) => write!(f, "the home hears what learner {} has", at + 1),
            Self::Acknowledge => write!(f, "the home acknowledges what a majority has"),
            Self::MoveStart => write!(f, "the home moves its log start"),
            Self::SendSnapshot(at) => write!(f, "the home sends learner {} a snapshot", at + 1),
            Self::Begin(at, start) => {
                write!(f, "learner {} gets a snapshot of log start {start}", at + 1)
            }
            Self::Finish(at) => write!(f, "learner {} has installed it", at + 1),
            Self::Crash(at) => write!(f, "learner {} crashes and restarts", at + 1),
            Self::BeginSeal => write!(f, "__meta: Active -> Sealing"),
            Self::Seal(at) => write!(f, "learner {} promises and reports", at + 1),
            Self::Choose(a, b) => {
                write!(f, "the cut is the longer of learners {} and {}", a + 1, b + 1)
            }
        }
    }
}

pub fn cases() -> Vec<Case> {
    let base = Install { records: 2, crashes: 1, off: None };
    let off = |name: &str, rule, text, property| {
        let model = Install { off: Some(rule), ..base.clone() };
        Case::caught(&format!("install/off/{name}"), text, property, model)
    };
    vec![
        Case::clean("install/base", base.clone(), &[INSTALLED, DURING]),
        off("keep", Rule::KeepMatching, "R23 who has the entry installs nothing", IN_CUT),
        off("durable", Rule::InstallingIsDurable, "R23 installing is durable", WHOLE),
        off("counted", Rule::NotCounted, "R23 installing does not count", IN_CUT),
        off("sealed", Rule::NotSealed, "R23 installing is not asked", WHOLE),
        off("start", Rule::StartBelowHw, "R24 log start stays below HW", START),
        Case::clean("install/records", Install { records: 3, ..base.clone() }, &[INSTALLED]),
        Case::walks("install/walk", Install { records: 8, crashes: 4, off: None }),
    ]
}
