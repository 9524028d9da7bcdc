//! SyncGroup: the leader's assignment is stored first, and only then does anybody hear of it. A
//! coordinator that takes over from the log thus knows every assignment that a member acts on.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::config::RECORD_BYTES_MAX;
use super::context::{Context, Then};
use super::record::GroupValue;
use super::state::Group;
use super::timers::Timer;
use super::{AppendError, Error, MemberId, Now, Response, Shard, State, Sync, Synced, Ticket};

impl Shard {
    /// Answers once the leader's assignment of this generation is committed.
    pub fn handle_sync(&mut self, now: Now, ticket: Ticket, sync: Sync) {
        let refused = match self.groups.get_mut(&sync.group) {
            _ if sync.group.is_empty() => Err(Error::InvalidGroupId),
            None => Err(Error::UnknownMemberId),
            Some(group) => group.sync(&mut self.cx, now, ticket, sync),
        };
        if let Err(error) = refused {
            self.cx.respond(ticket, Response::Sync(Err(error)));
        }
    }
}

impl Group {
    fn sync(
        &mut self,
        cx: &mut Context,
        now: Now,
        ticket: Ticket,
        sync: Sync,
    ) -> Result<(), Error> {
        self.check_sync(&sync)?;
        let id = &sync.member_id;
        match self.state {
            State::Empty | State::Dead => return Err(Error::UnknownMemberId),
            State::PreparingRebalance => return Err(Error::RebalanceInProgress),
            State::CompletingRebalance => {
                self.end_pending_sync(cx, id);
                self.stop_session(cx, id);
                let member = self.members.get_mut(id).expect("a checked member");
                if let Some(earlier) = member.awaiting_sync.replace(ticket) {
                    cx.respond(earlier, Response::Sync(Err(Error::RebalanceInProgress)));
                }
                if self.is_leader(id) && self.assigning != Some(self.generation) {
                    self.store_assignment(cx, now, sync.assignments.into_iter().collect());
                }
            }
            State::Stable => {
                self.end_pending_sync(cx, id);
                self.restart_session(cx, now, id);
                let synced = self.synced(self.members[id].assignment.clone());
                cx.respond(ticket, Response::Sync(Ok(synced)));
            }
        }
        Ok(())
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), Error> {
        if self.state == State::Dead {
            return Err(Error::CoordinatorNotAvailable);
        }
        self.check_member(&sync.member_id, sync.instance_id.as_ref())?;
        if sync.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol_name, &self.protocol_name)
        {
            return Err(Error::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: self.protocol_name.clone().unwrap_or_default(),
            assignment,
        }
    }

    fn end_pending_sync(&mut self, cx: &mut Context, id: &MemberId) {
        if self.pending_sync.remove(id) && self.pending_sync.is_empty() {
            cx.timers.cancel(&Timer::Sync(self.id.clone()));
        }
    }

    /// Members that the leader forgot get an empty assignment; those it made up get nothing.
    fn store_assignment(
        &mut self,
        cx: &mut Context,
        now: Now,
        mut assignments: BTreeMap<MemberId, Bytes>,
    ) {
        let mut value = self.value();
        for member in &mut value.members {
            // A copy, so that it does not keep the whole frame alive.
            let assignment = assignments.remove(&member.member_id).unwrap_or_default();
            member.assignment = Bytes::copy_from_slice(&assignment);
        }
        let stored = value.encode();
        if stored.len() > RECORD_BYTES_MAX {
            return self.fail_assignment(cx, now, AppendError::TooLarge);
        }
        if !cx.can_append() {
            return self.fail_assignment(cx, now, AppendError::Unavailable);
        }
        self.assigning = Some(self.generation);
        let then = Then::Assign { group: self.id.clone(), value, stored: stored.clone() };
        self.store(cx, stored, then);
    }

    fn fail_assignment(&mut self, cx: &mut Context, now: Now, error: AppendError) {
        self.reset_assignment(cx, now, error.for_group());
        self.rebalance(cx, now);
    }

    pub(super) fn assignment_finished(
        &mut self,
        cx: &mut Context,
        now: Now,
        result: Result<(), AppendError>,
        value: GroupValue,
        stored: Bytes,
    ) {
        if self.assigning == Some(value.generation) {
            self.assigning = None;
        }
        self.store_finished(cx, result, stored);
        // Another rebalance may have begun meanwhile, and sent everybody back to join.
        let is_awaited =
            self.state == State::CompletingRebalance && self.generation == value.generation;
        match result {
            Ok(()) if is_awaited => self.assign(cx, now, value),
            Err(error) if is_awaited => self.fail_assignment(cx, now, error),
            Ok(()) | Err(_) => {}
        }
    }

    fn assign(&mut self, cx: &mut Context, now: Now, value: GroupValue) {
        self.transition(now, State::Stable);
        for assigned in value.members {
            let id = assigned.member_id;
            let member = self.members.get_mut(&id).expect("members stay while one is awaited");
            member.assignment = assigned.assignment.clone();
            if let Some(ticket) = member.awaiting_sync.take() {
                let synced = self.synced(assigned.assignment);
                cx.respond(ticket, Response::Sync(Ok(synced)));
                self.restart_session(cx, now, &id);
            }
        }
    }
}
