//! A static member that comes back (KIP-345): it has its instance id and no member id, takes the
//! place of its former self, and that one is fenced. In a stable group nobody else notices, as
//! long as it says what it said before.

use bytes::Bytes;

use super::context::{Context, Then};
use super::member::Member;
use super::record::MemberValue;
use super::state::Group;
use super::subscription::{self, CONSUMER_PROTOCOL_TYPE};
use super::{AppendError, Error, InstanceId, Join, Joined, MemberId, Now, Response, State, Ticket};

impl Group {
    pub(super) fn replace_static(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        join: Join,
        member_id: MemberId,
    ) {
        let instance = join.instance_id.clone().expect("a static member");
        match self.state {
            State::Stable if self.is_unchanged_by(&instance, &join) => {
                if !cx.can_append() {
                    let member_id = MemberId::default();
                    return cx.refuse_join(ticket, Error::CoordinatorNotAvailable, member_id);
                }
                self.store_replacement(cx, ticket, join, &instance, member_id);
            }
            // The leader may hold the old id already, and its assignment would name nobody.
            State::Stable | State::CompletingRebalance | State::PreparingRebalance => {
                self.rename_static(cx, &instance, &member_id);
                self.update_member(cx, &member_id, ticket, join);
                self.rebalance(cx, now);
            }
            State::Empty | State::Dead => {
                unreachable!("a member of a group without members: {}", self.id)
            }
        }
    }

    /// Whether the group would agree on the same protocol, and the member wants what it wanted.
    /// What a consumer owned before is no part of that: a restarted one owns nothing.
    fn is_unchanged_by(&self, instance: &InstanceId, join: &Join) -> bool {
        let id = &self.static_members[instance];
        let selected = self.select_protocol(Some((id, join.protocols.as_slice())));
        if selected != self.protocol_name {
            return false;
        }
        let before = self.members[id].metadata(self.protocol_name());
        let chosen = join.protocols.iter().find(|p| p.name == self.protocol_name());
        let Some(after) = chosen.map(|p| &p.metadata) else { return false };
        let topics = |metadata: &Bytes| match self.protocol_type.as_deref() {
            Some(CONSUMER_PROTOCOL_TYPE) => subscription::topics(metadata),
            _ => None,
        };
        before == *after || topics(&before).is_some_and(|t| Some(t) == topics(after))
    }

    fn store_replacement(
        &mut self,
        cx: &mut Context,
        ticket: Ticket,
        join: Join,
        instance: &InstanceId,
        member_id: MemberId,
    ) {
        let old = &self.static_members[instance];
        let mut value = self.value();
        if value.leader.as_ref() == Some(old) {
            value.leader = Some(member_id.clone());
        }
        let before = value.members.iter_mut().find(|m| m.member_id == *old).expect("a member");
        let after = Member::new(join.clone(), ticket).value(&member_id, self.protocol_name());
        *before = MemberValue { assignment: std::mem::take(&mut before.assignment), ..after };
        let stored = value.encode();
        self.is_replacing = true;
        let group = self.id.clone();
        let then = Then::ReplaceStatic { group, ticket, join, member_id, stored: stored.clone() };
        self.store(cx, stored, then);
    }

    pub(super) fn replacement_finished(
        &mut self,
        cx: &mut Context,
        now: Now,
        result: Result<(), AppendError>,
        (ticket, join, member_id): (Ticket, Join, MemberId),
        stored: Bytes,
    ) {
        self.is_replacing = false;
        self.store_finished(cx, result, stored);
        match result {
            Ok(()) => self.replace_stored(cx, now, ticket, join, member_id),
            Err(error) => cx.refuse_join(ticket, error.for_group(), MemberId::default()),
        }
        while !self.is_replacing {
            let Some((ticket, join, member_id)) = self.deferred_joins.pop_front() else { break };
            self.replace_or_add(cx, now, ticket, join, member_id);
        }
    }

    fn replace_stored(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        join: Join,
        member_id: MemberId,
    ) {
        let instance = join.instance_id.clone().expect("a static member");
        let is_known = self.static_members.contains_key(&instance);
        if self.state != State::Stable || !is_known || !self.is_unchanged_by(&instance, &join) {
            // The group moved on while the record was written; what follows writes another.
            return self.replace_or_add(cx, now, ticket, join, member_id);
        }
        let skips_assignment = join.skips_assignment;
        let old = self.rename_static(cx, &instance, &member_id);
        let member = self.members.get_mut(&member_id).expect("just renamed");
        cx.state_bytes -= member.size_bytes();
        member.update(join);
        cx.state_bytes += member.size_bytes();
        self.restart_session(cx, now, &member_id);
        let joined = self.joined(&member_id);
        let is_leader = self.is_leader(&member_id);
        let joined = match (is_leader, skips_assignment) {
            // KIP-814: it learns that it leads, and that there is nothing to assign.
            (true, true) => Joined { skip_assignment: true, ..joined },
            // A stable group takes no assignment, so it must not think that it leads.
            (true, false) => Joined { leader: old, members: Vec::new(), ..joined },
            (false, _) => joined,
        };
        cx.respond(ticket, Response::Join(Ok(joined)));
    }

    fn replace_or_add(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        join: Join,
        member_id: MemberId,
    ) {
        let instance = join.instance_id.as_ref().expect("a static member");
        if self.state == State::Dead {
            cx.refuse_join(ticket, Error::CoordinatorNotAvailable, MemberId::default());
        } else if !self.supports(&join.protocol_type, &join.protocols) {
            cx.refuse_join(ticket, Error::InconsistentGroupProtocol, MemberId::default());
        } else if self.static_members.contains_key(instance) {
            self.replace_static(cx, now, ticket, join, member_id);
        } else {
            self.add_member(cx, now, ticket, join, member_id);
        }
    }

    /// Gives a static member its new id and returns the old one, which is fenced from here on.
    fn rename_static(
        &mut self,
        cx: &mut Context,
        instance: &InstanceId,
        member_id: &MemberId,
    ) -> MemberId {
        let old = self.static_members.insert(instance.clone(), member_id.clone());
        let old = old.expect("a known static member");
        self.stop_session(cx, &old);
        let mut member = self.members.remove(&old).expect("a known static member");
        if let Some(ticket) = member.awaiting_join.take() {
            cx.refuse_join(ticket, Error::FencedInstanceId, old.clone());
        }
        if let Some(ticket) = member.awaiting_sync.take() {
            cx.respond(ticket, Response::Sync(Err(Error::FencedInstanceId)));
        }
        self.members.insert(member_id.clone(), member);
        if self.is_leader(&old) {
            self.leader = Some(member_id.clone());
        }
        if self.pending_sync.remove(&old) {
            self.pending_sync.insert(member_id.clone());
        }
        old
    }
}
