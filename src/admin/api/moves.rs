//! Moves of homes.

use serde::{Deserialize, Serialize};

/// What moves a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveKind {
    /// Planned: nothing is lost.
    Switchover,
    /// Forced: the old home need not answer.
    Failover,
    /// A switchover of what its policy has at home in the DC, back to it.
    Failback,
}

/// What a move loses, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "claim", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing that was acknowledged, proven.
    Lossless,
    /// Perhaps what was acknowledged after this (Unix time; 0: nobody can say since when).
    UnboundedSince { since_ms: i64 },
    /// Perhaps what was acknowledged after this, and no more than the exposure budget bounds: each for itself, `null`
    /// where it does not.
    AtMost {
        since_ms: i64,
        records: Option<u64>,
        bytes: Option<u64>,
        /// From the oldest record to the newest.
        span_ms: Option<u64>,
        /// Of the records that may be gone the lowest offset; `null` for several partitions at once, and where those
        /// who have the cut are of a release that did not tell.
        first_offset: Option<i64>,
    },
    /// Not to be decided: too few have answered.
    Undecided,
}

/// `POST /v1/moves`: a proposal, planned and, unless `plan_only`, begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveProposal {
    pub kind: MoveKind,
    /// The home that is left; of a failback, the one that is returned to.
    pub dc: String,
    /// `null`: the nearest DC that can take over.
    pub to: Option<String>,
    /// `*` and `?`; `null`: every topic, internal ones too.
    pub topics: Option<String>,
    /// What cannot be proven may be lost.
    #[serde(default)]
    pub accept_loss: bool,
    #[serde(default)]
    pub plan_only: bool,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovePlan {
    pub topics: Vec<MoveOfTopic>,
    /// Nodes that answered just now, and nodes that did not.
    pub answered: Vec<u32>,
    pub silent: Vec<u32>,
    /// Partitions whose move has begun.
    pub begun: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveOfTopic {
    pub topic: String,
    /// As `async` or `sync_to=K`.
    pub replication: String,
    pub partitions: usize,
    pub from: String,
    pub to: String,
    /// Of its partitions the worst.
    pub verdict: Verdict,
    /// How long nothing is acknowledged, as far as round trips and leases say.
    pub write_pause_seconds: f64,
    /// Why it is not moved.
    pub refused: Option<String>,
}

/// `GET /v1/moves`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moves {
    pub under_way: Vec<MoveUnderWay>,
    /// Lost homes that do not move although their policy is `failover = "automatic"`, as the node that was asked
    /// sees it.
    #[serde(default)]
    pub held: Vec<MoveHeld>,
    /// The latest last.
    pub ended: Vec<MoveEnded>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveHeld {
    pub topic: String,
    pub partition: i32,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveUnderWay {
    pub topic: String,
    pub partition: i32,
    pub kind: MoveKind,
    pub from: String,
    pub to: String,
    /// Nobody asked for it: the topic's policy did.
    #[serde(default)]
    pub automatic: bool,
    pub began_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveEnded {
    pub topic: String,
    pub partition: i32,
    pub kind: MoveKind,
    pub from: String,
    pub to: String,
    /// Of the new home.
    pub home_epoch: u32,
    /// The first offset that the new home wrote itself.
    pub cut_offset: i64,
    pub verdict: Verdict,
    /// Somebody gave the word that what cannot be proven may be lost.
    pub accept_loss: bool,
    /// Nobody asked for it: the topic's policy did.
    #[serde(default)]
    pub automatic: bool,
    pub began_ms: i64,
    pub ended_ms: i64,
    /// Records beyond the cut, in the old home's ledgers: exact once a majority of its disks has been
    /// read, `null` before.
    pub beyond_records: Option<u64>,
    /// Nodes whose ledger has such records.
    pub ledgers: Vec<u32>,
    /// Of the old home's voters, those whose log went farthest: what their ledgers have is what the move
    /// cost (R16). Empty until a majority has been read.
    #[serde(default)]
    pub longest: Vec<u32>,
    /// The read-only topic in which consumers find those records; `null` where there are none, or it is not
    /// known yet.
    #[serde(default)]
    pub suffix_topic: Option<String>,
    /// Records beyond the cut that a later home began with again, since the newest log that it found was of a
    /// home before this move; `null` where there are none.
    #[serde(default)]
    pub brought_back: Option<BroughtBack>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtBack {
    /// Of the later home.
    pub home_epoch: u32,
    pub first_offset: i64,
    pub last_offset: i64,
}
