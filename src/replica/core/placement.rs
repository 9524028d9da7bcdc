//! A changed placement: learners first, then voters, by joint consensus (Raft thesis §4.3).

use std::collections::BTreeMap;

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::config::Member;
use super::{Core, Now};
use crate::model::ReplicaId;

impl Core {
    /// Takes the placement that `__meta` decided. The leader proposes the difference to what Raft
    /// has; until that is applied, replicas of both are counted by Raft's joint rule.
    pub fn handle_placement(&mut self, now: Now, members: BTreeMap<ReplicaId, Member>) {
        self.config.members = members;
        self.propose_placement();
        self.process(now);
    }

    pub(super) fn propose_placement(&mut self) {
        if !self.is_leader() || self.raw.raft.has_pending_conf() {
            return;
        }
        let mut change = ConfChangeV2::default();
        let steps = self.placement_steps();
        if !steps.is_empty() {
            change.set_changes(steps.into());
            // Dropped only while another change is under way; the next placement tick asks again.
            let _ = self.raw.propose_conf_change(Vec::new(), change);
        }
    }

    /// What Raft's configuration lacks of the placement.
    fn placement_steps(&self) -> Vec<ConfChangeSingle> {
        let conf = self.log().conf_state();
        let step = |kind, id: u64| {
            let mut step = ConfChangeSingle::default();
            step.set_change_type(kind);
            step.node_id = id;
            step
        };
        let mut steps = Vec::new();
        for (id, member) in &self.config.members {
            if member.voter && !conf.voters.contains(&id.0) {
                steps.push(step(ConfChangeType::AddNode, id.0));
            } else if !member.voter && !conf.learners.contains(&id.0) {
                steps.push(step(ConfChangeType::AddLearnerNode, id.0));
            }
        }
        for id in conf.voters.iter().chain(&conf.learners) {
            if !self.config.members.contains_key(&ReplicaId(*id)) {
                steps.push(step(ConfChangeType::RemoveNode, *id));
            }
        }
        steps
    }
}
