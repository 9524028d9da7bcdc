//! The steps of a move, taken by two coordinators that know nothing of each other (R10 to R13, R18,
//! H12): a failover beside a switchover, a takeover in the middle, an abort.
//!
//! ```text
//!  Active(1) ──CAS──▶ Sealing(2) ──CAS──▶ Chosen(2, attempt, cut, target) ──CAS──▶ Active(2)
//!                        │ promise, report       │ target: log exactly to the cut
//!  abort = the old home is the target; epoch 1 never goes on
//! ```
//!
//! `__meta` is a register with compare-and-set. When its leader changes, another coordinator begins
//! from what is in the register, while the first one may still be acting on what it has seen; one that
//! stops in the middle has crashed. The home A is one replica that stands for a majority of its
//! voters, B is three replicas (n = 1, k = 1). One leader, one order of records, so a log is its
//! length; B's replicas are alike, so states that differ by their names are one. Reports and orders are as old as the one who acts on them.
//!
//! Found here: *choosing* must be a compare-and-set of its own, with an attempt number that replicas
//! hold on to. Otherwise two coordinators cut the target's replicas in turn, and each believes that
//! a majority holds its own cut. And a claim is of the cut: who was sealed later proves nothing.
//!
//! Bounds: records, attempts, two coordinators. Not here: what a replica has on disk (`fsync`), what
//! runs before it holds the cut (`voting`), more than one move (`failover`).

mod coordinator;
mod properties;
mod rules;
mod state;

use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;
use properties::{ABORTED, TAKEN_OVER};
use rules::{MUTATIONS, Rule};
use state::{A, Phase, REPLICAS, Side, State, name};

#[derive(Clone, Debug)]
pub struct Moves {
    is_sync: bool,
    records: u8,
    attempts: u8,
    off: Option<Rule>,
}

const SYNC: Moves = Moves { is_sync: true, records: 1, attempts: 2, off: None };
const ASYNC: Moves = Moves { is_sync: false, ..SYNC };

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Append,
    Ship(usize),
    Acknowledge,
    Stop,
    Elect,
    Promise(usize),
    Forget(usize),
    Take(usize),
    Seal(usize),
    Report(usize, usize),
    Choose(usize, Side),
    Prepare(usize, usize),
    Activate(usize),
    Resume(usize),
}

impl Moves {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    fn home_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let home = &state.replicas[A];
        if home.promised {
            return;
        }
        if home.len < self.records && !state.stopped {
            actions.push(Action::Append);
        }
        let listens = |at: &usize| {
            let replica = &state.replicas[*at];
            !replica.promised && replica.attempt == 0 && replica.len < home.len
        };
        actions.extend((A + 1..REPLICAS).filter(listens).map(Action::Ship));
        if state.acked < self.acknowledges(state) {
            actions.push(Action::Acknowledge);
        }
        // A stop matters only where it is believed. An in-DC election: the next leader knows nothing of
        // it.
        if !self.keeps(Rule::SealHome) {
            actions.push(if state.stopped { Action::Elect } else { Action::Stop });
        }
    }

    fn acknowledges(&self, state: &State) -> u8 {
        let mut matched = state.matched;
        matched.sort_unstable();
        if self.is_sync { matched[1].min(state.replicas[A].len) } else { state.replicas[A].len }
    }
}

impl Model for Moves {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.home_actions(state, actions);
        for at in 0..REPLICAS {
            let promised = state.replicas[at].promised;
            match state.phase {
                Phase::Active if promised => actions.push(Action::Forget(at)),
                Phase::Sealing | Phase::Chosen(_) if !promised => actions.push(Action::Promise(at)),
                _ => {}
            }
        }
        for who in 0..state.coordinators.len() {
            self.coordinator_actions(state, who, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Append => state.replicas[A].len += 1,
            Action::Ship(at) => {
                state.replicas[at].len += 1;
                state.matched[at - 1] = state.replicas[at].len;
            }
            Action::Acknowledge => state.acked = self.acknowledges(&state),
            Action::Stop => state.stopped = true,
            Action::Elect => state.stopped = false,
            Action::Promise(at) => state.replicas[at].promised = true,
            Action::Forget(at) => state.replicas[at].promised = false,
            Action::Take(who) => self.take(&mut state, who),
            Action::Seal(who) => self.seal(&mut state, who),
            Action::Report(who, at) => self.report(&mut state, who, at),
            Action::Choose(who, target) => self.choose(&mut state, who, target),
            Action::Prepare(who, at) => self.prepare(&mut state, who, at),
            Action::Activate(who) => self.activate(&mut state, who),
            Action::Resume(who) => self.resume(&mut state, who),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |at: &usize| format!("coordinator {}", at + 1);
        match self {
            Self::Append => write!(f, "A appends a record"),
            Self::Ship(at) => write!(f, "{} persists the next record, and A hears it", name(*at)),
            Self::Acknowledge => write!(f, "A acknowledges"),
            Self::Stop => write!(f, "A's leader stops for a hand-off"),
            Self::Elect => write!(f, "A elects another leader, who goes on"),
            Self::Promise(at) => write!(f, "{} promises epoch 2", name(*at)),
            Self::Forget(at) => {
                write!(f, "{} hears of the abort and forgets its promise", name(*at))
            }
            Self::Take(at) => write!(f, "{} begins, from what is in __meta", who(at)),
            Self::Seal(at) => write!(f, "{}: Active -> Sealing", who(at)),
            Self::Report(at, of) => write!(f, "{} gets the report of {}", who(at), name(*of)),
            Self::Choose(at, target) => write!(f, "{} chooses the cut, for {target:?}", who(at)),
            Self::Prepare(at, of) => {
                write!(f, "{} has {} make its log the prefix to the cut", who(at), name(*of))
            }
            Self::Activate(at) => write!(f, "{}: Sealing -> Active(2)", who(at)),
            Self::Resume(at) => write!(f, "{} aborts: epoch 1 goes on", who(at)),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let clean = |name: &str, model| {
        let name = format!("moves/{name}");
        Case::clean_up_to(&name, model, &[TAKEN_OVER, ABORTED], State::representative)
    };
    let mut cases = vec![
        clean("sync", SYNC),
        clean("async", ASYNC),
        clean("long/records", Moves { records: 2, ..SYNC }).long(),
    ];
    for mutation in MUTATIONS {
        let name = format!("moves/off/{}", mutation.name);
        let model = Moves { off: Some(mutation.rule), ..mutation.bounds };
        cases.push(Case::caught(&name, mutation.text, mutation.property, model));
    }
    cases.push(Case::walks("moves/walk/sync", Moves { records: 4, attempts: 5, ..SYNC }));
    cases.push(Case::walks("moves/walk/async", Moves { records: 4, attempts: 5, ..ASYNC }));
    cases
}
