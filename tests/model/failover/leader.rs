//! A home's ordinary life: append, commit, elect, ship, hear, acknowledge. An old home that nobody
//! told goes on with it.

use std::collections::BTreeSet;

use super::rules::Rule;
use super::state::{Acked, Answer, Leader, Mode, N, State};
use super::{Action, Failover};
use crate::log::{Entry, Log};

impl Failover {
    pub fn leader_actions(&self, state: &State, home: usize, actions: &mut Vec<Action>) {
        let dc = &state.dcs[home];
        let Some(leader) = &dc.leader else { return };
        if state.next <= self.records && !dc.log.is_full() {
            actions.push(Action::Append(home));
        }
        if leader.commit < dc.log.len() && dc.log.last_term() == leader.term {
            actions.push(Action::Commit(home));
        }
        let elections =
            if leader.term.epoch() == 1 { self.elections } else { self.later_elections };
        if leader.term.election() < elections && !dc.log.is_full() {
            let committed = dc.log.prefix(leader.commit);
            let mut logs: BTreeSet<Log> =
                dc.dropped.iter().filter(|log| log.starts_with(&committed)).copied().collect();
            logs.extend([dc.log, committed]);
            actions.extend(logs.into_iter().map(|log| Action::Elect(home, log)));
        }
        for to in (0..N).filter(|to| *to != home) {
            if self.may_ship(state, home, leader, to) {
                actions.push(Action::Ship(home, to));
            }
        }
        let target = self.watermark(leader, &dc.log, home);
        let shown = if self.keeps(Rule::ExposeBelowHw) { target } else { leader.commit };
        if leader.hw < target || leader.hw < shown {
            actions.push(Action::Advance(home));
        }
    }

    fn may_ship(&self, state: &State, home: usize, leader: &Leader, to: usize) -> bool {
        let (source, target) = (&state.dcs[home], &state.dcs[to]);
        let epoch = leader.term.epoch();
        let listens = target.joined == epoch
            && target.leader.is_none()
            && (target.promised <= epoch || !self.keeps(Rule::Seal));
        let common = target.log.common(&source.log);
        let answer = Answer { term: leader.term, dc: to, index: common };
        listens
            && (common < source.log.len()
                || target.known_commit < leader.commit.min(common)
                || leader.matched[to] < common && !state.answers.contains(&answer))
    }

    pub fn append(&self, state: &mut State, home: usize) {
        let value = state.next;
        state.next += 1;
        let dc = &mut state.dcs[home];
        let term = leader(&mut dc.leader).term;
        dc.log.push(Entry { term, value });
    }

    pub fn commit(&self, state: &mut State, home: usize) {
        let dc = &mut state.dcs[home];
        leader(&mut dc.leader).commit = dc.log.len();
    }

    /// An in-DC election: the new leader has all that was committed, and any tail that lay about.
    pub fn elect(&self, state: &mut State, home: usize, log: Log) {
        let dc = &mut state.dcs[home];
        let leader = leader(&mut dc.leader);
        if dc.log.len() > leader.commit && dc.log != log {
            dc.dropped.insert(dc.log);
        }
        leader.term = leader.term.next();
        leader.matched = [0; N];
        leader.hw = 0;
        dc.log = log;
        dc.log.push(Entry { term: leader.term, value: 0 });
    }

    /// One entry, onto the part that both have; what stood there instead goes.
    pub fn ship(&self, state: &mut State, home: usize, to: usize) {
        let source = state.dcs[home].log;
        let (term, commit) = {
            let leader = leader(&mut state.dcs[home].leader);
            (leader.term, leader.commit)
        };
        let target = &mut state.dcs[to];
        let common = target.log.common(&source);
        if let Some(entry) = source.get(common + 1) {
            target.log = target.log.prefix(common);
            target.log.push(entry);
        }
        let index = target.log.common(&source);
        target.known_commit = target.known_commit.max(commit.min(index));
        state.answers.retain(|answer| answer.term != term || answer.dc != to);
        if index > 0 {
            state.answers.insert(Answer { term, dc: to, index });
        }
    }

    pub fn answered(&self, state: &mut State, answer: Answer) {
        state.answers.remove(&answer);
        for leader in state.dcs.iter_mut().filter_map(|dc| dc.leader.as_mut()) {
            if leader.term == answer.term {
                let matched = &mut leader.matched[answer.dc];
                *matched = answer.index.max(*matched);
            }
        }
    }

    /// R5: committed in the DC, on k other DCs' disks, and of the leader's own term.
    fn watermark(&self, leader: &Leader, log: &Log, home: usize) -> u8 {
        if leader.mode == Mode::Async {
            return leader.commit;
        }
        let index = leader.commit.min(self.gate(leader, home));
        let own = log.get(index).is_none_or(|entry| entry.term == leader.term);
        if own || !self.keeps(Rule::OwnTerm) { index } else { leader.hw }
    }

    /// What at least k other DCs have.
    pub fn gate(&self, leader: &Leader, home: usize) -> u8 {
        let mut others: Vec<u8> =
            (0..N).filter(|dc| *dc != home).map(|dc| leader.matched[dc]).collect();
        others.sort_unstable_by(|a, b| b.cmp(a));
        others[self.k - 1]
    }

    pub fn advance(&self, state: &mut State, home: usize) {
        let log = state.dcs[home].log;
        let epoch_now = state.meta.epoch;
        let leader = leader(&mut state.dcs[home].leader);
        let target = self.watermark(leader, &log, home);
        let shown = if self.keeps(Rule::ExposeBelowHw) { target } else { leader.commit };
        leader.hw = leader.hw.max(target);
        let promised = leader.mode == Mode::Sync && leader.confirmed;
        let mode = if promised { Mode::Sync } else { Mode::Async };
        let epoch = leader.term.epoch();
        for (index, entry) in log.iter().filter(|(_, entry)| entry.value != 0) {
            if index <= target {
                state.acked.insert(Acked { index, entry, mode, epoch });
            }
            if index <= shown && promised {
                state.exposed.insert((index, entry));
            }
            let sealed = epoch < epoch_now && promised;
            if sealed && index <= target && index > state.meta.cuts[usize::from(epoch) + 1] {
                state.beyond_cut = true;
            }
        }
    }
}

/// The actions that need a leader are offered where there is one.
pub fn leader(leader: &mut Option<Leader>) -> &mut Leader {
    leader.as_mut().expect("a step of a DC that leads")
}
