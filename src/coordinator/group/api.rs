//! What goes into a shard and what comes out, free of any wire format.

use std::time::Duration;

use bytes::Bytes;

use super::{Error, Id, InstanceId, MemberId, State, Topic, TopicPartition};

/// Both clocks at the moment of an input. Deadlines count on the monotonic one; only what is
/// stored for people and for retention reads the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed moment of this process.
    pub monotonic: Duration,
    /// Wall clock, milliseconds since 1970.
    pub unix_ms: i64,
}

/// Names a request that waits for its response; the caller numbers them and never reuses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a write that the shard waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// A record of `__consumer_offsets`; no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What the shard wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append to the shard's partition, after all earlier appends, and report to
    /// `Shard::handle_appended` once the records are committed or lost.
    Append { id: AppendId, records: Vec<Record> },
    /// The request's answer. Every ticket gets exactly one.
    Respond { ticket: Ticket, response: Response },
}

/// The answer to a request, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, Error>),
    Heartbeat(Result<(), Error>),
    /// One outcome a member, in the request's order.
    Leave(Vec<LeaveOutcome>),
    /// One outcome a partition, in the request's order.
    CommitOffsets(Vec<PartitionOutcome>),
    /// One outcome a group, in the request's order.
    DeleteGroups(Vec<(Id, Result<(), Error>)>),
    DeleteOffsets(Result<Vec<PartitionOutcome>, Error>),
}

/// One assignment protocol that a member offers, in its order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub group: Id,
    /// Empty on the first join.
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: String,
    /// As Kafka shows it, for example `/10.0.0.1`.
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// Negative (version 0 has none): the session timeout.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// Version 4 and later: a dynamic member must join again with the id it is given (KIP-394).
    pub requires_known_member_id: bool,
    /// Version 9 and later: a returning static leader may be told to skip assigning (KIP-814).
    pub skips_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol_name: String,
    pub leader: MemberId,
    pub member_id: MemberId,
    pub skip_assignment: bool,
    /// Everyone, for the leader; nobody, for the others.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// For the protocol that was chosen.
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: Error,
    /// With `MemberIdRequired` the id to join with; else what the request said.
    pub member_id: MemberId,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    pub group: Id,
    pub generation: i32,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// Version 5 and later.
    pub protocol_type: Option<String>,
    /// Version 5 and later.
    pub protocol_name: Option<String>,
    /// From the leader: each member's part.
    pub assignments: Vec<(MemberId, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol_name: String,
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub group: Id,
    pub generation: i32,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
}

/// LeaveGroup; before version 3 with one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    pub group: Id,
    pub members: Vec<Leaving>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// May be empty when the instance id names a static member.
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveOutcome {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub result: Result<(), Error>,
}

/// OffsetCommit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    pub group: Id,
    /// -1 with an empty member id: a consumer that assigns partitions to itself.
    pub generation: i32,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// Versions 2 to 4, where not -1: this commit's own retention.
    pub retention_ms: Option<i64>,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub partition: TopicPartition,
    pub offset: i64,
    /// Of the last record consumed; -1 where the client does not know (before version 6).
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOutcome {
    pub partition: TopicPartition,
    pub result: Result<(), Error>,
}

/// OffsetFetch of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsets {
    pub group: Id,
    /// `None`: all that the group has committed.
    pub partitions: Option<Vec<TopicPartition>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: TopicPartition,
    /// `None`: nothing is committed, which is offset -1 to clients.
    pub committed: Option<CommittedOffset>,
}

/// A committed offset as a client may see it. Before it leaves, `clamp` it (R25).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
}

/// A committed offset that lies beyond the end of its leader epoch (R25).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedBack {
    pub group: Id,
    pub partition: TopicPartition,
    pub committed: CommittedOffset,
    /// What whoever asks is told instead.
    pub end: i64,
}

/// OffsetDelete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsets {
    pub group: Id,
    pub partitions: Vec<TopicPartition>,
}

/// DescribeGroups, of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub state: State,
    pub protocol_type: String,
    pub protocol_name: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    /// Empty unless the group is stable.
    pub assignment: Bytes,
}

/// ListGroups, of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub group: Id,
    pub protocol_type: String,
    pub state: State,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Topic>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}
