//! What a node says at once of all its quiet leaders, and what the other answers.
//!
//! ```text
//!   leader's node                                                 follower's node
//!     ── Beat { session, from version 0 to 1, begins: g, h } ───▶ g and h are quiet there, if they are where it says
//!     ◀───────────────── Answer { session, version 1, in sync } ──
//!     ── Beat { session, 1 to 1 } ──────────────────────────────▶ heard of g and h
//!     ── Beat { session, 1 to 2, ends: g } ─────────────────────▶ g is ticked again
//! ```
//!
//! A version is a set of leaders: who has the one that a beat begins with has the one that it ends with.

use bytes::Bytes;

use super::{Error, partition};
use crate::model::{GroupId, HomeEpoch, LogIndex, ReplicaId, Term, TopicPartition};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Beat {
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// What the sender said last; 0 is the empty set, with which every session begins.
    #[prost(uint64, tag = "2")]
    pub from_version: u64,
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The sender's Unix time: none of the leaders had acknowledged anything new by then.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
    /// No longer quiet. Before `begins`.
    #[prost(message, repeated, tag = "5")]
    ends: Vec<Partition>,
    #[prost(message, repeated, tag = "6")]
    begins: Vec<Begin>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    #[prost(uint64, tag = "1")]
    pub session: u64,
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Whether the beat's first version was known here; if not, the sender begins another session.
    #[prost(bool, tag = "3")]
    pub in_sync: bool,
    /// Of the set, those that are not where the leader said.
    #[prost(message, repeated, tag = "4")]
    awake: Vec<Partition>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Partition {
    #[prost(bytes = "bytes", tag = "1")]
    topic: Bytes,
    #[prost(int32, tag = "2")]
    partition: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Begin {
    #[prost(message, optional, tag = "1")]
    at: Option<Partition>,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    #[prost(uint64, tag = "3")]
    from: u64,
    #[prost(uint64, tag = "4")]
    to: u64,
    #[prost(uint64, tag = "5")]
    term: u64,
    #[prost(uint64, tag = "6")]
    index: u64,
}

/// A leader that is quiet, to one of its followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Still {
    pub group: GroupId,
    pub leader: ReplicaId,
    pub follower: ReplicaId,
    pub term: Term,
    /// Of the last entry, which every replica has and may show.
    pub index: LogIndex,
}

impl Beat {
    pub fn new(
        session: u64,
        (from_version, version): (u64, u64),
        at_ms: i64,
        ends: impl IntoIterator<Item = TopicPartition>,
        begins: impl IntoIterator<Item = Still>,
    ) -> Self {
        let ends = ends.into_iter().map(Partition::of).collect();
        let begins = begins.into_iter().map(Begin::of).collect();
        Self { session, from_version, version, at_ms, ends, begins }
    }

    pub fn ends(&self) -> Result<Vec<TopicPartition>, Error> {
        self.ends.iter().map(Partition::receive).collect()
    }

    pub fn begins(&self) -> Result<Vec<Still>, Error> {
        self.begins.iter().map(Begin::receive).collect()
    }
}

impl Answer {
    pub fn new(
        session: u64,
        version: u64,
        in_sync: bool,
        awake: impl IntoIterator<Item = TopicPartition>,
    ) -> Self {
        Self { session, version, in_sync, awake: awake.into_iter().map(Partition::of).collect() }
    }

    pub fn awake(&self) -> Result<Vec<TopicPartition>, Error> {
        self.awake.iter().map(Partition::receive).collect()
    }
}

impl Partition {
    fn of(at: TopicPartition) -> Self {
        Self { topic: Bytes::copy_from_slice(&at.topic.0), partition: at.partition }
    }

    fn receive(&self) -> Result<TopicPartition, Error> {
        partition(&self.topic, self.partition)
    }
}

impl Begin {
    fn of(still: Still) -> Self {
        Self {
            at: Some(Partition::of(still.group.partition)),
            home_epoch: still.group.home_epoch.as_u32(),
            from: still.leader.0,
            to: still.follower.0,
            term: still.term.0,
            index: still.index.0,
        }
    }

    fn receive(&self) -> Result<Still, Error> {
        let partition = self.at.as_ref().ok_or(Error::Topic(0))?.receive()?;
        let home_epoch =
            HomeEpoch::new(self.home_epoch).ok_or(Error::HomeEpoch(self.home_epoch))?;
        Ok(Still {
            group: GroupId { partition, home_epoch },
            leader: ReplicaId(self.from),
            follower: ReplicaId(self.to),
            term: Term(self.term),
            index: LogIndex(self.index),
        })
    }
}
