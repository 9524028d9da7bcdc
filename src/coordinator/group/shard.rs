//! The shard: all groups of one partition of `__consumer_offsets`, on the replica that leads it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::context::{Context, Then};
use super::state::Group;
use super::timers::Timer;
use super::{AppendError, AppendId, Config, Effect, Id, Now};

/// The pure core of the group coordinator; see the module's documentation.
#[derive(Debug)]
pub struct Shard {
    pub(super) groups: BTreeMap<Id, Group>,
    pub(super) cx: Context,
}

impl Shard {
    /// A shard that knows nothing yet: `load` the partition's records, then `handle_loaded`.
    pub fn new(config: Config) -> Self {
        Self { groups: BTreeMap::new(), cx: Context::new(config) }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.cx.effects.pop_front()
    }

    /// When `handle_timeout` wants to be called, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.cx.timers.next()
    }

    /// About how many bytes the state takes here; in a snapshot it takes fewer.
    pub fn state_bytes(&self) -> usize {
        self.cx.state_bytes
    }

    /// Does all that is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.cx.timers.pop(now.monotonic) {
            let id = match &timer {
                Timer::Expiry => {
                    self.expire(now);
                    continue;
                }
                Timer::Join(id) | Timer::Sync(id) => id.clone(),
                Timer::Session(id, _) | Timer::Pending(id, _) => id.clone(),
            };
            let group = self.groups.get_mut(&id).expect("a group with a timer");
            let cx = &mut self.cx;
            match timer {
                Timer::Expiry => unreachable!("handled above"),
                Timer::Join(_) => group.join_phase_is_over(cx, now),
                Timer::Sync(_) => group.sync_is_overdue(cx, now),
                Timer::Session(_, member) => group.session_is_over(cx, now, &member),
                Timer::Pending(_, member) => group.pending_is_over(cx, now, &member),
            }
            self.forget_if_vacant(&id);
        }
    }

    /// The append `id` is committed, or lost. May be told in any order; takes effect in the order
    /// of the log.
    ///
    /// # Panics
    /// When `id` is not in flight.
    pub fn handle_appended(&mut self, now: Now, id: AppendId, result: Result<(), AppendError>) {
        self.cx.finish(id, result);
        while let Some((result, then)) = self.cx.next_finished() {
            self.complete(now, result, then);
        }
    }

    /// The replica leads no longer. Everybody who waits is told so, and the shard must be dropped
    /// once its effects are out.
    pub fn handle_resigned(&mut self, now: Now) {
        for group in self.groups.values_mut() {
            group.resign(&mut self.cx);
        }
        for then in self.cx.abandon() {
            self.complete(now, Err(AppendError::NotLeader), then);
        }
        // A group may have become empty by it. That is not for this shard to write any more, and
        // nobody waits for it.
        self.cx.abandon();
        self.cx.effects.retain(|effect| matches!(effect, Effect::Respond { .. }));
    }

    fn complete(&mut self, now: Now, result: Result<(), AppendError>, then: Then) {
        match then {
            Then::CommitOffsets { group, ticket, offsets, outcomes } => {
                self.offsets_finished(result, (group, ticket), offsets, outcomes);
            }
            Then::DeleteOffsets { group, ticket, partitions, outcomes } => {
                self.offsets_deleted(result, (group, ticket), partitions, outcomes);
            }
            Then::DeleteGroups { ticket, deleting, outcomes } => {
                self.groups_deleted(result, ticket, deleting, outcomes);
            }
            Then::Expire { group, partitions, all } => self.expired(result, group, partitions, all),
            Then::Assign { group, value, stored } => {
                let (state, cx) = self.stored_group(&group);
                state.assignment_finished(cx, now, result, value, stored);
                self.forget_if_vacant(&group);
            }
            Then::Emptied { group, stored } => {
                let (state, cx) = self.stored_group(&group);
                state.store_finished(cx, result, stored);
                self.forget_if_vacant(&group);
            }
            Then::ReplaceStatic { group, ticket, join, member_id, stored } => {
                let (state, cx) = self.stored_group(&group);
                state.replacement_finished(cx, now, result, (ticket, join, member_id), stored);
                self.forget_if_vacant(&group);
            }
        }
    }

    /// A group lives while its metadata is being written: `Group::is_in_log`.
    fn stored_group(&mut self, id: &Id) -> (&mut Group, &mut Context) {
        let group = self.groups.get_mut(id).expect("a group with a write in flight");
        (group, &mut self.cx)
    }

    pub(super) fn forget_if_vacant(&mut self, id: &Id) {
        if self.groups.get(id).is_some_and(Group::is_vacant) {
            self.forget(id);
        }
    }

    /// Drops a group that has no members.
    pub(super) fn forget(&mut self, id: &Id) {
        let mut group = self.groups.remove(id).expect("a group to forget");
        assert!(group.members.is_empty(), "group {id} has members");
        for member in std::mem::take(&mut group.pending_members) {
            self.cx.timers.cancel(&Timer::Pending(id.clone(), member));
        }
        self.cx.timers.cancel(&Timer::Join(id.clone()));
        group.set_stored(&mut self.cx, None);
        self.cx.state_bytes -= group.offsets.size_bytes();
    }
}
