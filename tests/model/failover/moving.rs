//! Moving the home: seal, enough, choose, activate (R10 to R13), and the return of the others (R15).

use std::collections::BTreeSet;

use super::rules::Rule;
use super::state::{Dc, Leader, Mode, N, Sealed, State};
use super::{Action, Failover};
use crate::log::{Entry, Log, Term};

impl Failover {
    pub fn moving_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let meta = &state.meta;
        match &meta.sealing {
            Some(sealed) => {
                let missing = (0..N).filter(|dc| sealed[*dc].is_none());
                actions.extend(missing.map(Action::Seal));
                if self.is_enough(state, sealed) {
                    let targets = (0..N).filter(|dc| sealed[*dc].is_some());
                    actions.extend(targets.map(Action::Activate));
                }
            }
            None => {
                if meta.epoch < self.epochs {
                    actions.push(Action::BeginSeal);
                }
                let home_is_there = state.dcs[meta.home].joined == meta.epoch;
                let behind = |dc: &usize| state.dcs[*dc].joined < meta.epoch && *dc != meta.home;
                if home_is_there {
                    actions.extend((0..N).filter(behind).map(Action::Rejoin));
                }
            }
        }
    }

    /// R11: n - k + 1 DCs beside the home, or the home itself. A topic that never was sync goes with
    /// whoever answers.
    fn is_enough(&self, state: &State, sealed: &[Option<Sealed>; N]) -> bool {
        let meta = &state.meta;
        let remote = (0..N).filter(|dc| *dc != meta.home && sealed[*dc].is_some()).count();
        let needed = if self.keeps(Rule::EnoughDcs) { N - 1 - self.k + 1 } else { 1 };
        let never_sync = !meta.ever_sync || !self.keeps(Rule::EverSync);
        remote >= needed
            || sealed[meta.home].is_some()
            || meta.mode == Mode::Async && never_sync && remote >= 1
    }

    /// A whole DC promises, and then reports what it has persisted.
    pub fn seal(&self, state: &mut State, at: usize) {
        let dc = &mut state.dcs[at];
        if self.keeps(Rule::Seal) {
            dc.promised = state.meta.epoch + 1;
            if at == state.meta.home {
                dc.leader = None;
            }
        }
        let commit = dc.leader.as_ref().map_or(0, |leader| leader.commit).max(dc.known_commit);
        let sealed = Sealed { last: dc.log.last(), commit };
        state.meta.sealing.as_mut().expect("a step of a move")[at] = Some(sealed);
    }

    /// R12: the furthest log of those sealed, term before index.
    fn choose(&self, state: &State, sealed: &[Option<Sealed>; N], target: usize) -> Log {
        let rank = |dc: usize, sealed: Sealed| match self.off {
            Some(Rule::TermFirst) => (Term(0), sealed.last.1, dc),
            Some(Rule::PersistedLog) => (Term(0), sealed.commit, dc),
            _ => (sealed.last.0, sealed.last.1, dc),
        };
        let reports = (0..N).filter_map(|dc| Some((rank(dc, sealed[dc]?), dc, sealed[dc]?)));
        let (_, best, report) = reports.max_by_key(|(rank, ..)| *rank).expect("some DC is sealed");
        match self.off {
            Some(Rule::TargetHoldsCut) => state.dcs[target].log,
            Some(Rule::PersistedLog) => state.dcs[best].log.prefix(report.commit),
            _ => state.dcs[best].log.prefix(report.last.1),
        }
    }

    /// The target makes its log the prefix to the cut, what was beyond goes to the ledger, and one
    /// compare-and-set makes it the home. The claim is made of the mode in that very step.
    pub fn activate(&self, state: &mut State, target: usize) {
        let sealed = state.meta.sealing.expect("a step of a move");
        let mut log = self.choose(state, &sealed, target);
        if log.is_full() {
            return;
        }
        state.meta.sealing = None;
        let old = state.meta.epoch;
        let missing = |acked: &super::state::Acked| log.get(acked.index) != Some(acked.entry);
        if state.meta.mode == Mode::Sync
            && state.acked.iter().any(|acked| acked.epoch == old && missing(acked))
        {
            state.claim_broken = true;
        }
        let epoch = old + 1;
        let term = if self.keeps(Rule::DisjointTerms) {
            Term::new(epoch, 0)
        } else {
            log.last_term().max(Term::new(1, 0)).next()
        };
        let dc = &mut state.dcs[target];
        let mut saved = std::mem::take(&mut dc.saved);
        if self.keeps(Rule::SaveThenCut) {
            saved.extend(beyond(&dc.log, &log));
        }
        let meta = &mut state.meta;
        meta.epoch = epoch;
        meta.home = target;
        meta.cuts[usize::from(epoch)] = log.len();
        state.failovers += 1;
        log.push(Entry { term, value: 0 });
        let leader = Leader {
            term,
            commit: log.len(),
            hw: 0,
            mode: meta.mode,
            confirmed: meta.mode == Mode::Sync,
            sid: meta.sid,
            matched: [0; N],
        };
        *dc = Dc {
            log,
            dropped: BTreeSet::new(),
            known_commit: log.len(),
            promised: epoch,
            joined: epoch,
            leader: Some(leader),
            saved,
        };
    }

    /// R15: find the common prefix, keep what is beyond, only then cut and follow.
    pub fn rejoin(&self, state: &mut State, at: usize) {
        let epoch = state.meta.epoch;
        let taken_over = state.home_log().prefix(state.meta.cuts[usize::from(epoch)]);
        let dc = &mut state.dcs[at];
        let dropped = std::mem::take(&mut dc.dropped);
        if self.keeps(Rule::SaveThenCut) {
            for log in dropped.iter().chain([&dc.log]) {
                dc.saved.extend(beyond(log, &taken_over));
            }
        }
        let common = dc.log.common(&taken_over);
        dc.log = dc.log.prefix(common);
        dc.known_commit = dc.known_commit.min(common);
        dc.promised = dc.promised.max(epoch);
        dc.joined = epoch;
        dc.leader = None;
    }
}

fn beyond(log: &Log, taken_over: &Log) -> Vec<(u8, Entry)> {
    let common = log.common(taken_over);
    log.iter().filter(|(index, _)| *index > common).collect()
}
