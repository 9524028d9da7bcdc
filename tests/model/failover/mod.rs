//! The core: one partition in three DCs, failovers, degrading and restoring, rejoining.
//!
//! ```text
//!          Active(e) ──seal──▶ Sealing(e+1) ──enough, choose, activate──▶ Active(e+1)
//!  home A: append, commit, (in-DC election)      B, C: promise, report   B: new home; A, C: rejoin
//!  weaken: `__meta`, then the leader             strengthen: the leader, then `__meta`
//! ```
//!
//! Abstractions. A DC's group is one durable log; its elections are one step, which keeps or drops
//! the uncommitted tail or brings a dropped one back (it lay on a replica that was away). Shipping
//! an entry is one step; its answer travels apart, late or never. Old homes go on for as long as they
//! like, with answers and grants of any age; no clock takes part. A record that the high watermark
//! passes is acknowledged and shown at once.
//!
//! Bounds: records, home epochs, elections at the first home and at later ones, changes of mode.
//!
//! Not here: what is inside a DC (`voting`, `placement`, `fsync`, `install`), what goes wrong in the
//! steps of a move themselves (`moves`), leases (`lease`), watermarks on learners (`watermark`).

mod leader;
mod mode;
mod moving;
mod properties;
mod rules;
mod state;

use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;
use crate::log::Log;
use rules::{MUTATIONS, Rule};
use state::{Answer, Mode, N, State, name};

/// The model with its bounds and the rule that is off.
#[derive(Clone, Debug)]
pub struct Failover {
    /// How many DCs beside the home a sync topic waits for.
    k: usize,
    start: Mode,
    records: u8,
    epochs: u8,
    elections: u8,
    later_elections: u8,
    mode_changes: u8,
    off: Option<Rule>,
}

const BASE: Failover = Failover {
    k: 1,
    start: Mode::Sync,
    records: 1,
    epochs: 2,
    elections: 0,
    later_elections: 0,
    mode_changes: 0,
    off: None,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Append(usize),
    Commit(usize),
    Elect(usize, Log),
    Ship(usize, usize),
    Answered(Answer),
    Advance(usize),
    MetaWeaken,
    LeaderWeaken(usize, u8),
    LeaderStrengthen(usize),
    MetaStrengthen(usize),
    BeginSeal,
    Seal(usize),
    Activate(usize),
    Rejoin(usize),
}

impl Failover {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }
}

impl Model for Failover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.start)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for dc in 0..N {
            self.leader_actions(state, dc, actions);
            self.mode_actions(state, dc, actions);
        }
        actions.extend(state.answers.iter().copied().map(Action::Answered));
        self.meta_actions(state, actions);
        self.moving_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Append(dc) => self.append(&mut state, dc),
            Action::Commit(dc) => self.commit(&mut state, dc),
            Action::Elect(dc, log) => self.elect(&mut state, dc, log),
            Action::Ship(from, to) => self.ship(&mut state, from, to),
            Action::Answered(answer) => self.answered(&mut state, answer),
            Action::Advance(dc) => self.advance(&mut state, dc),
            Action::MetaWeaken => self.meta_weaken(&mut state),
            Action::LeaderWeaken(dc, sid) => self.leader_weaken(&mut state, dc, sid),
            Action::LeaderStrengthen(dc) => self.leader_strengthen(&mut state, dc),
            Action::MetaStrengthen(dc) => self.meta_strengthen(&mut state, dc),
            Action::BeginSeal => state.meta.sealing = Some([None; N]),
            Action::Seal(dc) => self.seal(&mut state, dc),
            Action::Activate(dc) => self.activate(&mut state, dc),
            Action::Rejoin(dc) => self.rejoin(&mut state, dc),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(dc) => write!(f, "{}'s leader appends a record", name(*dc)),
            Self::Commit(dc) => write!(f, "{}: a majority in the DC has it all", name(*dc)),
            Self::Elect(dc, log) => {
                write!(f, "{} elects a leader who has {log}, and appends an empty entry", name(*dc))
            }
            Self::Ship(from, to) => write!(f, "{} ships an entry to {}", name(*from), name(*to)),
            Self::Answered(Answer { term, dc, index }) => {
                write!(f, "the leader of {term} hears that {} has persisted {index}", name(*dc))
            }
            Self::Advance(dc) => write!(f, "{} moves its watermark and acknowledges", name(*dc)),
            Self::MetaWeaken => write!(f, "__meta records ASYNC and grants it"),
            Self::LeaderWeaken(dc, sid) => write!(f, "{} weakens by grant {sid}", name(*dc)),
            Self::LeaderStrengthen(dc) => write!(f, "{} enforces sync again", name(*dc)),
            Self::MetaStrengthen(dc) => write!(f, "__meta records SYNC, for {}", name(*dc)),
            Self::BeginSeal => write!(f, "__meta: Active -> Sealing"),
            Self::Seal(dc) => write!(f, "{} promises and reports", name(*dc)),
            Self::Activate(dc) => write!(f, "__meta: Sealing -> Active, home {}", name(*dc)),
            Self::Rejoin(dc) => write!(f, "{} keeps its suffix, cuts and rejoins", name(*dc)),
        }
    }
}

/// What must be reached, lest a bound be clean because nothing happens in it.
const MOVED: &str = "a failover with acknowledged records";
const LOST: &str = "a lost async ack, in the ledger, everybody rejoined";
const RESTORED: &str = "weakened, then strengthened";
const ACKED_LATER: &str = "an acknowledgement in a later epoch";

pub fn cases() -> Vec<Case> {
    let one = |name: &str, model: Failover, reached| {
        Case::clean(&format!("failover/{name}"), model, reached)
    };
    let mut cases = vec![
        one(
            "modes",
            Failover { elections: 1, mode_changes: 2, ..BASE },
            &[MOVED, LOST, RESTORED, ACKED_LATER],
        ),
        one(
            "from-async",
            Failover { start: Mode::Async, elections: 1, mode_changes: 2, ..BASE },
            &[MOVED, LOST, ACKED_LATER],
        ),
        one("twice", Failover { epochs: 3, elections: 1, ..BASE }, &[MOVED, ACKED_LATER]),
        one("two-dcs", Failover { k: 2, elections: 2, ..BASE }, &[MOVED, ACKED_LATER]),
        one("long/records", Failover { records: 2, elections: 2, ..BASE }, &[MOVED]).long(),
        one(
            "long/records-modes",
            Failover { records: 2, elections: 1, mode_changes: 1, ..BASE },
            &[MOVED, LOST],
        )
        .long(),
        one(
            "long/twice-modes",
            Failover { epochs: 3, elections: 1, mode_changes: 1, ..BASE },
            &[MOVED],
        )
        .long(),
        one(
            "long/twice-from-async",
            Failover { start: Mode::Async, epochs: 3, elections: 1, mode_changes: 1, ..BASE },
            &[MOVED, LOST],
        )
        .long(),
        one(
            "long/later-elections",
            Failover { elections: 1, later_elections: 1, mode_changes: 2, ..BASE },
            &[MOVED],
        )
        .long(),
    ];
    for mutation in MUTATIONS {
        let name = format!("failover/off/{}", mutation.name);
        let model = Failover { off: Some(mutation.rule), ..mutation.bounds };
        cases.push(Case::caught(&name, mutation.text, mutation.property, model));
    }
    let wide = Failover { records: 4, epochs: 4, elections: 2, mode_changes: 3, ..BASE };
    cases.push(Case::walks("failover/walk/k1", Failover { later_elections: 1, ..wide }));
    cases.push(Case::walks("failover/walk/k2", Failover { k: 2, ..wide }));
    cases
}
