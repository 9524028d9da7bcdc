//! What committed entries do, on every replica alike; and how far the watermark follows.

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, SnapshotMetadata};

use super::effect::Persist;
use super::entry;
use super::producers::Producers;
use super::raft_log::Start;
use super::{Core, Now, control, watermark};
use crate::log::{self, Kind};
use crate::model::{LogIndex, Mode, Offset, ReplicaId, Term, batch};

/// The state at log start, as the data of a Raft snapshot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StartState {
    /// Of this message: 1.
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(int64, tag = "2")]
    offset: i64,
    #[prost(bytes = "bytes", tag = "4")]
    producers: Bytes,
    /// The mode at log start or later: entries that say what it says already are passed over.
    #[prost(uint64, tag = "5")]
    sid: u64,
    #[prost(bool, tag = "6")]
    degraded: bool,
}

const START_STATE_VERSION: u32 = 1;

/// The data of a log-start snapshot.
pub fn start_state(start: Start, producers: &Bytes, mode: Mode) -> Bytes {
    let state = StartState {
        version: START_STATE_VERSION,
        offset: start.offset.0,
        producers: producers.clone(),
        sid: mode.sid,
        degraded: mode.degraded,
    };
    state.encode_to_vec().into()
}

impl Core {
    pub(super) fn apply(&mut self, now: Now, committed: Vec<Entry>) {
        let Some(last) = committed.last().map(|e| LogIndex(e.index)) else { return };
        let mut persist = Persist::default();
        for raft in &committed {
            self.apply_one(now, raft, &mut persist);
        }
        self.raw.mut_store().set_applied(last);
        self.raw.advance_apply_to(last.0);
        self.move_log_start(&mut persist);
        if !persist.is_empty() {
            persist.applied = Some(last);
            self.persist_alone(persist);
        }
        if self.own_entry.is_some_and(|own| last >= own) {
            self.ready_to_lead = true;
        }
    }

    fn apply_one(&mut self, now: Now, raft: &Entry, persist: &mut Persist) {
        // The context states the offset; for Raft's own entries it does not matter here.
        let base = base_offset(raft);
        if self.segment_begins.front().is_some_and(|begin| begin.0 <= raft.index) {
            self.segment_begins.pop_front();
            persist.producers.push((LogIndex(raft.index - 1), self.producers.to_bytes()));
        }
        let entry = entry::from_raft(raft, base).expect("a committed entry was checked on append");
        match entry.kind {
            Kind::Batch => {
                let header = batch::Header::parse(&entry.payload).expect("checked on append");
                self.producers.apply(&header, entry.index, entry.append_time_ms);
            }
            Kind::Empty => {}
            Kind::ConfChange => self.apply_conf_change(now, &entry, persist),
            Kind::Control(control::LOG_START) => {
                self.log_starts.push_back((entry.index, Offset(control::value(&entry))));
            }
            Kind::Control(control::EXPIRE_PRODUCERS) => {
                self.producers.expire(control::value(&entry))
            }
            // What it is for has been done where it was proposed.
            Kind::Control(control::HAND_OFF | control::PROBE) => {}
            Kind::Control(control::MODE) => self.apply_mode(raft, &entry, persist),
            // A newer release wrote it and the feature level should have kept it from us.
            Kind::Control(other) => panic!("control entry {other} at {} is unknown", entry.index),
        }
    }

    fn apply_conf_change(&mut self, _now: Now, entry: &log::Entry, persist: &mut Persist) {
        // Only the epoch that wrote a configuration change obeys it (R3).
        if entry.term.home_epoch() != self.config.group.home_epoch {
            return;
        }
        let mut change = ConfChangeV2::default();
        change.merge_from_bytes(&entry.payload).expect("a change that this group proposed");
        match self.raw.apply_conf_change(&change) {
            Ok(conf_state) => {
                self.note_conf_generation(&change);
                self.raw.mut_store().set_conf_state(conf_state.clone());
                persist.conf_state = Some(conf_state);
            }
            // After a restart at an older snapshot a change may be applied twice; the second is void.
            Err(error) => {
                tracing::debug!(group = ?self.config.group, %error, "configuration change void")
            }
        }
    }

    /// Log start follows the watermark: what is beyond it may be cut off by the next home, which then shows what
    /// was deleted here.
    fn move_log_start(&mut self, persist: &mut Persist) {
        while let Some((index, to)) = self.log_starts.pop_front_if(|(at, _)| *at <= self.watermark)
        {
            if to > self.log_start {
                self.log_start = to;
                persist.log_start = Some(to);
            }
            self.waiters.deleted(index, self.log_start, &mut self.effects);
        }
    }

    /// Moves the watermark as far as the rules let it, then answers who waited for it.
    pub(super) fn advance_watermark(&mut self, now: Now) {
        let to = if self.is_leader() {
            watermark::advance(self.watermark, self.bounds())
        } else {
            let of_term = |(term, index): (Term, LogIndex)| {
                if term == self.term() { index } else { LogIndex::ZERO }
            };
            // What is committed matches every leader's log, and a heartbeat commits no more than
            // an append of its term has verified. A replica that comes back to a quiet partition
            // has nothing else to go by: no append comes.
            let verified = of_term(self.verified).max(self.committed());
            let claimed = of_term(self.claimed);
            watermark::exposed(self.watermark, claimed, verified, self.log().persisted())
        };
        if to > self.watermark {
            self.move_watermark(now, to);
            self.staleness.reached(to);
            let mut persist = Persist::default();
            self.move_log_start(&mut persist);
            if !persist.is_empty() {
                self.persist_alone(persist);
            }
        }
        let persisted = self.log().persisted();
        let fenced = self.is_fenced();
        let acked = if fenced { LogIndex::ZERO } else { self.watermark };
        let on_disk = if fenced || self.config.ack.sync_to > 0 { acked } else { persisted };
        self.waiters.answer(acked, on_disk, self.log_start, &mut self.effects);
    }

    fn move_watermark(&mut self, now: Now, to: LogIndex) {
        self.watermark = to;
        let mut bytes = 0;
        while let Some(position) = self.beyond.front().copied().filter(|p| p.index <= to) {
            self.high_watermark = self.high_watermark.max(position.next_offset);
            bytes += position.bytes;
            self.beyond.pop_front();
        }
        self.beyond_bytes -= bytes;
        if self.is_leader() {
            let matched = self.raw.raft.prs().iter().map(|(_, p)| LogIndex(p.matched));
            let everywhere = matched.min().unwrap_or_default();
            self.samples.moved(now.mono, self.ticks, to, self.high_watermark, bytes);
            self.samples.forget(everywhere);
            self.accepted.forget(everywhere);
            let me = self.config.me;
            let others: Vec<ReplicaId> =
                self.config.members.keys().copied().filter(|id| *id != me).collect();
            for to in others {
                self.send(to, None);
            }
        }
    }

    fn bounds(&self) -> watermark::Bounds {
        let min_in_sync = self.config.ack.min_in_sync;
        let mut voters = self.matched_where(|_, voter| voter);
        watermark::Bounds {
            committed: self.committed(),
            min_in_sync: watermark::at_least(&mut voters, min_in_sync),
            gate: watermark::at_least(&mut self.safe_by_remote_dc(), self.sync_to()),
            own_term: self.own_entry.unwrap_or(LogIndex(u64::MAX)),
        }
    }

    /// R4, per remote DC: what a majority of its replicas has on disk.
    pub(super) fn safe_by_remote_dc(&self) -> Vec<LogIndex> {
        self.safe_by_dc()
            .into_iter()
            .filter(|(dc, _)| *dc != self.config.home)
            .map(|(_, safe)| safe)
            .collect()
    }

    fn matched_where(&self, of: impl Fn(ReplicaId, bool) -> bool) -> Vec<LogIndex> {
        let members = self.config.members.iter().filter(|(id, m)| of(**id, m.voter));
        members.map(|(id, _)| self.matched_of(*id)).collect()
    }

    /// How far the replica's disk is, as its leader knows it.
    pub fn matched_of(&self, id: ReplicaId) -> LogIndex {
        LogIndex(self.raw.raft.prs().get(id.0).map_or(0, |p| p.matched))
    }

    pub(super) fn read_start_state(
        &mut self,
        metadata: &SnapshotMetadata,
        data: &[u8],
    ) -> (Start, Bytes, Mode) {
        let state = StartState::decode(data).expect("a snapshot of this version's leader");
        assert!(state.version == START_STATE_VERSION, "snapshot version {}", state.version);
        self.producers =
            Producers::from_bytes(&state.producers).expect("producers of this version");
        // What was deleted beyond it is deleted again: that entry is after `start`, since it was
        // appended after the records that it deleted.
        self.log_start = self.log_start.max(Offset(state.offset));
        let start = Start {
            index: LogIndex(metadata.index),
            term: Term(metadata.term),
            offset: Offset(state.offset),
        };
        (start, state.producers, Mode { sid: state.sid, degraded: state.degraded })
    }
}

fn base_offset(raft: &Entry) -> Offset {
    let bytes = raft.context.get(9..17).map(|b| b.try_into().expect("a slice of eight bytes"));
    Offset(bytes.map_or(0, i64::from_be_bytes))
}
