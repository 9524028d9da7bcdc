//! Carrying out what a round wants, and taking in what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use isobar_topology::NodeId;
use isobar_transport::Frame;

use super::disk::{self, Done, Note};
use super::replicas::{Outcome, Replicate, lead_frames};
use super::{Driver, Internal, Network, Waiting};
use crate::log::{self, Reader};
use crate::model::{LeaderEpoch, Term, TopicPartition};
use crate::replica::core::Now;
use crate::replica::core::effect::RangeWanted;
use crate::replica::core::raft_log::Wanted;
use crate::replica::host::Answers;
use crate::replica::{Leader, wire};

impl<N: Network> Driver<N> {
    /// Ends the round and carries it out.
    pub(super) fn end_round(&mut self) {
        let now = self.now();
        let outcome = self.replicas.end_round(now);
        let Outcome { replication, control, leads, writes, reads, ranges, .. } = outcome;
        let Outcome { answers, elected, asks, .. } = outcome;
        self.count_elections(&elected);
        for Replicate { to, key, of_meta, frame } in replication {
            match of_meta {
                true => self.network.metadata(to, key, frame),
                false => self.network.replication(to, key, frame),
            }
        }
        for (to, frame) in control {
            self.network.control(to, frame);
        }
        self.tell_everyone(&leads);
        for write in writes {
            let at = write.partition;
            let Some(epoch) = self.replicas.home_epoch(at) else { continue };
            self.disks.tell(at, disk::Command::Commit(write, Note::Persist(epoch)));
        }
        self.answer(answers);
        for (at, wanted, reader) in reads {
            self.fetch(at, wanted, reader);
        }
        for wanted in ranges {
            self.fetch_range(wanted);
        }
        for ask in asks {
            // Full, or nobody asks `__meta` any more: the core asks again.
            let _ = self.asks.try_send(ask);
        }
    }

    /// Counts them, and tells of leaders that were replaced: a line for all of a round, since a node that dies may have
    /// led thousands.
    fn count_elections(&self, elected: &[(TopicPartition, LeaderEpoch)]) {
        if elected.is_empty() {
            return;
        }
        self.counters.elections.fetch_add(elected.len() as u64, Relaxed);
        let mut replaced =
            elected.iter().filter_map(|&(at, epoch)| Some((at, epoch, self.leaders.of(at)?)));
        if let Some((partition, epoch, Leader { node: was, epoch: was_epoch, .. })) =
            replaced.next()
        {
            let (node, more) = (self.node, replaced.count());
            tracing::info!(%node, %partition, epoch, %was, was_epoch, more, "elected leader");
        }
    }

    pub(super) fn answer(&mut self, answers: Answers) {
        let Answers { replies, deleted, handed_off, confirmed } = answers;
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
        for (ticket, answer) in handed_off {
            if let Some(Waiting::HandOff(reply)) = self.waiting.remove(&ticket) {
                let _ = reply.send(answer);
            }
        }
        for (ticket, answer) in confirmed {
            if let Some(Waiting::Confirm(reply)) = self.waiting.remove(&ticket) {
                let _ = reply.send(answer);
            }
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
        let leads = self.replicas.host.leads();
        self.send_leads(node, &leads);
    }

    fn send_leads(&self, to: NodeId, leads: &[wire::Lead]) {
        for frame in lead_frames(leads) {
            self.network.control(to, frame);
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

    /// Returns how many group messages were for nobody here.
    pub(super) fn receive(&mut self, from: NodeId, frame: Frame) -> Result<usize, wire::Error> {
        let heard = self.replicas.receive(self.now(), from, frame)?;
        for lead in &heard.leads {
            self.learn(from, lead);
        }
        Ok(heard.dropped)
    }

    pub(super) fn take_done(&mut self, now: Now, done: Done) {
        let counters = &self.counters;
        counters.commits.fetch_add(1, Relaxed);
        counters.files_synced.fetch_add(done.files_synced as u64, Relaxed);
        counters.bytes_appended.fetch_add(done.bytes_appended, Relaxed);
        counters.commit_micros.fetch_add(done.took.as_micros() as u64, Relaxed);
        self.replicas.done(now, done);
    }

    /// Reads for a replica that lags beyond memory, off this loop.
    fn fetch(&self, at: TopicPartition, wanted: Wanted, reader: Reader) {
        let internal = self.internal.clone();
        tokio::task::spawn_blocking(move || {
            let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(usize::MAX);
            let entries = reader.entries(wanted.low, wanted.high, bytes_max);
            // The loop has ended: nobody waits.
            let _ = internal.send(Internal::Fetched(at, wanted, entries));
        });
    }

    /// Asks another node for entries; its answer is checked before this loop sees it.
    fn fetch_range(&self, wanted: RangeWanted) {
        let (internal, counters) = (self.internal.clone(), Arc::clone(&self.counters));
        let take = move |range: Option<Bytes>| {
            let bytes = range.as_ref().map_or(0, Bytes::len);
            let at = wanted.group.partition;
            let parsed = range.map(|range| log::parse_range(at, &range));
            let entries = match parsed {
                Some(Ok(entries)) => Some(entries),
                Some(Err(bad)) => {
                    tracing::warn!(partition = %at, source = %wanted.source, %bad, "a range was refused");
                    None
                }
                None => None,
            };
            match &entries {
                Some(_) => {
                    counters.ranges_fetched.fetch_add(1, Relaxed);
                    counters.range_bytes_fetched.fetch_add(bytes as u64, Relaxed);
                }
                None => {
                    counters.ranges_failed.fetch_add(1, Relaxed);
                }
            }
            // The loop has ended: nobody waits.
            let _ = internal.send(Internal::Ranged(wanted, entries));
        };
        self.network.range(wanted.source, wire::range::Want::of(&wanted), Box::new(take));
    }

    pub(super) fn checkpoint(&mut self) {
        for write in self.replicas.checkpoint() {
            self.disks.tell(write.partition, disk::Command::Commit(write, Note::Checkpoint));
        }
    }
}
