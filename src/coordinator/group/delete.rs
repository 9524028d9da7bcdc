//! DeleteGroups, OffsetDelete and retention: tombstones first, then the state.

use std::collections::BTreeSet;
use std::time::Duration;

use super::config::{EXPIRED_GROUPS_MAX, EXPIRY_CONTINUES};
use super::context::{Context, Then};
use super::record::{self, OffsetValue};
use super::state::Group;
use super::subscription::CONSUMER_PROTOCOL_TYPE;
use super::timers::Timer;
use super::{
    AppendError, DeleteOffsets, Error, Id, Now, PartitionOutcome, Record, Response, Shard, State,
    Ticket, TopicPartition,
};

impl Shard {
    /// Answers once the tombstones are committed. Until then the groups are `Dead`: their offsets
    /// are still shown, and whoever would change them is told to come again.
    pub fn handle_delete_groups(&mut self, ticket: Ticket, ids: Vec<Id>) {
        let mut outcomes = Vec::with_capacity(ids.len());
        let mut deleting = Vec::new();
        let mut records = Vec::new();
        for id in ids {
            let result = match self.groups.get_mut(&id) {
                None => Err(Error::GroupIdNotFound),
                Some(group) => match group.state {
                    State::Dead => Err(Error::CoordinatorNotAvailable),
                    State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                        Err(Error::NonEmptyGroup)
                    }
                    State::Empty => {
                        group.state = State::Dead;
                        records.append(&mut group.tombstones(&group.offsets.keys(), true));
                        deleting.push(id.clone());
                        Ok(())
                    }
                },
            };
            outcomes.push((id, result));
        }
        if records.is_empty() {
            // Groups that nobody finished joining: the log knows none of them.
            self.groups_deleted(Ok(()), ticket, deleting, outcomes);
        } else {
            self.cx.append(records, Then::DeleteGroups { ticket, deleting, outcomes });
        }
    }

    pub(super) fn groups_deleted(
        &mut self,
        result: Result<(), AppendError>,
        ticket: Ticket,
        deleting: Vec<Id>,
        mut outcomes: Vec<(Id, Result<(), Error>)>,
    ) {
        for id in deleting {
            match result {
                Ok(()) => self.forget(&id),
                Err(_) => self.revive(&id),
            }
        }
        if let Err(error) = result {
            for (_, outcome) in outcomes.iter_mut().filter(|(_, o)| o.is_ok()) {
                *outcome = Err(error.for_group());
            }
        }
        self.cx.respond(ticket, Response::DeleteGroups(outcomes));
    }

    fn revive(&mut self, id: &Id) {
        let group = self.groups.get_mut(id).expect("a dead group stays until it is deleted");
        assert_eq!(group.state, State::Dead, "group {id}");
        group.state = State::Empty;
        // A commit before the tombstones may have been lost with them, and was all there was.
        self.forget_if_vacant(id);
    }

    /// Answers once the tombstones are committed.
    pub fn handle_delete_offsets(&mut self, ticket: Ticket, delete: DeleteOffsets) {
        let DeleteOffsets { group: id, partitions } = delete;
        let deletable = match self.groups.get(&id) {
            None => Err(Error::GroupIdNotFound),
            Some(group) => group.deletable(partitions),
        };
        let outcomes = match deletable {
            Ok(outcomes) => outcomes,
            Err(error) => return self.cx.respond(ticket, Response::DeleteOffsets(Err(error))),
        };
        let group = self.groups.get_mut(&id).expect("just found");
        let known: BTreeSet<TopicPartition> = group.offsets.keys().into_iter().collect();
        let deleted = outcomes.iter().filter(|o| o.result.is_ok() && known.contains(&o.partition));
        let partitions: Vec<TopicPartition> = deleted.map(|o| o.partition.clone()).collect();
        if partitions.is_empty() {
            return self.cx.respond(ticket, Response::DeleteOffsets(Ok(outcomes)));
        }
        let records = group.tombstones(&partitions, false);
        partitions.iter().for_each(|p| group.offsets.begin(p));
        self.cx.append(records, Then::DeleteOffsets { group: id, ticket, partitions, outcomes });
    }

    pub(super) fn offsets_deleted(
        &mut self,
        result: Result<(), AppendError>,
        (id, ticket): (Id, Ticket),
        partitions: Vec<TopicPartition>,
        outcomes: Vec<PartitionOutcome>,
    ) {
        self.remove_offsets(result, &id, partitions);
        let response = result.map(|()| outcomes).map_err(AppendError::for_group);
        self.cx.respond(ticket, Response::DeleteOffsets(response));
        self.forget_if_vacant(&id);
    }

    fn remove_offsets(
        &mut self,
        result: Result<(), AppendError>,
        id: &Id,
        partitions: Vec<TopicPartition>,
    ) {
        let group = self.groups.get_mut(id).expect("a group with tombstones in flight");
        for partition in partitions {
            group.offsets.end(&partition);
            if result.is_ok() {
                self.cx.state_bytes -= group.offsets.remove(&partition);
            }
        }
    }

    /// `Timer::Expiry`.
    pub(super) fn expire(&mut self, now: Now) {
        let mut touched = 0;
        for group in self.groups.values_mut() {
            if touched == EXPIRED_GROUPS_MAX {
                break;
            }
            touched += usize::from(group.expire(&mut self.cx, now));
        }
        let pause = match touched {
            EXPIRED_GROUPS_MAX => EXPIRY_CONTINUES,
            _ => self.cx.config.offsets_retention_check_interval.max(EXPIRY_CONTINUES),
        };
        self.cx.timers.set(Timer::Expiry, now.monotonic + pause);
    }

    pub(super) fn expired(
        &mut self,
        result: Result<(), AppendError>,
        id: Id,
        partitions: Vec<TopicPartition>,
        all: bool,
    ) {
        self.remove_offsets(result, &id, partitions);
        match (all, result) {
            (true, Ok(())) => self.forget(&id),
            // The next look tries again.
            (true, Err(_)) => self.revive(&id),
            (false, _) => self.forget_if_vacant(&id),
        }
    }
}

impl Group {
    fn tombstones(&self, partitions: &[TopicPartition], and_group: bool) -> Vec<Record> {
        let offset = |p| Record { key: record::offset_key(&self.id, p), value: None };
        let mut records: Vec<Record> = partitions.iter().map(offset).collect();
        if and_group && self.is_in_log() {
            records.push(Record { key: record::group_key(&self.id), value: None });
        }
        records
    }

    /// Offsets in use cannot be deleted (KIP-496).
    fn deletable(&self, partitions: Vec<TopicPartition>) -> Result<Vec<PartitionOutcome>, Error> {
        let is_consumer = self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE);
        let in_use = match self.state {
            State::Dead => return Err(Error::CoordinatorNotAvailable),
            State::Empty => Some(BTreeSet::new()),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                if !is_consumer {
                    return Err(Error::NonEmptyGroup);
                }
                self.subscribed_topics()
            }
        };
        let outcome = |partition: TopicPartition| {
            let is_in_use = in_use.as_ref().is_none_or(|topics| topics.contains(&partition.topic));
            let result = if is_in_use { Err(Error::GroupSubscribedToTopic) } else { Ok(()) };
            PartitionOutcome { partition, result }
        };
        Ok(partitions.into_iter().map(outcome).collect())
    }

    /// Writes tombstones for what nobody has used for the retention. Whether there was anything.
    fn expire(&mut self, cx: &mut Context, now: Now) -> bool {
        if self.state == State::Dead {
            return false;
        }
        let partitions = self.expired_offsets(now, cx.config.offsets_retention);
        let rest = self.offsets.key_count() - partitions.len();
        let all = self.state == State::Empty && self.pending_members.is_empty() && rest == 0;
        let records = self.tombstones(&partitions, all);
        if records.is_empty() {
            return false;
        }
        if all {
            self.state = State::Dead;
        }
        partitions.iter().for_each(|p| self.offsets.begin(p));
        cx.append(records, Then::Expire { group: self.id.clone(), partitions, all });
        true
    }

    /// KIP-211: what a group with members subscribes to does not expire; without members the
    /// clock starts when the last one left; for a group that never had any, with each commit.
    fn expired_offsets(&self, now: Now, retention: Duration) -> Vec<TopicPartition> {
        let topics = match (&self.protocol_type, self.state) {
            (None, _) | (Some(_), State::Empty) => Some(BTreeSet::new()),
            (Some(_), State::Stable) => self.subscribed_topics(),
            (Some(_), _) => None,
        };
        let Some(in_use) = topics else { return Vec::new() };
        let was_in_use = self.protocol_type.is_some() && self.state == State::Empty;
        let emptied_ms = self.state_since_ms.filter(|_| was_in_use);
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let is_expired = |value: &OffsetValue| match value.expire_timestamp_ms {
            Some(expires) => now.unix_ms >= expires,
            None => {
                let since = emptied_ms.unwrap_or(0).max(value.commit_timestamp_ms);
                now.unix_ms.saturating_sub(since) >= retention_ms
            }
        };
        let expired = self.offsets.committed().filter(|(partition, value)| {
            !in_use.contains(&partition.topic)
                && !self.offsets.is_in_flight(partition)
                && is_expired(value)
        });
        expired.map(|(partition, _)| partition.clone()).collect()
    }
}
