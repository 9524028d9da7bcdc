//! Degrading a sync topic and restoring it, with the mode as entries in the log and questions to `__meta`
//! that travel (R7, R8). `failover` has the mode as one word of the leader; here elections drop its entries
//! and bring them back, and a question may be answered late, or twice.
//!
//! ```text
//!  leader: starved ──Ask(sid + 1, degraded)──▶ __meta: compare (epoch, sid), record ··▶ Weaken: entry, holds once committed
//!  leader: Strengthen: entry, binds at once; the other DC has it ──Ask(sid, sync)──▶ __meta: the same
//! ```
//!
//! Two DCs with data and a witness (n = 1, k = 1), each DC one log. A failover has two steps, as in the
//! product: the cut and its claim are chosen, then activated. The old home never hears of it.
//!
//! Bounds: records, home epochs, elections of an epoch, changes of the mode.
//!
//! Not here: more DCs, who is sealed, the ledger, leases: `failover`, `lease`.

mod state;

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;
use crate::log::{Entry, Log, Term};
use state::{Ask, Chosen, Dc, Leader, Mode, N, State};

#[derive(Clone, Debug)]
struct Modes {
    records: u8,
    epochs: u8,
    elections: u8,
    /// The largest number of a mode.
    sids: u8,
    /// Different questions; each may be heard at any time, and again.
    asks: usize,
    off: Option<Rule>,
}

const BASE: Modes = Modes { records: 1, epochs: 2, elections: 1, sids: 3, asks: 3, off: None };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    RecordThenWeaken,
    NewGrant,
    EnforceThenConfirm,
    /// `__meta` compares the number that was decided on, and takes only a larger one.
    Compare,
    CompareEpoch,
    /// No change while the home moves: the claim is chosen with the cut, before it is activated.
    Frozen,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Append,
    Commit(usize),
    Elect(usize, Log),
    Ship,
    Advance(usize),
    Weaken(usize, u8),
    Strengthen(usize, u8),
    AskWeaken(usize, u8),
    AskConfirm(usize, u8),
    Record(Ask),
    BeginSeal,
    Choose,
    Activate,
    Rejoin,
}

const CLAIM: &str = "I4 a verdict of RPO = 0 misses no acknowledgement of that epoch";
const ENFORCED: &str = "I7 where __meta says sync, whoever may lead enforces it";
const MOVED: &str = "a failover with acknowledged records";
const LOST: &str = "what was acknowledged while degraded is lost with its home";
const RESTORED: &str = "degraded, and on record as sync again";

impl Modes {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }
}

impl Modes {
    fn leader_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let dc = &state.dcs[at];
        let Some(leader) = &dc.leader else { return };
        let epoch = leader.term.epoch();
        if at == state.home && state.next <= self.records && !dc.log.is_full() {
            actions.push(Action::Append);
        }
        if leader.commit < dc.log.len() && dc.log.last_term() == leader.term {
            actions.push(Action::Commit(at));
        }
        if leader.term.election() < self.elections && !dc.log.is_full() {
            let logs = state.electable(at, leader);
            actions.extend(logs.into_iter().map(|log| Action::Elect(at, log)));
        }
        let other = &state.dcs[1 - at];
        let listens = other.leader.is_none() && other.promised <= epoch;
        let has = other.log.common(&dc.log);
        if listens && (has < dc.log.len() || leader.gate < has) && at == state.home {
            actions.push(Action::Ship);
        }
        if leader.hw < self.watermark(state, at, leader) {
            actions.push(Action::Advance(at));
        }
        self.mode_actions(state, at, leader, actions);
    }

    fn mode_actions(&self, state: &State, at: usize, leader: &Leader, actions: &mut Vec<Action>) {
        let (dc, epoch) = (&state.dcs[at], leader.term.epoch());
        let (newest_at, newest) = state.newest(&dc.log, epoch);
        let degraded = state.leads_degraded(at, leader);
        let room = !dc.log.is_full();
        let heard: Vec<Mode> =
            state.recorded.iter().filter(|(of, _)| *of == epoch).map(|(_, mode)| *mode).collect();
        for mode in &heard {
            let next = mode.sid.max(newest.sid) + 1;
            let is_new = mode.sid > newest.sid || !self.keeps(Rule::NewGrant);
            let granted = mode.degraded && is_new;
            if !newest.degraded && granted && room {
                actions.push(Action::Weaken(at, mode.sid));
            }
            if (newest.degraded || granted) && next <= self.sids && room {
                actions.push(Action::Strengthen(at, next));
            }
            let asks = state.asks.len() < self.asks;
            if !newest.degraded && next <= self.sids && asks {
                actions.push(Action::AskWeaken(at, mode.sid));
            }
            let through = leader.commit.min(leader.gate);
            let mut own = dc.log.iter().filter(|(_, entry)| entry.term == leader.term);
            let enforced = own.any(|(index, _)| index >= newest_at && index <= through);
            let enforced = enforced || !self.keeps(Rule::EnforceThenConfirm);
            let unconfirmed = !degraded && !newest.degraded && mode.degraded;
            if unconfirmed && mode.sid < newest.sid && enforced && asks {
                actions.push(Action::AskConfirm(at, mode.sid));
            }
        }
        if !self.keeps(Rule::RecordThenWeaken) && !newest.degraded && newest.sid < self.sids && room
        {
            actions.push(Action::Weaken(at, newest.sid + 1));
        }
    }

    fn watermark(&self, state: &State, at: usize, leader: &Leader) -> u8 {
        if state.leads_degraded(at, leader) {
            return leader.commit;
        }
        let index = leader.commit.min(leader.gate);
        let own = state.dcs[at].log.get(index).is_none_or(|entry| entry.term == leader.term);
        if own { index } else { leader.hw }
    }

    fn record(&self, state: &mut State, ask: Ask) {
        let fits = ask.expected == state.mode.sid && ask.mode.sid > state.mode.sid;
        let is_theirs = ask.epoch == state.epoch;
        if state.sealing && self.keeps(Rule::Frozen)
            || !fits && self.keeps(Rule::Compare)
            || !is_theirs && self.keeps(Rule::CompareEpoch)
        {
            return;
        }
        state.mode = ask.mode;
        state.recorded.insert((state.epoch, ask.mode));
    }

    fn activate(&self, state: &mut State) {
        let Chosen { cut, lossless } = state.chosen.take().expect("it was chosen");
        let old = state.epoch;
        let missing = |(index, epoch, entry): &(u8, u8, Entry)| {
            *epoch == old && cut.get(*index) != Some(*entry)
        };
        let is_lost = state.acked.iter().any(missing);
        state.claim_broken |= lossless && is_lost;
        state.lost |= is_lost;
        state.sealing = false;
        state.epoch += 1;
        state.home = 1 - state.home;
        state.began[usize::from(state.epoch)] = state.mode;
        state.recorded.insert((state.epoch, state.mode));
        let term = Term::new(state.epoch, 0);
        let mut log = cut;
        log.push(Entry { term, value: 0 });
        let leader = Some(Leader { term, commit: log.len(), gate: 0, hw: 0 });
        state.dcs[state.home] = Dc { log, dropped: BTreeSet::new(), promised: state.epoch, leader };
    }
}

impl Model for Modes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        (0..N).for_each(|at| self.leader_actions(state, at, actions));
        actions.extend(state.asks.iter().copied().map(Action::Record));
        let other = &state.dcs[1 - state.home];
        if !state.sealing && state.epoch < self.epochs && other.leader.is_none() {
            actions.push(Action::BeginSeal);
        }
        if state.sealing && state.chosen.is_none() {
            actions.push(Action::Choose);
        }
        if state.chosen.is_some_and(|chosen| !chosen.cut.is_full()) {
            actions.push(Action::Activate);
        }
        let behind = other.promised < state.epoch || other.leader.is_some();
        if !state.sealing && behind {
            actions.push(Action::Rejoin);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Append => {
                let (home, value) = (state.home, state.next);
                let term = state.leader(home).term;
                state.dcs[home].log.push(Entry { term, value });
                state.next += 1;
            }
            Action::Commit(at) => {
                let end = state.dcs[at].log.len();
                state.leader(at).commit = end;
            }
            Action::Elect(at, log) => {
                let dc = &mut state.dcs[at];
                let leader = dc.leader.as_mut().expect("a step of a DC that leads");
                if dc.log.len() > leader.commit && dc.log != log {
                    dc.dropped.insert(dc.log);
                }
                leader.term = leader.term.next();
                (leader.gate, leader.hw) = (0, 0);
                dc.log = log;
                dc.log.push(Entry { term: leader.term, value: 0 });
            }
            // One entry, and the answer.
            Action::Ship => {
                let home = state.home;
                let source = state.dcs[home].log;
                let target = &mut state.dcs[1 - home];
                let common = target.log.common(&source);
                if let Some(entry) = source.get(common + 1) {
                    target.log = target.log.prefix(common);
                    target.log.push(entry);
                }
                let has = target.log.common(&source);
                state.leader(home).gate = has;
            }
            Action::Advance(at) => {
                let leader = state.dcs[at].leader.clone().expect("a step of a DC that leads");
                let target = self.watermark(&state, at, &leader);
                let epoch = leader.term.epoch();
                state.leader(at).hw = target;
                let log = state.dcs[at].log;
                let records = log.iter().filter(|(_, e)| e.value != 0 && Mode::of(*e).is_none());
                let acked = records.filter(|(index, _)| *index <= target);
                state.acked.extend(acked.map(|(index, entry)| (index, epoch, entry)));
            }
            Action::Weaken(at, sid) => {
                let term = state.leader(at).term;
                let value = Mode { sid, degraded: true }.value();
                state.dcs[at].log.push(Entry { term, value });
            }
            Action::Strengthen(at, sid) => {
                let term = state.leader(at).term;
                let value = Mode { sid, degraded: false }.value();
                state.dcs[at].log.push(Entry { term, value });
            }
            Action::AskWeaken(at, expected) => {
                let epoch = state.leader(at).term.epoch();
                let (_, newest) = state.newest(&state.dcs[at].log, epoch);
                let mode = Mode { sid: newest.sid.max(expected) + 1, degraded: true };
                state.asks.insert(Ask { epoch, expected, mode });
            }
            Action::AskConfirm(at, expected) => {
                let epoch = state.leader(at).term.epoch();
                let (_, mode) = state.newest(&state.dcs[at].log, epoch);
                state.asks.insert(Ask { epoch, expected, mode });
            }
            Action::Record(ask) => self.record(&mut state, ask),
            Action::BeginSeal => {
                state.sealing = true;
                let promised = state.epoch + 1;
                state.dcs[1 - state.home].promised = promised;
            }
            Action::Choose => {
                let cut = state.dcs[1 - state.home].log;
                state.chosen = Some(Chosen { cut, lossless: !state.mode.degraded });
            }
            Action::Activate => self.activate(&mut state),
            Action::Rejoin => {
                let home = state.dcs[state.home].log;
                let epoch = state.epoch;
                let other = &mut state.dcs[1 - state.home];
                let common = other.log.common(&home);
                let log = other.log.prefix(common);
                *other = Dc { log, dropped: BTreeSet::new(), promised: epoch, leader: None };
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(CLAIM, |_, state| !state.claim_broken),
            Property::<Self>::always(ENFORCED, |_, state| {
                let leader = state.dcs[state.home].leader.as_ref();
                let Some(leader) = leader.filter(|_| !state.mode.degraded) else { return true };
                let commit = leader.commit;
                let mut logs = state.electable(state.home, leader).into_iter();
                logs.all(|log| !state.is_degraded(&log, commit, state.epoch))
            }),
            Property::<Self>::sometimes(MOVED, |_, state| {
                state.epoch > 1 && !state.acked.is_empty()
            }),
            Property::<Self>::sometimes(LOST, |_, state| state.lost),
            Property::<Self>::sometimes(RESTORED, |_, state| {
                state.mode.sid > 1 && !state.mode.degraded
            }),
        ]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |dc: &usize| char::from(b'A' + *dc as u8);
        match self {
            Self::Append => write!(f, "the home appends a record"),
            Self::Commit(at) => write!(f, "{}: a majority in the DC has it all", name(at)),
            Self::Elect(at, log) => write!(f, "{} elects a leader who has {log}", name(at)),
            Self::Ship => write!(f, "the home ships an entry, and hears that it is there"),
            Self::Advance(at) => write!(f, "{} acknowledges", name(at)),
            Self::Weaken(at, sid) => write!(f, "{} appends: degraded, by grant {sid}", name(at)),
            Self::Strengthen(at, sid) => write!(f, "{} appends: sync again, {sid}", name(at)),
            Self::AskWeaken(at, known) => write!(f, "{} asks for a grant after {known}", name(at)),
            Self::AskConfirm(at, known) => write!(f, "{} asks to confirm after {known}", name(at)),
            Self::Record(ask) => write!(f, "__meta hears {ask:?}"),
            Self::BeginSeal => write!(f, "__meta: Sealing, and the other DC promises"),
            Self::Choose => write!(f, "__meta chooses the cut, and its claim"),
            Self::Activate => write!(f, "__meta: the other DC is home"),
            Self::Rejoin => write!(f, "the old home cuts and rejoins"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let reached: &[&str] = &[MOVED, LOST, RESTORED];
    let mut cases = vec![
        Case::clean("mode/elections", Modes { sids: 2, ..BASE }, reached),
        Case::clean("mode/long/elections", BASE, reached).long(),
        Case::clean("mode/twice", Modes { epochs: 3, elections: 0, ..BASE }, reached),
        Case::clean("mode/records", Modes { records: 2, elections: 0, ..BASE }, reached),
    ];
    let one = Modes { elections: 0, ..BASE };
    let twice = Modes { epochs: 3, elections: 0, ..BASE };
    for (rule, name, text, property, bounds) in [
        (Rule::RecordThenWeaken, "weaken", "R7 record, then weaken", ENFORCED, one.clone()),
        (Rule::NewGrant, "grant", "R7 a grant is newer than the log's", ENFORCED, one.clone()),
        (Rule::EnforceThenConfirm, "confirm", "R8 enforce, then record", CLAIM, one.clone()),
        (Rule::Compare, "compare", "R7+ a change is of what it was decided on", CLAIM, one.clone()),
        (Rule::CompareEpoch, "epoch", "R7+ a change is of its own home epoch", ENFORCED, twice),
        (Rule::Frozen, "frozen", "R13+ no change between a claim and its activation", CLAIM, one),
    ] {
        let model = Modes { off: Some(rule), ..bounds };
        cases.push(Case::caught(&format!("mode/off/{name}"), text, property, model));
    }
    let wide = Modes { records: 3, epochs: 3, elections: 2, asks: 6, ..BASE };
    cases.push(Case::walks("mode/walk", wide));
    cases
}
