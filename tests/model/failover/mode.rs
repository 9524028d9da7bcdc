//! Degrading a sync topic and restoring it (R7, R8). Weaker: `__meta` first, then the leader.
//! Stronger: the leader first, then `__meta`. A grant names (e, sid) and may be delivered whenever.

use super::leader::leader;
use super::rules::Rule;
use super::state::{Mode, State};
use super::{Action, Failover};

impl Failover {
    pub fn mode_actions(&self, state: &State, home: usize, actions: &mut Vec<Action>) {
        let Some(leader) = &state.dcs[home].leader else { return };
        let epoch = leader.term.epoch();
        if leader.mode == Mode::Sync {
            for (granted, sid) in &state.meta.granted {
                if *granted == epoch && (*sid > leader.sid || !self.keeps(Rule::NewGrant)) {
                    actions.push(Action::LeaderWeaken(home, *sid));
                }
            }
            if !self.keeps(Rule::RecordThenWeaken) && leader.sid < self.mode_changes {
                actions.push(Action::LeaderWeaken(home, leader.sid + 1));
            }
        }
        if leader.mode == Mode::Async && leader.sid < self.mode_changes {
            actions.push(Action::LeaderStrengthen(home));
        }
        let log = &state.dcs[home].log;
        let caught_up = leader.mode == Mode::Sync
            && leader.commit == log.len()
            && self.gate(leader, home) == leader.commit
            && log.get(log.len()).is_none_or(|entry| entry.term == leader.term);
        let meta = &state.meta;
        let is_theirs = meta.sealing.is_none() && meta.epoch == epoch && meta.mode == Mode::Async;
        let enforced = caught_up && meta.sid < leader.sid;
        let early = !self.keeps(Rule::EnforceThenRecord) && meta.sid < self.mode_changes;
        if is_theirs && (enforced || early) {
            actions.push(Action::MetaStrengthen(home));
        }
    }

    /// Not while sealing, to keep the states few: that needs no rule (the claim is read in the step
    /// that activates), which the reference model has tried and `lease` tries.
    pub fn meta_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.meta.mode == Mode::Sync
            && state.meta.sid < self.mode_changes
            && state.meta.sealing.is_none()
        {
            actions.push(Action::MetaWeaken);
        }
    }

    pub fn meta_weaken(&self, state: &mut State) {
        let meta = &mut state.meta;
        meta.mode = Mode::Async;
        meta.sid += 1;
        meta.granted.insert((meta.epoch, meta.sid));
    }

    pub fn leader_weaken(&self, state: &mut State, home: usize, sid: u8) {
        let leader = leader(&mut state.dcs[home].leader);
        leader.mode = Mode::Async;
        leader.confirmed = false;
        leader.sid = leader.sid.max(sid);
    }

    pub fn leader_strengthen(&self, state: &mut State, home: usize) {
        let leader = leader(&mut state.dcs[home].leader);
        leader.mode = Mode::Sync;
        leader.confirmed = false;
        leader.sid += 1;
    }

    pub fn meta_strengthen(&self, state: &mut State, home: usize) {
        let leader = leader(&mut state.dcs[home].leader);
        leader.confirmed |= leader.mode == Mode::Sync;
        let meta = &mut state.meta;
        meta.ever_sync = true;
        meta.mode = Mode::Sync;
        meta.sid = if self.keeps(Rule::EnforceThenRecord) { leader.sid } else { meta.sid + 1 };
    }
}
