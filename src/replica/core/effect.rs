//! What a core wants done. One ordered queue: persist-before-send is an order.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Message};

use super::catch_up::Notice;
use super::mode::Ask;
use super::raft_log::{Start, Wanted};
use crate::log;
use crate::model::{GroupId, LeaderEpoch, LogIndex, Mode, NodeId, Offset, ReplicaId, Term};
use crate::replica::{ProduceError, Produced};

/// Names a request in its answer; the driver chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Debug)]
pub enum Effect {
    /// Send now; everything that it depends on is on disk.
    Send(Outgoing),
    /// Write, make durable, then call `handle_persisted`. In the order given.
    Persist(Box<Persist>),
    /// Read from disk, then call `handle_fetched`.
    Read(Wanted),
    /// Ask another node for entries, then call `handle_range`.
    Fetch(RangeWanted),
    Reply(Ticket, Result<Produced, ProduceError>),
    Deleted(Ticket, Result<Offset, ProduceError>),
    /// A majority in the next home has everything up to this entry, and nothing comes after it.
    HandedOff(Ticket, Result<LogIndex, ProduceError>),
    /// A majority follows this leader in that epoch.
    Confirmed(Ticket, Result<LeaderEpoch, ProduceError>),
    /// The role, the leader or the set of replicas in sync changed: tell every node.
    Lead(Lead),
    /// Have `__meta` record another mode; what it has comes with `handle_recorded`.
    AskMode(Ask),
}

#[derive(Debug)]
pub struct Outgoing {
    pub to: ReplicaId,
    pub raft: Option<Message>,
    /// The leader's high watermark, as (term, index) (R27).
    pub watermark: Option<(Term, LogIndex)>,
    /// To a replica that is far behind.
    pub catch_up: Option<Box<Notice>>,
}

/// Entries that another node has, for the bulk lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeWanted {
    pub source: NodeId,
    pub group: GroupId,
    pub from: LogIndex,
    /// Exclusive.
    pub to: LogIndex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    pub term: Term,
    /// Replicas within the lag bound, this leader among them.
    pub in_sync: Vec<ReplicaId>,
}

/// One write to the log and its state; what is `None` stays as it is.
#[derive(Debug, Default)]
pub struct Persist {
    /// Replace the suffix from here on.
    pub truncate_from: Option<LogIndex>,
    pub entries: Vec<log::Entry>,
    /// Term and vote; durable before anything that follows from them is sent.
    pub vote: Option<(Term, ReplicaId)>,
    /// Begin anew here: a log-start snapshot.
    pub reset: Option<Reset>,
    /// Log start moved by an applied entry: whole segments below may go.
    pub log_start: Option<Offset>,
    pub conf_state: Option<ConfState>,
    /// The mode, by an applied entry (R26).
    pub mode: Option<Mode>,
    /// State of the producers after the entry at this index: one for each segment that begins
    /// after it, so that a restart reads no further back.
    pub producers: Vec<(LogIndex, Bytes)>,
    /// The replica has caught up with what its group had acknowledged when it came (R23).
    pub caught_up: bool,
    /// With `conf_state` and `producers`: what was applied when they were made.
    pub applied: Option<LogIndex>,
}

#[derive(Debug)]
pub struct Reset {
    pub start: Start,
    pub producers: Bytes,
    pub mode: Mode,
}

impl Persist {
    pub fn is_empty(&self) -> bool {
        let Self {
            truncate_from,
            entries,
            vote,
            reset,
            log_start,
            conf_state,
            mode,
            producers,
            caught_up,
            applied: _,
        } = self;
        truncate_from.is_none()
            && entries.is_empty()
            && vote.is_none()
            && reset.is_none()
            && log_start.is_none()
            && conf_state.is_none()
            && mode.is_none()
            && producers.is_empty()
            && !caught_up
    }
}
