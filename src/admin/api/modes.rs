//! Sync topics that degrade.

use serde::{Deserialize, Serialize};

/// `GET /v1/modes`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    pub degraded: Vec<Degraded>,
    /// The latest last; at most 1000 are kept.
    pub changes: Vec<ModeChange>,
}

/// A partition of a sync topic whose acknowledgements promise what an async one's do, by `__meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    pub topic: String,
    pub partition: i32,
    pub home: String,
    /// Remote DCs that its acknowledgements wait for otherwise.
    pub sync_to: u32,
    /// Unix time; `null`: too long ago to be on record.
    pub since_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// Unix time, by the clock of the node that asked for it.
    pub at_ms: i64,
    pub topic: String,
    pub partition: i32,
    pub home_epoch: u32,
    /// Where the partition's leader was.
    pub node: u32,
    /// False: it is sync again.
    pub degraded: bool,
}

/// What the leader of a sync topic's partition promises with an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    Sync,
    Degraded,
    /// It waits for `sync_to` datacenters again, and `__meta` has not recorded that yet.
    Recovering,
}
