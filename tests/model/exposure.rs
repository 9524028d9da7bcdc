//! Async with a budget (`max_lag`): what a verdict of *at most so many* is worth (R11, R16).
//!
//! ```text
//!  home: acknowledges what is committed, while at most BUDGET acknowledged records are not safe in
//!        k other DCs
//!  failover over n - k + 1 sealed DCs: the cut is the furthest of them; the verdict says BUDGET
//!  policy changes: BUDGET of the verdict is the loosest there was; the home goes by any that it has heard
//! ```
//!
//! Three DCs, the home's group as one log with elections that drop and bring back tails, as in
//! `failover`. The old home never hears of the failover.
//!
//! Found here: R5's own-term rule holds for the budget too. A record is *safe* in a DC when the DC
//! has persisted an entry of the leader's own term at or after it; otherwise an entry of a middle
//! term in the other DC beats it, and the loss is more than the verdict said.
//!
//! A home that is not the first begins with records that were shown before it, some of which other DCs lack: the home
//! before may have counted on this one to have them. So its budget bounds the loss only when the cut has what it began
//! with. Found by the simulator: a home that had just begun had more at stake than its budget.
//!
//! Bounds: records, those that the home begins with, elections, changes of policy. Not here: modes, the failover by which
//! the home began (`failover`), time (a budget in seconds is one in records of an unknown rate).

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;
use crate::log::{Entry, Log, Term};

/// B and C.
const REMOTE: usize = 2;

#[derive(Clone, Debug)]
struct Exposure {
    budget: u8,
    records: u8,
    /// That the home begins with; none in the first home epoch.
    inherited: u8,
    elections: u8,
    /// Of the policy, between `budget` and one more.
    changes: u8,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The home stops acknowledging past its budget.
    Budget,
    /// What is safe is so by an entry of the leader's own term.
    OwnTerm,
    /// The verdict is the budget only with n - k + 1 DCs sealed.
    EnoughDcs,
    /// The verdict is the loosest budget of the home epoch, not the policy of its day.
    Loosest,
    /// While the home is moving it enforces no more than the verdict may have been chosen by.
    Still,
    /// The verdict is the budget only if the cut has all that the home began with.
    Begun,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    log: Log,
    term: Term,
    commit: u8,
    dropped: BTreeSet<Log>,
    next: u8,
    acked: u8,
    dcs: [Log; REMOTE],
    /// What the leader counts as safe there.
    safe: [u8; REMOTE],
    sealed: [bool; REMOTE],
    cut: Option<Log>,
    changes: u8,
    /// In `__meta`: the budget now, the loosest one, and what the verdict came to say.
    policy: u8,
    loosest: u8,
    claim: u8,
    /// What the home goes by.
    enforced: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Append,
    Commit,
    Elect(Log),
    Ship(usize),
    Answered(usize),
    Acknowledge,
    Seal(usize),
    Activate,
    /// `__meta` has another budget.
    Change(u8),
    /// The home goes by another one: it has heard of it, or was started again with an image of before.
    Hear(u8),
}

/// What a verdict claims that names no budget.
const UNBOUNDED: u8 = u8::MAX;

const BOUND: &str = "R16 no more acknowledged records are lost than the verdict says";
const LOST: &str = "an acknowledged record is lost, within the budget";
const ALONE: &str = "what the home began with is lost";

fn dc(at: usize) -> char {
    ['B', 'C'][at]
}

impl Exposure {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    fn first_term(&self) -> Term {
        Term::new(if self.inherited == 0 { 1 } else { 2 }, 0)
    }

    /// As `Partition::holds_beginning`; an older leader's entries are not here.
    fn holds_beginning(&self, cut: &Log) -> bool {
        cut.last_term() >= self.first_term() || cut.len() >= self.inherited
    }

    /// The last index that may be acknowledged: committed, and within the budget (k = 1).
    fn may_acknowledge(&self, state: &State) -> u8 {
        if !self.keeps(Rule::Budget) {
            return state.commit;
        }
        let safe = state.safe.into_iter().max().unwrap_or(0);
        let records = state.log.iter().filter(|(index, e)| *index > safe && e.value != 0);
        let beyond = records.map(|(index, _)| index).nth(usize::from(state.enforced));
        beyond.map_or(state.commit, |index| state.commit.min(index - 1))
    }

    /// What the images of this home epoch say, and those since it is being sealed.
    fn heard(&self, state: &State) -> BTreeSet<u8> {
        let moves = state.sealed != [false; REMOTE];
        let now = match moves && self.keeps(Rule::Still) {
            true => state.policy.min(state.loosest),
            false => state.policy,
        };
        (self.budget..=state.loosest).chain([now]).collect()
    }

    fn safe(&self, state: &State, at: usize) -> u8 {
        let common = state.dcs[at].common(&state.log);
        let own = state.log.get(common).is_some_and(|entry| entry.term == state.term);
        if own || !self.keeps(Rule::OwnTerm) { common } else { state.safe[at] }
    }
}

impl Model for Exposure {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut log = Log::default();
        for value in 1..=self.inherited {
            log.push(Entry { term: Term::new(1, 0), value });
        }
        let dc = |len| log.prefix(len);
        let pairs = (0..=self.inherited).flat_map(|b| (0..=self.inherited).map(move |c| [b, c]));
        let state = |lens: [u8; REMOTE]| State {
            log,
            term: self.first_term(),
            commit: self.inherited,
            dropped: BTreeSet::new(),
            next: self.inherited + 1,
            acked: self.inherited,
            dcs: lens.map(dc),
            safe: [0; REMOTE],
            sealed: [false; REMOTE],
            cut: None,
            changes: 0,
            policy: self.budget,
            loosest: self.budget,
            claim: 0,
            enforced: self.budget,
        };
        pairs.map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.next <= self.inherited + self.records && !state.log.is_full() {
            actions.push(Action::Append);
        }
        if state.commit < state.log.len() && state.log.last_term() == state.term {
            actions.push(Action::Commit);
        }
        let committed = state.log.prefix(state.commit);
        if state.term.election() < self.elections && !state.log.is_full() {
            let mut logs: BTreeSet<Log> =
                state.dropped.iter().filter(|log| log.starts_with(&committed)).copied().collect();
            logs.extend([state.log, committed]);
            actions.extend(logs.into_iter().map(Action::Elect));
        }
        for at in 0..REMOTE {
            let common = state.dcs[at].common(&state.log);
            if !state.sealed[at] && common < state.log.len() {
                actions.push(Action::Ship(at));
            }
            if state.safe[at] < self.safe(state, at) {
                actions.push(Action::Answered(at));
            }
            if !state.sealed[at] {
                actions.push(Action::Seal(at));
            }
        }
        if state.acked < self.may_acknowledge(state) {
            actions.push(Action::Acknowledge);
        }
        let enough = if self.keeps(Rule::EnoughDcs) { REMOTE } else { 1 };
        let sealed = state.sealed.iter().filter(|sealed| **sealed).count();
        if state.cut.is_none() && sealed >= enough {
            actions.push(Action::Activate);
        }
        if state.changes < self.changes {
            let others = (self.budget..=self.budget + 1).filter(|to| *to != state.policy);
            actions.extend(others.map(Action::Change));
        }
        if self.changes > 0 {
            let others = self.heard(state).into_iter().filter(|to| *to != state.enforced);
            actions.extend(others.map(Action::Hear));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Append => {
                state.log.push(Entry { term: state.term, value: state.next });
                state.next += 1;
            }
            Action::Commit => state.commit = state.log.len(),
            Action::Elect(log) => {
                if state.log.len() > state.commit && state.log != log {
                    state.dropped.insert(state.log);
                }
                state.term = state.term.next();
                state.safe = [0; REMOTE];
                state.log = log;
                state.log.push(Entry { term: state.term, value: 0 });
            }
            Action::Ship(at) => {
                let common = state.dcs[at].common(&state.log);
                state.dcs[at] = state.dcs[at].prefix(common);
                state.dcs[at].push(state.log.get(common + 1)?);
            }
            Action::Answered(at) => state.safe[at] = self.safe(&state, at),
            Action::Acknowledge => state.acked = self.may_acknowledge(&state),
            Action::Seal(at) => state.sealed[at] = true,
            Action::Activate => {
                let sealed = state.dcs.iter().zip(state.sealed).filter(|(_, sealed)| *sealed);
                state.cut = sealed.map(|(log, _)| *log).max_by_key(Log::last);
                let loosest = self.keeps(Rule::Loosest);
                let holds = state.cut.is_some_and(|cut| self.holds_beginning(&cut));
                state.claim = match holds || !self.keeps(Rule::Begun) {
                    true if loosest => state.loosest,
                    true => state.policy,
                    false => UNBOUNDED,
                };
            }
            Action::Change(to) => {
                state.changes += 1;
                state.policy = to;
                if state.sealed == [false; REMOTE] {
                    state.loosest = state.loosest.max(to);
                }
            }
            Action::Hear(budget) => state.enforced = budget,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(BOUND, |_, state| lost(state) <= state.claim),
            Property::<Self>::sometimes(LOST, |_, state| {
                lost(state) > 0 && state.claim != UNBOUNDED
            }),
            Property::<Self>::sometimes(ALONE, |_, state| {
                lost(state) > 0 && state.claim == UNBOUNDED
            }),
        ]
    }
}

/// Acknowledged records that are not in the cut. What is acknowledged is committed at home, so the
/// home's log tells what it was.
fn lost(state: &State) -> u8 {
    let Some(cut) = &state.cut else { return 0 };
    let acked = state.log.iter().filter(|(index, e)| *index <= state.acked && e.value != 0);
    acked.filter(|(index, entry)| cut.get(*index) != Some(*entry)).count() as u8
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "the home appends a record"),
            Self::Commit => write!(f, "the home commits all it has"),
            Self::Elect(log) => {
                write!(f, "the home elects a leader who has {log}, and appends an empty entry")
            }
            Self::Ship(at) => write!(f, "{} persists the next entry", dc(*at)),
            Self::Answered(at) => write!(f, "the leader hears what {} has", dc(*at)),
            Self::Acknowledge => write!(f, "the home acknowledges within its budget"),
            Self::Seal(at) => write!(f, "{} promises and reports", dc(*at)),
            Self::Activate => write!(f, "__meta: Sealing -> Active, at the furthest log"),
            Self::Change(to) => write!(f, "__meta: the policy's budget is {to}"),
            Self::Hear(budget) => write!(f, "the home goes by a budget of {budget}"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let base =
        Exposure { budget: 1, records: 3, inherited: 0, elections: 1, changes: 0, off: None };
    let elections = Exposure { records: 2, elections: 2, ..base.clone() };
    let policy = Exposure { elections: 0, changes: 2, ..base.clone() };
    let next_home = Exposure { records: 2, inherited: 2, ..base.clone() };
    let off = |name: &str, rule, text, bounds: &Exposure| {
        let model = Exposure { off: Some(rule), ..bounds.clone() };
        Case::caught(&format!("exposure/off/{name}"), text, BOUND, model)
    };
    vec![
        Case::clean("exposure/records", base.clone(), &[LOST]),
        Case::clean("exposure/elections", elections.clone(), &[LOST]),
        Case::clean("exposure/policy", policy.clone(), &[LOST]),
        Case::clean("exposure/next-home", next_home.clone(), &[LOST, ALONE]),
        off("budget", Rule::Budget, "R16 the home stops past its budget", &base),
        off("own-term", Rule::OwnTerm, "R16+ safe by the leader's own term", &elections),
        off("enough", Rule::EnoughDcs, "R16+ a bound needs n - k + 1 DCs", &base),
        off("loosest", Rule::Loosest, "R16+ the loosest budget of the home epoch", &policy),
        off("still", Rule::Still, "R16+ a budget stands still while its home moves", &policy),
        off("begun", Rule::Begun, "R16+ a budget bounds what its home epoch accepted", &next_home),
        Case::walks("exposure/walk", Exposure { records: 5, elections: 3, changes: 2, ..base }),
    ]
}
