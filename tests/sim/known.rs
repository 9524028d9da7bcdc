//! What the oracle knows of one replica, and of its group as that replica knows it.

use std::collections::{BTreeMap, BTreeSet};

use isobar::log::Reader;
use isobar::model::{HomeEpoch, ReplicaId};

use crate::logs::{Log, Seen};

/// What is known of one replica.
#[derive(Debug, Default)]
pub struct Replica {
    /// What it was given, on disk or not.
    pub given: Log,
    /// What commits have reported to be on disk.
    pub durable: Log,
    /// In this life.
    pub watermark: u64,
    /// When it was last looked at.
    pub led: bool,
    pub log_start: i64,
    /// The largest that commits have reported to be on disk.
    pub durable_log_start: i64,
    /// Where its log began when a home ended without a proof: the next one may not know of what was deleted.
    pub kept_log_start: Option<i64>,
    /// Bits have rotted on its disk, and what its log has lost by that, in turn to be mended (R21).
    pub rots: bool,
    pub owed: BTreeMap<u64, Seen>,
    /// A move was cutting its log when the process ended, and nobody has seen since how far it came.
    pub being_cut: bool,
    /// The largest that any message of it has carried.
    pub term_sent: u64,
    /// The highest epoch that it has said it is sealed for.
    pub promised: HomeEpoch,
    /// Votes that left it, by term.
    pub votes: BTreeMap<u64, u64>,
    /// As it last stood in its group.
    pub conf: Conf,
    /// What its disk had until a move cut it off, or it was lost: it may have answered for that, and the
    /// answer may be under way.
    pub had: BTreeSet<(u64, u64)>,
}

impl Replica {
    /// Whether its disk has an entry, or had it when it answered.
    pub fn has_had(&self, index: u64, term: u64) -> bool {
        let owes = |seen: &Seen| seen.term == term;
        self.durable.has(index, term)
            || self.had.contains(&(index, term))
            || self.owed.get(&index).is_some_and(owes)
    }

    /// Its log, as the disk has it; of a segment that has rotted, what it had.
    pub fn read(&self, reader: &Reader) -> Option<Log> {
        let around =
            || Log::read_around(reader, &[&self.durable.entries, &self.owed, &self.given.entries]);
        Log::read(reader).or_else(|| self.rots.then(around))
    }

    /// Nothing of its log is kept: it is nobody until it has got what it lacks (R14).
    pub fn begin_anew(&mut self) {
        (self.durable_log_start, self.kept_log_start) = (0, None);
    }

    /// Its disk is to have no more than `log`.
    pub fn lose(&mut self, log: &Log) {
        let lost = self.durable.entries.iter().filter(|(index, seen)| !log.has(**index, seen.term));
        self.had.extend(lost.map(|(index, seen)| (*index, seen.term)));
    }
}

/// A replica's group, as it knows it.
#[derive(Debug, Clone, Default)]
pub struct Conf {
    pub epoch: HomeEpoch,
    pub me: ReplicaId,
    pub home: usize,
    pub voters: Vec<Seat>,
    /// Those that the placement names which it follows: a promoted one votes once the log says so.
    pub placed: Vec<Seat>,
}

/// A replica, and where it is: another one may be there by now (R22).
pub type Seat = (ReplicaId, usize);
