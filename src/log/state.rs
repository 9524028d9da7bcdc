//! What a replica must never forget, as the state journal keeps it.

use prost::Message;

use crate::model::{HomeEpoch, LogIndex, Mode, Offset, ReplicaId, Term, TopicId, TopicPartition};

/// A place in the log: the entry `(index, term)`, and the offset after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub index: LogIndex,
    pub term: Term,
    pub offset: Offset,
}

/// Where the log begins.
///
/// `index` and `term` are those of the last entry before it, as of a Raft snapshot; they sit before
/// a segment's first entry, so segments stay the same everywhere. `offset` is the first that clients
/// may read, and may lie inside that segment, also inside a batch (DeleteRecords).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStart {
    pub index: LogIndex,
    pub term: Term,
    pub offset: Offset,
}

/// The high watermark: inclusive as a log index, exclusive as an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HighWatermark {
    pub index: LogIndex,
    pub offset: Offset,
}

/// Raft's configuration, in its words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfState {
    pub voters: Vec<ReplicaId>,
    pub learners: Vec<ReplicaId>,
    pub voters_outgoing: Vec<ReplicaId>,
    pub learners_next: Vec<ReplicaId>,
    pub auto_leave: bool,
}

/// The durable state of one replica (R26), but for what the log itself keeps beside it: log start,
/// HW checkpoint and durable mark, which `Recovered` gives back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaState {
    pub replica: ReplicaId,
    pub home_epoch: HomeEpoch,
    /// Promised to a failover: nothing older is accepted any more (R10).
    pub promised: HomeEpoch,
    pub term: Term,
    pub vote: Option<ReplicaId>,
    /// F, the cut at which this home epoch began; `None` in the first.
    pub fork: Option<Position>,
    /// As of `applied`, or of a later entry (R7, R8).
    pub mode: Mode,
    pub placement_generation: u64,
    /// As of `applied`.
    pub conf: ConfState,
    pub applied: LogIndex,
    /// Installing a snapshot, or refetching after corruption: not eligible, not counted (R23).
    pub installing: bool,
}

impl ReplicaState {
    /// Whether going from `self` to `next` must be durable before a message leaves. An applied
    /// index alone may be forgotten: what it says is applied again from the log.
    pub(super) fn must_sync(&self, next: &Self) -> bool {
        *self != Self { applied: self.applied, ..next.clone() }
    }
}

/// Everything that the journal keeps of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) topic_name: String,
    pub(super) state: ReplicaState,
    pub(super) start: LogStart,
    pub(super) hw: HighWatermark,
    /// All up to here had been synced (R21). Lags the truth, never leads it.
    pub(super) durable: LogIndex,
    /// A reset that has begun: the log is emptied and starts here. Finished at recovery.
    pub(super) resetting: Option<LogStart>,
}

/// One journal record. Field numbers are for ever; a number that went is not used again.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(message, optional, tag = "3")]
    kept: Option<KeptRecord>,
    #[prost(message, optional, tag = "4")]
    checkpoint: Option<CheckpointRecord>,
    #[prost(bool, tag = "5")]
    removed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointRecord {
    #[prost(uint64, tag = "1")]
    hw_index: u64,
    #[prost(int64, tag = "2")]
    hw_offset: i64,
    #[prost(uint64, tag = "3")]
    durable: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PositionRecord {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(int64, tag = "3")]
    offset: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeptRecord {
    #[prost(string, tag = "1")]
    topic_name: String,
    #[prost(uint64, tag = "2")]
    replica: u64,
    #[prost(uint32, tag = "3")]
    home_epoch: u32,
    #[prost(uint32, tag = "4")]
    promised: u32,
    #[prost(uint64, tag = "5")]
    term: u64,
    #[prost(uint64, optional, tag = "6")]
    vote: Option<u64>,
    #[prost(message, optional, tag = "7")]
    fork: Option<PositionRecord>,
    #[prost(uint64, tag = "9")]
    sid: u64,
    #[prost(uint64, tag = "10")]
    placement_generation: u64,
    #[prost(uint64, repeated, tag = "11")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "12")]
    learners: Vec<u64>,
    #[prost(uint64, repeated, tag = "13")]
    voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "14")]
    learners_next: Vec<u64>,
    #[prost(bool, tag = "15")]
    auto_leave: bool,
    #[prost(uint64, tag = "16")]
    applied: u64,
    #[prost(bool, tag = "17")]
    installing: bool,
    #[prost(message, optional, tag = "18")]
    start: Option<PositionRecord>,
    #[prost(message, optional, tag = "19")]
    checkpoint: Option<CheckpointRecord>,
    #[prost(message, optional, tag = "20")]
    resetting: Option<PositionRecord>,
    #[prost(bool, tag = "21")]
    degraded: bool,
}

/// A journal record, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Keep(TopicPartition, Box<Kept>),
    Checkpoint(TopicPartition, HighWatermark, LogIndex),
    Remove(TopicPartition),
}

fn ids(raw: Vec<u64>) -> Vec<ReplicaId> {
    raw.into_iter().map(ReplicaId).collect()
}

fn raws(ids: &[ReplicaId]) -> Vec<u64> {
    ids.iter().map(|id| id.0).collect()
}

impl From<LogStart> for PositionRecord {
    fn from(start: LogStart) -> Self {
        Self { index: start.index.0, term: start.term.0, offset: start.offset.0 }
    }
}

impl From<&PositionRecord> for LogStart {
    fn from(record: &PositionRecord) -> Self {
        Self {
            index: LogIndex(record.index),
            term: Term(record.term),
            offset: Offset(record.offset),
        }
    }
}

impl Change {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (id, kept, checkpoint, removed) = match self {
            Self::Keep(id, kept) => (id, Some(kept.as_ref().into()), None, false),
            Self::Checkpoint(id, hw, durable) => {
                (id, None, Some(CheckpointRecord::new(*hw, *durable)), false)
            }
            Self::Remove(id) => (id, None, None, true),
        };
        let topic = id.topic.0.to_vec();
        Record { topic, partition: id.partition, kept, checkpoint, removed }.encode_to_vec()
    }

    /// `None` for what no version of ours wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let record = Record::decode(bytes).ok()?;
        let topic = TopicId(record.topic.try_into().ok()?);
        let id = TopicPartition { topic, partition: record.partition };
        match (record.kept, record.checkpoint, record.removed) {
            (Some(kept), None, false) => Some(Self::Keep(id, Box::new(kept.into_kept()?))),
            (None, Some(c), false) => Some(Self::Checkpoint(id, c.hw(), LogIndex(c.durable))),
            (None, None, true) => Some(Self::Remove(id)),
            _ => None,
        }
    }
}

impl CheckpointRecord {
    fn new(hw: HighWatermark, durable: LogIndex) -> Self {
        Self { hw_index: hw.index.0, hw_offset: hw.offset.0, durable: durable.0 }
    }

    fn hw(&self) -> HighWatermark {
        HighWatermark { index: LogIndex(self.hw_index), offset: Offset(self.hw_offset) }
    }
}

impl From<&Kept> for KeptRecord {
    fn from(kept: &Kept) -> Self {
        let s = &kept.state;
        Self {
            topic_name: kept.topic_name.clone(),
            replica: s.replica.0,
            home_epoch: s.home_epoch.as_u32(),
            promised: s.promised.as_u32(),
            term: s.term.0,
            vote: s.vote.map(|v| v.0),
            fork: s.fork.map(|f| PositionRecord {
                index: f.index.0,
                term: f.term.0,
                offset: f.offset.0,
            }),
            sid: s.mode.sid,
            degraded: s.mode.degraded,
            placement_generation: s.placement_generation,
            voters: raws(&s.conf.voters),
            learners: raws(&s.conf.learners),
            voters_outgoing: raws(&s.conf.voters_outgoing),
            learners_next: raws(&s.conf.learners_next),
            auto_leave: s.conf.auto_leave,
            applied: s.applied.0,
            installing: s.installing,
            start: Some(kept.start.into()),
            checkpoint: Some(CheckpointRecord::new(kept.hw, kept.durable)),
            resetting: kept.resetting.map(Into::into),
        }
    }
}

impl KeptRecord {
    fn into_kept(self) -> Option<Kept> {
        let checkpoint = self.checkpoint.unwrap_or_default();
        let state = ReplicaState {
            replica: ReplicaId(self.replica),
            home_epoch: HomeEpoch::new(self.home_epoch)?,
            promised: HomeEpoch::new(self.promised)?,
            term: Some(Term(self.term)).filter(|t| t.is_valid())?,
            vote: self.vote.map(ReplicaId),
            fork: self.fork.map(|f| Position {
                index: LogIndex(f.index),
                term: Term(f.term),
                offset: Offset(f.offset),
            }),
            mode: Mode { sid: self.sid, degraded: self.degraded },
            placement_generation: self.placement_generation,
            conf: ConfState {
                voters: ids(self.voters),
                learners: ids(self.learners),
                voters_outgoing: ids(self.voters_outgoing),
                learners_next: ids(self.learners_next),
                auto_leave: self.auto_leave,
            },
            applied: LogIndex(self.applied),
            installing: self.installing,
        };
        Some(Kept {
            topic_name: self.topic_name,
            state,
            start: LogStart::from(&self.start?),
            hw: checkpoint.hw(),
            durable: LogIndex(checkpoint.durable),
            resetting: self.resetting.as_ref().map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_comes_back_from_its_record() {
        let place = |n: u64| Position { index: LogIndex(n), term: Term(n), offset: Offset(7) };
        let state = ReplicaState {
            replica: ReplicaId(4),
            home_epoch: HomeEpoch::new(3).unwrap(),
            promised: HomeEpoch::new(4).unwrap(),
            term: Term(393_221),
            vote: Some(ReplicaId(0)),
            fork: Some(place(11)),
            mode: Mode { sid: 9, degraded: true },
            placement_generation: 10,
            conf: ConfState {
                voters: vec![ReplicaId(1), ReplicaId(2)],
                learners: vec![ReplicaId(3)],
                voters_outgoing: vec![ReplicaId(5)],
                learners_next: vec![ReplicaId(6)],
                auto_leave: true,
            },
            applied: LogIndex(12),
            installing: true,
        };
        let start = LogStart { index: LogIndex(5), term: Term(6), offset: Offset(8) };
        let kept = Kept {
            topic_name: "orders".into(),
            state,
            start,
            hw: HighWatermark { index: LogIndex(13), offset: Offset(14) },
            durable: LogIndex(15),
            resetting: Some(start),
        };
        let id = TopicPartition { topic: TopicId::META, partition: 2 };
        for change in [
            Change::Keep(id, Box::new(kept.clone())),
            Change::Checkpoint(id, kept.hw, kept.durable),
            Change::Remove(id),
        ] {
            assert_eq!(Change::decode(&change.encode()), Some(change));
        }
        assert_eq!(Change::decode(b"garbage"), None);
    }

    #[test]
    fn only_an_applied_index_may_be_forgotten() {
        let state = ReplicaState::default();
        assert!(!state.must_sync(&ReplicaState { applied: LogIndex(9), ..state.clone() }));
        assert!(state.must_sync(&ReplicaState { vote: Some(ReplicaId(1)), ..state.clone() }));
        assert!(state.must_sync(&ReplicaState {
            mode: Mode { sid: 1, degraded: false },
            applied: LogIndex(9),
            ..state.clone()
        }));
    }
}
