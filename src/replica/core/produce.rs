//! Produce on the leader: what is refused before append, what is appended, who waits for what.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft::eraftpb::{Entry, Message, MessageType};

use super::budget::Ruling;
use super::config::UNGATED_BYTES_MAX;
use super::effect::{Effect, Ticket};
use super::producers::Verdict;
use super::{Core, Now, control, entry};
use crate::log::Kind;
use crate::model::{LogIndex, Offset, batch};
use crate::replica::{Acks, ProduceError, Produced};

/// Requests that wait in one partition, for an acknowledgement or for the exposure budget. A client has five in flight per
/// connection; ten thousand is two thousand producers at once.
const WAITERS_MAX: usize = 10_000;

/// A produce that waits for the end of the round, so that a round's batches go to Raft in one
/// proposal.
#[derive(Debug)]
pub struct Queued {
    pub ticket: Ticket,
    /// Each has passed `batch::check`.
    pub batches: Vec<Bytes>,
    pub acks: Acks,
    /// On the monotonic clock.
    pub deadline: Duration,
}

impl Queued {
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    pub fn records(&self) -> i64 {
        self.batches.iter().map(records_in).sum()
    }
}

#[derive(Debug)]
enum Answer {
    Produced(Produced),
    Deleted,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    index: LogIndex,
    deadline: Duration,
    answer: Answer,
}

/// Who waits, in index order: for the watermark, and (acks=1) for the leader's own disk.
#[derive(Debug, Default)]
pub struct Waiters {
    all: VecDeque<Waiter>,
    leader: VecDeque<Waiter>,
    deleted: VecDeque<Waiter>,
}

impl Core {
    /// Takes a produce; [`Core::flush`] appends it with the others of this round.
    pub fn queue_produce(&mut self, queued: Queued) {
        self.queued.push(queued);
    }

    pub fn has_queued(&self) -> bool {
        !self.queued.is_empty() || !self.held.is_empty()
    }

    /// Appends what was queued, in one proposal.
    pub fn flush(&mut self, now: Now) {
        let queued = std::mem::take(&mut self.queued);
        let mut entries = Vec::with_capacity(queued.len());
        while let Some((held, pause)) = self.release(now, &entries) {
            self.take_or_refuse(now, held, pause, &mut entries);
        }
        for produce in queued {
            match self.rule(now, produce, &entries) {
                Ruling::Take(produce, pause) => {
                    self.take_or_refuse(now, produce, pause, &mut entries);
                }
                Ruling::Held => {}
                Ruling::Refuse(produce, refused) => self.refuse(now, &produce, refused),
            }
        }
        if let Some(last) = entries.last() {
            let index = LogIndex(self.raw.raft.raft_log.last_index() + entries.len() as u64);
            let end = batch::Header::parse(&last.data).expect("placed by us").next_offset();
            let bytes = bytes_of(&entries) as usize;
            self.accepted.moved(now.mono, self.ticks, index, end, bytes);
            self.propose(entries);
        }
        self.process(now);
    }

    fn take_or_refuse(
        &mut self,
        now: Now,
        produce: Queued,
        pause: Duration,
        entries: &mut Vec<Entry>,
    ) {
        if let Err(refused) = self.take(now, &produce, pause, entries) {
            self.refuse(now, &produce, refused);
        }
    }

    /// Answers that nothing of it was appended.
    pub(super) fn refuse(&mut self, now: Now, produce: &Queued, refused: ProduceError) {
        if self.is_leader() {
            for bytes in &produce.batches {
                let header = batch::Header::parse(bytes).expect("the caller has checked it");
                self.producers.refused(now.mono, &header);
            }
        }
        self.effects.push_back(Effect::Reply(produce.ticket, Err(refused)));
    }

    /// Whether all of it is in the log.
    pub(super) fn is_known_already(&self, produce: &Queued) -> bool {
        produce.batches.iter().all(|bytes| {
            let header = batch::Header::parse(bytes).expect("the caller has checked it");
            matches!(self.producers.check(&header), Verdict::Duplicate { .. })
        })
    }

    /// Moves log start to `before`, by a logged entry (R24). Beyond the watermark it is refused.
    pub fn delete_records(&mut self, now: Now, ticket: Ticket, before: Offset, deadline: Duration) {
        if let Err(refused) = self.admit() {
            self.effects.push_back(Effect::Deleted(ticket, Err(refused)));
        } else if before <= self.log_start {
            self.effects.push_back(Effect::Deleted(ticket, Ok(self.log_start)));
        } else {
            let to = before.min(self.high_watermark);
            let index = self.propose_control(now, control::LOG_START, to.0);
            let answer = Answer::Deleted;
            self.waiters.deleted.push_back(Waiter { ticket, index, deadline, answer });
        }
        self.process(now);
    }

    /// Whether [`Core::expire_producers`] would do anything.
    pub fn has_expired_producers(&self, before_ms: i64) -> bool {
        let due = self.producers.oldest_ms().is_some_and(|oldest| oldest < before_ms);
        due && self.admit().is_ok()
    }

    /// Forgets producers idle since before `before_ms`, by a logged entry (R24).
    pub fn expire_producers(&mut self, now: Now, before_ms: i64) {
        if self.has_expired_producers(before_ms) {
            self.propose_control(now, control::EXPIRE_PRODUCERS, before_ms);
            self.process(now);
        }
    }

    /// What stands against any append now, before anything is written.
    pub(super) fn admit(&self) -> Result<(), ProduceError> {
        let leads = self.is_leader() && self.raw.raft.lead_transferee.is_none();
        if !leads || self.raw.raft.prs().get(self.config.me.0).is_none() {
            return Err(ProduceError::NotLeader);
        }
        if !self.ready_to_lead {
            return Err(ProduceError::LeaderNotReady);
        }
        if self.handing_off.is_some() {
            // The next home's leader takes it.
            return Err(ProduceError::NotLeader);
        }
        if self.is_fenced() {
            return Err(ProduceError::Fenced);
        }
        let ack = self.config.ack;
        if self.voters_heard() < ack.min_in_sync || self.current_remote_dcs() < self.sync_to() {
            return Err(ProduceError::NotEnoughReplicas);
        }
        Ok(())
    }

    fn take(
        &mut self,
        now: Now,
        produce: &Queued,
        pause: Duration,
        entries: &mut Vec<Entry>,
    ) -> Result<(), ProduceError> {
        self.admit()?;
        if bytes_of(entries) as usize + self.beyond_bytes > UNGATED_BYTES_MAX {
            return Err(ProduceError::NotEnoughReplicas);
        }
        if self.waiters.len() + self.held.len() >= WAITERS_MAX {
            return Err(ProduceError::Busy);
        }
        let mut produced: Option<(Produced, LogIndex)> = None;
        let mut accepted = Vec::with_capacity(produce.batches.len());
        for bytes in &produce.batches {
            let header = batch::Header::parse(bytes).expect("the caller has checked it");
            match self.producers.check(&header) {
                Verdict::Append => accepted.push(bytes),
                Verdict::Duplicate { base_offset, next_offset, index } => {
                    let copy = self.produced(base_offset, next_offset, true);
                    produced = Some((copy, index));
                }
                Verdict::AfterLoss { expected, found } => {
                    if !self.producers.take_after_gap(now.mono, &header) {
                        return Err(ProduceError::AfterLoss { expected, found });
                    }
                    let (partition, producer) = (self.config.group.partition, header.producer_id);
                    tracing::info!(%partition, producer, expected, found, "a producer goes on after the cut");
                    accepted.push(bytes);
                }
                Verdict::OutOfOrder { expected, found } => {
                    return Err(ProduceError::OutOfOrderSequence { expected, found });
                }
                Verdict::StaleEpoch { known } => {
                    return Err(ProduceError::InvalidProducerEpoch { known });
                }
            }
        }
        for bytes in accepted {
            let (base, next, index) = self.append(now, bytes, entries);
            let first = produced.map_or(base, |(p, _)| p.base_offset);
            produced = Some((self.produced(first, next, false), index));
        }
        let (mut answer, index) = produced.expect("a produce has at least one batch");
        answer.throttle = pause;
        answer.log_append_time_ms = self.config.ack.log_append_time.then_some(now.wall_ms);
        let Queued { ticket, deadline, acks, .. } = *produce;
        let waiter = Waiter { ticket, index, deadline, answer: Answer::Produced(answer) };
        self.waiters.add(waiter, acks, self.config.ack.sync_to);
        Ok(())
    }

    /// Places one batch after everything that is appended or about to be.
    fn append(
        &mut self,
        now: Now,
        bytes: &[u8],
        entries: &mut Vec<Entry>,
    ) -> (Offset, Offset, LogIndex) {
        let base = match entries.last() {
            Some(last) => batch::Header::parse(&last.data).expect("placed below").next_offset(),
            None => self.log().next_offset(),
        };
        let index = LogIndex(self.raw.raft.raft_log.last_index() + 1 + entries.len() as u64);
        let mut placed = BytesMut::from(bytes);
        batch::place(&mut placed, base, self.term().leader_epoch());
        if self.config.ack.log_append_time {
            batch::stamp(&mut placed, now.wall_ms);
        }
        let header = batch::Header::parse(&placed).expect("the caller has checked it");
        self.producers.appended(&header, index, now.wall_ms);
        let mut raft = Entry::default();
        raft.context = entry::context(Kind::Batch, now.wall_ms, base);
        raft.data = placed.freeze();
        entries.push(raft);
        (base, header.next_offset(), index)
    }

    fn produced(&self, base_offset: Offset, next_offset: Offset, duplicate: bool) -> Produced {
        Produced {
            base_offset,
            next_offset,
            leader_epoch: self.term().leader_epoch(),
            log_append_time_ms: None,
            throttle: Duration::ZERO,
            log_start: self.log_start,
            duplicate,
        }
    }

    pub(super) fn propose_control(&mut self, now: Now, kind: u8, value: i64) -> LogIndex {
        self.propose_control_of(now, kind, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    pub(super) fn propose_control_of(&mut self, now: Now, kind: u8, payload: Bytes) -> LogIndex {
        let mut raft = Entry::default();
        let base = self.log().next_offset();
        raft.context = entry::context(Kind::Control(kind), now.wall_ms, base);
        raft.data = payload;
        let index = LogIndex(self.raw.raft.raft_log.last_index() + 1);
        self.propose(vec![raft]);
        index
    }

    fn propose(&mut self, entries: Vec<Entry>) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.me.0;
        message.set_entries(entries.into());
        self.raw.step(message).expect("a leader that is not handing over takes proposals");
    }
}

/// How many offsets a batch takes.
fn records_in(batch: &Bytes) -> i64 {
    let header = batch::Header::parse(batch).expect("the caller has checked it");
    header.next_offset().0 - header.base_offset.0
}

pub(super) fn records_of(entries: &[Entry]) -> i64 {
    entries.iter().map(|e| records_in(&e.data)).sum()
}

pub(super) fn bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(|e| e.data.len() as u64).sum()
}

impl Waiters {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.leader.is_empty() && self.deleted.is_empty()
    }

    fn len(&self) -> usize {
        self.all.len() + self.leader.len() + self.deleted.len()
    }

    fn add(&mut self, waiter: Waiter, acks: Acks, sync_to: usize) {
        let queue = match acks {
            Acks::Leader if sync_to == 0 => &mut self.leader,
            Acks::Leader | Acks::All => &mut self.all,
        };
        // A retry waits for the first copy's index, which may be below the last waiter's.
        let at = queue.partition_point(|w| w.index <= waiter.index);
        queue.insert(at, waiter);
    }

    /// Answers those whose record is at or below the watermark (`acked`) or on disk.
    pub fn answer(
        &mut self,
        acked: LogIndex,
        on_disk: LogIndex,
        log_start: Offset,
        effects: &mut VecDeque<Effect>,
    ) {
        for (queue, to) in [(&mut self.all, acked), (&mut self.leader, on_disk)] {
            while queue.front().is_some_and(|w| w.index <= to) {
                let waiter = queue.pop_front().expect("there is one");
                if let Answer::Produced(produced) = waiter.answer {
                    let answer = Produced { log_start, ..produced };
                    effects.push_back(Effect::Reply(waiter.ticket, Ok(answer)));
                }
            }
        }
    }

    /// Log start has moved as the entry at `index` says.
    pub fn deleted(&mut self, index: LogIndex, log_start: Offset, effects: &mut VecDeque<Effect>) {
        while self.deleted.front().is_some_and(|w| w.index <= index) {
            let waiter = self.deleted.pop_front().expect("there is one");
            effects.push_back(Effect::Deleted(waiter.ticket, Ok(log_start)));
        }
    }

    pub fn expire(&mut self, now: Duration, effects: &mut VecDeque<Effect>) {
        self.drop_where(|w| w.deadline <= now, ProduceError::TimedOut, effects);
    }

    pub fn fail_all(&mut self, effects: &mut VecDeque<Effect>) {
        self.drop_where(|_| true, ProduceError::NotLeader, effects);
    }

    fn drop_where(
        &mut self,
        mut gone: impl FnMut(&Waiter) -> bool,
        why: ProduceError,
        effects: &mut VecDeque<Effect>,
    ) {
        for queue in [&mut self.all, &mut self.leader, &mut self.deleted] {
            queue.retain(|waiter| {
                let keep = !gone(waiter);
                if !keep {
                    effects.push_back(match waiter.answer {
                        Answer::Produced(_) => Effect::Reply(waiter.ticket, Err(why)),
                        Answer::Deleted => Effect::Deleted(waiter.ticket, Err(why)),
                    });
                }
                keep
            });
        }
    }
}
