//! Options and limits of the group coordinator.

use std::time::Duration;

/// Cluster-wide options. Names and defaults are Kafka's unless the comment says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `group.min.session.timeout.ms`. Below it a heartbeat lost on the way is a rebalance.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`. Above it a dead member keeps its partitions idle too long.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long the first join of an empty group waits for
    /// others, so that a starting fleet rebalances once. Kafka waits 3 s, which every single
    /// consumer pays at every start; 500 ms still gathers processes that a supervisor starts
    /// together, and a later one only costs one more rebalance.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`, members of one group, those that hold an id but have not joined yet
    /// included. Kafka's default is no limit; 5,000 is more members than a topic here may have
    /// partitions to give them.
    pub group_size_max: usize,
    /// `offset.metadata.max.bytes`, of one committed offset.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, 7 days: from when a group became empty or, for a group that
    /// never had members, from the commit (KIP-211).
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`, 10 minutes.
    pub offsets_retention_check_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_millis(500),
            group_size_max: 5_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
        }
    }
}

/// How long a member that has no id yet may wait in its first join. It cannot heartbeat, and its
/// connection is not watched, so a client that went away and retries would fill the group with
/// ghosts. Kafka's constant.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Groups of one shard. With 50 partitions 5 million groups; a client that makes up group ids
/// meets COORDINATOR_NOT_AVAILABLE here instead of taking the memory.
pub(super) const GROUPS_MAX: usize = 100_000;

/// Bytes that clients' metadata, assignments and offsets may take in one shard. Beyond it what
/// would add more is refused with a retriable error; expiry and leaving make room. 256 MiB are
/// two million offsets with short names.
pub(super) const STATE_BYTES_MAX: usize = 256 << 20;

/// What an entry costs beside the strings in it: keys, map nodes, numbers. An estimate, so that
/// many empty entries are counted too.
pub(super) const ENTRY_BYTES: usize = 128;

/// Longest group id, member id, instance id or topic name: the record schemas below version 4
/// give a string 15 bits of length.
pub(super) const NAME_BYTES_MAX: usize = i16::MAX as usize;

/// Requests of one group that wait until the static member before them is replaced. Each is one
/// append long; more than this at once is a client in a loop.
pub(super) const DEFERRED_JOINS_MAX: usize = 1_000;

/// Largest group metadata record. Kafka's brokers take batches of 1 MiB (`message.max.bytes`), and
/// its coordinator meets the same end; a little less leaves room for the batch around it.
pub(super) const RECORD_BYTES_MAX: usize = 1_000_000;

/// Groups that one look for expiry may touch. Retention of many groups may end at once; their
/// tombstones then go out in portions, `EXPIRY_CONTINUES` apart, beside the clients' writes.
pub(super) const EXPIRED_GROUPS_MAX: usize = 1_000;

/// See `EXPIRED_GROUPS_MAX`.
pub(super) const EXPIRY_CONTINUES: Duration = Duration::from_secs(1);

/// Writes that may be in flight. A partition that commits nothing (no majority, a closed gate)
/// must not let them pile up: clients hear COORDINATOR_NOT_AVAILABLE and come again, while joins
/// and heartbeats go on. Some 60,000 commits, more than a healthy partition ever has waiting.
pub(super) const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
