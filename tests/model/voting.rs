//! The first elections of a new home (R1, R2, R13, R14, H5): what its replicas have before there is
//! a group, and who may vote in it.
//!
//! ```text
//!  Sealing(2), cut F ──▶ each target replica makes its log exactly F ──a majority──▶ Active(2)
//!  only then, and only on F: rewritten Raft state (term 2.0, no vote, commit F) and a group
//!  candidate ──votes of a majority──▶ leader: empty entry, records, commit
//!  old home: a leader of its own, in terms of epoch 1, for as long as it likes
//! ```
//!
//! Three replicas in the target DC that begin with any of: all of F, a part, another tail of an
//! older term, more than F with a commit that F does not have (an async learner that nobody sealed).
//! F is at hand somewhere else. Votes and appends are one step each, between any two replicas that
//! run, in any order; notices (*make it F*, *the home is active*) come late and twice. A follower
//! that is asked to append below its own commit answers with that commit, as raft-rs does (probes
//! P3, P5). Everything is durable: `fsync` has the rest.
//!
//! Bounds: elections, records. Not here: where F came from, the other DCs.

use std::collections::BTreeMap;
use std::fmt;

use stateright::{Model, Property};

use crate::check::Case;
use crate::log::{Entry, Log, Term};

const REPLICAS: usize = 3;
const MAJORITY: usize = 2;

/// Elections of an epoch, for the old home that runs out of them.
const LAST_OF_EPOCH: u8 = 7;

#[derive(Clone, Debug)]
struct Voting {
    elections: u8,
    records: u8,
    old_home: bool,
    off: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    MajorityHolds,
    OnlyHoldersRun,
    /// The Raft state is rewritten once an epoch; a second notice changes nothing.
    RewriteOnce,
    /// A replica of this epoch makes its log nothing else any more.
    PrepareBefore,
    /// A replica that is not of this epoch does not hear its group.
    OneEpochAGroup,
    TermsOfEpoch,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Replica {
    log: Log,
    commit: u8,
    epoch: u8,
    term: Term,
    vote: Option<usize>,
    /// Who voted for it in its term, one bit each, while it is a candidate.
    votes: u8,
    leads: bool,
    matched: [u8; REPLICAS],
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    replicas: [Replica; REPLICAS],
    active: bool,
    next: u8,
    /// Committed in the new home.
    committed: Log,
    old_home: Log,
    old_term: Term,
    /// Two leaders of one term.
    two_leaders: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Prepare(usize),
    Activate,
    Start(usize),
    Campaign(usize),
    Vote(usize, usize),
    Append(usize),
    Replicate(usize, usize),
    Commit(usize),
    OldElects,
    OldAppends,
}

const HOLD: &str = "R13 a majority of the new home holds the cut";
const COMPLETE: &str = "I1 a leader has the cut, and all that was committed before its term";
const ONE_LEADER: &str = "Raft 5.2 at most one leader a term";
const ONE_RECORD: &str = "I2 (term, index) names one record";
const COUNTED: &str = "R14 what a leader counts of a replica, that replica has";
const COMMITTED: &str = "a record is committed in the new home by its second leader";

const A: Entry = Entry { term: Term::new(1, 0), value: 1 };
const B: Entry = Entry { term: Term::new(1, 1), value: 2 };

fn log(entries: &[Entry]) -> Log {
    let mut log = Log::default();
    entries.iter().for_each(|entry| log.push(*entry));
    log
}

fn cut() -> Log {
    log(&[A, B])
}

/// What a replica of the target may begin with, and its commit.
fn beginnings() -> [(Log, u8); 4] {
    let other = Entry { term: Term::new(1, 0), value: 5 };
    let beyond = Entry { term: Term::new(1, 1), value: 6 };
    [
        (cut(), 1),
        (log(&[A]), 1),
        (log(&[A, other, Entry { value: 7, ..other }]), 1),
        (log(&[A, B, beyond]), 3),
    ]
}

impl Voting {
    fn keeps(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    fn may_hear(&self, replica: &Replica) -> bool {
        replica.epoch == 2 || !self.keeps(Rule::OneEpochAGroup)
    }

    fn start(&self, replica: &mut Replica) {
        let log = if self.keeps(Rule::OnlyHoldersRun) { cut() } else { replica.log };
        let commit = if self.keeps(Rule::OnlyHoldersRun) { log.len() } else { replica.commit };
        *replica = Replica {
            log,
            commit,
            epoch: 2,
            term: Term::new(2, 0),
            vote: None,
            votes: 0,
            leads: false,
            matched: [0; REPLICAS],
        };
    }

    fn vote(&self, state: &mut State, voter: usize, candidate: usize) {
        let asks = state.replicas[candidate];
        let replica = &mut state.replicas[voter];
        if asks.term > replica.term {
            follow(replica, asks.term);
        }
        if replica.vote.is_none_or(|vote| vote == candidate)
            && asks.log.last() >= replica.log.last()
        {
            replica.vote = Some(candidate);
            state.replicas[candidate].votes |= 1 << voter;
        }
        if state.replicas[candidate].votes.count_ones() as usize >= MAJORITY {
            let led = state.replicas.iter().any(|r| r.leads && r.term == asks.term);
            state.two_leaders |= led;
            let replica = &mut state.replicas[candidate];
            replica.leads = true;
            replica.votes = 0;
            replica.log.push(Entry { term: replica.term, value: 0 });
        }
    }

    fn replicate(&self, state: &mut State, from: usize, to: usize) {
        let leader = state.replicas[from];
        let replica = &mut state.replicas[to];
        if leader.term > replica.term {
            follow(replica, leader.term);
        }
        replica.votes = 0;
        let common = replica.log.common(&leader.log);
        let matched = if replica.commit > common {
            // raft-rs: an append below the commit is answered with the commit, not refused.
            replica.commit.min(leader.log.len())
        } else if let Some(entry) = leader.log.get(common + 1) {
            replica.log = replica.log.prefix(common);
            replica.log.push(entry);
            common + 1
        } else {
            common
        };
        replica.commit = replica.commit.max(leader.commit.min(matched));
        let counted = &mut state.replicas[from].matched[to];
        *counted = matched.max(*counted);
    }

    fn commits(&self, state: &State, at: usize) -> u8 {
        let leader = &state.replicas[at];
        let mut matched = leader.matched;
        matched[at] = leader.log.len();
        matched.sort_unstable();
        let index = matched[REPLICAS - MAJORITY].min(leader.log.len());
        let own = leader.log.get(index).is_some_and(|entry| entry.term == leader.term);
        if own { index } else { leader.commit }
    }
}

fn follow(replica: &mut Replica, term: Term) {
    replica.term = term;
    replica.vote = None;
    replica.votes = 0;
    replica.leads = false;
    replica.matched = [0; REPLICAS];
}

impl Model for Voting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replica = |(log, commit): (Log, u8)| Replica {
            log,
            commit,
            epoch: 1,
            term: Term::new(1, 1),
            vote: None,
            votes: 0,
            leads: false,
            matched: [0; REPLICAS],
        };
        let kinds = beginnings();
        let mut states = Vec::new();
        for (a, first) in kinds.iter().enumerate() {
            for (b, second) in kinds.iter().enumerate().skip(a) {
                for third in kinds.iter().skip(b) {
                    states.push(State {
                        replicas: [replica(*first), replica(*second), replica(*third)],
                        active: false,
                        next: 3,
                        committed: cut(),
                        old_home: cut(),
                        old_term: Term::new(1, LAST_OF_EPOCH - 1),
                        two_leaders: false,
                    });
                }
            }
        }
        states
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let holders = state.replicas.iter().filter(|r| r.log == cut()).count();
        let enough = if self.keeps(Rule::MajorityHolds) { MAJORITY } else { 1 };
        if !state.active && holders >= enough {
            actions.push(Action::Activate);
        }
        for at in 0..REPLICAS {
            let replica = &state.replicas[at];
            if replica.log != cut() && (replica.epoch == 1 || !self.keeps(Rule::PrepareBefore)) {
                actions.push(Action::Prepare(at));
            }
            let holds = replica.log == cut() || !self.keeps(Rule::OnlyHoldersRun);
            let again = replica.epoch == 2 && !self.keeps(Rule::RewriteOnce);
            if state.active && (replica.epoch == 1 && holds || again) {
                actions.push(Action::Start(at));
            }
            if replica.epoch == 2 {
                self.group_actions(state, at, actions);
            }
        }
        if self.old_home {
            let more = Term(state.old_term.0 + 1);
            let within = more.epoch() == 1 || !self.keeps(Rule::TermsOfEpoch);
            if within && more <= Term::new(2, 1) {
                actions.push(Action::OldElects);
            }
            if state.old_home.len() < 4 {
                actions.push(Action::OldAppends);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Prepare(at) => {
                let replica = &mut state.replicas[at];
                replica.log = cut();
                replica.commit = replica.commit.min(cut().len());
            }
            Action::Activate => state.active = true,
            Action::Start(at) => self.start(&mut state.replicas[at]),
            Action::Campaign(at) => {
                let replica = &mut state.replicas[at];
                let term = replica.term.next();
                follow(replica, term);
                replica.vote = Some(at);
                replica.votes = 1 << at;
            }
            Action::Vote(voter, candidate) => self.vote(&mut state, voter, candidate),
            Action::Append(at) => {
                let entry = Entry { term: state.replicas[at].term, value: state.next };
                state.next += 1;
                state.replicas[at].log.push(entry);
            }
            Action::Replicate(from, to) => self.replicate(&mut state, from, to),
            Action::Commit(at) => {
                let index = self.commits(&state, at);
                let leader = &mut state.replicas[at];
                leader.commit = index;
                let committed = leader.log.prefix(index);
                if committed.len() > state.committed.len() {
                    state.committed = committed;
                }
            }
            Action::OldElects => {
                state.old_term = state.old_term.next();
                state.old_home = cut();
                state.old_home.push(Entry { term: state.old_term, value: 0 });
            }
            Action::OldAppends => {
                state.old_home.push(Entry { term: state.old_term, value: 9 });
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(HOLD, |_, state| {
                let holders = state.replicas.iter().filter(|r| r.log.starts_with(&cut()));
                !state.active || holders.count() >= MAJORITY
            }),
            Property::<Self>::always(COMPLETE, |_, state| {
                // One of an older term may still believe that it leads.
                let leaders = state.replicas.iter().filter(|r| r.leads);
                let mut newest = leaders.filter(|r| r.term >= state.committed.last_term());
                newest.all(|r| r.log.starts_with(&state.committed))
            }),
            Property::<Self>::always(ONE_LEADER, |_, state| !state.two_leaders),
            Property::<Self>::always(ONE_RECORD, |_, state| one_record(state)),
            Property::<Self>::always(COUNTED, |_, state| {
                state.replicas.iter().filter(|r| r.leads).all(|leader| {
                    let pairs = state.replicas.iter().zip(leader.matched);
                    // A replica that has gone on to a newer term may have cut since.
                    pairs.into_iter().all(|(replica, matched)| {
                        replica.term > leader.term || replica.log.common(&leader.log) >= matched
                    })
                })
            }),
            Property::<Self>::sometimes(COMMITTED, |_, state| {
                let last = state.committed.get(state.committed.len());
                last.is_some_and(|entry| entry.term == Term::new(2, 2))
                    && state.committed.iter().any(|(_, entry)| entry.value > 2)
            }),
        ]
    }
}

impl Voting {
    fn group_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let replica = &state.replicas[at];
        if !replica.leads && replica.term.election() < self.elections && !replica.log.is_full() {
            actions.push(Action::Campaign(at));
        }
        let others = (0..REPLICAS).filter(|other| *other != at);
        for other in others.filter(|other| self.may_hear(&state.replicas[*other])) {
            let to = &state.replicas[other];
            let deposes = !to.leads || to.term < replica.term;
            if replica.votes != 0 && to.term <= replica.term && deposes {
                actions.push(Action::Vote(other, at));
            }
            if replica.leads && to.term <= replica.term && !(to.leads && to.term == replica.term) {
                actions.push(Action::Replicate(at, other));
            }
        }
        if replica.leads {
            if state.next < 3 + self.records && !replica.log.is_full() {
                actions.push(Action::Append(at));
            }
            if self.commits(state, at) > replica.commit {
                actions.push(Action::Commit(at));
            }
        }
    }
}

fn one_record(state: &State) -> bool {
    let mut names = BTreeMap::new();
    // What the target's replicas had before the cut is older than the cut; here the new home and
    // the old one are compared.
    let logs = state.replicas.iter().filter(|r| r.epoch == 2).map(|r| &r.log);
    logs.chain([&state.old_home]).all(|log| {
        log.iter().all(|(index, entry)| {
            *names.entry((index, entry.term)).or_insert(entry.value) == entry.value
        })
    })
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(at) => write!(f, "replica {} makes its log the prefix to F", at + 1),
            Self::Activate => write!(f, "__meta: Sealing -> Active(2)"),
            Self::Start(at) => write!(f, "replica {} rewrites its Raft state and starts", at + 1),
            Self::Campaign(at) => write!(f, "replica {} campaigns", at + 1),
            Self::Vote(voter, candidate) => {
                write!(f, "replica {} is asked for its vote by {}", voter + 1, candidate + 1)
            }
            Self::Append(at) => write!(f, "leader {} appends a record", at + 1),
            Self::Replicate(from, to) => {
                write!(f, "leader {} sends an append to {}, who answers", from + 1, to + 1)
            }
            Self::Commit(at) => write!(f, "leader {} commits what a majority has", at + 1),
            Self::OldElects => write!(f, "the old home elects a leader in its next term"),
            Self::OldAppends => write!(f, "the old home appends a record"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let base = Voting { elections: 2, records: 2, old_home: false, off: None };
    let first = Voting { elections: 1, records: 1, old_home: true, off: None };
    let off = |name: &str, rule, text, property, bounds: &Voting| {
        let model = Voting { off: Some(rule), ..bounds.clone() };
        Case::caught(&format!("voting/off/{name}"), text, property, model)
    };
    vec![
        Case::clean("voting/elections", base.clone(), &[COMMITTED]),
        Case::clean("voting/old-home", first.clone(), &[]),
        off("majority", Rule::MajorityHolds, "R13 a majority holds the cut first", HOLD, &base),
        off(
            "holders",
            Rule::OnlyHoldersRun,
            "R14 who lacks the cut runs no group",
            COMPLETE,
            &base,
        ),
        off("booked", Rule::OnlyHoldersRun, "R14 and is not booked as matched", COUNTED, &base),
        off("rewrite", Rule::RewriteOnce, "R1 Raft state is rewritten once", ONE_LEADER, &base),
        off("prepare", Rule::PrepareBefore, "R13 nothing is cut once it is home", COMPLETE, &base),
        off("epoch", Rule::OneEpochAGroup, "R1 one epoch, one group", COUNTED, &base),
        off("terms", Rule::TermsOfEpoch, "R2 no election beyond the epoch", ONE_RECORD, &first),
        Case::walks("voting/walk", Voting { elections: 5, records: 2, old_home: true, off: None }),
    ]
}
