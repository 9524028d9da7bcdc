//! The JSON of the admin port: each body once, for the server that writes it and the command line
//! that reads it.
//!
//! Fields are added, never renamed or given another meaning; readers ignore what they do not know.
//! Durations are seconds, sizes bytes, offsets the next offset, as in the metrics.

mod groups;
mod modes;
mod moves;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use groups::*;
pub use modes::*;
pub use moves::*;

/// Every answer whose status is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For a person: what, where, and what to do.
    pub error: String,
}

/// `GET /readyz`; status 503 while anything is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// What the node waits for; empty when it is ready.
    pub missing: Vec<String>,
}

/// `GET /v1/cluster`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The name in the topology; `null` before this node knows one.
    pub name: Option<String>,
    /// Kafka's cluster id.
    pub id: Option<String>,
    pub topology_generation: u64,
    /// Who was asked: liveness below is as seen from there.
    pub asked: u32,
    /// The leader of `__meta`; `null` where none is known and alive.
    pub controller: Option<u32>,
    pub meta: Meta,
    pub nodes: Vec<Node>,
    pub topics: usize,
    pub partitions: usize,
    /// Partitions without a leader that is alive.
    pub leaderless: usize,
    /// Partitions with a replica outside the ISR.
    pub under_replicated: usize,
    /// What would be lost with a home, per remote DC: over all leaders that answered, the oldest,
    /// and sums.
    pub exposure: BTreeMap<String, Exposure>,
    /// Leaders whose exposure is missing above, because they did not answer.
    pub silent: Vec<u32>,
}

/// The metadata quorum, as far as the node that was asked has heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Whether it answers or not; compare `controller`.
    pub leader: Option<u32>,
    /// Of that leader; grows with every election.
    pub term: Option<i32>,
    /// Nodes that vote.
    #[serde(default)]
    pub voters: Vec<u32>,
    /// Nodes that are to vote, and do not yet: their disks were replaced, and they have to catch up first.
    /// Until then the loss of another datacenter may cost the majority.
    #[serde(default)]
    pub joining: Vec<u32>,
}

/// `GET /v1/meta`: also of a node that knows no cluster yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaHere {
    pub asked: u32,
    /// The leader of `__meta`; `null` where none is known and alive.
    pub controller: Option<u32>,
    /// What this node has; `null` while `__meta` is not open there.
    pub log: Option<MetaLog>,
}

/// Where a log of `__meta` ends: of two in one home epoch the one with the later term has more, in one term the one
/// with the larger index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetaLog {
    /// Later than the first where `__meta` was begun anew without its majority.
    pub home_epoch: u32,
    /// Of the last entry.
    pub term: u64,
    pub index: u64,
}

/// `GET /v1/nodes`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    pub asked: u32,
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: u32,
    pub dc: String,
    pub state: NodeState,
    /// Kafka listeners, `NAME://HOST:PORT`; empty before the node has registered.
    pub listeners: Vec<String>,
    pub admin: String,
    /// Of its software, as it registered.
    pub version: Option<String>,
    /// What it said of itself just now; `null` where it did not answer.
    pub load: Option<Load>,
    /// How long a majority of the other datacenters, and all nodes beside it that they hear, have heard nothing from
    /// it, as the node that was asked sees it; `null` while it is heard.
    #[serde(default)]
    pub gone_seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It answered.
    Up,
    /// It answered, and is not ready to serve clients.
    Starting,
    /// It did not answer the node that was asked.
    Unreachable,
    /// The topology has it, and it has never been there.
    NotRegistered,
}

/// What a node carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub ready: bool,
    pub replicas: usize,
    pub leads: usize,
    /// Per remote DC, of the partitions that it leads.
    pub exposure: BTreeMap<String, Exposure>,
}

/// Acknowledged, and not safe in a DC yet.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Exposure {
    /// Age of the oldest such record.
    pub seconds: f64,
    pub records: i64,
    pub bytes: u64,
}

/// What a topic's policy allows to be at stake, a partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// `max_lag`; `null` without one.
    pub seconds: Option<f64>,
    /// `max_lag_bytes`.
    pub bytes: Option<u64>,
    /// `max_lag_records`.
    #[serde(default)]
    pub records: Option<u32>,
    /// `throttle`, `reject` or `continue`.
    pub on_lag: String,
}

/// What the leader of an async partition has accepted and no other DC has on a majority of its disks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtStake {
    /// False on a new leader, until another DC has its first entry: at least so much is at stake then.
    pub known: bool,
    /// From the append of the oldest such record to that of the newest.
    pub seconds: f64,
    pub records: i64,
    pub bytes: u64,
    /// More than the budget.
    pub breached: bool,
}

/// `GET /v1/topics`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topics {
    pub topics: Vec<TopicSummary>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicSummary {
    pub name: String,
    pub id: String,
    pub internal: bool,
    pub partition_count: usize,
    /// Of a partition, over all DCs; the largest where they differ.
    pub replication_factor: usize,
    pub homes: Vec<String>,
    /// `async`, or `sync_to=K`.
    pub replication: String,
    /// The policy of the topology that its name chose.
    pub policy: Option<String>,
}

/// `GET /v1/topics/NAME`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    #[serde(flatten)]
    pub summary: TopicSummary,
    #[serde(rename = "partitions")]
    pub placements: Vec<Placement>,
    pub configs: Vec<Config>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub partition: i32,
    pub home: String,
    pub home_epoch: u32,
    /// `null`: none that is known and alive.
    pub leader: Option<u32>,
    /// -1: unknown.
    pub leader_epoch: i32,
    pub replicas: Vec<u32>,
    pub isr: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub name: String,
    /// `null` where nothing is set and nothing is assumed.
    pub value: Option<String>,
    /// `topic`, `policy.NAME` or `default`.
    pub source: String,
    pub read_only: bool,
    pub doc: String,
}

/// `GET /v1/topics/NAME/partitions/P`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    pub topic: String,
    pub topic_id: String,
    #[serde(flatten)]
    pub placement: Placement,
    /// Whose positions these are: the leader, or the node that was asked where the leader did not
    /// answer and it has a replica. `null`: nobody's, and the positions are missing.
    pub told_by: Option<u32>,
    pub log_start_offset: Option<i64>,
    pub high_watermark: Option<i64>,
    pub log_end_offset: Option<i64>,
    pub term: Option<u64>,
    pub commit_index: Option<u64>,
    pub last_index: Option<u64>,
    pub members: Vec<Member>,
    /// Per remote DC, as the leader counts it.
    pub exposure: BTreeMap<String, Exposure>,
    /// `null`: none, or the leader did not answer.
    pub budget: Option<Budget>,
    /// `null`: sync, or no other DC has replicas, or the leader did not answer.
    pub at_stake: Option<AtStake>,
    /// `null`: async, or the leader did not answer.
    pub promise: Option<Promise>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node: u32,
    pub dc: String,
    pub role: MemberRole,
    pub in_sync: bool,
    /// The last log index on its disk, as the leader knows.
    pub matched_index: Option<u64>,
    /// Entries that the leader has and it has not.
    pub lag_entries: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    Leader,
    Voter,
    Learner,
}

/// `GET /v1/isr`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrStatus {
    pub under_replicated: usize,
    pub leaderless: usize,
    /// Every partition, by topic and number.
    pub partitions: Vec<IsrPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrPartition {
    pub topic: String,
    #[serde(flatten)]
    pub placement: Placement,
    /// Replicas outside the ISR.
    pub missing: Vec<u32>,
}

/// `GET /v1/links`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Links {
    pub asked: u32,
    /// Whether a development WAN is put under this node, which `link set`, `cut` and `heal` shape.
    pub wan: bool,
    pub links: Vec<Link>,
    /// Connections of the node that was asked.
    pub peers: Vec<Peer>,
}

/// Two DCs, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub between: (String, String),
    /// In the topology.
    pub declared_rtt_seconds: f64,
    /// Between the node that was asked and nodes of the other DC; `null` where it is in neither.
    pub measured_rtt_seconds: Option<f64>,
    /// As the development WAN has it, there and back; `null` without one.
    pub shape: Option<[Direction; 2]>,
}

/// One way over a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    pub from: String,
    pub to: String,
    pub delay_seconds: f64,
    pub jitter_seconds: f64,
    /// 0 to 1.
    pub loss: f64,
    /// `null`: unlimited.
    pub rate_bits_per_second: Option<u64>,
    pub cut: bool,
    pub packets: u64,
    pub bytes: u64,
    pub lost_packets: u64,
    pub queue_dropped_packets: u64,
    pub cut_dropped_packets: u64,
}

/// All lanes to one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub node: u32,
    pub dc: String,
    /// Control is up.
    pub connected: bool,
    /// Whom control takes a hop through at present.
    pub via: Option<u32>,
    pub rtt_seconds: Option<f64>,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub lost_packets: u64,
    pub dropped_frames: u64,
}

/// `POST /v1/links`: one change of the development WAN, answered with [`Links`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum LinkChange {
    /// What is `null` stays as it is. Both ways alike.
    Set {
        a: String,
        b: String,
        /// There and back: each way gets half of it.
        rtt_seconds: Option<f64>,
        /// Standard deviation of the delay, each way.
        jitter_seconds: Option<f64>,
        /// Each way, 0 to 1.
        loss: Option<f64>,
        /// Each way; 0 lifts the limit.
        rate_bits_per_second: Option<u64>,
    },
    Cut {
        a: String,
        b: String,
        /// Only what goes from `a` to `b`.
        one_way: bool,
    },
    Heal {
        a: String,
        b: String,
    },
}

/// `GET /v1/topology`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    pub generation: u64,
    /// The file's text, as it was applied.
    pub text: String,
}

/// `POST /v1/topology`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopologyProposal {
    pub text: String,
    /// The generation that the plan was seen against; `null`: whatever is current.
    pub expected_generation: Option<u64>,
    /// Only checks and plans.
    #[serde(default)]
    pub validate_only: bool,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyApplied {
    /// The generation now.
    pub generation: u64,
    /// What it changes, a sentence each.
    pub notes: Vec<String>,
}
