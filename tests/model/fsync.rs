//! What a disk has and what it only seems to have, in one DC that a sync topic waits for and that a
//! failover then asks (R4, R10, R20).
//!
//! ```text
//!  home ──append──▶ learner: visible ──fsync──▶ on the device ──answer──▶ home counts, acknowledges
//!                      │ power cut: back to the device      ▲
//!                      │ fsync fails: the pages are marked clean, the next one "succeeds" (H28)
//!  __meta ──seal──▶ promise (on disk), then report ──2 of 3──▶ F ──copy──▶ a majority holds F
//! ```
//!
//! One DC of three learners beside the home (n = 1, k = 1: a majority of it is enough for an
//! acknowledgement, and for a failover). One leader, one order of records, so a log is its length.
//! An fsync takes time: what arrives meanwhile is not in it. Power goes at any learner at any time,
//! also at all of them; a process that is killed finds the page cache as it was.
//!
//! Bounds: records, power cuts and kills, failed fsyncs. Not here: diverging logs (`failover`, `voting`),
//! corruption (R21 is a matter of one disk; `src/log` has its tests).

use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;

const LEARNERS: usize = 3;
const MAJORITY: usize = 2;

#[derive(Clone, Debug)]
struct Fsync {
    records: u8,
    power_cuts: u8,
    failures: u8,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    AnswerAfterSync,
    PromiseOnDisk,
    ReportPersisted,
    /// What was still being synced when the promise was made is not answered any more: the report
    /// may have missed it.
    NoAnswerAfterPromise,
    EndOnFailure,
    SuspectAfterFailure,
    /// A process that starts again counts what the last one had synced, and syncs the rest first.
    SyncAfterRestart,
}

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Learner {
    visible: u8,
    device: u8,
    /// How far an fsync that has begun will reach.
    syncing: Option<u8>,
    /// An fsync failed: what is beyond the device is marked clean.
    lies: bool,
    down: bool,
    /// What this process believes to be on the device.
    persisted: u8,
    promised: bool,
    promised_on_disk: bool,
    report: Option<u8>,
    /// The answer on its way to the home, and what arrived.
    answer: u8,
    matched: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    home: u8,
    acked: u8,
    learners: [Learner; LEARNERS],
    sealing: bool,
    cut: Option<u8>,
    active: bool,
    power_cuts: u8,
    failures: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Append,
    Receive(usize),
    BeginSync(usize),
    EndSync(usize),
    FailSync(usize),
    Answered(usize),
    Acknowledge,
    PowerCut(usize),
    Kill(usize),
    Restart(usize),
    Seal,
    Promise(usize),
    Report(usize),
    Choose(usize, usize),
    Copy(usize),
    Activate,
}

const ON_DISKS: &str = "R4 what is acknowledged is on a majority's devices";
const IN_CUT: &str = "I1 what is acknowledged is within the cut";
const BUILDABLE: &str = "R12 the cut is on some device";
const ACTIVE: &str = "the home moves, with acknowledged records and a power cut";
const FAILED: &str = "a record is acknowledged after a failed fsync";

impl Fsync {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    fn answer(&self, learner: &mut Learner, index: u8) {
        if !(learner.promised && self.keeps(Rule::NoAnswerAfterPromise)) {
            learner.answer = learner.answer.max(index);
        }
    }

    fn learner_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let learner = &state.learners[at];
        if state.power_cuts < self.power_cuts {
            actions.push(Action::PowerCut(at));
            if !learner.down {
                actions.push(Action::Kill(at));
            }
        }
        if learner.answer > learner.matched {
            actions.push(Action::Answered(at));
        }
        if learner.down {
            actions.push(Action::Restart(at));
            return;
        }
        if learner.visible < state.home && !learner.promised {
            actions.push(Action::Receive(at));
        }
        if learner.syncing.is_some() {
            actions.push(Action::EndSync(at));
            if state.failures < self.failures {
                actions.push(Action::FailSync(at));
            }
        } else if learner.persisted < learner.visible {
            actions.push(Action::BeginSync(at));
        }
        if state.sealing && state.cut.is_none() {
            if !learner.promised {
                actions.push(Action::Promise(at));
            } else if learner.report.is_none() {
                actions.push(Action::Report(at));
            }
        }
        let held = state.cut.is_some_and(|cut| learner.device == cut && learner.visible == cut);
        if state.cut.is_some_and(|cut| state.learners.iter().any(|l| l.device >= cut)) && !held {
            actions.push(Action::Copy(at));
        }
    }

    fn end_sync(&self, learner: &mut Learner) {
        let reached = learner.syncing.take().expect("a sync that ends has begun");
        // Pages that are marked clean are not written again, and fsync says that all is well.
        if !learner.lies {
            learner.device = learner.device.max(reached);
        }
        learner.persisted = learner.persisted.max(reached);
        self.answer(learner, learner.persisted);
    }

    fn fail_sync(&self, learner: &mut Learner) {
        learner.syncing = None;
        learner.lies = true;
        learner.down = self.keeps(Rule::EndOnFailure);
    }

    /// A process that starts again finds its files as the page cache has them.
    fn restart(&self, learner: &mut Learner) {
        learner.down = false;
        if self.keeps(Rule::SuspectAfterFailure) && learner.lies {
            learner.visible = learner.device;
            learner.lies = false;
        }
        let marked = learner.device;
        learner.persisted =
            if self.keeps(Rule::SyncAfterRestart) { marked } else { learner.visible };
        learner.promised = learner.promised_on_disk;
        self.answer(learner, learner.persisted);
    }
}

fn power_cut(learner: &mut Learner) {
    *learner = Learner {
        visible: learner.device,
        syncing: None,
        lies: false,
        down: false,
        persisted: learner.device,
        promised: learner.promised_on_disk,
        ..*learner
    };
}

impl Model for Fsync {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            home: 0,
            acked: 0,
            learners: [Learner::default(); LEARNERS],
            sealing: false,
            cut: None,
            active: false,
            power_cuts: 0,
            failures: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.home < self.records {
            actions.push(Action::Append);
        }
        if state.acked < majority(state.learners.map(|l| l.matched)) {
            actions.push(Action::Acknowledge);
        }
        (0..LEARNERS).for_each(|at| self.learner_actions(state, at, actions));
        if !state.sealing {
            actions.push(Action::Seal);
        } else if state.cut.is_none() {
            let reported = |at: &usize| state.learners[*at].report.is_some();
            for a in (0..LEARNERS).filter(reported) {
                actions.extend((a + 1..LEARNERS).filter(reported).map(|b| Action::Choose(a, b)));
            }
        } else if !state.active {
            let cut = state.cut.expect("chosen");
            let holders = state.learners.iter().filter(|l| l.device == cut && l.visible == cut);
            if holders.count() >= MAJORITY {
                actions.push(Action::Activate);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let learners = &mut state.learners;
        match action {
            Action::Append => state.home += 1,
            Action::Receive(at) => {
                let learner = &mut learners[at];
                learner.visible += 1;
                if !self.keeps(Rule::AnswerAfterSync) {
                    self.answer(learner, learner.visible);
                }
            }
            Action::BeginSync(at) => learners[at].syncing = Some(learners[at].visible),
            Action::EndSync(at) => self.end_sync(&mut learners[at]),
            Action::FailSync(at) => {
                state.failures += 1;
                self.fail_sync(&mut learners[at]);
            }
            Action::Answered(at) => learners[at].matched = learners[at].answer,
            Action::Acknowledge => state.acked = majority(learners.map(|l| l.matched)),
            Action::PowerCut(at) => {
                state.power_cuts += 1;
                power_cut(&mut learners[at]);
            }
            Action::Kill(at) => {
                state.power_cuts += 1;
                learners[at].syncing = None;
                learners[at].down = true;
            }
            Action::Restart(at) => self.restart(&mut learners[at]),
            Action::Seal => state.sealing = true,
            Action::Promise(at) => {
                learners[at].promised = true;
                learners[at].promised_on_disk = self.keeps(Rule::PromiseOnDisk);
            }
            Action::Report(at) => {
                let learner = &mut learners[at];
                let persisted = self.keeps(Rule::ReportPersisted);
                learner.report = Some(if persisted { learner.persisted } else { learner.visible });
            }
            Action::Choose(a, b) => state.cut = learners[a].report.max(learners[b].report),
            Action::Copy(at) => {
                let cut = state.cut?;
                let Learner { matched, answer, report, .. } = learners[at];
                learners[at] = Learner {
                    visible: cut,
                    device: cut,
                    persisted: cut,
                    promised: true,
                    promised_on_disk: true,
                    matched,
                    answer,
                    report,
                    ..Learner::default()
                };
            }
            Action::Activate => state.active = true,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(ON_DISKS, |_, state| {
                majority(state.learners.map(|l| l.device)) >= state.acked
            }),
            Property::<Self>::always(IN_CUT, |_, state| {
                state.cut.is_none_or(|cut| state.acked <= cut)
            }),
            Property::<Self>::always(BUILDABLE, |_, state| {
                state.cut.is_none_or(|cut| state.learners.iter().any(|l| l.device >= cut))
            }),
            Property::<Self>::sometimes(ACTIVE, |_, state| {
                state.active && state.acked > 0 && state.power_cuts > 0
            }),
            Property::<Self>::sometimes(FAILED, |_, state| state.acked > 0 && state.failures > 0),
        ]
    }
}

/// What a majority has at least.
fn majority(mut indices: [u8; LEARNERS]) -> u8 {
    indices.sort_unstable();
    indices[LEARNERS - MAJORITY]
}

fn learner(at: usize) -> String {
    format!("learner {}", at + 1)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "the home appends a record"),
            Self::Receive(at) => write!(f, "{} writes the next record", learner(*at)),
            Self::BeginSync(at) => write!(f, "{} begins an fsync", learner(*at)),
            Self::EndSync(at) => write!(f, "{}: the fsync returns", learner(*at)),
            Self::FailSync(at) => write!(f, "{}: the fsync fails", learner(*at)),
            Self::Answered(at) => write!(f, "the home hears what {} has", learner(*at)),
            Self::Acknowledge => write!(f, "the home acknowledges what a majority has"),
            Self::PowerCut(at) => write!(f, "{} loses power, and restarts", learner(*at)),
            Self::Kill(at) => write!(f, "{}'s process is killed", learner(*at)),
            Self::Restart(at) => write!(f, "{}'s process restarts", learner(*at)),
            Self::Seal => write!(f, "__meta: Active -> Sealing"),
            Self::Promise(at) => write!(f, "{} promises", learner(*at)),
            Self::Report(at) => write!(f, "{} reports", learner(*at)),
            Self::Choose(a, b) => {
                write!(f, "the cut is the longer of {} and {}", learner(*a), learner(*b))
            }
            Self::Copy(at) => write!(f, "{} makes its log the prefix to the cut", learner(*at)),
            Self::Activate => write!(f, "__meta: Sealing -> Active"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let power = Fsync { records: 1, power_cuts: 2, failures: 0, off: None };
    let fails = Fsync { records: 1, power_cuts: 1, failures: 1, off: None };
    let two = Fsync { records: 2, power_cuts: 1, failures: 0, off: None };
    let off = |name: &str, rule, text, property, bounds: &Fsync| {
        let model = Fsync { off: Some(rule), ..bounds.clone() };
        Case::caught(&format!("fsync/off/{name}"), text, property, model)
    };
    vec![
        Case::clean("fsync/power", power.clone(), &[ACTIVE]),
        Case::clean("fsync/failure", fails.clone(), &[ACTIVE, FAILED]),
        off("answer", Rule::AnswerAfterSync, "R4 answer after fsync", ON_DISKS, &power),
        off("promise", Rule::PromiseOnDisk, "R10 promise on disk, then report", IN_CUT, &power),
        off("report", Rule::ReportPersisted, "R10 report what is persisted", BUILDABLE, &power),
        off(
            "late-answer",
            Rule::NoAnswerAfterPromise,
            "R10 no answer for e once e + 1 is promised",
            IN_CUT,
            &power,
        ),
        off("end", Rule::EndOnFailure, "R20 a failed fsync ends the process", ON_DISKS, &fails),
        off(
            "suspect",
            Rule::SuspectAfterFailure,
            "R20 after that the device counts, not the cache",
            ON_DISKS,
            &fails,
        ),
        off(
            "restart",
            Rule::SyncAfterRestart,
            "R4 what a restart finds counts after an fsync",
            ON_DISKS,
            &power,
        ),
        Case::clean("fsync/long/records", two, &[ACTIVE]).long(),
        Case::walks("fsync/walk", Fsync { records: 6, power_cuts: 5, failures: 3, off: None }),
    ]
}
