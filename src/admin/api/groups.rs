//! Consumer groups.

use serde::{Deserialize, Serialize};

/// `GET /v1/groups/led-back`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedBack {
    pub led_back: Vec<GroupLedBack>,
    /// Nodes that did not answer, or are known to be silent and were not asked: groups whose coordinator is there are
    /// not in the list.
    pub silent: Vec<u32>,
}

/// What a group has committed beyond the end of its leader epoch: a failover cut off what it had read. Until it commits
/// again whoever asks is told the end instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupLedBack {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub leader_epoch: i32,
    pub committed_offset: i64,
    pub end_offset: i64,
}
