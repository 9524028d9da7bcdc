//! A replica that has nothing to do, and is not ticked (see [`crate::replica::host`]'s `quiesce`).
//!
//! Raft's safety needs no time, so this is about what its timeouts watch over. While a replica is quiet, what is heard of
//! its leader's or its followers' nodes stands for them; when it wakes it counts from there, as if each heartbeat of
//! the node had been one of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::staleness::Moment;
use super::{Core, Promise};
use crate::model::{LogIndex, ReplicaId, Term};

impl Core {
    /// Where a leader stands all of whose followers are where it is, and which waits for nothing.
    pub fn is_idle_at(&self) -> Option<(Term, LogIndex)> {
        if !self.is_leader() || !self.ready_to_lead {
            return None;
        }
        let last = self.log().last();
        let waits = self.has_queued()
            || self.raw.raft.lead_transferee.is_some()
            || !self.waiters.is_empty()
            || !self.confirming.is_empty()
            || self.handing_off.is_some()
            || self.hand_off_at.is_some()
            || self.catching_up().next().is_some()
            || (self.config.ack.sync_to > 0 && !self.modes.is_settled())
            || self.promise().is_some_and(|promise| promise != Promise::Sync)
            || self.raw.raft.has_pending_conf()
            || !self.follows_placement();
        let here = self.is_still_at(last);
        let has = |id: &ReplicaId| {
            *id == self.config.me || self.matched_of(*id) == last && !self.is_silent(*id)
        };
        let members = &self.config.members;
        let all_have = members.keys().all(has) && self.in_sync.len() == members.len();
        (!waits && here && all_have).then_some((self.term(), last))
    }

    /// A quiet leader's followers answer the heartbeats that left before; there is nothing new in that.
    pub fn is_late_answer(&self, message: &Message) -> bool {
        message.get_msg_type() == MessageType::MsgHeartbeatResponse && message.term == self.term().0
    }

    /// Whether this follower is where its leader is: the log and all that is known of it.
    pub fn is_idle_behind(&self, leader: ReplicaId, (term, index): (Term, LogIndex)) -> bool {
        self.raw.raft.state == StateRole::Follower
            && self.term() == term
            && self.leader() == Some(leader)
            && self.catching.is_none()
            && !self.joining.joins()
            && self.is_still_at(index)
    }

    /// Everything up to there, and nothing more, is here, shown and on disk.
    fn is_still_at(&self, index: LogIndex) -> bool {
        let log = self.log();
        let at = [log.last(), log.persisted(), log.applied(), self.committed(), self.watermark];
        at.iter().all(|here| *here == index) && self.unpersisted.is_empty()
    }

    /// Whether it has a voice in who leads, and so is owed a heartbeat in time.
    pub fn votes(&self) -> bool {
        let me = self.config.me;
        let is_placed = self.config.members.get(&me).is_some_and(|member| member.voter);
        is_placed || self.log().conf_state().voters.contains(&me.0)
    }

    /// The leader of a quiet follower has said, at that time of its clock, that nothing has changed.
    pub fn handle_still(&mut self, here: Duration, there_ms: i64) {
        self.staleness.claimed(Moment { here, there_ms }, self.watermark, self.watermark);
    }

    /// A follower is ticked again, after `slept` ticks; its leader's node was last heard of `silent` ticks ago.
    pub fn wake_follower(&mut self, slept: u64, silent: u64) {
        self.ticks += slept;
        self.raw.raft.election_elapsed = usize::try_from(silent).unwrap_or(usize::MAX);
    }

    /// A leader is ticked again, after `slept` ticks, and says so to all; the nodes of its followers were last heard of so
    /// many ticks ago.
    pub fn wake_leader(&mut self, slept: u64, mut silent: BTreeMap<ReplicaId, u64>) {
        self.ticks += slept;
        for (id, ticks) in &mut silent {
            let heard = self.heard.get(id).copied().unwrap_or(0);
            *ticks = (*ticks).min(self.ticks.saturating_sub(heard));
            self.heard.insert(*id, self.ticks.saturating_sub(*ticks));
        }
        let voters = self.config.members.iter().filter(|(_, member)| member.voter);
        let longest = voters.filter_map(|(id, _)| silent.get(id)).max().copied().unwrap_or(0);
        let raft = &mut self.raw.raft;
        let timeout = raft.election_timeout();
        // The quorum is looked at when the election timeout has passed since it was last heard of.
        raft.election_elapsed = (longest as usize).min(timeout.saturating_sub(1));
        for (id, ticks) in silent {
            if let Some(progress) = raft.mut_prs().get_mut(id.0) {
                progress.recent_active = ticks < timeout as u64;
            }
        }
        self.raw.ping();
        self.pings = true;
    }
}
