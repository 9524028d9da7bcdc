//! Changing who holds a partition in a DC, while its acknowledgements are counted and a failover may
//! begin (R3, R4, R22, R23, H25).
//!
//! ```text
//!  __meta:  {1 2 3} ──swap──▶ {1 2 3} and {1 2 4} ──4 has what was committed──▶ {1 2 4}
//!  leader:       learns of each step later, from its log; counts a majority of each set it knows of
//!  failover:     a majority of each set of __meta's, then the longest log of those
//! ```
//!
//! One DC beside the home (n = 1, k = 1) with three learners and two spares: a majority of it is
//! enough for an acknowledgement and for a failover. One order of records, so a log is its length;
//! everything the home has is committed there. An election at home forgets what was matched. The DC
//! may lose a disk; its replica never comes back, and a spare takes its place.
//!
//! Bounds: records, swaps, elections, lost disks. Not here: voters (Raft's joint consensus), what
//! an installing learner has (`install`).

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;

/// Learners 1 to 3, then the spares.
const REPLICAS: usize = 5;

#[derive(Clone, Debug)]
struct Placing {
    records: u8,
    swaps: u8,
    elections: u8,
    losses: u8,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Both sets count while they change, for an acknowledgement.
    CountBoth,
    /// And for a seal.
    SealBoth,
    /// A newcomer is let in only when it has what was committed.
    HasCommitted,
    /// That is looked at after the leader has begun to count both sets.
    LookWhileBoth,
    /// A new leader counts what the last one counted: the placement is in the log.
    PlacementInLog,
    /// The leader's word is for one generation.
    OneGeneration,
    /// A replaced disk is a new replica.
    NewIdentity,
    /// No compare-and-set on the placement while sealing.
    NotWhileSealing,
}

/// A set of replicas, one bit each.
type Set = u8;

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Placement {
    generation: u8,
    old: Set,
    /// The same as `old` when nothing changes.
    new: Set,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    placement: Placement,
    /// The steps before this one.
    before: Option<Placement>,
    swaps: u8,
    /// "The newcomer has what was committed", by generation, on its way to `__meta`.
    words: BTreeSet<u8>,
    home: u8,
    counts: Placement,
    elections: u8,
    matched: [u8; REPLICAS],
    acked: u8,
    held: [u8; REPLICAS],
    gone: Set,
    losses: u8,
    sealing: bool,
    reports: [Option<u8>; REPLICAS],
    cut: Option<u8>,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Append,
    Ship(usize),
    Answered(usize),
    Acknowledge,
    Elect,
    ElectBehind,
    Swap(usize, usize),
    Learn,
    SayReady,
    Finish(u8),
    LoseDisk(usize),
    BeginSeal,
    Seal(usize),
    Choose,
}

const IN_CUT: &str = "I1 what is acknowledged is within the cut";
const SWAPPED: &str = "a failover after a swap, with acknowledged records";
const REPLACED: &str = "a failover after a lost disk was replaced";
const BETWEEN: &str = "a failover in the middle of a swap";

impl Placing {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// What a majority of each set has by the leader's count.
    fn counted(&self, state: &State) -> u8 {
        let has = |set: Set| {
            let mut indices: Vec<u8> = members(set).map(|at| state.matched[at]).collect();
            indices.sort_unstable();
            indices[1]
        };
        let Placement { old, new, .. } = state.counts;
        if self.keeps(Rule::CountBoth) { has(old).min(has(new)) } else { has(old) }
    }

    fn is_sealed(&self, state: &State) -> bool {
        let Placement { old, new, .. } = state.placement;
        let sealed = |set: Set| members(set).filter(|at| state.reports[*at].is_some()).count() > 1;
        sealed(new) && (sealed(old) || !self.keeps(Rule::SealBoth))
    }

    fn may_change(&self, state: &State) -> bool {
        !state.sealing || !self.keeps(Rule::NotWhileSealing)
    }

    /// Whether the leader finds that the newcomer has what was committed.
    fn is_ready(&self, state: &State) -> bool {
        let now = state.placement;
        let newcomer = members(now.new & !now.old).next();
        let Some(newcomer) = newcomer else { return false };
        let knows = state.counts == now || !self.keeps(Rule::LookWhileBoth);
        let has = state.matched[newcomer] == state.home || !self.keeps(Rule::HasCommitted);
        knows && has
    }
}

impl Model for Placing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let placement = Placement { generation: 0, old: 0b111, new: 0b111 };
        vec![State {
            placement,
            before: None,
            swaps: 0,
            words: BTreeSet::new(),
            home: 0,
            counts: placement,
            elections: 0,
            matched: [0; REPLICAS],
            acked: 0,
            held: [0; REPLICAS],
            gone: 0,
            losses: 0,
            sealing: false,
            reports: [None; REPLICAS],
            cut: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.home < self.records {
            actions.push(Action::Append);
        }
        // Whoever is placed is sent to: the connections follow `__meta`, what counts follows the log.
        let placed = state.counts.old | state.counts.new | state.placement.new;
        for at in members(placed & !state.gone) {
            if state.reports[at].is_none() && state.held[at] < state.home {
                actions.push(Action::Ship(at));
            }
            if state.matched[at] < state.held[at] {
                actions.push(Action::Answered(at));
            }
        }
        if state.acked < self.counted(state) {
            actions.push(Action::Acknowledge);
        }
        if state.elections < self.elections {
            actions.push(Action::Elect);
            if !self.keeps(Rule::PlacementInLog) {
                actions.push(Action::ElectBehind);
            }
        }
        let now = state.placement;
        if self.may_change(state) {
            let spare = 3 + usize::from(state.swaps);
            if now.old == now.new && state.swaps < self.swaps && spare < REPLICAS {
                actions.extend(members(now.old).map(|out| Action::Swap(out, spare)));
            }
            let current = |word: &&u8| **word == now.generation || !self.keeps(Rule::OneGeneration);
            if now.old != now.new {
                actions.extend(state.words.iter().filter(current).map(|w| Action::Finish(*w)));
            }
        }
        if state.counts != now {
            actions.push(Action::Learn);
        }
        if now.old != now.new && self.is_ready(state) && !state.words.contains(&now.generation) {
            actions.push(Action::SayReady);
        }
        if state.losses < self.losses {
            actions.extend(members(now.old & !state.gone).map(Action::LoseDisk));
        }
        if !state.sealing {
            actions.push(Action::BeginSeal);
        } else if state.cut.is_none() {
            let asked = members((now.old | now.new) & !state.gone);
            let silent = |at: &usize| state.reports[*at].is_none();
            actions.extend(asked.filter(silent).map(Action::Seal));
            if self.is_sealed(state) {
                actions.push(Action::Choose);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let now = state.placement;
        match action {
            Action::Append => state.home += 1,
            Action::Ship(at) => state.held[at] += 1,
            Action::Answered(at) => state.matched[at] = state.held[at],
            Action::Acknowledge => state.acked = self.counted(&state),
            Action::Elect | Action::ElectBehind => {
                state.elections += 1;
                state.matched = [0; REPLICAS];
                if action == Action::ElectBehind {
                    state.counts = state.before.unwrap_or(state.counts);
                }
            }
            Action::Swap(out, spare) => {
                state.swaps += 1;
                state.before = Some(now);
                let new = now.old & !(1 << out) | 1 << spare;
                state.placement = Placement { generation: now.generation + 1, new, ..now };
            }
            Action::Learn => state.counts = now,
            Action::SayReady => {
                state.words.insert(now.generation);
            }
            Action::Finish(_) => {
                state.before = Some(now);
                let generation = now.generation + 1;
                state.placement = Placement { generation, old: now.new, new: now.new };
            }
            Action::LoseDisk(at) => {
                state.losses += 1;
                state.held[at] = 0;
                if self.keeps(Rule::NewIdentity) {
                    state.gone |= 1 << at;
                }
            }
            Action::BeginSeal => state.sealing = true,
            Action::Seal(at) => state.reports[at] = Some(state.held[at]),
            Action::Choose => {
                let asked = members(now.old | now.new);
                state.cut = asked.filter_map(|at| state.reports[at]).max();
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(IN_CUT, |_, state| {
                state.cut.is_none_or(|cut| state.acked <= cut)
            }),
            Property::<Self>::sometimes(SWAPPED, |_, state| {
                state.cut.is_some_and(|cut| cut > 0)
                    && state.acked > 0
                    && state.placement.generation > 1
            }),
            Property::<Self>::sometimes(REPLACED, |_, state| {
                let Placement { old, new, .. } = state.placement;
                state.cut.is_some_and(|cut| cut > 0)
                    && state.gone != 0
                    && (old | new) & state.gone == 0
            }),
            Property::<Self>::sometimes(BETWEEN, |_, state| {
                let Placement { old, new, .. } = state.placement;
                state.cut.is_some() && state.acked > 0 && old != new
            }),
        ]
    }
}

fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..REPLICAS).filter(move |at| set & 1 << at != 0)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "the home appends a record"),
            Self::Ship(at) => write!(f, "learner {} persists the next record", at + 1),
            Self::Answered(at) => write!(f, "the home hears what learner {} has", at + 1),
            Self::Acknowledge => write!(f, "the home acknowledges what it counts"),
            Self::Elect => write!(f, "the home elects a leader"),
            Self::ElectBehind => {
                write!(f, "the home elects a leader who counts the placement before")
            }
            Self::Swap(out, spare) => {
                write!(f, "__meta: learner {} is to take the place of {}", spare + 1, out + 1)
            }
            Self::Learn => write!(f, "the leader begins to count what __meta says"),
            Self::SayReady => write!(f, "the leader says that the newcomer has what was committed"),
            Self::Finish(_) => write!(f, "__meta: the newcomer is in, the other is out"),
            Self::LoseDisk(at) => write!(f, "learner {} loses its disk", at + 1),
            Self::BeginSeal => write!(f, "__meta: Active -> Sealing"),
            Self::Seal(at) => write!(f, "learner {} promises and reports", at + 1),
            Self::Choose => write!(f, "the cut is the longest of the reports"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let swap = Placing { records: 2, swaps: 1, elections: 1, losses: 0, off: None };
    let replace = Placing { records: 1, swaps: 1, elections: 1, losses: 1, off: None };
    let twice = Placing { records: 1, swaps: 2, elections: 1, losses: 0, off: None };
    let off = |name: &str, rule, text, property, bounds: &Placing| {
        let model = Placing { off: Some(rule), ..bounds.clone() };
        Case::caught(&format!("placement/off/{name}"), text, property, model)
    };
    vec![
        Case::clean("placement/swap", swap.clone(), &[SWAPPED, BETWEEN]),
        Case::clean("placement/replace", replace.clone(), &[REPLACED]),
        Case::clean("placement/twice", twice.clone(), &[SWAPPED, BETWEEN]),
        off("count-both", Rule::CountBoth, "R4 count in the old and the new set", IN_CUT, &swap),
        off("seal-both", Rule::SealBoth, "R4 seal the old and the new set", IN_CUT, &swap),
        off("committed", Rule::HasCommitted, "R23 not before it has the committed", IN_CUT, &swap),
        off("look", Rule::LookWhileBoth, "R4+ look once both sets count", IN_CUT, &swap),
        off("in-log", Rule::PlacementInLog, "R3 a leader counts as the last one", IN_CUT, &twice),
        off("generation", Rule::OneGeneration, "R3 one word, one generation", IN_CUT, &twice),
        off("identity", Rule::NewIdentity, "R22 a new disk is a new replica", IN_CUT, &replace),
        off("sealing", Rule::NotWhileSealing, "R3 no change while sealing", IN_CUT, &twice),
        Case::walks("placement/walk", Placing { records: 5, swaps: 2, elections: 3, ..replace }),
    ]
}
