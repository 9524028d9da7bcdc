//! OffsetCommit and OffsetFetch.

use super::config::{GROUPS_MAX, NAME_BYTES_MAX};
use super::context::{Context, Then};
use super::record::{self, OffsetValue};
use super::state::Group;
use super::{
    AppendError, CommitOffsets, Error, FetchOffsets, FetchedOffset, Id, Now, OffsetToCommit,
    PartitionOutcome, Record, Response, Shard, State, Ticket, TopicPartition,
};

impl Shard {
    /// Answers once the offsets are committed in the shard's partition; only then do fetches show
    /// them, here or on a coordinator that takes over.
    pub fn handle_commit_offsets(&mut self, now: Now, ticket: Ticket, commit: CommitOffsets) {
        let id = commit.group.clone();
        let is_full = self.groups.len() >= GROUPS_MAX;
        let group = match self.groups.get_mut(&id) {
            Some(group) => Ok(group),
            None if id.len() > NAME_BYTES_MAX => Err(Error::InvalidGroupId),
            // It says to be of a generation of a group that is no more.
            None if commit.generation >= 0 => Err(Error::IllegalGeneration),
            None if is_full => Err(Error::CoordinatorNotAvailable),
            None => Ok(self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone()))),
        };
        let cx = &mut self.cx;
        let refused = match group {
            Ok(group) => match group.check_commit(cx, &commit) {
                Ok(()) => return group.commit(cx, now, ticket, commit),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let outcome =
            |o: OffsetToCommit| PartitionOutcome { partition: o.partition, result: Err(refused) };
        let outcomes = commit.offsets.into_iter().map(outcome).collect();
        cx.respond(ticket, Response::CommitOffsets(outcomes));
        self.forget_if_vacant(&id);
    }

    /// What is committed now. A group that is unknown has committed nothing, which is no error.
    pub fn fetch_offsets(&self, fetch: &FetchOffsets) -> Vec<FetchedOffset> {
        let group = self.groups.get(&fetch.group);
        let Some(partitions) = &fetch.partitions else {
            let all = group.into_iter().flat_map(|g| g.offsets.committed());
            return all
                .map(|(partition, value)| FetchedOffset {
                    partition: partition.clone(),
                    committed: Some(value.as_committed()),
                })
                .collect();
        };
        let fetched = |partition: &TopicPartition| FetchedOffset {
            partition: partition.clone(),
            committed: group
                .and_then(|g| g.offsets.committed_for(partition))
                .map(OffsetValue::as_committed),
        };
        partitions.iter().map(fetched).collect()
    }

    pub(super) fn offsets_finished(
        &mut self,
        result: Result<(), AppendError>,
        (group, ticket): (Id, Ticket),
        offsets: Vec<(TopicPartition, OffsetValue)>,
        mut outcomes: Vec<PartitionOutcome>,
    ) {
        // A group lives while a commit of it is in flight: `Offsets::is_empty`.
        let state = self.groups.get_mut(&group).expect("a group with a commit in flight");
        for (partition, value) in offsets {
            state.offsets.end(&partition);
            if result.is_ok() {
                let (grown, shrunk) = state.offsets.commit(partition, value);
                self.cx.state_bytes += grown;
                self.cx.state_bytes -= shrunk;
            }
        }
        if let Err(error) = result {
            for outcome in outcomes.iter_mut().filter(|o| o.result.is_ok()) {
                outcome.result = Err(error.for_offsets());
            }
        }
        self.cx.respond(ticket, Response::CommitOffsets(outcomes));
        self.forget_if_vacant(&group);
    }
}

impl Group {
    fn check_commit(&self, cx: &Context, commit: &CommitOffsets) -> Result<(), Error> {
        if self.state == State::Dead || !cx.has_room() || !cx.can_append() {
            return Err(Error::CoordinatorNotAvailable);
        }
        let CommitOffsets { generation, member_id, instance_id, .. } = commit;
        if *generation < 0 && self.state == State::Empty {
            // Consumers that assign partitions to themselves, and administrators.
            return Ok(());
        }
        self.check_member(member_id, instance_id.as_ref())?;
        if *generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        // In the join phase members still commit what they are about to give away.
        if self.state == State::CompletingRebalance {
            return Err(Error::RebalanceInProgress);
        }
        Ok(())
    }

    fn commit(&mut self, cx: &mut Context, now: Now, ticket: Ticket, commit: CommitOffsets) {
        if self.members.contains_key(&commit.member_id) {
            self.restart_session(cx, now, &commit.member_id);
        }
        let expires = commit.retention_ms.map(|ms| now.unix_ms.saturating_add(ms));
        let metadata_bytes_max = cx.config.offset_metadata_bytes_max.min(NAME_BYTES_MAX);
        let mut outcomes = Vec::with_capacity(commit.offsets.len());
        let mut offsets = Vec::with_capacity(commit.offsets.len());
        let mut records = Vec::with_capacity(commit.offsets.len());
        for OffsetToCommit { partition, offset, leader_epoch, metadata } in commit.offsets {
            let result = if metadata.len() > metadata_bytes_max {
                Err(Error::OffsetMetadataTooLarge)
            } else if partition.topic.len() > NAME_BYTES_MAX {
                Err(Error::InvalidRequest)
            } else {
                Ok(())
            };
            outcomes.push(PartitionOutcome { partition: partition.clone(), result });
            if result.is_err() {
                continue;
            }
            let value = OffsetValue {
                offset,
                leader_epoch,
                metadata,
                commit_timestamp_ms: now.unix_ms,
                expire_timestamp_ms: expires,
            };
            let key = record::offset_key(&self.id, &partition);
            records.push(Record { key, value: Some(value.encode()) });
            self.offsets.begin(&partition);
            offsets.push((partition, value));
        }
        if records.is_empty() {
            return cx.respond(ticket, Response::CommitOffsets(outcomes));
        }
        let group = self.id.clone();
        cx.append(records, Then::CommitOffsets { group, ticket, offsets, outcomes });
    }
}
