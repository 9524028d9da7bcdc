//! What one node says to another of its quiet leaders. Pure, and without the leaders themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::LOOK_TICKS;
use crate::model::TopicPartition;
use crate::replica::core::config::SILENT_TICKS;
use crate::replica::host::HEARTBEAT_ROUND_TICKS;
use crate::replica::wire::beat::{Beat, Still};

/// Ticks between two beats to a node that has no voters: as between two heartbeats of a learner.
const FAR_BEAT_TICKS: u64 = 4 * HEARTBEAT_ROUND_TICKS;

/// Ticks without an answer from a node with voters after which the leaders that are quiet wake.
const ANSWER_SILENT_TICKS: u64 = 3 * HEARTBEAT_ROUND_TICKS + 1;

/// Ticks for which a node is sent beats after some leader wanted to be quiet.
const WANTED_TICKS: u64 = 10 * LOOK_TICKS;

/// The quiet leaders here that have a replica on another node, and what was said of them.
#[derive(Debug, Default)]
pub struct Outward {
    pub session: u64,
    version: u64,
    pub quiet: BTreeSet<TopicPartition>,
    /// Since the last beat.
    ends: BTreeSet<TopicPartition>,
    begins: BTreeMap<TopicPartition, Still>,
    /// The tick of the last answer in sync, in this session.
    pub answered_at: Option<u64>,
    pub wanted_at: u64,
    /// It has a voter of one of them.
    pub votes: bool,
    beat_at: u64,
}

impl Outward {
    pub fn new(session: u64) -> Self {
        Self { session, ..Self::default() }
    }

    /// What was said may not have come: from here on nothing was.
    pub fn begin_session(&mut self, session: u64) {
        let Self { wanted_at, votes, beat_at, .. } = *self;
        *self = Self { wanted_at, votes, beat_at, ..Self::new(session) };
    }

    pub fn begin(&mut self, still: Still) {
        self.quiet.insert(still.group.partition);
        self.begins.insert(still.group.partition, still);
    }

    pub fn end(&mut self, at: TopicPartition) {
        if self.quiet.remove(&at) && self.begins.remove(&at).is_none() {
            self.ends.insert(at);
        }
    }

    fn answer_limit(&self) -> u64 {
        if self.votes { ANSWER_SILENT_TICKS } else { SILENT_TICKS }
    }

    pub fn silent_for(&self, ticks: u64) -> Option<u64> {
        self.answered_at.map(|at| ticks - at)
    }

    pub fn answers(&self, ticks: u64) -> bool {
        self.silent_for(ticks).is_some_and(|silent| silent <= self.answer_limit())
    }

    pub fn is_due(&self, ticks: u64) -> bool {
        let has_news = !self.ends.is_empty() || !self.begins.is_empty();
        let every = if self.votes || has_news { HEARTBEAT_ROUND_TICKS } else { FAR_BEAT_TICKS };
        let is_used = !self.quiet.is_empty() || has_news || ticks - self.wanted_at <= WANTED_TICKS;
        is_used && ticks.is_multiple_of(every) && self.beat_at != ticks
    }

    pub fn beat(&mut self, ticks: u64, at_ms: i64) -> Beat {
        let (ends, begins) = (std::mem::take(&mut self.ends), std::mem::take(&mut self.begins));
        let before = self.version;
        self.version += u64::from(!ends.is_empty() || !begins.is_empty());
        self.beat_at = ticks;
        Beat::new(self.session, (before, self.version), at_ms, ends, begins.into_values())
    }
}
