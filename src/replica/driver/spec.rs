//! What a replica is to be, as `__meta` decided it and the reconciler hands it down.

use std::collections::BTreeMap;

use crate::log;
use crate::model::{DcName, GroupId, LogIndex, Mode, ReplicaId};
use crate::replica::core::config::{AckPolicy, Member, Timing};

#[derive(Debug, Clone)]
pub struct Spec {
    pub group: GroupId,
    pub topic_name: String,
    pub me: ReplicaId,
    pub home: DcName,
    pub members: BTreeMap<ReplicaId, Member>,
    /// The first voter of the placement.
    pub preferred: bool,
    pub placement_generation: u64,
    /// Where the home epoch began; `None` in the first (R26).
    pub fork: Option<log::Position>,
    /// Where acknowledged records may last have been lost.
    pub lossy_cut: Option<LogIndex>,
    /// It comes in the place of a replica that the group has counted on (R23).
    pub stands_in: bool,
    /// The mode that the home epoch began with, and the one that `__meta` has on record now (R7, R8).
    pub began: Mode,
    pub recorded: Mode,
    pub timing: Timing,
    pub policy: Policy,
}

/// What may change while the replica runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub ack: AckPolicy,
    /// `flush = "quorum"`: an entry counts as persisted only after fdatasync.
    pub flush: bool,
    pub log: log::Config,
    pub retention: log::Retention,
}
