//! What replicas say to each other: prost headers, with record batches as raw chunks behind them.
//!
//! ```text
//! control lane       Envelope { groups: votes, answers, heartbeats, watermarks; leads; beat, answer }   no chunks
//! replication lane   Envelope { one group: appends }   one chunk per entry payload, in order; also none, where
//!                    what is on its way must not be overtaken
//! ```
//!
//! Every group message names (topic uuid, partition, home epoch) and both replicas (R1). Nothing
//! received from a socket is parsed by rust-protobuf (its recursion on untrusted input is
//! RUSTSEC-2024-0437), so raft-rs's own messages never travel as such.

pub mod beat;
pub mod range;

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb;

use super::core::catch_up::Notice;
use super::core::entry;
use super::core::watermark::Claim;
use crate::model::{GroupId, HomeEpoch, LogIndex, ReplicaId, Term, TopicId, TopicPartition};

/// Version of the envelope. A reader refuses others; the handshake negotiates which one is spoken.
pub const VERSION: u32 = 1;

/// Group messages in one control frame; a round with more sends another frame.
pub const GROUPS_MAX: usize = 4096;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<Group>,
    #[prost(message, repeated, tag = "3")]
    pub leads: Vec<Lead>,
    #[prost(message, optional, tag = "4")]
    pub beat: Option<beat::Beat>,
    #[prost(message, optional, tag = "5")]
    pub answer: Option<beat::Answer>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Group {
    #[prost(bytes = "bytes", tag = "1")]
    topic: Bytes,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(uint32, tag = "3")]
    home_epoch: u32,
    #[prost(uint64, tag = "4")]
    from: u64,
    #[prost(uint64, tag = "5")]
    to: u64,
    #[prost(message, optional, tag = "6")]
    raft: Option<Raft>,
    #[prost(message, optional, tag = "7")]
    watermark: Option<Watermark>,
    #[prost(message, optional, tag = "8")]
    catch_up: Option<range::CatchUp>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Watermark {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(int64, optional, tag = "3")]
    at_ms: Option<i64>,
}

/// The Raft message types that travel; the values are ours and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unknown = 0,
    Append = 1,
    AppendResponse = 2,
    RequestVote = 3,
    RequestVoteResponse = 4,
    Snapshot = 5,
    Heartbeat = 6,
    HeartbeatResponse = 7,
    TimeoutNow = 8,
    RequestPreVote = 9,
    RequestPreVoteResponse = 10,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Raft {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    log_term: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(uint64, tag = "5")]
    commit: u64,
    #[prost(uint64, tag = "6")]
    commit_term: u64,
    #[prost(bool, tag = "7")]
    reject: bool,
    #[prost(uint64, tag = "8")]
    reject_hint: u64,
    #[prost(uint64, tag = "9")]
    request_snapshot: u64,
    #[prost(bytes = "bytes", tag = "10")]
    context: Bytes,
    #[prost(int64, tag = "11")]
    priority: i64,
    #[prost(message, repeated, tag = "12")]
    entries: Vec<EntryHeader>,
    #[prost(message, optional, tag = "13")]
    snapshot: Option<Snapshot>,
}

/// An entry without its payload, which is the next chunk of the frame.
#[derive(Clone, PartialEq, prost::Message)]
struct EntryHeader {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(bool, tag = "3")]
    conf_change: bool,
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Snapshot {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
    #[prost(uint64, repeated, tag = "4")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "5")]
    learners: Vec<u64>,
    #[prost(uint64, repeated, tag = "6")]
    voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "7")]
    learners_next: Vec<u64>,
    #[prost(bool, tag = "8")]
    auto_leave: bool,
}

/// A leader's news of itself, to every node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Lead {
    #[prost(bytes = "bytes", tag = "1")]
    topic: Bytes,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// Node ids.
    #[prost(uint32, repeated, tag = "4")]
    pub in_sync: Vec<u32>,
}

/// Why a peer's frame is none of ours. The frame is dropped; Raft and the heartbeats make up for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the header does not parse")]
    Header(#[from] prost::DecodeError),
    #[error("envelope version {0}, spoken here is {VERSION}")]
    Version(u32),
    #[error("a topic id of {0} bytes")]
    Topic(usize),
    #[error("home epoch {0} is above 14 bits")]
    HomeEpoch(u32),
    #[error("message kind {0} is unknown")]
    Kind(i32),
    #[error("more entries than chunks")]
    Chunks,
    #[error(transparent)]
    Entry(#[from] entry::Error),
}

/// A decoded group message.
#[derive(Debug)]
pub struct Received {
    pub group: GroupId,
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub raft: Option<eraftpb::Message>,
    pub watermark: Option<Claim>,
    pub catch_up: Option<Notice>,
}

impl Kind {
    /// `None` for types that stay within a node.
    fn of(kind: eraftpb::MessageType) -> Option<Self> {
        use eraftpb::MessageType as M;
        Some(match kind {
            M::MsgAppend => Self::Append,
            M::MsgAppendResponse => Self::AppendResponse,
            M::MsgRequestVote => Self::RequestVote,
            M::MsgRequestVoteResponse => Self::RequestVoteResponse,
            M::MsgSnapshot => Self::Snapshot,
            M::MsgHeartbeat => Self::Heartbeat,
            M::MsgHeartbeatResponse => Self::HeartbeatResponse,
            M::MsgTimeoutNow => Self::TimeoutNow,
            M::MsgRequestPreVote => Self::RequestPreVote,
            M::MsgRequestPreVoteResponse => Self::RequestPreVoteResponse,
            M::MsgHup
            | M::MsgBeat
            | M::MsgPropose
            | M::MsgUnreachable
            | M::MsgSnapStatus
            | M::MsgCheckQuorum
            | M::MsgTransferLeader
            | M::MsgReadIndex
            | M::MsgReadIndexResp => return None,
        })
    }

    fn raft(self) -> Option<eraftpb::MessageType> {
        use eraftpb::MessageType as M;
        Some(match self {
            Self::Unknown => return None,
            Self::Append => M::MsgAppend,
            Self::AppendResponse => M::MsgAppendResponse,
            Self::RequestVote => M::MsgRequestVote,
            Self::RequestVoteResponse => M::MsgRequestVoteResponse,
            Self::Snapshot => M::MsgSnapshot,
            Self::Heartbeat => M::MsgHeartbeat,
            Self::HeartbeatResponse => M::MsgHeartbeatResponse,
            Self::TimeoutNow => M::MsgTimeoutNow,
            Self::RequestPreVote => M::MsgRequestPreVote,
            Self::RequestPreVoteResponse => M::MsgRequestPreVoteResponse,
        })
    }
}

impl Group {
    /// Splits a message into its header and its payload chunks. `None` for a Raft message that
    /// does not leave its node.
    pub fn new(
        group: GroupId,
        from: ReplicaId,
        to: ReplicaId,
        raft: Option<eraftpb::Message>,
        watermark: Option<Claim>,
    ) -> Option<(Self, Vec<Bytes>)> {
        let mut chunks = Vec::new();
        let raft = match raft {
            Some(message) => Some(Raft::new(message, &mut chunks)?),
            None => None,
        };
        let header = Self {
            topic: Bytes::copy_from_slice(&group.partition.topic.0),
            partition: group.partition.partition,
            home_epoch: group.home_epoch.as_u32(),
            from: from.0,
            to: to.0,
            raft,
            watermark: watermark.map(|Claim { term, index, at_ms }| Watermark {
                term: term.0,
                index: index.0,
                at_ms,
            }),
            catch_up: None,
        };
        Some((header, chunks))
    }

    /// The same, to a replica that is far behind.
    pub fn with_notice(self, notice: Option<&Notice>) -> Self {
        Self { catch_up: notice.map(range::CatchUp::of), ..self }
    }

    /// Puts the message together again, taking its payloads from the front of `chunks`.
    pub fn receive(self, chunks: &mut VecDeque<Bytes>) -> Result<Received, Error> {
        let (from, to) = (ReplicaId(self.from), ReplicaId(self.to));
        let epoch = HomeEpoch::new(self.home_epoch).ok_or(Error::HomeEpoch(self.home_epoch))?;
        let partition = partition(&self.topic, self.partition)?;
        let raft = match self.raft {
            Some(raft) => Some(raft.receive(from, to, chunks)?),
            None => None,
        };
        let watermark = self.watermark.map(|w| Claim {
            term: Term(w.term),
            index: LogIndex(w.index),
            at_ms: w.at_ms,
        });
        let group = GroupId { partition, home_epoch: epoch };
        let catch_up = self.catch_up.map(range::CatchUp::receive);
        Ok(Received { group, from, to, raft, watermark, catch_up })
    }
}

fn partition(topic: &Bytes, partition: i32) -> Result<TopicPartition, Error> {
    let id: [u8; 16] = topic.as_ref().try_into().map_err(|_| Error::Topic(topic.len()))?;
    Ok(TopicPartition { topic: TopicId(id), partition })
}

impl Raft {
    fn new(mut message: eraftpb::Message, chunks: &mut Vec<Bytes>) -> Option<Self> {
        let kind = Kind::of(message.get_msg_type())?;
        let entries = message.take_entries().into_iter().map(|entry| {
            let conf_change = entry.get_entry_type() != eraftpb::EntryType::EntryNormal;
            chunks.push(entry.data);
            EntryHeader {
                term: entry.term,
                index: entry.index,
                conf_change,
                context: entry.context,
            }
        });
        let entries = entries.collect();
        let snapshot = message.has_snapshot().then(|| Snapshot::new(message.take_snapshot()));
        Some(Self {
            kind: kind.into(),
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            commit: message.commit,
            commit_term: message.commit_term,
            reject: message.reject,
            reject_hint: message.reject_hint,
            request_snapshot: message.request_snapshot,
            context: message.context,
            priority: message.priority,
            entries,
            snapshot,
        })
    }

    fn receive(
        self,
        from: ReplicaId,
        to: ReplicaId,
        chunks: &mut VecDeque<Bytes>,
    ) -> Result<eraftpb::Message, Error> {
        let kind = Kind::try_from(self.kind).ok().and_then(Kind::raft);
        let mut message = eraftpb::Message::default();
        message.set_msg_type(kind.ok_or(Error::Kind(self.kind))?);
        message.from = from.0;
        message.to = to.0;
        message.term = self.term;
        message.log_term = self.log_term;
        message.index = self.index;
        message.commit = self.commit;
        message.commit_term = self.commit_term;
        message.reject = self.reject;
        message.reject_hint = self.reject_hint;
        message.request_snapshot = self.request_snapshot;
        message.context = self.context;
        message.priority = self.priority;
        let mut entries = Vec::with_capacity(self.entries.len());
        for header in self.entries {
            entries.push(header.receive(chunks)?);
        }
        message.set_entries(entries.into());
        if let Some(snapshot) = self.snapshot {
            message.set_snapshot(snapshot.receive());
        }
        Ok(message)
    }
}

impl EntryHeader {
    fn receive(self, chunks: &mut VecDeque<Bytes>) -> Result<eraftpb::Entry, Error> {
        let mut entry = eraftpb::Entry::default();
        entry.term = self.term;
        entry.index = self.index;
        entry.context = self.context;
        entry.data = chunks.pop_front().ok_or(Error::Chunks)?;
        if self.conf_change {
            entry.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
        }
        entry::check(&entry)?;
        Ok(entry)
    }
}

impl Snapshot {
    fn new(mut snapshot: eraftpb::Snapshot) -> Self {
        let mut metadata = snapshot.take_metadata();
        let mut conf = metadata.take_conf_state();
        Self {
            index: metadata.index,
            term: metadata.term,
            data: snapshot.data,
            voters: conf.take_voters(),
            learners: conf.take_learners(),
            voters_outgoing: conf.take_voters_outgoing(),
            learners_next: conf.take_learners_next(),
            auto_leave: conf.auto_leave,
        }
    }

    fn receive(self) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot::default();
        snapshot.data = self.data;
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        let conf = metadata.mut_conf_state();
        conf.voters = self.voters;
        conf.learners = self.learners;
        conf.voters_outgoing = self.voters_outgoing;
        conf.learners_next = self.learners_next;
        conf.auto_leave = self.auto_leave;
        snapshot
    }
}

impl Lead {
    pub fn new(at: TopicPartition, term: Term, in_sync: Vec<u32>) -> Self {
        let topic = Bytes::copy_from_slice(&at.topic.0);
        Self { topic, partition: at.partition, term: term.0, in_sync }
    }

    pub fn partition(&self) -> Result<TopicPartition, Error> {
        partition(&self.topic, self.partition)
    }
}

impl Envelope {
    pub fn of(groups: Vec<Group>, leads: Vec<Lead>) -> Self {
        Self { version: VERSION, groups, leads, beat: None, answer: None }
    }

    pub fn of_beat(beat: beat::Beat) -> Self {
        Self { beat: Some(beat), ..Self::of(Vec::new(), Vec::new()) }
    }

    pub fn of_answer(answer: beat::Answer) -> Self {
        Self { answer: Some(answer), ..Self::of(Vec::new(), Vec::new()) }
    }

    pub fn to_header(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    pub fn from_header(header: Bytes) -> Result<Self, Error> {
        let envelope = Self::decode(header)?;
        if envelope.version != VERSION {
            return Err(Error::Version(envelope.version));
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HomeEpoch;

    #[test]
    fn an_append_comes_back_as_it_went_with_its_payloads_as_chunks() {
        let group = GroupId { partition: TopicPartition::META, home_epoch: HomeEpoch::FIRST };
        let mut append = eraftpb::Message::default();
        append.set_msg_type(eraftpb::MessageType::MsgAppend);
        append.from = 1;
        append.to = 2;
        append.term = HomeEpoch::FIRST.first_term().0 + 1;
        let mut entry = eraftpb::Entry::default();
        entry.term = append.term;
        entry.index = 1;
        append.set_entries(vec![entry].into());
        let (header, chunks) =
            Group::new(group, ReplicaId(1), ReplicaId(2), Some(append.clone()), None).unwrap();
        assert_eq!(chunks.len(), 1);
        let envelope = Envelope::of(vec![header], Vec::new());
        let mut back = Envelope::from_header(envelope.to_header()).unwrap();
        let received = back.groups.remove(0).receive(&mut chunks.into()).unwrap();
        assert_eq!((received.group, received.raft), (group, Some(append)));
    }

    #[test]
    fn a_frame_with_fewer_chunks_than_entries_is_refused() {
        let header = EntryHeader { term: 1, index: 1, conf_change: false, context: Bytes::new() };
        assert!(matches!(header.receive(&mut VecDeque::new()), Err(Error::Chunks)));
    }
}
