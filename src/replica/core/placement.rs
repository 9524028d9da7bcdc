//! A changed placement: learners first, then voters, by joint consensus (Raft thesis §4.3).
//!
//! ```text
//!   placement 7: voters 1 2, learner 4 ─▶ one change, with 7 in it ─▶ applied: Raft follows 7
//!   a new leader that has only heard of placement 6 ─▶ changes nothing
//! ```
//!
//! A change carries the placement's generation, so that a leader whose image is behind never takes
//! Raft's configuration back to what it was: it would put a replica back whose disk is gone.

use std::collections::BTreeMap;

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::config::Member;
use super::{Core, Now};
use crate::model::{NodeId, ReplicaId, TopicPartition};

impl Core {
    /// Takes the placement that `__meta` decided. The leader proposes the difference to what Raft
    /// has; until that is applied, replicas of both are counted by Raft's joint rule.
    pub fn handle_placement(
        &mut self,
        now: Now,
        generation: u64,
        members: BTreeMap<ReplicaId, Member>,
    ) {
        // After a restart the image is read from an older one on.
        if generation < self.config.placement_generation {
            return;
        }
        self.config.members = members;
        self.config.placement_generation = generation;
        self.propose_placement();
        self.process(now);
    }

    /// Of the newest placement that Raft's configuration follows.
    pub fn conf_generation(&self) -> u64 {
        self.conf_generation
    }

    /// Where a replica is. In `__meta` its id says so, for the placement comes through `__meta`
    /// itself: a follower that is behind must hear a leader that it has not been told of.
    pub fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        match self.config.members.get(&replica) {
            Some(member) => Some(member.node),
            None if self.config.group.partition == TopicPartition::META => replica.meta_node(),
            None => None,
        }
    }

    pub(super) fn propose_placement(&mut self) {
        let is_behind = self.config.placement_generation < self.conf_generation;
        if !self.is_leader() || is_behind || self.raw.raft.has_pending_conf() {
            return;
        }
        let mut change = ConfChangeV2::default();
        let steps = self.placement_steps();
        if !steps.is_empty() {
            change.set_changes(steps.into());
            change.context = self.config.placement_generation.to_be_bytes().to_vec().into();
            // Dropped only while another change is under way; the next placement tick asks again.
            let _ = self.raw.propose_conf_change(Vec::new(), change);
        }
    }

    /// Whether Raft's configuration is what the placement asks for.
    pub(super) fn follows_placement(&self) -> bool {
        self.conf_generation <= self.config.placement_generation
            && self.placement_steps().is_empty()
    }

    /// A change was applied. The one by which Raft leaves a joint configuration carries nothing.
    pub(super) fn note_conf_generation(&mut self, change: &ConfChangeV2) {
        if let Ok(generation) = <[u8; 8]>::try_from(&change.context[..]) {
            self.conf_generation = self.conf_generation.max(u64::from_be_bytes(generation));
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
