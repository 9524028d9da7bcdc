//! What the world has seen: every entry that a replica was given, every one that a disk has, every
//! one that was shown, every answer. It learns this beside the code under test, from its writes,
//! commits and frames, and asks it nothing but where its watermark stands.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use isobar::log::{Entry, Kind, Reader, Recovered, Write};
use isobar::model::{LogIndex, TopicPartition};
use isobar::replica::core::Core;
use isobar::replica::wire::Envelope;
use isobar_transport::Frame;

use crate::invariants::{
    Violation, budget, durable, exposed_stays, log_start, one_entry, one_leader, own_disk,
    own_term, same_bytes, term, watermark, watermark_known,
};
use crate::scenario::{DCS, Micros, NODES, Scenario};

/// An entry, as far as comparisons need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub term: u64,
    pub base: i64,
    pub next: i64,
    pub is_batch: bool,
    /// Of kind, base offset, append time and payload.
    pub hash: u64,
}

/// One log, by index; everything at or below `start` has left it.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub start: u64,
    pub entries: BTreeMap<u64, Seen>,
}

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
    /// The largest that any message of it has carried.
    pub term_sent: u64,
    /// Votes that left it, by term.
    pub votes: BTreeMap<u64, u64>,
}

/// A batch that was acknowledged to a client.
#[derive(Debug, Clone)]
pub struct Acked {
    pub ids: Vec<u64>,
    pub base: i64,
    pub invoked: Micros,
    pub acked: Micros,
    /// Whether the acknowledgement promises that it stays.
    pub is_promised: bool,
}

/// One partition's history.
#[derive(Debug, Default)]
pub struct History {
    pub replicas: Vec<Replica>,
    /// Every entry that ever was, by term and index.
    pub names: BTreeMap<(u64, u64), u64>,
    /// When each batch first appeared anywhere, which is where it was accepted, and its bytes; by term
    /// and index.
    pub accepted: BTreeMap<(u64, u64), (Micros, u64)>,
    /// Everything that any replica has shown.
    pub exposed: BTreeMap<u64, Seen>,
    /// Indexes of shown batches, by the offset after them.
    pub exposed_by_end: BTreeMap<i64, u64>,
    /// Shown batches as readers got them: hashes by base offset.
    pub read: BTreeMap<i64, u64>,
    pub leaders: BTreeMap<u64, usize>,
    pub acked: Vec<Acked>,
    /// After the last offset of which an acknowledgement that is a promise has left.
    pub acked_end: i64,
    pub refused: BTreeSet<u64>,
    /// Sent once, and not answered.
    pub unknown: BTreeSet<u64>,
}

pub struct Oracle {
    pub partitions: Vec<History>,
    at: BTreeMap<TopicPartition, usize>,
}

pub fn hash_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Seen {
    fn of(entry: &Entry) -> Self {
        let Entry { kind, base_offset, append_time_ms, payload, .. } = entry;
        Self {
            term: entry.term.0,
            base: base_offset.0,
            next: entry.next_offset().0,
            is_batch: *kind == Kind::Batch,
            hash: hash_of((kind, base_offset, append_time_ms, payload)),
        }
    }
}

impl Log {
    pub fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(self.start, |(index, _)| *index)
    }

    /// Whether it holds the entry of that index and term, or held it before the log began here.
    pub fn has(&self, index: u64, term: u64) -> bool {
        index <= self.start || self.entries.get(&index).is_some_and(|seen| seen.term == term)
    }

    fn apply(&mut self, write: &Write) {
        if let Some(reset) = write.reset {
            self.entries.clear();
            self.start = reset.index.0;
        }
        if let Some(from) = write.truncate_from {
            self.entries.split_off(&from.0);
        }
        self.entries.extend(write.entries.iter().map(|e| (e.index.0, Seen::of(e))));
    }

    /// All that a reader finds on its disk.
    pub fn read(reader: &Reader) -> Self {
        let start = reader.start().index;
        let (mut from, end) = (start.next(), reader.last().0.next());
        let mut log = Self { start: start.0, entries: BTreeMap::new() };
        while from < end {
            let some = reader.entries(from, end, 1 << 20).expect("a log that can be read");
            let Some(last) = some.last() else { break };
            from = last.index.next();
            log.entries.extend(some.iter().map(|e| (e.index.0, Seen::of(e))));
        }
        log
    }
}

impl Oracle {
    pub fn new(scenario: &Scenario) -> Self {
        let history = || History {
            replicas: (0..NODES).map(|_| Replica::default()).collect(),
            ..History::default()
        };
        let partitions = scenario.partitions.iter();
        let at = partitions.clone().enumerate().map(|(n, p)| (p.at, n)).collect();
        Self { partitions: partitions.map(|_| history()).collect(), at }
    }

    pub fn partition(&mut self, at: TopicPartition) -> &mut History {
        &mut self.partitions[self.at[&at]]
    }

    /// A replica is given these entries.
    pub fn given(&mut self, now: Micros, node: usize, write: &Write) -> Result<(), Violation> {
        let history = self.partition(write.partition);
        for entry in &write.entries {
            if entry.kind == Kind::Batch {
                let name = (entry.term.0, entry.index.0);
                history.accepted.entry(name).or_insert((now, entry.payload.len() as u64));
            }
            one_entry::check(&mut history.names, entry.index.0, Seen::of(entry))?;
        }
        let replica = &mut history.replicas[node];
        if let Some(from) = write.truncate_from {
            exposed_stays::check_cut(node, from.0, replica.watermark)?;
        }
        replica.given.apply(write);
        Ok(())
    }

    /// A commit has reported these to be on disk.
    pub fn persisted(&mut self, node: usize, writes: &[Write]) {
        for write in writes {
            let replica = &mut self.partition(write.partition).replicas[node];
            replica.durable.apply(write);
            if let Some(start) = write.start {
                replica.durable.start = replica.durable.start.max(start.index.0);
                replica.durable_log_start = replica.durable_log_start.max(start.offset.0);
            }
        }
    }

    /// A commit was under way when the process ended: what it was to replace may be gone.
    pub fn interrupted(&mut self, node: usize, writes: &[Write]) {
        for write in writes {
            let replica = &mut self.partition(write.partition).replicas[node];
            if write.reset.is_some() {
                replica.durable.entries.clear();
            }
            if let Some(from) = write.truncate_from {
                replica.durable.entries.split_off(&from.0);
            }
        }
    }

    /// A node came back with what its disk has.
    pub fn restarted(
        &mut self,
        node: usize,
        recovered: &[(Recovered, Reader)],
    ) -> Result<(), Violation> {
        for history in &mut self.partitions {
            (history.replicas[node].watermark, history.replicas[node].led) = (0, false);
        }
        let mut found = BTreeSet::new();
        for (recovered, reader) in recovered {
            found.insert(recovered.partition);
            let history = self.partition(recovered.partition);
            let replica = &mut history.replicas[node];
            let log = Log::read(reader);
            durable::check(node, &replica.durable, &log)?;
            log_start::check_restart(node, replica.durable_log_start, recovered.start.offset.0)?;
            term::check_restart(node, replica.term_sent, recovered.state.term.0)?;
            replica.log_start = recovered.start.offset.0;
            replica.given = log.clone();
            replica.durable = log;
        }
        for (at, n) in &self.at {
            if !found.contains(at) {
                durable::check_absent(node, &self.partitions[*n].replicas[node].durable)?;
            }
        }
        Ok(())
    }

    /// A round has ended: looks where the replica stands now. `true` if it leads a new term.
    pub fn look(&mut self, node: usize, core: &Core) -> Result<bool, Violation> {
        let history = self.partition(core.config().group.partition);
        let mut is_elected = false;
        if core.is_leader() {
            let before = history.leaders.get(&core.term().0).copied();
            one_leader::check(&mut history.leaders, core.term().0, node)?;
            is_elected = before.is_none();
            if is_elected {
                let log = &history.replicas[node].given;
                exposed_stays::check_leader(node, core.term().0, &history.exposed, log)?;
            }
            let newest = history.leaders.last_key_value().map(|(term, _)| *term);
            if newest == Some(core.term().0) {
                watermark_known::check(node, &core.progress(), history.acked_end)?;
            }
        }
        let (LogIndex(to), _) = core.watermark();
        let from = history.replicas[node].watermark;
        watermark::check(node, from, to)?;
        let log_start = core.progress().log_start.0;
        log_start::check(node, history.replicas[node].log_start, log_start)?;
        history.replicas[node].log_start = log_start;
        if to > from {
            self.show(node, core, from, to)?;
        }
        self.partition(core.config().group.partition).replicas[node].led = core.is_leader();
        Ok(is_elected)
    }

    /// A replica's watermark has moved.
    fn show(&mut self, node: usize, core: &Core, from: u64, to: u64) -> Result<(), Violation> {
        let history = self.partition(core.config().group.partition);
        let is_new = history.exposed.last_key_value().is_none_or(|(last, _)| *last < to);
        let log = &history.replicas[node].given;
        if core.is_leader() && is_new {
            own_term::check(node, core.term().0, to, log.entries.get(&to))?;
        }
        // A leader shows what other disks have; it may have lost the lead in this very round.
        let (leads, led) = (core.is_leader(), history.replicas[node].led);
        for index in (from + 1).max(log.start + 1)..=to {
            let shown = same_bytes::check(node, &mut history.exposed, index, log)?;
            if !leads && !led {
                own_disk::check(node, index, &shown, &history.replicas[node].durable)?;
            }
            if shown.is_batch {
                history.exposed_by_end.insert(shown.next, index);
            }
        }
        history.replicas[node].watermark = to;
        if leads {
            let config = core.config();
            let home = DCS.iter().position(|dc| *dc == config.home.as_str());
            let home = home.expect("a DC of the scenario");
            budget::check(node, home, config.ack.budget, history, to)?;
        }
        Ok(())
    }

    /// A frame leaves a node. `true` if a vote is in it.
    pub fn sent(&mut self, node: usize, frame: &Frame) -> Result<bool, Violation> {
        let envelope = Envelope::from_header(frame.header.clone()).expect("a frame of ours");
        let mut chunks = frame.payloads.clone().into();
        let mut votes = false;
        for group in envelope.groups {
            let received = group.receive(&mut chunks).expect("a frame of ours");
            let Some(message) = received.raft else { continue };
            let replica = &mut self.partition(received.group.partition).replicas[node];
            votes |= term::note(node, replica, &message)?;
        }
        Ok(votes)
    }
}
