//! Heartbeat and LeaveGroup.

use super::context::Context;
use super::state::Group;
use super::{
    Error, Heartbeat, Leave, LeaveOutcome, Leaving, MemberId, Now, Response, Shard, State, Ticket,
};

impl Shard {
    pub fn handle_heartbeat(&mut self, now: Now, ticket: Ticket, heartbeat: Heartbeat) {
        let result = match self.groups.get(&heartbeat.group) {
            _ if heartbeat.group.is_empty() => Err(Error::InvalidGroupId),
            None => Err(Error::UnknownMemberId),
            Some(group) => group.heartbeat(&mut self.cx, now, &heartbeat),
        };
        self.cx.respond(ticket, Response::Heartbeat(result));
    }

    pub fn handle_leave(&mut self, now: Now, ticket: Ticket, leave: Leave) {
        let Leave { group: id, members } = leave;
        let mut outcomes = Vec::with_capacity(members.len());
        for leaving in members {
            let result = match self.groups.get_mut(&id) {
                _ if id.is_empty() => Err(Error::InvalidGroupId),
                None => Err(Error::UnknownMemberId),
                Some(group) => group.leave(&mut self.cx, now, &leaving),
            };
            let Leaving { member_id, instance_id } = leaving;
            outcomes.push(LeaveOutcome { member_id, instance_id, result });
        }
        self.cx.respond(ticket, Response::Leave(outcomes));
        self.forget_if_vacant(&id);
    }
}

impl Group {
    fn heartbeat(&self, cx: &mut Context, now: Now, heartbeat: &Heartbeat) -> Result<(), Error> {
        if self.state == State::Dead {
            return Err(Error::CoordinatorNotAvailable);
        }
        let id = &heartbeat.member_id;
        self.check_member(id, heartbeat.instance_id.as_ref())?;
        if heartbeat.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        self.restart_session(cx, now, id);
        match self.state {
            State::PreparingRebalance => Err(Error::RebalanceInProgress),
            // Clients heartbeat from their join's answer on, before they are assigned anything.
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty | State::Dead => Err(Error::UnknownMemberId),
        }
    }

    fn leave(&mut self, cx: &mut Context, now: Now, leaving: &Leaving) -> Result<(), Error> {
        if self.state == State::Dead {
            return Err(Error::CoordinatorNotAvailable);
        }
        let Leaving { member_id, instance_id } = leaving;
        if instance_id.is_none() && self.pending_members.contains(member_id) {
            self.end_pending(cx, member_id);
            self.end_join_phase_if_all_joined(cx, now);
            return Ok(());
        }
        let member_id = self.leaving_member(leaving)?;
        self.remove_member(cx, now, &member_id);
        Ok(())
    }

    /// An administrator removes a static member by its instance id alone (KIP-345).
    fn leaving_member(&self, leaving: &Leaving) -> Result<MemberId, Error> {
        let instance = leaving.instance_id.as_ref();
        if let (true, Some(instance)) = (leaving.member_id.is_empty(), instance) {
            return self.static_members.get(instance).cloned().ok_or(Error::UnknownMemberId);
        }
        self.check_member(&leaving.member_id, instance)?;
        Ok(leaving.member_id.clone())
    }
}
