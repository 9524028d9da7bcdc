//! Carrying out what a round wants, and taking in what came of it.

use std::sync::atomic::Ordering::Relaxed;

use isobar_topology::NodeId;
use isobar_transport::Frame;

use super::disk::{self, Done, Note};
use super::{Driver, Internal, Network, PRODUCER_EXPIRATION, Waiting, frame};
use crate::log::{self, LogStart};
use crate::model::{Offset, Term, TopicPartition};
use crate::replica::core::Now;
use crate::replica::core::effect::Ticket;
use crate::replica::core::raft_log::Wanted;
use crate::replica::host::Round;
use crate::replica::{Leader, ProduceError, Produced, wire};

impl<N: Network> Driver<N> {
    /// Ends the round and carries it out.
    pub(super) fn end_round(&mut self) {
        let now = self.now();
        let round = self.host.take_round(now);
        let Round { control, appends, leads, writes, reads, replies, deleted, progress } = round;
        for append in appends {
            let header = wire::Envelope::of(vec![append.group], Vec::new()).to_header();
            self.network.replication(append.to, append.key, frame(header, append.chunks, true));
        }
        for (to, groups) in control {
            self.send_control(to, groups);
        }
        self.tell_everyone(&leads);
        for (at, persist) in writes {
            let (Some(slot), Some(core)) = (self.slots.get_mut(&at), self.host.core(at)) else {
                continue;
            };
            let write = slot.write(at, core, *persist);
            // The disk thread ends only with the process.
            let _ = self.disk.send(disk::Command::Commit(write, Note::Persist));
        }
        for (at, progress) in progress {
            if let Some(slot) = self.slots.get(&at) {
                let won = slot.view.progress().is_won_by(progress);
                self.counters.elections.fetch_add(u64::from(won), Relaxed);
                slot.view.publish(progress);
            }
        }
        self.answer(replies, deleted);
        for (at, wanted) in reads {
            self.fetch(at, wanted);
        }
    }

    pub(super) fn answer(
        &mut self,
        replies: Vec<(Ticket, Result<Produced, ProduceError>)>,
        deleted: Vec<(Ticket, Result<Offset, ProduceError>)>,
    ) {
        for (ticket, answer) in replies {
            if let Some(Waiting::Produce(reply)) = self.waiting.remove(&ticket) {
                // The client may have gone.
                let _ = reply.send(answer);
            }
        }
        for (ticket, answer) in deleted {
            if let Some(Waiting::Delete(reply)) = self.waiting.remove(&ticket) {
                let _ = reply.send(answer);
            }
        }
    }

    fn send_control(&mut self, to: NodeId, mut groups: Vec<wire::Group>) {
        while !groups.is_empty() {
            let rest = groups.split_off(groups.len().min(wire::GROUPS_MAX));
            let header = wire::Envelope::of(groups, Vec::new()).to_header();
            self.network.control(to, Frame::of_header(header));
            groups = rest;
        }
    }

    /// A leader's news goes to every node, whether it has a replica or not.
    fn tell_everyone(&mut self, leads: &[wire::Lead]) {
        if leads.is_empty() {
            return;
        }
        for lead in leads {
            self.learn(self.node, lead);
        }
        for peer in self.network.peers() {
            self.send_leads(peer, leads);
        }
    }

    pub(super) fn tell_leads(&mut self, node: NodeId) {
        let leads = self.host.leads();
        self.send_leads(node, &leads);
    }

    fn send_leads(&self, to: NodeId, leads: &[wire::Lead]) {
        for some in leads.chunks(wire::GROUPS_MAX) {
            let header = wire::Envelope::of(Vec::new(), some.to_vec()).to_header();
            self.network.control(to, Frame::of_header(header));
        }
    }

    fn learn(&self, from: NodeId, lead: &wire::Lead) {
        let Ok(partition) = lead.partition() else { return };
        if !Term(lead.term).is_valid() {
            return;
        }
        let in_sync = lead.in_sync.iter().filter_map(|id| NodeId::new(u64::from(*id)).ok());
        let epoch = Term(lead.term).leader_epoch();
        let leader = Leader { node: from, epoch, in_sync: in_sync.collect() };
        self.leaders.learn(partition, leader);
    }

    pub(super) fn receive(&mut self, from: NodeId, frame: Frame) -> Result<usize, wire::Error> {
        let envelope = wire::Envelope::from_header(frame.header)?;
        for lead in &envelope.leads {
            self.learn(from, lead);
        }
        let now = self.now();
        self.host.handle_groups(now, from, envelope.groups, frame.payloads.into())
    }

    pub(super) fn take_done(&mut self, now: Now, done: Done) {
        let counters = &self.counters;
        counters.commits.fetch_add(1, Relaxed);
        counters.files_synced.fetch_add(done.files_synced as u64, Relaxed);
        counters.bytes_appended.fetch_add(done.bytes_appended, Relaxed);
        counters.commit_micros.fetch_add(done.took.as_micros() as u64, Relaxed);
        if let Some(space) = done.space {
            if space != self.space {
                tracing::warn!(node = %self.node, ?space, "room on the disk changed");
            }
            self.space = space;
        }
        // Segments first: their first entries are not applied before the write is done.
        for (at, first) in done.rolled {
            self.host.segment_began(at, first);
        }
        for at in done.persisted {
            self.host.persisted(now, at);
        }
        for (at, start, producers) in done.started {
            self.host.start_moved(at, start, &producers);
        }
    }

    /// Reads for a replica that lags beyond memory, off this loop.
    fn fetch(&self, at: TopicPartition, wanted: Wanted) {
        let Some(slot) = self.slots.get(&at) else { return };
        let reader = slot.view.reader().clone();
        let internal = self.internal.clone();
        tokio::task::spawn_blocking(move || {
            let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(usize::MAX);
            let entries = reader.entries(wanted.low, wanted.high, bytes_max);
            // The loop has ended: nobody waits.
            let _ = internal.send(Internal::Fetched(at, wanted, entries));
        });
    }

    pub(super) fn checkpoint(&mut self) {
        for (at, slot) in &mut self.slots {
            let Some(core) = self.host.core(*at) else { continue };
            if let Some(write) = slot.checkpoint(*at, core) {
                let _ = self.disk.send(disk::Command::Commit(write, Note::Checkpoint));
            }
        }
    }

    /// Lets go what the policies no longer keep, by logged entries, where this node leads.
    pub(super) fn retain(&mut self) {
        let now = self.now();
        let mut moves = Vec::new();
        for (at, slot) in &self.slots {
            let Some(core) = self.host.core(*at).filter(|core| core.is_leader()) else { continue };
            let reader = slot.view.reader();
            let keep_from = core.watermark().0.next();
            let retention = slot.policy.retention;
            let to: Option<LogStart> = log::log_start(
                &reader.segments(),
                reader.start(),
                retention,
                now.wall_ms,
                keep_from,
            );
            moves.extend(to.map(|start| (*at, start.offset)));
        }
        let deadline = now.mono;
        for (at, before) in moves {
            // Nobody waits for the answer: the ticket has no owner.
            self.host.delete_records(now, at, Ticket(0), before, deadline);
        }
        let idle_since = now.wall_ms - PRODUCER_EXPIRATION.as_millis() as i64;
        self.host.expire_producers(now, idle_since);
    }
}
