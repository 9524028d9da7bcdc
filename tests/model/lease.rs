//! Leases (R17): how long an isolated async home goes on, and that nothing else depends on a clock.
//!
//! ```text
//!  home A   ──renew, sent at its own h──▶ leader of __meta   counts from receipt, waits L and a margin
//!           ◀────────grant─────────────                      beyond the last grant there can be
//!  A acknowledges async records while h < sent + L
//!  __meta:  Active(1) ──▶ Sealing(2) ──▶ Active(2), at B
//! ```
//!
//! Every node has a clock of its own. *Honest* clocks move together, but that one of them gains a
//! tick somewhere (the margin is for that); *arbitrary* ones move as they like, and then only the
//! properties of sync must hold. Two leaders of `__meta` follow each other; the first may not know
//! that it is none any more. B and C promise (n = 2, k = 1): a sync acknowledgement needs one that has
//! not. A sync topic may be degraded at any time, also while sealing; the home hears of it late. The
//! home never hears of the move itself, but from a grant.
//!
//! Deciding to acknowledge and the reply are two steps: a paused process may reply late, which
//! no lease can prevent (H15); what is decided is checked.
//!
//! Bounds: ticks, renewals. Not here: logs, and so what is lost: `failover`.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;

/// L, in ticks of the holder.
const LENGTH: u8 = 2;
/// What the grantor waits, in ticks of its own: L, and what a clock may gain meanwhile.
const WAIT: u8 = 3;

#[derive(Clone, Debug)]
struct Lease {
    ticks: u8,
    renewals: u8,
    clocks: Clocks,
    is_async: bool,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clocks {
    Honest,
    Arbitrary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Fence,
    Wait,
    Margin,
    FromSend,
    /// A new leader of `__meta` assumes a grant at its election.
    AssumeGrant,
    /// A leader of `__meta` grants only what a majority has confirmed after the renewal came.
    ConfirmedGrant,
    /// A grant says what is being sealed, and the holder stops acknowledging there.
    GrantTellsSealing,
    /// Whether to wait is decided by the mode in the compare-and-set that activates.
    WaitByModeInCas,
    /// A sync home is fenced by promises, not by waiting.
    SealFences,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Active,
    Sealing,
    Moved,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Renewal {
    sent: u8,
    /// Which of the two leaders it goes to.
    to: usize,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    sent: u8,
    sealing: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    /// Of the home, and of the two leaders of `__meta`.
    clocks: [u8; 3],
    gained: bool,
    phase: Phase,
    leader: usize,
    elected_at: u8,
    /// When each leader last granted, by its own clock.
    granted_at: [Option<u8>; 2],
    mode_is_sync: bool,
    was_sync_at_seal: bool,
    promised: [bool; 2],
    renewals: BTreeSet<Renewal>,
    sent: u8,
    grants: BTreeSet<Grant>,
    home: Home,
    /// What must never be.
    async_beside: bool,
    sync_beside: bool,
    /// What may be.
    activated_in_lease: bool,
    late_reply: bool,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Home {
    is_sync: bool,
    /// The send time of the renewal that was last granted.
    lease: u8,
    told: bool,
    decided: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Tick,
    Gain(usize),
    Renew(usize),
    Grant(Renewal),
    Granted(Grant),
    Elect,
    MetaWeaken,
    HomeWeaken,
    BeginSeal,
    Promise(usize),
    Activate,
    DecideAsync,
    Reply,
    AckSync,
}

const ASYNC: &str = "R17 no home decides an async ack once another is active";
const SYNC: &str = "I6 no home acknowledges under sync once another is active";
const NO_WAIT: &str = "a proven sync failover ends while the old home holds its lease";
const MOVED: &str = "an async home moved";
const LATE: &str = "a paused home replies after another is active";

impl Lease {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    fn holds(&self, state: &State) -> bool {
        state.clocks[0] < state.home.lease + LENGTH
    }

    /// Whether the last grant that there can have been is over, by the clock of `__meta`'s leader.
    fn waited(&self, state: &State) -> bool {
        let wait = if self.keeps(Rule::Margin) { WAIT } else { LENGTH };
        let now = state.clocks[1 + state.leader];
        let assumed =
            (state.leader == 1 && self.keeps(Rule::AssumeGrant)).then_some(state.elected_at);
        let last = state.granted_at[state.leader].max(assumed);
        last.is_none_or(|at| now >= at + wait)
    }

    fn may_activate(&self, state: &State) -> bool {
        let sealed = state.promised.iter().filter(|promised| **promised).count();
        let waits_by = if self.keeps(Rule::WaitByModeInCas) {
            state.mode_is_sync
        } else {
            state.was_sync_at_seal
        };
        let waited = self.waited(state) || !self.keeps(Rule::Wait);
        // Once sync, always n - k + 1 = 2 (R11); whoever never was goes with one.
        let enough = if self.is_async { 1 } else { 2 };
        if sealed >= enough {
            return waits_by || waited;
        }
        !self.keeps(Rule::SealFences) && sealed >= 1 && waited
    }
}

impl Model for Lease {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let is_sync = !self.is_async;
        vec![State {
            clocks: [0; 3],
            gained: false,
            phase: Phase::Active,
            leader: 0,
            elected_at: 0,
            granted_at: [Some(0), None],
            mode_is_sync: is_sync,
            was_sync_at_seal: false,
            promised: [false; 2],
            renewals: BTreeSet::new(),
            sent: 0,
            grants: BTreeSet::new(),
            home: Home { is_sync, lease: 0, told: false, decided: false },
            async_beside: false,
            sync_beside: false,
            activated_in_lease: false,
            late_reply: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let room = state.clocks.iter().all(|clock| *clock < self.ticks);
        match self.clocks {
            Clocks::Honest if room => {
                actions.push(Action::Tick);
                if !state.gained {
                    actions.extend((0..3).map(Action::Gain));
                }
            }
            Clocks::Honest => {}
            Clocks::Arbitrary => {
                let behind = |clock: &usize| state.clocks[*clock] < self.ticks;
                actions.extend((0..3).filter(behind).map(Action::Gain));
            }
        }
        if state.sent < self.renewals {
            actions.extend((0..2).map(Action::Renew));
        }
        for renewal in &state.renewals {
            let leads = renewal.to == state.leader;
            let was = renewal.to < state.leader && !self.keeps(Rule::ConfirmedGrant);
            if leads || was {
                actions.push(Action::Grant(*renewal));
            }
        }
        actions.extend(state.grants.iter().copied().map(Action::Granted));
        if state.leader == 0 {
            actions.push(Action::Elect);
        }
        if state.mode_is_sync && state.phase != Phase::Moved {
            actions.push(Action::MetaWeaken);
        }
        if state.home.is_sync && !state.mode_is_sync {
            actions.push(Action::HomeWeaken);
        }
        match state.phase {
            Phase::Active => actions.push(Action::BeginSeal),
            Phase::Sealing => {
                let not_yet = |dc: &usize| !state.promised[*dc];
                actions.extend((0..2).filter(not_yet).map(Action::Promise));
                if self.may_activate(state) {
                    actions.push(Action::Activate);
                }
            }
            Phase::Moved => {}
        }
        let home = &state.home;
        if home.decided {
            actions.push(Action::Reply);
        } else if !home.is_sync && (self.holds(state) && !home.told || !self.keeps(Rule::Fence)) {
            actions.push(Action::DecideAsync);
        }
        if home.is_sync && state.promised.contains(&false) {
            actions.push(Action::AckSync);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let moved = state.phase == Phase::Moved;
        match action {
            Action::Tick => state.clocks.iter_mut().for_each(|clock| *clock += 1),
            Action::Gain(clock) => {
                state.gained = self.clocks == Clocks::Honest;
                state.clocks[clock] += 1;
            }
            Action::Renew(to) => {
                state.sent += 1;
                state.renewals.insert(Renewal { sent: state.clocks[0], to });
            }
            Action::Grant(renewal) => {
                state.renewals.remove(&renewal);
                let sealing = renewal.to == state.leader
                    && state.phase != Phase::Active
                    && self.keeps(Rule::GrantTellsSealing);
                state.grants.insert(Grant { sent: renewal.sent, sealing });
                if state.phase == Phase::Active {
                    state.granted_at[renewal.to] = Some(state.clocks[1 + renewal.to]);
                }
            }
            Action::Granted(grant) => {
                state.grants.remove(&grant);
                let home = &mut state.home;
                home.told |= grant.sealing;
                let from = if self.keeps(Rule::FromSend) { grant.sent } else { state.clocks[0] };
                home.lease = home.lease.max(from);
            }
            Action::Elect => {
                state.leader = 1;
                state.elected_at = state.clocks[2];
            }
            Action::MetaWeaken => state.mode_is_sync = false,
            Action::HomeWeaken => state.home.is_sync = false,
            Action::BeginSeal => {
                state.phase = Phase::Sealing;
                state.was_sync_at_seal = state.mode_is_sync;
            }
            Action::Promise(dc) => state.promised[dc] = true,
            Action::Activate => {
                state.phase = Phase::Moved;
                state.activated_in_lease = self.holds(&state) && state.home.is_sync;
            }
            Action::DecideAsync => {
                state.home.decided = true;
                state.async_beside |= moved;
            }
            Action::Reply => {
                state.home.decided = false;
                state.late_reply |= moved && !state.async_beside;
            }
            Action::AckSync => state.sync_beside |= moved,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(ASYNC, |model, state| {
                model.clocks == Clocks::Arbitrary || !state.async_beside
            }),
            Property::<Self>::always(SYNC, |_, state| !state.sync_beside),
            Property::<Self>::sometimes(NO_WAIT, |_, state| state.activated_in_lease),
            Property::<Self>::sometimes(MOVED, |_, state| {
                state.phase == Phase::Moved && !state.home.is_sync
            }),
            Property::<Self>::sometimes(LATE, |_, state| state.late_reply),
        ]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |at: &usize| ["home A", "__meta's first leader", "__meta's second leader"][*at];
        match self {
            Self::Tick => write!(f, "time passes: every clock moves by one"),
            Self::Gain(at) => write!(f, "the clock of {} moves by one", clock(at)),
            Self::Renew(to) => write!(f, "A asks {} for a lease", clock(&(to + 1))),
            Self::Grant(Renewal { sent, to }) => {
                write!(f, "{} grants what A sent at {sent}", clock(&(to + 1)))
            }
            Self::Granted(Grant { sent, .. }) => {
                write!(f, "A gets the grant of what it sent at {sent}")
            }
            Self::Elect => write!(f, "__meta elects its second leader"),
            Self::MetaWeaken => write!(f, "__meta records ASYNC and grants it"),
            Self::HomeWeaken => write!(f, "A weakens"),
            Self::BeginSeal => write!(f, "__meta: Active -> Sealing"),
            Self::Promise(dc) => write!(f, "{} promises", ["B", "C"][*dc]),
            Self::Activate => write!(f, "__meta: Sealing -> Active, home B"),
            Self::DecideAsync => write!(f, "A decides to acknowledge an async record"),
            Self::Reply => write!(f, "A replies"),
            Self::AckSync => write!(f, "A acknowledges under sync"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let sync = Lease { ticks: 5, renewals: 1, clocks: Clocks::Honest, is_async: false, off: None };
    let fence = Lease { is_async: true, ..sync.clone() };
    let wild = Lease { ticks: 4, clocks: Clocks::Arbitrary, ..sync.clone() };
    let off = |name: &str, rule, text, property, bounds: &Lease| {
        let model = Lease { off: Some(rule), ..bounds.clone() };
        Case::caught(&format!("lease/off/{name}"), text, property, model)
    };
    vec![
        Case::clean("lease/degraded", sync.clone(), &[NO_WAIT, MOVED, LATE]),
        Case::clean("lease/async", Lease { ticks: 6, ..fence.clone() }, &[MOVED, LATE]),
        Case::clean("lease/arbitrary-clocks", wild.clone(), &[NO_WAIT, MOVED]),
        off("fence", Rule::Fence, "R17 no lease, no async ack", ASYNC, &fence),
        off("wait", Rule::Wait, "R17 an async activation waits", ASYNC, &fence),
        off("margin", Rule::Margin, "R17 it waits L and a margin", ASYNC, &fence),
        off("send", Rule::FromSend, "R17 a lease counts from its send", ASYNC, &fence),
        off("election", Rule::AssumeGrant, "R17 a new leader assumes a grant", ASYNC, &fence),
        off(
            "confirmed",
            Rule::ConfirmedGrant,
            "R17+ a grant is confirmed by a majority of __meta",
            ASYNC,
            &fence,
        ),
        off(
            "tells",
            Rule::GrantTellsSealing,
            "R17+ a grant tells what is being sealed",
            ASYNC,
            &fence,
        ),
        off(
            "mode-in-cas",
            Rule::WaitByModeInCas,
            "R17+ the wait is decided in the CAS that activates",
            ASYNC,
            &sync,
        ),
        off("seal", Rule::SealFences, "R10 the seal fences, not the wait", SYNC, &wild),
        Case::walks("lease/walk", Lease { ticks: 14, renewals: 5, ..fence }),
        Case::walks("lease/walk-sync", Lease { ticks: 14, renewals: 5, ..wild }),
    ]
}
