//! What raft-rs has ready: messages, entries to write, committed entries to apply.
//!
//! The order that must hold: a leader's appends may leave at once (Raft thesis §10.2.1); every
//! other message waits for the write of its own Ready *and of every earlier one*, since a
//! persisted message of this Ready may acknowledge entries of an earlier one. But for answers to
//! heartbeats: they acknowledge nothing that is written, save the term. A disk that takes its time
//! would else keep them, and a leader whose followers' disks are busy would step down.

use raft::eraftpb::{Message, MessageType, Snapshot};
use raft::{ProgressState, Ready, SnapshotStatus};

use super::config::LEARNER_HEARTBEATS;
use super::effect::{Effect, Persist, Reset};
use super::{Core, Now, Position, appends, control};
use crate::log;
use crate::model::{LogIndex, ReplicaId, Term};

/// A Ready whose write is under way, oldest first.
pub(super) struct Unpersisted {
    number: u64,
    last: LogIndex,
    /// A snapshot that it installs: applied once it is on disk.
    installs: Option<LogIndex>,
    /// A term or a vote.
    votes: bool,
    /// Leave when it is done.
    messages: Vec<Message>,
}

impl Core {
    pub(super) fn drain_ready(&mut self, now: Now) {
        while self.raw.has_ready() {
            let ready = self.raw.ready();
            self.handle_ready(now, ready);
        }
        self.pings = false;
    }

    fn handle_ready(&mut self, now: Now, mut ready: Ready) {
        let mut persist = Persist::default();
        if !ready.snapshot().is_empty() {
            persist.reset = Some(self.install(ready.snapshot()));
        }
        let (entries, cut) = self.raw.mut_store().append(ready.take_entries());
        self.note_positions(&entries, cut);
        self.note_replaced(
            persist.reset.as_ref().map(|r| r.start.index).or(cut.map(LogIndex::prev)),
        );
        persist.entries = entries;
        persist.truncate_from = cut;
        if let Some(hard_state) = ready.hs() {
            let before = self.log().hard_state();
            if (before.term, before.vote) != (hard_state.term, hard_state.vote) {
                persist.vote = Some((Term(hard_state.term), ReplicaId(hard_state.vote)));
            }
            let hard_state = hard_state.clone();
            self.raw.mut_store().set_hard_state(hard_state);
        }
        for read in ready.take_read_states() {
            self.confirmed(&read);
        }
        for message in ready.take_messages() {
            self.send_raft(message);
        }
        let mut messages = ready.take_persisted_messages();
        self.note_verified(&messages);
        let knows_term = persist.vote.is_none() && !self.unpersisted.iter().any(|w| w.votes);
        let is_prompt =
            |m: &mut Message| knows_term && m.get_msg_type() == MessageType::MsgHeartbeatResponse;
        let prompt: Vec<Message> = messages.extract_if(.., is_prompt).collect();
        self.send_all(prompt);
        let committed = ready.take_committed_entries();
        let number = ready.number();
        self.raw.advance_append_async(ready);
        self.queue_write(number, persist, messages);
        self.apply(now, committed);
    }

    /// Entries after `kept` were replaced: that a write of them ends says nothing of those that stand
    /// in their place.
    fn note_replaced(&mut self, kept: Option<LogIndex>) {
        let Some(kept) = kept else { return };
        for write in &mut self.unpersisted {
            write.last = write.last.min(kept);
        }
    }

    /// Queues the write, or, where there is nothing to write, lets the messages follow the last
    /// write under way.
    fn queue_write(&mut self, number: u64, persist: Persist, messages: Vec<Message>) {
        let last = self.log().last();
        if !persist.is_empty() {
            let installs = persist.reset.as_ref().map(|reset| reset.start.index);
            let votes = persist.vote.is_some();
            self.unpersisted.push_back(Unpersisted { number, last, installs, votes, messages });
            self.effects.push_back(Effect::Persist(Box::new(persist)));
        } else if let Some(newest) = self.unpersisted.back_mut() {
            newest.number = number;
            newest.messages.extend(messages);
        } else {
            self.raw.on_persist_ready(number);
            self.send_all(messages);
        }
    }

    /// The oldest write is on disk.
    pub(super) fn persisted(&mut self) {
        let done = self.unpersisted.pop_front().expect("a write is done once");
        self.raw.mut_store().set_persisted(done.last);
        self.raw.on_persist_ready(done.number);
        if let Some(index) = done.installs {
            // Else a campaign looks for configuration changes in entries that are no more here.
            self.raw.advance_apply_to(index.0);
        }
        self.send_all(done.messages);
    }

    /// A snapshot is on its way to the disk: this replica stands nowhere, and must not campaign.
    pub(super) fn is_installing(&self) -> bool {
        self.unpersisted.iter().any(|write| write.installs.is_some())
    }

    /// A write that is no Ready's: it takes its place in the order all the same.
    pub(super) fn persist_alone(&mut self, persist: Persist) {
        let number = self.unpersisted.back().map_or(0, |newest| newest.number);
        let last = self.unpersisted.back().map_or(self.log().persisted(), |newest| newest.last);
        self.unpersisted.push_back(Unpersisted {
            number,
            last,
            installs: None,
            votes: false,
            messages: Vec::new(),
        });
        self.effects.push_back(Effect::Persist(Box::new(persist)));
    }

    fn send_all(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.send_raft(message);
        }
    }

    fn send_raft(&mut self, message: Message) {
        let to = ReplicaId(message.to);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            // A log-start snapshot is one small message: probe at once. If it was lost, the probe
            // is rejected and it is sent again.
            let id = message.to;
            self.send(to, Some(message));
            self.raw.report_snapshot(id, SnapshotStatus::Finish);
        } else if message.get_msg_type() == MessageType::MsgAppend {
            let progress = self.raw.raft.prs().get(message.to);
            let is_probed = progress.is_some_and(|p| p.state == ProgressState::Probe);
            if is_probed && self.probes.is_under_way(self.ticks, &message) {
                return;
            }
            for part in appends::split(message, self.config.append_bytes_max) {
                self.send(to, Some(part));
            }
        } else if !self.is_idle_heartbeat(&message) {
            self.send(to, Some(message));
        }
    }

    /// A heartbeat that tells a caught-up learner nothing: it may be left out, but for one in
    /// [`LEARNER_HEARTBEATS`].
    fn is_idle_heartbeat(&self, message: &Message) -> bool {
        if self.pings || message.get_msg_type() != MessageType::MsgHeartbeat {
            return false;
        }
        let to = ReplicaId(message.to);
        let learns = self.config.members.get(&to).is_some_and(|m| !m.voter);
        let lacks_nothing = self.matched_of(to) == self.log().last();
        let length = u64::from(self.config.timing.heartbeat_ticks.max(1));
        // Rounded up: what is sent at or before the round's tick leaves with that round.
        let heartbeat = (self.phase + self.ticks).div_ceil(length);
        learns && lacks_nothing && !heartbeat.is_multiple_of(LEARNER_HEARTBEATS)
    }

    /// Every accepted append tells up to where our log equals the leader's (R27).
    fn note_verified(&mut self, messages: &[Message]) {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject {
                self.verified = self.verified.max((Term(message.term), LogIndex(message.index)));
            }
        }
    }

    /// Begins anew at a log-start snapshot: everything before it has left the leader's log.
    fn install(&mut self, snapshot: &Snapshot) -> Reset {
        let metadata = snapshot.get_metadata();
        let (start, producers, mode) = self.read_start_state(metadata, &snapshot.data);
        let conf_state = metadata.get_conf_state().clone();
        self.raw.mut_store().reset(start, snapshot.data.clone(), conf_state);
        self.beyond.clear();
        self.beyond_bytes = 0;
        self.hand_off_at = None;
        self.watermark = self.watermark.max(start.index);
        self.high_watermark = self.high_watermark.max(start.offset);
        self.modes.reset(mode);
        Reset { start, producers, mode: self.mode() }
    }

    fn note_positions(&mut self, entries: &[log::Entry], cut: Option<LogIndex>) {
        self.modes.note(self.config.group.home_epoch, entries, cut);
        if let Some(last) = entries.last() {
            let ends = last.kind == log::Kind::Control(control::HAND_OFF);
            self.hand_off_at = ends.then_some(last.index);
        } else if cut.is_some() {
            self.hand_off_at = None;
        }
        if let Some(cut) = cut {
            let kept = self.beyond.partition_point(|p| p.index < cut);
            self.beyond_bytes -= self.beyond.drain(kept..).map(|p| p.bytes).sum::<usize>();
        }
        let position = |e: &log::Entry| Position {
            index: e.index,
            next_offset: e.next_offset(),
            bytes: e.payload.len(),
        };
        self.beyond.extend(entries.iter().map(position));
        self.beyond_bytes += entries.iter().map(|e| e.payload.len()).sum::<usize>();
    }
}
