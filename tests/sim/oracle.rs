//! What the world has seen: every entry that a replica was given, every one that a disk has, every
//! one that was shown, every answer. It learns this beside the code under test, from its writes,
//! commits and frames, and asks it nothing but where its watermark stands.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isobar::log::{Fork, Kind, Reader, Recovered, Write};
use isobar::metadata::moves::Moved;
use isobar::model::{HomeEpoch, LogIndex, Mode, ReplicaId, TopicPartition};
use isobar::replica::core::Core;
use isobar::replica::driver::disk::Command;
use isobar::replica::wire::Envelope;
use isobar_transport::Frame;

use crate::clients::ids_of;
use crate::disk::{is_of_move, partition_of};
use crate::homes::{self, Began};
use crate::invariants::{
    Violation, budget, cut, durable, exposed_stays, holds_cut, log_start, mended, one_entry,
    one_home, one_leader, own_disk, own_term, promised, same_bytes, sealed_home, term, watermark,
    watermark_known,
};
pub use crate::known::{Conf, Replica, Seat};
pub use crate::logs::{Log, Seen, hash_of_bytes};
use crate::scenario::{DCS, Micros, NODES, Partition, Scenario, node_of, replica_of};

/// An acknowledgement that leaves a node and is a promise.
#[derive(Debug, Clone)]
pub struct Ack {
    pub node: usize,
    pub epoch: HomeEpoch,
    /// The offset after it, and the term of the entry that ends there, if the log still has it.
    pub end: i64,
    pub term: Option<u64>,
    pub at: Micros,
    pub ids: Vec<u64>,
}

/// A batch that was acknowledged to a client.
#[derive(Debug, Clone)]
pub struct Acked {
    pub ids: Vec<u64>,
    pub epoch: HomeEpoch,
    pub base: i64,
    pub invoked: Micros,
    pub acked: Micros,
    /// Whether the acknowledgement promises that it stays.
    pub is_promised: bool,
}

/// One partition's history.
#[derive(Debug, Default)]
pub struct History {
    pub is_sync: bool,
    pub replicas: Vec<Replica>,
    /// Where each replica is that ever was.
    pub nodes: BTreeMap<ReplicaId, usize>,
    /// When nodes lost their disks.
    pub wiped: BTreeMap<usize, Micros>,
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
    /// Homes after the first, oldest first.
    pub began: Vec<Began>,
    /// Every promise that a node has given.
    pub acks: Vec<Ack>,
    /// Records that were acknowledged in a home and are beyond where it was cut, with the home that
    /// cut them off.
    pub lost: BTreeMap<(u64, HomeEpoch), HomeEpoch>,
    /// How far records of a home had been deleted where a cut took the deletion back: they may be on no
    /// disk any more.
    pub deleted: BTreeMap<HomeEpoch, i64>,
    /// Batches that ever were, by term and base offset.
    pub batches: BTreeMap<(u64, i64), u64>,
    /// Indexes of batches, by term and first record.
    pub first_ids: BTreeMap<(u64, u64), u64>,
    /// What `__meta` has, or had when the home ended.
    pub modes: BTreeMap<HomeEpoch, Mode>,
}

pub struct Oracle {
    pub partitions: Vec<History>,
    at: BTreeMap<TopicPartition, usize>,
}

/// The DC of a replica's home.
pub fn home_of(core: &Core) -> usize {
    let home = DCS.iter().position(|dc| *dc == core.config().home.as_str());
    home.expect("a DC of the scenario")
}

impl Oracle {
    pub fn new(scenario: &Scenario) -> Self {
        let history = |partition: &Partition| History {
            is_sync: partition.policy.ack.sync_to > 0,
            replicas: (0..NODES).map(|_| Replica::default()).collect(),
            nodes: (0..NODES).map(|node| (replica_of(node), node)).collect(),
            ..History::default()
        };
        let partitions = scenario.partitions.iter();
        let at = partitions.clone().enumerate().map(|(n, p)| (p.at, n)).collect();
        Self { partitions: partitions.map(history).collect(), at }
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
                if let Slot::Vacant(slot) = history.accepted.entry(name) {
                    slot.insert((now, entry.payload.len() as u64));
                    let ids = ids_of(std::slice::from_ref(&entry.payload));
                    history.first_ids.insert((entry.term.0, ids[0]), entry.index.0);
                }
            }
            one_entry::check(&mut history.names, entry.index.0, Seen::of(entry))?;
            if entry.kind == Kind::Batch {
                let name = (entry.term.0, entry.base_offset.0);
                history.batches.entry(name).or_insert_with(|| hash_of_bytes(&entry.payload));
            }
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

    /// A move is about to change a log on a disk, and may be cut off half-way: nothing is known of it.
    pub fn rewriting(&mut self, node: usize, command: &Command) {
        if !is_of_move(command) {
            return;
        }
        let replica = &mut self.partition(partition_of(command)).replicas[node];
        replica.being_cut |= matches!(command, Command::Cut(..) | Command::SetAside(..));
        replica.lose(&Log::default());
        replica.durable.entries.clear();
    }

    /// A move has sealed, cut or extended a log, or begun a home with it: what the disk has now. Nothing
    /// if it failed.
    pub fn rewritten(
        &mut self,
        node: usize,
        at: TopicPartition,
        log: Option<Log>,
    ) -> Result<(), Violation> {
        let history = self.partition(at);
        let Some(log) = log else {
            history.replicas[node].lose(&Log::default());
            history.replicas[node].durable.entries.clear();
            return Ok(());
        };
        for (index, seen) in &log.entries {
            one_entry::check(&mut history.names, *index, *seen)?;
        }
        history.give_back_log_start(node);
        let replica = &mut history.replicas[node];
        if log.start == 0 && log.entries.is_empty() {
            replica.begin_anew();
        }
        replica.log_start = replica.log_start.min(replica.durable_log_start);
        replica.lose(&log);
        (replica.given, replica.durable) = (log.clone(), log);
        Ok(())
    }

    /// A log has been mended, or read again because of damage.
    pub fn read_again(
        &mut self,
        node: usize,
        at: TopicPartition,
        reader: &Reader,
        is_mended: bool,
    ) -> Result<(), Violation> {
        let history = self.partition(at);
        let log = history.replicas[node].read(reader).expect("a log that can be read");
        if is_mended {
            // What others have there instead is committed, and it was not.
            mended::replace(&mut history.replicas[node], &log);
        }
        for (index, seen) in &log.entries {
            one_entry::check(&mut history.names, *index, *seen)?;
        }
        match reader.corruption() {
            Some(damage) => mended::owe(node, &mut history.replicas[node], damage)?,
            None => mended::check(node, history, &log)?,
        }
        durable::check(node, &history.replicas[node].durable, &log)?;
        let replica = &mut history.replicas[node];
        (replica.given, replica.durable) = (log.clone(), log);
        // It is opened anew, as by a restart.
        (replica.watermark, replica.led) = (0, false);
        replica.log_start = reader.start().offset.0;
        Ok(())
    }

    /// What waits behind an order goes onto what the order leaves.
    pub fn still_given(&mut self, node: usize, at: TopicPartition, write: &Write) {
        if write.partition == at {
            self.partition(at).replicas[node].given.apply(write);
        }
    }

    /// `__meta` has decided that the next home begins. Returns the offset up to which what was shown
    /// stays.
    pub fn moved(
        &mut self,
        moved: &Moved,
        fork: &Arc<Fork>,
        skew_ms: i64,
    ) -> Result<i64, Violation> {
        let history = self.partition(moved.at);
        let (epoch, verdict) = (moved.home_epoch, moved.verdict);
        cut::check_word(history, moved)?;
        cut::check_shown(&history.exposed, fork, verdict)?;
        cut::check_acks(history, fork, moved, skew_ms)?;
        let lost = history.acks.iter().filter(|ack| !homes::keeps(fork, ack.end - 1, ack.term));
        let lost: Vec<_> = lost.flat_map(|ack| ack.ids.iter().map(|id| (*id, ack.epoch))).collect();
        for id in lost {
            history.lost.entry(id).or_insert(epoch);
        }
        let (index, offset) = homes::shown_end(&history.exposed, fork);
        history.exposed.split_off(&(index + 1));
        history.exposed_by_end.split_off(&(offset + 1));
        history.read.split_off(&offset);
        history.acked_end = history.acked_end.min(offset);
        history.began.push(Began { epoch, fork: Arc::clone(fork), verdict });
        Ok(offset)
    }

    /// A promise leaves a node.
    pub fn acked(&mut self, partition: &Partition, ack: Ack) -> Result<(), Violation> {
        let history = self.partition(partition.at);
        if history.is_kept(ack.epoch, ack.end - 1, ack.term) {
            history.acked_end = history.acked_end.max(ack.end);
        } else {
            sealed_home::check_ack(partition, history, &ack)?;
            let next = history.began.iter().find(|began| began.epoch > ack.epoch);
            let next = next.expect("it is of a home that has ended").epoch;
            history.lost.extend(ack.ids.iter().map(|id| ((*id, ack.epoch), next)));
        }
        history.acks.push(ack);
        Ok(())
    }

    /// A node comes with an empty disk: whoever was there is nobody any more (R22).
    pub fn wiped(&mut self, now: Micros, node: usize) {
        for history in &mut self.partitions {
            history.replicas[node].lose(&Log::default());
            let had = std::mem::take(&mut history.replicas[node].had);
            history.replicas[node] = Replica { had, ..Replica::default() };
            history.wiped.insert(node, now);
        }
    }

    /// A replica has answered that it is sealed.
    pub fn promised(&mut self, node: usize, at: TopicPartition, epoch: HomeEpoch) {
        let promised = &mut self.partition(at).replicas[node].promised;
        *promised = (*promised).max(epoch);
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
            let log = history.replicas[node].read(reader).expect("a log that can be read");
            if std::mem::take(&mut history.replicas[node].being_cut) {
                history.give_back_log_start(node);
                if log.entries.is_empty() {
                    history.replicas[node].begin_anew();
                }
            }
            match recovered.corruption {
                Some(damage) => mended::owe(node, &mut history.replicas[node], damage)?,
                None => mended::check(node, history, &log)?,
            }
            let replica = &mut history.replicas[node];
            durable::check(node, &replica.durable, &log)?;
            log_start::check_restart(node, replica.durable_log_start, recovered.start.offset.0)?;
            term::check_restart(node, replica.term_sent, recovered.state.term.0)?;
            let found = recovered.state.promised.max(recovered.state.home_epoch);
            promised::check_restart(node, replica.promised, found)?;
            replica.log_start = recovered.start.offset.0;
            replica.durable_log_start = replica.log_start;
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
        let epoch = core.config().group.home_epoch;
        one_home::check(node, core, history.epoch())?;
        holds_cut::check(node, core, history)?;
        if history.replicas[node].conf.epoch != epoch {
            // Each home's watermark begins anew, below where it was cut (R5).
            let replica = &mut history.replicas[node];
            (replica.watermark, replica.led) = (0, false);
            replica.log_start = replica.log_start.min(core.progress().log_start.0);
        }
        let voters = core.log().conf_state().voters.iter();
        let voters = voters.map(|id| (ReplicaId(*id), history.nodes[&ReplicaId(*id)])).collect();
        let placed = core.config().members.iter().filter(|(_, member)| member.voter);
        let placed = placed.map(|(id, member)| (*id, node_of(member.node))).collect();
        let (me, home) = (core.config().me, home_of(core));
        history.replicas[node].conf = Conf { epoch, me, home, voters, placed };
        let is_home = history.epoch() == epoch;
        let mut is_elected = false;
        if core.is_leader() {
            let before = history.leaders.get(&core.term().0).copied();
            one_leader::check(&mut history.leaders, core.term().0, node)?;
            is_elected = before.is_none();
            // Of a home that has ended it may lack what the next one has shown.
            if is_elected && is_home {
                let log = &history.replicas[node].given;
                exposed_stays::check_leader(node, core.term().0, &history.exposed, log)?;
            }
            let newest = history.leaders.last_key_value().map(|(term, _)| *term);
            if newest == Some(core.term().0) && is_home {
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
        let epoch = core.config().group.home_epoch;
        let end = history.kept_of(epoch, &history.replicas[node].given, to);
        if to > end && history.is_proven_since(epoch) {
            sealed_home::check_shown(node, core, to, end)?;
        }
        let is_new = history.exposed.last_key_value().is_none_or(|(last, _)| *last < to);
        let log = &history.replicas[node].given;
        if core.is_leader() && is_new {
            own_term::check(node, core.term().0, to, log.entries.get(&to))?;
        }
        // A leader shows what other disks have; it may have lost the lead in this very round.
        let (leads, led) = (core.is_leader(), history.replicas[node].led);
        for index in (from + 1).max(log.start + 1)..=to.min(end) {
            let shown = same_bytes::check(node, &mut history.exposed, index, log)?;
            if !leads && !led {
                own_disk::check(node, index, &shown, &history.replicas[node].durable)?;
            }
            if shown.is_batch {
                history.exposed_by_end.insert(shown.next, index);
            }
        }
        history.replicas[node].watermark = to;
        if leads && to <= end {
            let config = core.config();
            budget::check(node, (epoch, home_of(core)), config.ack.budget, history, to)?;
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
