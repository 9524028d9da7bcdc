//! What a core is told of its group: who is in it, where they are, and what an acknowledgement
//! must wait for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::budget::Budget;
use crate::model::{DcName, GroupId, LogIndex, Mode, NodeId, ReplicaId};

/// Bytes appended and not yet through the gate, above which a produce is refused (design §4): else
/// retries behind a closed gate pile up records that nobody acknowledged. A WAN of 1 Gbit/s and
/// 250 ms holds 31 MB; twice that never throttles a healthy link.
pub const UNGATED_BYTES_MAX: usize = 64 << 20;

/// Bytes of one append message to a replica, each entry's overhead in memory counted in: one round
/// trip carries many of them.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;

/// Append messages in flight to one replica. With [`APPEND_BYTES_MAX`] it covers 256 MB, more than
/// any link's bandwidth × RTT; small entries are batched, so it does not bind them either.
pub const APPENDS_IN_FLIGHT_MAX: usize = 256;

/// A replica that lacks more than this of what is committed, and can be fed from disk only, fetches it
/// as ranges on the bulk lane. Below it appends are quicker: 32 MiB are a quarter of a second of a
/// 1 Gbit/s link, and twice what is in flight to a replica that follows a producer of small batches.
pub const CATCH_UP_BYTES_MIN: u64 = 32 << 20;

/// Bytes of one range. A replica has one under way and writes another, so this bounds what one that
/// catches up holds to twice as much; at 100 ms a round trip it gives 30 MB/s a partition.
pub const RANGE_BYTES_MAX: usize = 4 << 20;

/// Committed bytes handed out per Ready, so that one group never holds the loop for long.
pub const COMMITTED_BYTES_MAX: u64 = 4 << 20;

/// Ticks without a word after which a replica counts as silent: 2 s at 50 ms a tick. That is three
/// heartbeats of a learner that lacks nothing, and thirteen of any other, so that loss alone, which
/// QUIC repairs in a round trip or two, never makes a DC look absent.
pub const SILENT_TICKS: u64 = 40;

/// How far in ticks a replica may lag and still be reported in sync: Kafka's
/// `replica.lag.time.max.ms` is 30 s, ten seconds is what operators of a WAN want to see earlier.
pub const LAG_TICKS_MAX: u64 = 200;

/// Ticks between two looks at whether Raft's configuration is what the placement asks for: a
/// change that found another one under way is proposed again after a second.
pub const PLACEMENT_TICKS: u64 = 20;

/// Ticks between two looks of a leader at who is silent or lags, when nothing else happens.
pub const LOOK_TICKS: u64 = 5;

/// Added to the shortest election timeout that is drawn. A voter ignores candidates for
/// `election_ticks_min` after the leader's last word (check-quorum's lease); the voters' ticks are
/// not in phase and a busy node's come late, so a candidate that asks at the very end of it is
/// ignored, and a whole timeout is lost.
pub const LEASE_MARGIN_TICKS: u32 = 2;

/// A learner that lacks nothing hears one heartbeat in this many: it never campaigns, and node
/// liveness and the next append stand in for the rest (design §7).
pub const LEARNER_HEARTBEATS: u64 = 4;

#[derive(Debug, Clone)]
pub struct Config {
    pub group: GroupId,
    pub me: ReplicaId,
    /// The home DC.
    pub home: DcName,
    pub members: BTreeMap<ReplicaId, Member>,
    /// Of `members`.
    pub placement_generation: u64,
    /// The first voter of the placement: campaigns at once in an empty log.
    pub preferred: bool,
    /// The last entry of the latest cut beyond which acknowledged records may have been lost.
    pub lossy_cut: Option<LogIndex>,
    pub ack: AckPolicy,
    /// The mode that `__meta` has on record.
    pub recorded: Mode,
    pub timing: Timing,
    /// [`APPEND_BYTES_MAX`], but in tests.
    pub append_bytes_max: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node: NodeId,
    pub dc: DcName,
    pub voter: bool,
}

/// What acks=all waits for beyond a majority of the voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckPolicy {
    /// Remote DCs that must have it on disk; 0 is async.
    pub sync_to: usize,
    /// A sync topic for which nothing has got through to so many for so long asks to be degraded
    /// (R9); `None`: it blocks.
    pub degrade_after: Option<Duration>,
    /// Kafka's `min.insync.replicas`, among the voters.
    pub min_in_sync: usize,
    /// An async home without a valid lease acknowledges nothing (R17).
    pub fence: bool,
    /// Kafka's `message.timestamp.type = LogAppendTime`.
    pub log_append_time: bool,
    pub budget: Budget,
}

/// In ticks of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat_ticks: u32,
    pub election_ticks_min: u32,
    /// Exclusive; redrawn from the seed after every change of term or role.
    pub election_ticks_max: u32,
}
