//! JoinGroup: who may enter, and what happens to the group when they do.

use std::time::Duration;

use bytes::Bytes;

use super::config::{DEFERRED_JOINS_MAX, GROUPS_MAX, NAME_BYTES_MAX, NEW_MEMBER_JOIN_TIMEOUT};
use super::context::Context;
use super::member::Member;
use super::state::Group;
use super::timers::Timer;
use super::{Error, Join, MemberId, Now, Response, Shard, State, Ticket};

/// Bytes that a generated member id adds to the name in front: a dash and a UUID.
const MEMBER_ID_SUFFIX_BYTES: usize = 37;

impl Shard {
    /// Answers when the join phase of the group's rebalance ends, at once where the member needs
    /// to do something first. `random` becomes the member id, where one is given.
    pub fn handle_join(&mut self, now: Now, ticket: Ticket, mut join: Join, random: u128) {
        // What is kept for long must not keep the whole frame alive that it came in.
        for protocol in &mut join.protocols {
            protocol.metadata = Bytes::copy_from_slice(&protocol.metadata);
        }
        let id = join.group.clone();
        let exists = self.groups.contains_key(&id);
        let refused = self.check_join(&join).err().or_else(|| {
            let is_full = self.groups.len() >= GROUPS_MAX || !self.cx.has_room();
            match (exists, join.member_id.is_empty()) {
                (true, _) => None,
                // An id that an older incarnation of the group gave: start over.
                (false, false) => Some(Error::UnknownMemberId),
                (false, true) => is_full.then_some(Error::CoordinatorNotAvailable),
            }
        });
        if let Some(error) = refused {
            return self.cx.refuse_join(ticket, error, join.member_id);
        }
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone()));
        group.join(&mut self.cx, now, ticket, join, random);
        self.forget_if_vacant(&id);
    }

    fn check_join(&self, join: &Join) -> Result<(), Error> {
        if join.group.is_empty() || join.group.len() > NAME_BYTES_MAX {
            return Err(Error::InvalidGroupId);
        }
        let name_bytes_max = NAME_BYTES_MAX - MEMBER_ID_SUFFIX_BYTES;
        let instance = join.instance_id.as_ref().map_or(0, |i| i.len());
        if instance > name_bytes_max || join.client_id.len() > name_bytes_max {
            return Err(Error::InvalidRequest);
        }
        let is_long = |s: &str| s.len() > NAME_BYTES_MAX;
        if is_long(&join.client_host)
            || is_long(&join.protocol_type)
            || join.protocols.iter().any(|p| is_long(&p.name))
        {
            return Err(Error::InvalidRequest);
        }
        let timeout = u64::try_from(join.session_timeout_ms).map(Duration::from_millis);
        let config = &self.cx.config;
        let allowed = config.session_timeout_min..=config.session_timeout_max;
        match timeout {
            Ok(timeout) if allowed.contains(&timeout) => Ok(()),
            _ => Err(Error::InvalidSessionTimeout),
        }
    }
}

impl Group {
    fn join(&mut self, cx: &mut Context, now: Now, ticket: Ticket, join: Join, random: u128) {
        let refused = if self.state == State::Dead {
            Some(Error::CoordinatorNotAvailable)
        } else if !self.has_place_for(cx, &join) {
            Some(Error::GroupMaxSizeReached)
        } else if !self.supports(&join.protocol_type, &join.protocols) {
            Some(Error::InconsistentGroupProtocol)
        } else {
            None
        };
        if let Some(error) = refused {
            cx.refuse_join(ticket, error, join.member_id);
        } else if join.member_id.is_empty() {
            self.join_unknown(cx, now, ticket, join, random);
        } else {
            self.join_known(cx, now, ticket, join);
        }
    }

    /// Members and those that were promised a place may always join again.
    fn has_place_for(&self, cx: &Context, join: &Join) -> bool {
        let id = &join.member_id;
        let returns =
            join.instance_id.as_ref().is_some_and(|i| self.static_members.contains_key(i));
        returns
            || self.members.contains_key(id)
            || self.pending_members.contains(id)
            || self.members.len() + self.pending_members.len() < cx.config.group_size_max
    }

    /// A first join: of a static member that may have been here before, or of a new one.
    fn join_unknown(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        join: Join,
        random: u128,
    ) {
        let prefix = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let member_id = MemberId::generate(prefix, random);
        let is_known_instance =
            join.instance_id.as_ref().is_some_and(|i| self.static_members.contains_key(i));
        if is_known_instance {
            self.join_static_again(cx, now, ticket, join, member_id);
        } else if !cx.has_room() {
            cx.refuse_join(ticket, Error::CoordinatorNotAvailable, join.member_id);
        } else if join.instance_id.is_none() && join.requires_known_member_id {
            // KIP-394: a client that never comes back with the id leaves nothing behind.
            let timeout = u64::try_from(join.session_timeout_ms).expect("a checked timeout");
            let timer = Timer::Pending(self.id.clone(), member_id.clone());
            cx.timers.set(timer, now.monotonic + Duration::from_millis(timeout));
            self.pending_members.insert(member_id.clone());
            cx.refuse_join(ticket, Error::MemberIdRequired, member_id);
        } else {
            self.add_member(cx, now, ticket, join, member_id);
        }
    }

    pub(super) fn join_static_again(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        join: Join,
        member_id: MemberId,
    ) {
        if !self.is_replacing {
            self.replace_static(cx, now, ticket, join, member_id);
        } else if self.deferred_joins.len() < DEFERRED_JOINS_MAX {
            self.deferred_joins.push_back((ticket, join, member_id));
        } else {
            cx.refuse_join(ticket, Error::CoordinatorNotAvailable, join.member_id);
        }
    }

    pub(super) fn add_member(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        join: Join,
        member_id: MemberId,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        if let Some(instance) = &join.instance_id {
            self.static_members.insert(instance.clone(), member_id.clone());
        }
        self.end_pending(cx, &member_id);
        let member = Member::new(join, ticket);
        cx.state_bytes += member.size_bytes();
        self.members.insert(member_id.clone(), member);
        let timer = Timer::Session(self.id.clone(), member_id);
        cx.timers.set(timer, now.monotonic + NEW_MEMBER_JOIN_TIMEOUT);
        self.new_member_added = true;
        self.rebalance(cx, now);
    }

    pub(super) fn end_pending(&mut self, cx: &mut Context, member_id: &MemberId) {
        if self.pending_members.remove(member_id) {
            cx.timers.cancel(&Timer::Pending(self.id.clone(), member_id.clone()));
        }
    }

    fn join_known(&mut self, cx: &mut Context, now: Now, ticket: Ticket, join: Join) {
        let member_id = join.member_id.clone();
        if join.instance_id.is_none() && self.pending_members.contains(&member_id) {
            return self.add_member(cx, now, ticket, join, member_id);
        }
        if let Err(error) = self.check_member(&member_id, join.instance_id.as_ref()) {
            return cx.refuse_join(ticket, error, member_id);
        }
        let is_same = self.members[&member_id].protocols == join.protocols;
        let must_rebalance = match self.state {
            State::PreparingRebalance => true,
            // The same words again: the first answer was lost on the way.
            State::CompletingRebalance => !is_same,
            // A leader joins again to have partitions assigned anew, for example when a topic has
            // grown.
            State::Stable => !is_same || self.is_leader(&member_id),
            State::Empty | State::Dead => {
                unreachable!("a member of a group without members: {}", self.id)
            }
        };
        if must_rebalance {
            self.update_member(cx, &member_id, ticket, join);
            self.rebalance(cx, now);
        } else {
            let joined = self.joined(&member_id);
            self.restart_session(cx, now, &member_id);
            cx.respond(ticket, Response::Join(Ok(joined)));
        }
    }

    /// Takes over a repeated join, which now waits for the end of the join phase.
    pub(super) fn update_member(
        &mut self,
        cx: &mut Context,
        member_id: &MemberId,
        ticket: Ticket,
        join: Join,
    ) {
        self.stop_session(cx, member_id);
        let member = self.members.get_mut(member_id).expect("a member");
        cx.state_bytes -= member.size_bytes();
        member.update(join);
        cx.state_bytes += member.size_bytes();
        if let Some(earlier) = member.awaiting_join.replace(ticket) {
            // A client repeats a join only after it gave up on the earlier one.
            cx.refuse_join(earlier, Error::RebalanceInProgress, member_id.clone());
        }
        // It knows its id, so it can heartbeat once the phase has ended.
        member.is_new = false;
    }
}
