//! Campaigns, and what follows from a change of term or role.

use raft::StateRole;
use rand::Rng as _;

use super::exposure::Samples;
use super::{Core, Now, config};
use crate::model::LogIndex;

impl Core {
    /// Nobody has been elected in this home epoch, as far as is known here.
    pub(super) fn is_before_first_term(&self) -> bool {
        self.term() == self.config.group.home_epoch.first_term()
    }

    /// A group that has just begun has no leader to lose: its preferred one need not wait for a
    /// timeout, and asks again until the others are there. Not before its last question can have been answered (the
    /// shortest election timeout is ten round trips, a quarter of it covers two), and never while
    /// real votes are on their way: a new campaign would void them.
    pub(super) fn wants_first_term(&self) -> bool {
        let again = u64::from(self.config.timing.election_ticks_min / 4).max(1);
        self.config.preferred
            && self.is_before_first_term()
            && self.leader().is_none()
            && self.raw.raft.state != StateRole::Candidate
            && self.ticks.is_multiple_of(again)
    }

    pub(super) fn campaign(&mut self) {
        // An error means that a snapshot or configuration change is pending: the timeout retries.
        let _ = self.raw.campaign();
    }

    /// Notices a change of term or role: draws a new timeout from the seeded source, since raft-rs
    /// has just drawn one from the thread's, and fails what only a leader could finish.
    pub(super) fn follow_role(&mut self, now: Now) {
        let drawn_for = (self.raw.raft.term, self.raw.raft.state);
        if drawn_for == self.drawn_for {
            // Raft may have been in another role and back since, and has drawn then.
            self.raw.raft.set_randomized_election_timeout(self.election_timeout);
            return;
        }
        let was_leader = self.drawn_for.1 == StateRole::Leader;
        self.redraw();
        self.forget_feeds();
        self.modes.forget_looks();
        if self.is_leader() {
            let own = self.first_of_term();
            self.own_entry = Some(own);
            self.ready_to_lead = self.log().applied() >= own;
            // Nobody is silent before they had the time to speak: what is taken in meanwhile waits
            // behind the gate, within its bound.
            let ticks = self.ticks;
            self.heard = self.config.members.keys().map(|id| (*id, ticks)).collect();
            self.samples = Samples::starting_at(now.mono, self.watermark, self.high_watermark);
            // What is safe is known once another DC has the own entry; before the first one of all
            // there is nothing that could be lost.
            let known_from = if own.prev() == LogIndex::ZERO { LogIndex::ZERO } else { own };
            let end = self.log().next_offset();
            self.accepted = Samples::starting_at(now.mono, known_from, end);
            self.in_sync.clear();
        } else if was_leader {
            self.own_entry = None;
            self.ready_to_lead = false;
            self.producers.forget_appended();
            self.held.fail_all(&mut self.effects);
            self.waiters.fail_all(&mut self.effects);
            self.fail_hand_off();
            self.fail_confirming();
            self.in_sync.clear();
            self.samples = Samples::default();
            self.accepted = Samples::default();
            self.at_budget = false;
        }
    }

    pub(super) fn redraw(&mut self) {
        self.drawn_for = (self.raw.raft.term, self.raw.raft.state);
        let timing = self.config.timing;
        let least = (timing.election_ticks_min + config::LEASE_MARGIN_TICKS)
            .min(timing.election_ticks_max - 1);
        self.election_timeout = self.rng.gen_range(least..timing.election_ticks_max) as usize;
        self.raw.raft.set_randomized_election_timeout(self.election_timeout);
    }

    /// The index of the first entry of the present term, which a leader wrote at its election.
    fn first_of_term(&self) -> LogIndex {
        let term = self.term();
        let own = self.log().epochs().iter().rev().find(|(t, ..)| *t == term);
        own.map_or(self.log().last().next(), |(_, index, _)| *index)
    }
}
