//! What a node has heard of another's quiet leaders. Pure, and without the followers themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::TopicPartition;
use crate::replica::core::config::SILENT_TICKS;
use crate::replica::host::HEARTBEAT_ROUND_TICKS;
use crate::replica::wire;
use crate::replica::wire::beat::{Beat, Still};

/// Ticks without a beat after which the voters that are quiet wake: two have been missed. They go on counting towards
/// an election from the last one, so this must be less than the shortest election timeout.
pub const BEAT_SILENT_TICKS: u64 = 2 * HEARTBEAT_ROUND_TICKS + 1;

/// What another node says of quiet leaders there that have a replica here.
#[derive(Debug, Default)]
pub struct Inward {
    session: u64,
    version: u64,
    pub set: BTreeMap<TopicPartition, Still>,
    /// Those of the set that are ticked all the same, and at how many beats they were.
    pub awake: BTreeMap<TopicPartition, u32>,
    /// The last beat in sync: its tick, its moment here, and its sender's Unix time.
    pub heard_at: u64,
    pub here: Duration,
    pub there_ms: i64,
    pub is_silent: bool,
    /// A voter of one of them is here.
    pub votes: bool,
}

/// What came of a beat.
pub enum Taken {
    /// It had been overtaken.
    Old,
    /// What it builds on is not known here.
    Gap,
    /// These are not in the set any more.
    Here(Vec<TopicPartition>),
}

impl Inward {
    pub fn take(&mut self, beat: &Beat) -> Result<Taken, wire::Error> {
        let (ends, begins) = (beat.ends()?, beat.begins()?);
        let is_known = beat.session == self.session;
        // A sender whose clock went back at its restart is heard once the one before is silent.
        let is_earlier = beat.session < self.session && !self.is_silent;
        let is_twice = is_known && beat.from_version < self.version && beat.version <= self.version;
        if is_earlier || is_twice {
            return Ok(Taken::Old);
        }
        let mut left = Vec::new();
        if beat.from_version == 0 {
            left.extend(std::mem::take(&mut self.set).into_keys());
            self.awake.clear();
        } else if !is_known || beat.from_version != self.version {
            return Ok(Taken::Gap);
        }
        (self.session, self.version) = (beat.session, beat.version);
        for at in ends {
            self.awake.remove(&at);
            left.extend(self.set.remove(&at).map(|_| at));
        }
        for still in begins {
            let at = still.group.partition;
            left.extend(self.set.insert(at, still).map(|_| at));
            self.awake.insert(at, 0);
        }
        Ok(Taken::Here(left))
    }

    pub fn beat_limit(&self) -> u64 {
        if self.votes { BEAT_SILENT_TICKS } else { SILENT_TICKS }
    }
}
