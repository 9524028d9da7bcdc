//! A rebalance: from the reason for it to the next generation, and the members it loses.
//!
//! ```text
//!            join / leave / expiry                 all joined, or rebalance timeout
//!  Empty ───────────────────────► PreparingRebalance ───────────► CompletingRebalance
//!    ▲                              ▲    │  ▲                          │
//!    └── nobody left ───────────────┼────┘  └── join / leave / expiry ─┤ leader's assignment
//!                                   └───────────────────────── Stable ◄┘ is committed
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::context::{Context, Then};
use super::state::Group;
use super::timers::Timer;
use super::{Error, MemberId, Now, Response, State};

/// A join phase in which nobody joined is put off by at least this: a client may state a
/// rebalance timeout of zero, and the phase must not end again in the same moment for ever.
const JOIN_PHASE_MIN: Duration = Duration::from_secs(1);

impl Group {
    /// Begins a join phase, or goes on with the one that is running.
    pub(super) fn rebalance(&mut self, cx: &mut Context, now: Now) {
        match self.state {
            State::PreparingRebalance => {}
            State::CompletingRebalance | State::Stable => {
                self.reset_assignment(cx, now, Error::RebalanceInProgress);
                self.pending_sync.clear();
                cx.timers.cancel(&Timer::Sync(self.id.clone()));
                self.begin_join_phase(cx, now, self.rebalance_timeout());
            }
            State::Empty => {
                let delay = cx.config.initial_rebalance_delay;
                if !delay.is_zero() {
                    let left = self.rebalance_timeout().saturating_sub(delay);
                    self.initial_delay_left = Some(left);
                    self.new_member_added = false;
                    self.begin_join_phase(cx, now, delay);
                    return;
                }
                self.begin_join_phase(cx, now, self.rebalance_timeout());
            }
            State::Dead => unreachable!("a rebalance of a dead group: {}", self.id),
        }
        self.end_join_phase_if_all_joined(cx, now);
    }

    fn begin_join_phase(&mut self, cx: &mut Context, now: Now, lasts: Duration) {
        self.transition(now, State::PreparingRebalance);
        cx.timers.set(Timer::Join(self.id.clone()), now.monotonic + lasts);
    }

    /// Sends those that wait for their assignment back to join.
    pub(super) fn reset_assignment(&mut self, cx: &mut Context, now: Now, error: Error) {
        if self.state != State::CompletingRebalance {
            return;
        }
        let mut heard_of = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                cx.respond(ticket, Response::Sync(Err(error)));
                heard_of.push(id.clone());
            }
        }
        for id in heard_of {
            self.restart_session(cx, now, &id);
        }
    }

    pub(super) fn end_join_phase_if_all_joined(&mut self, cx: &mut Context, now: Now) {
        let all_joined = self.pending_members.is_empty()
            && self.members.values().all(|m| m.awaiting_join.is_some());
        if self.state == State::PreparingRebalance
            && self.initial_delay_left.is_none()
            && all_joined
        {
            self.end_join_phase(cx, now);
        }
    }

    /// `Timer::Join`.
    pub(super) fn join_phase_is_over(&mut self, cx: &mut Context, now: Now) {
        assert_eq!(self.state, State::PreparingRebalance, "a join timer in group {}", self.id);
        match self.initial_delay_left {
            // Someone came during the initial delay: others may too.
            Some(left) if self.new_member_added && !left.is_zero() => {
                let delay = cx.config.initial_rebalance_delay.min(left);
                self.initial_delay_left = Some(left - delay);
                self.new_member_added = false;
                self.begin_join_phase(cx, now, delay);
            }
            _ => self.end_join_phase(cx, now),
        }
    }

    fn end_join_phase(&mut self, cx: &mut Context, now: Now) {
        self.initial_delay_left = None;
        let absent = |(id, m): (&MemberId, &super::member::Member)| {
            let is_gone = m.awaiting_join.is_none() && m.instance_id.is_none();
            is_gone.then(|| id.clone())
        };
        let absent: Vec<MemberId> = self.members.iter().filter_map(absent).collect();
        for id in absent {
            self.drop_member(cx, &id);
        }
        // Static members keep their place until their session ends. With nobody else there is no
        // one to assign: the phase goes on until one joins or the last session ends.
        if !self.elect_leader() && !self.members.is_empty() {
            let lasts = self.rebalance_timeout().max(JOIN_PHASE_MIN);
            return self.begin_join_phase(cx, now, lasts);
        }
        cx.timers.cancel(&Timer::Join(self.id.clone()));
        // 31 bits of generations, then from the start again: clients compare for equality only.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol_name = self.select_protocol(None);
        if self.members.is_empty() {
            self.become_empty(cx, now);
        } else {
            self.await_assignment(cx, now);
        }
    }

    /// Keeps the leader if it has joined, else takes another that has. `false`: nobody has.
    fn elect_leader(&mut self) -> bool {
        let has_joined =
            |id: &MemberId| self.members.get(id).is_some_and(|m| m.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let next = self.members.iter().find(|(_, m)| m.awaiting_join.is_some());
        match next {
            Some((id, _)) => self.leader = Some(id.clone()),
            None => return false,
        }
        true
    }

    fn become_empty(&mut self, cx: &mut Context, now: Now) {
        self.leader = None;
        self.transition(now, State::Empty);
        // A log that knows of no generation before need not know that this one is empty.
        if self.is_in_log() {
            let stored = self.value().encode();
            let then = Then::Emptied { group: self.id.clone(), stored: stored.clone() };
            self.store(cx, stored, then);
        }
    }

    fn await_assignment(&mut self, cx: &mut Context, now: Now) {
        self.transition(now, State::CompletingRebalance);
        self.pending_sync = self.members.keys().cloned().collect();
        let deadline = now.monotonic + self.rebalance_timeout().max(JOIN_PHASE_MIN);
        cx.timers.set(Timer::Sync(self.id.clone()), deadline);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let member = self.members.get_mut(&id).expect("a member");
            member.is_new = false;
            if let Some(ticket) = member.awaiting_join.take() {
                cx.respond(ticket, Response::Join(Ok(joined)));
            }
            self.restart_session(cx, now, &id);
        }
    }

    /// `Timer::Sync`: whoever joined and never fetched its assignment holds partitions that
    /// nobody reads.
    pub(super) fn sync_is_overdue(&mut self, cx: &mut Context, now: Now) {
        for id in std::mem::take(&mut self.pending_sync) {
            self.drop_member(cx, &id);
        }
        self.rebalance(cx, now);
    }

    /// A member left or its session ended.
    pub(super) fn remove_member(&mut self, cx: &mut Context, now: Now, id: &MemberId) {
        self.drop_member(cx, id);
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance(cx, now),
            State::PreparingRebalance => self.end_join_phase_if_all_joined(cx, now),
            State::Empty | State::Dead => {
                unreachable!("a member of a group without members: {}", self.id)
            }
        }
    }

    fn drop_member(&mut self, cx: &mut Context, id: &MemberId) {
        let member = self.members.remove(id).expect("a member");
        cx.state_bytes -= member.size_bytes();
        self.stop_session(cx, id);
        // Both mean: join again as someone new, if you are still there.
        if let Some(ticket) = member.awaiting_join {
            cx.refuse_join(ticket, Error::UnknownMemberId, MemberId::default());
        }
        if let Some(ticket) = member.awaiting_sync {
            cx.respond(ticket, Response::Sync(Err(Error::UnknownMemberId)));
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        self.pending_sync.remove(id);
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// `Timer::Session`.
    pub(super) fn session_is_over(&mut self, cx: &mut Context, now: Now, id: &MemberId) {
        let member = &self.members[id];
        let waits_for_us = !member.is_new && member.awaiting_join.is_some();
        if waits_for_us || member.awaiting_sync.is_some() {
            // It cannot be expected to heartbeat; the answer starts its session again.
            return;
        }
        self.remove_member(cx, now, id);
    }

    /// `Timer::Pending`.
    pub(super) fn pending_is_over(&mut self, cx: &mut Context, now: Now, id: &MemberId) {
        self.pending_members.remove(id);
        self.end_join_phase_if_all_joined(cx, now);
    }
}
