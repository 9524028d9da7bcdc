//! What one round of the host wants done.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{
    DcName, LeaderEpoch, LogIndex, Mode, NodeId, Offset, ReplicaId, Term, TopicPartition,
};
use crate::replica::core::effect::{Persist, RangeWanted, Ticket};
use crate::replica::core::mode::Ask;
use crate::replica::core::raft_log::Wanted;
use crate::replica::core::{AtStake, Budget, Core, Exposure, Now, Promise};
use crate::replica::{ProduceError, Produced, Progress, wire};

/// The parts may be carried out in any order: a message that depends on a write is not in the
/// round that asks for it. Writes of one partition keep theirs.
#[derive(Debug, Default)]
pub struct Round {
    /// Per node, to leave as one frame.
    pub control: BTreeMap<NodeId, Vec<wire::Group>>,
    /// Taken back by the host, which lets them leave together.
    pub(super) heartbeats: BTreeMap<NodeId, Vec<wire::Group>>,
    pub appends: Vec<Append>,
    /// Of the quiet leaders here, each to leave as a frame; and answers to those of other nodes.
    pub beats: Vec<(NodeId, wire::beat::Beat)>,
    pub beat_answers: Vec<(NodeId, wire::beat::Answer)>,
    /// For every node.
    pub leads: Vec<wire::Lead>,
    pub writes: Vec<(TopicPartition, Box<Persist>)>,
    pub reads: Vec<(TopicPartition, Wanted)>,
    /// To be asked of other nodes.
    pub ranges: Vec<RangeWanted>,
    /// To be asked of `__meta`.
    pub asks: Vec<Ask>,
    pub answers: Answers,
    /// Of every replica that was touched.
    pub progress: Vec<(TopicPartition, Progress)>,
}

/// To whom it may concern: each ticket once.
#[derive(Debug, Default)]
pub struct Answers {
    pub replies: Vec<(Ticket, Result<Produced, ProduceError>)>,
    pub deleted: Vec<(Ticket, Result<Offset, ProduceError>)>,
    pub handed_off: Vec<(Ticket, Result<LogIndex, ProduceError>)>,
    pub confirmed: Vec<(Ticket, Result<LeaderEpoch, ProduceError>)>,
}

/// Entries for one replica.
#[derive(Debug)]
pub struct Append {
    pub to: NodeId,
    /// The partition's stream.
    pub key: u64,
    pub of_meta: bool,
    pub group: wire::Group,
    pub chunks: Vec<Bytes>,
}

/// A replica as an operator sees it.
#[derive(Debug, Clone)]
pub struct Status {
    pub partition: TopicPartition,
    pub replica: ReplicaId,
    pub progress: Progress,
    pub term: Term,
    /// As far as this replica knows.
    pub leader: Option<NodeId>,
    pub committed: LogIndex,
    pub applied: LogIndex,
    /// It leads, and has applied an entry of its own term: `committed` is the group's.
    pub ready_to_lead: bool,
    /// The last entry before the log begins.
    pub begins_after: LogIndex,
    pub last: LogIndex,
    /// Of that entry, or of the one before the log.
    pub last_term: Term,
    pub in_sync: Vec<NodeId>,
    /// Every member's node, DC, role and, on the leader, how far its disk is.
    pub members: Vec<MemberStatus>,
    /// On the leader, per remote DC.
    pub exposure: BTreeMap<DcName, Exposure>,
    pub budget: Budget,
    /// Of a sync topic, and the mode of this replica's log.
    pub promise: Option<Promise>,
    pub mode: Mode,
    /// On the leader of an async topic: what it accepted and no other DC has.
    pub at_stake: Option<AtStake>,
    /// On any other replica: time since it last had all that its leader had acknowledged, if ever.
    pub staleness: Option<Duration>,
    /// The leader's Unix time up to which this replica has all that was acknowledged.
    pub known_until_ms: Option<i64>,
    /// It is not ticked: nobody uses it, and beats of its leader's node stand for its heartbeats.
    pub is_quiet: bool,
}

#[derive(Debug, Clone)]
pub struct MemberStatus {
    pub replica: ReplicaId,
    pub node: NodeId,
    pub dc: DcName,
    pub voter: bool,
    pub matched: Option<LogIndex>,
}

impl Status {
    pub fn of(core: &Core, now: Now) -> Self {
        let config = core.config();
        let node = |id: ReplicaId| config.members.get(&id).map(|m| m.node);
        let matched = if core.is_leader() { core.matched() } else { BTreeMap::new() };
        let members = config.members.iter().map(|(id, m)| MemberStatus {
            replica: *id,
            node: m.node,
            dc: m.dc.clone(),
            voter: m.voter,
            matched: matched.get(id).copied(),
        });
        Self {
            partition: config.group.partition,
            replica: config.me,
            progress: core.progress(),
            term: core.term(),
            leader: core.leader().and_then(node),
            committed: core.committed(),
            applied: core.log().applied(),
            ready_to_lead: core.is_ready_to_lead(),
            begins_after: core.log().start().index,
            last: core.log().last(),
            last_term: core.log().last_term(),
            in_sync: core.in_sync().iter().copied().filter_map(node).collect(),
            members: members.collect(),
            exposure: core.exposures(now.mono),
            budget: config.ack.budget,
            promise: core.promise(),
            mode: core.mode(),
            at_stake: core.at_stake(),
            staleness: core.staleness(now.mono),
            known_until_ms: core.known_until_ms(now),
            is_quiet: false,
        }
    }
}

/// What a leader tells every node of itself.
pub fn lead(core: &Core) -> wire::Lead {
    let config = core.config();
    let node = |id: &ReplicaId| config.members.get(id).map(|m| m.node.as_u32());
    let in_sync = core.in_sync().iter().filter_map(node).collect();
    wire::Lead::new(config.group.partition, core.term(), in_sync)
}
