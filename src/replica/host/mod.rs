//! Many cores, one loop: the pure part.
//!
//! The driver feeds it what came in since the last round, takes the [`Round`] that follows and
//! carries it out. Messages of all groups to one node leave together at the end of the round, so
//! that heartbeats cost a frame per peer and tick, not one per group.

pub mod quiesce;
mod round;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};

use self::quiesce::Quiescence;
pub use self::round::{Answers, Append, MemberStatus, Round, Status};
use super::core::config::{AckPolicy, Member};
use super::core::effect::{Effect, Outgoing, Ticket};
use super::core::raft_log::{Start, Wanted};
use super::core::watermark::Claim;
use super::core::{Core, Now, Queued};
use super::wire;
use crate::log;
use crate::model::{
    DcName, GroupId, HomeEpoch, LogIndex, Mode, NodeId, Offset, ReplicaId, TopicPartition,
};

/// The replicas of one node.
pub struct Host {
    cores: BTreeMap<TopicPartition, Core>,
    /// Those that are ticked.
    awake: BTreeSet<TopicPartition>,
    quiescence: Quiescence,
    /// For how long a leader must have had nothing to do to fall quiet; less in the simulator.
    pub idle_ticks: u64,
    /// Those whose effects were not taken yet.
    touched: BTreeSet<TopicPartition>,
    lease_valid: bool,
    /// The epoch from which on the lease is one, for partitions whose home was moved.
    left: BTreeMap<TopicPartition, HomeEpoch>,
    ticks: u64,
    /// Heartbeats that wait for the tick at which all of them leave.
    held: BTreeMap<NodeId, Vec<wire::Group>>,
}

/// Heartbeats leave at every third tick, those of all groups together. Each group has its own
/// phase, so without this a node with many groups sends a frame to every peer at every tick, and
/// waking up is what an idle cluster costs. A heartbeat waits 100 ms at most, a sixth of the
/// shortest election timeout.
const HEARTBEAT_ROUND_TICKS: u64 = 3;

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    pub fn new() -> Self {
        Self {
            cores: BTreeMap::new(),
            awake: BTreeSet::new(),
            quiescence: Quiescence::default(),
            idle_ticks: quiesce::IDLE_TICKS,
            touched: BTreeSet::new(),
            lease_valid: false,
            left: BTreeMap::new(),
            ticks: 0,
            held: BTreeMap::new(),
        }
    }

    /// Takes a replica in; the lease counts for it from now on, unless its home was moved.
    ///
    /// # Panics
    /// If the partition has a replica here already.
    pub fn insert(&mut self, now: Now, mut core: Core) {
        let at = core.config().group.partition;
        core.handle_phase(self.ticks);
        core.handle_lease(now, self.lease_valid && !is_left(&core, &self.left));
        let before = self.cores.insert(at, core);
        assert!(before.is_none(), "{at} has a replica here already");
        self.awake.insert(at);
        self.touched.insert(at);
    }

    /// Lets a replica go; whoever waited for it is told that it does not lead.
    pub fn remove(&mut self, at: TopicPartition) -> Round {
        self.forget_quiet(at);
        self.touched.remove(&at);
        let mut last = Round::default();
        if let Some(mut core) = self.cores.remove(&at) {
            core.close();
            while let Some(effect) = core.poll_effect() {
                match effect {
                    Effect::Reply(ticket, answer) => last.answers.replies.push((ticket, answer)),
                    Effect::Deleted(ticket, answer) => last.answers.deleted.push((ticket, answer)),
                    Effect::HandedOff(ticket, answer) => {
                        last.answers.handed_off.push((ticket, answer));
                    }
                    Effect::Confirmed(ticket, answer) => {
                        last.answers.confirmed.push((ticket, answer));
                    }
                    Effect::Send(_)
                    | Effect::Persist(_)
                    | Effect::Read(_)
                    | Effect::Fetch(_)
                    | Effect::Lead(_)
                    | Effect::AskMode(_) => {}
                }
            }
        }
        last
    }

    pub fn core(&self, at: TopicPartition) -> Option<&Core> {
        self.cores.get(&at)
    }

    pub fn cores(&self) -> impl Iterator<Item = &Core> {
        self.cores.values()
    }

    pub fn tick(&mut self, now: Now) {
        self.ticks += 1;
        for at in &self.awake {
            let Some(core) = self.cores.get_mut(at) else { continue };
            core.handle_tick(now);
            if core.has_effects() {
                self.touched.insert(*at);
            }
        }
        self.tick_quiescence(now);
    }

    /// A frame's group messages, as `from` sent them. Those for groups that are not here, of
    /// another home epoch (R1), or from a node that does not hold the replica that it claims, are
    /// dropped; how many is returned.
    pub fn handle_groups(
        &mut self,
        now: Now,
        from: NodeId,
        groups: Vec<wire::Group>,
        mut chunks: VecDeque<Bytes>,
    ) -> Result<usize, wire::Error> {
        let mut dropped = 0;
        for group in groups {
            let received = group.receive(&mut chunks)?;
            dropped += usize::from(!self.handle_received(now, from, received));
        }
        Ok(dropped)
    }

    fn handle_received(&mut self, now: Now, from: NodeId, received: wire::Received) -> bool {
        let at = received.group.partition;
        let Some(core) = self.cores.get(&at) else { return false };
        let config = core.config();
        let holds = core.node_of(received.from) == Some(from);
        if config.group != received.group || config.me != received.to || !holds {
            return false;
        }
        let is_late = |message: &Message| core.is_late_answer(message);
        if self.is_quiet(at) && received.raft.as_ref().is_some_and(is_late) {
            return true;
        }
        self.wake(at);
        let Some(core) = self.cores.get_mut(&at) else { return false };
        let mut moved = false;
        if let Some(message) = received.raft {
            moved |= core.handle_message(now, received.from, message);
        }
        if let Some(claim) = received.watermark {
            moved |= core.handle_watermark(now, claim);
        }
        if moved {
            self.touched.insert(at);
        }
        if let Some(notice) = received.catch_up {
            core.handle_notice(now, received.from, notice);
            self.touched.insert(at);
        }
        true
    }

    /// Queues a produce for the end of the round. `false` if there is no such replica here.
    pub fn produce(&mut self, at: TopicPartition, queued: Queued) -> bool {
        self.with(at, |core| core.queue_produce(queued))
    }

    pub fn delete_records(
        &mut self,
        now: Now,
        at: TopicPartition,
        ticket: Ticket,
        before: Offset,
        deadline: std::time::Duration,
    ) -> bool {
        self.with(at, |core| core.delete_records(now, ticket, before, deadline))
    }

    /// Has a majority say that this node still leads the partition.
    pub fn confirm(
        &mut self,
        now: Now,
        at: TopicPartition,
        ticket: Ticket,
        deadline: std::time::Duration,
    ) -> bool {
        self.with(at, |core| core.confirm(now, ticket, deadline))
    }

    pub fn expire_producers(&mut self, now: Now, before_ms: i64) {
        let due = self.cores.iter().filter(|(_, core)| core.has_expired_producers(before_ms));
        for at in due.map(|(at, _)| *at).collect::<Vec<_>>() {
            self.with(at, |core| core.expire_producers(now, before_ms));
        }
    }

    /// The oldest write of a replica is on disk. A replica that was removed meanwhile is ignored.
    pub fn persisted(&mut self, now: Now, at: TopicPartition) {
        self.with(at, |core| core.handle_persisted(now));
    }

    /// The disk began a segment with this entry.
    pub fn segment_began(&mut self, at: TopicPartition, first: LogIndex) {
        self.with(at, |core| core.handle_segment_began(first));
    }

    pub fn start_moved(&mut self, at: TopicPartition, start: Start, producers: &Bytes) {
        self.with(at, |core| core.handle_start_moved(start, producers));
    }

    pub fn fetched(
        &mut self,
        now: Now,
        at: TopicPartition,
        wanted: Wanted,
        entries: &[log::Entry],
    ) {
        self.with(at, |core| core.handle_fetched(now, wanted, entries));
    }

    /// Lets the replicas that a read is for catch up on the bulk lane instead; see
    /// [`Core::begin_catch_up`].
    pub fn begin_catch_up(&mut self, at: TopicPartition, wanted: &Wanted) -> bool {
        let mut began = false;
        self.with(at, |core| began = core.begin_catch_up(wanted));
        began
    }

    /// What came of a fetch from another node.
    pub fn ranged(
        &mut self,
        now: Now,
        at: TopicPartition,
        from: LogIndex,
        entries: Option<Vec<log::Entry>>,
    ) {
        self.with(at, |core| core.handle_range(now, from, entries));
    }

    /// Frames to a node were lost: probe its replicas before sending them more.
    pub fn unreachable(&mut self, node: NodeId) {
        for core in self.cores.values_mut() {
            let there = core.config().members.iter().filter(|(_, m)| m.node == node);
            let there: Vec<ReplicaId> = there.map(|(id, _)| *id).collect();
            for replica in there {
                core.handle_unreachable(replica);
            }
        }
    }

    pub fn lease(&mut self, now: Now, valid: bool) {
        self.lease_but(now, valid, BTreeMap::new());
    }

    /// As [`Host::lease`]. What is of an older epoch than in `left` has no lease any more: its home is moved by force, and
    /// its replica here has yet to hear of it. That is so of every grant: a node whose lease never ran out goes on renewing it.
    pub fn lease_but(&mut self, now: Now, valid: bool, left: BTreeMap<TopicPartition, HomeEpoch>) {
        self.lease_valid = valid;
        self.left = left;
        let has = |core: &Core, left: &_| valid && !is_left(core, left);
        // Most grants change nothing, and an idle replica is not to be woken by them.
        let changed =
            self.cores.iter().filter(|(_, core)| core.has_lease() != has(core, &self.left));
        for (at, has) in changed.map(|(at, core)| (*at, has(core, &self.left))).collect::<Vec<_>>()
        {
            self.with(at, |core| core.handle_lease(now, has));
        }
    }

    /// Stops what this node leads for good, for a home that is planned to move (R18). `false` if there
    /// is no such replica here.
    pub fn hand_off(
        &mut self,
        now: Now,
        at: TopicPartition,
        ticket: Ticket,
        next: (HomeEpoch, DcName),
        deadline: std::time::Duration,
    ) -> bool {
        self.with(at, |core| core.hand_off(now, ticket, next, deadline))
    }

    pub fn policy(&mut self, now: Now, at: TopicPartition, ack: AckPolicy) {
        self.with(at, |core| core.handle_policy(now, ack));
    }

    /// What `__meta` has on record of a partition's mode in a home epoch.
    pub fn recorded(&mut self, now: Now, at: TopicPartition, epoch: HomeEpoch, mode: Mode) {
        self.with(at, |core| core.handle_recorded(now, epoch, mode));
    }

    pub fn placement(
        &mut self,
        now: Now,
        at: TopicPartition,
        generation: u64,
        members: BTreeMap<ReplicaId, Member>,
    ) {
        self.with(at, |core| core.handle_placement(now, generation, members));
    }

    /// Hands over whatever this node leads, before it goes.
    pub fn step_down(&mut self, now: Now) {
        let led = self.cores.iter().filter(|(_, core)| core.is_leader());
        for at in led.map(|(at, _)| *at).collect::<Vec<_>>() {
            self.with(at, |core| core.handle_step_down(now));
        }
    }

    /// As an operator sees them.
    pub fn statuses(&mut self, now: Now) -> Vec<Status> {
        self.settle_quiet();
        let of = |(at, core): (&TopicPartition, &Core)| Status {
            is_quiet: self.is_quiet(*at),
            ..Status::of(core, now)
        };
        self.cores.iter().map(of).collect()
    }

    pub fn leads_anything(&self) -> bool {
        self.cores.values().any(Core::is_leader)
    }

    /// Whether a group with a voter here is led from that node, which so owes us a heartbeat every
    /// round. `__meta` across the DCs has longer ones.
    pub fn follows(&self, node: NodeId) -> bool {
        let awake = || self.awake.iter().filter_map(|at| self.cores.get(at));
        self.is_quiet_by(node)
            || awake().any(|core| {
                let config = core.config();
                let leader = core.leader().and_then(|id| config.members.get(&id));
                let votes = config.members.get(&config.me).is_some_and(|m| m.voter);
                let every_round = u64::from(config.timing.heartbeat_ticks) <= HEARTBEAT_ROUND_TICKS;
                votes && every_round && leader.is_some_and(|leader| leader.node == node)
            })
    }

    /// Everything that this node leads, for a node that has just come.
    pub fn leads(&self) -> Vec<wire::Lead> {
        self.cores.values().filter(|c| c.is_leader()).map(round::lead).collect()
    }

    /// Ends the round: appends what was queued and hands out all effects since the last one.
    pub fn take_round(&mut self, now: Now) -> Round {
        let mut round = Round::default();
        for at in std::mem::take(&mut self.touched) {
            let Some(core) = self.cores.get_mut(&at) else { continue };
            if core.has_queued() {
                core.flush(now);
            }
            while let Some(effect) = core.poll_effect() {
                round.take(now, core, at, effect);
            }
            round.progress.push((at, core.progress()));
        }
        for (to, heartbeats) in std::mem::take(&mut round.heartbeats) {
            self.held.entry(to).or_default().extend(heartbeats);
        }
        if self.ticks.is_multiple_of(HEARTBEAT_ROUND_TICKS) {
            for (to, heartbeats) in std::mem::take(&mut self.held) {
                round.control.entry(to).or_default().extend(heartbeats);
            }
        }
        self.take_beats(now, &mut round);
        round
    }

    fn with(&mut self, at: TopicPartition, act: impl FnOnce(&mut Core)) -> bool {
        self.wake(at);
        let Some(core) = self.cores.get_mut(&at) else { return false };
        act(core);
        self.touched.insert(at);
        true
    }
}

/// Whether the home that a replica is of was moved.
fn is_left(core: &Core, left: &BTreeMap<TopicPartition, HomeEpoch>) -> bool {
    let GroupId { partition, home_epoch } = core.config().group;
    left.get(&partition).is_some_and(|from| home_epoch < *from)
}

/// Which of a peer's ordered streams a group's appends take.
fn stream_key(at: TopicPartition) -> u64 {
    let mut hasher = DefaultHasher::new();
    at.hash(&mut hasher);
    hasher.finish()
}

impl Round {
    fn take(&mut self, now: Now, core: &Core, at: TopicPartition, effect: Effect) {
        match effect {
            Effect::Send(outgoing) => self.send(now, core, at, outgoing),
            Effect::Persist(persist) => self.writes.push((at, persist)),
            Effect::Read(wanted) => self.reads.push((at, wanted)),
            Effect::Fetch(wanted) => self.ranges.push(wanted),
            Effect::Reply(ticket, answer) => self.answers.replies.push((ticket, answer)),
            Effect::Deleted(ticket, answer) => self.answers.deleted.push((ticket, answer)),
            Effect::HandedOff(ticket, answer) => self.answers.handed_off.push((ticket, answer)),
            Effect::Confirmed(ticket, answer) => self.answers.confirmed.push((ticket, answer)),
            Effect::Lead(_) => self.leads.push(round::lead(core)),
            Effect::AskMode(ask) => self.asks.push(ask),
        }
    }

    fn send(&mut self, now: Now, core: &Core, at: TopicPartition, outgoing: Outgoing) {
        let config = core.config();
        // A replica that left the placement is not told; Raft's removal does not need it.
        let Some(node) = core.node_of(outgoing.to) else { return };
        let Outgoing { to, raft, watermark, catch_up } = outgoing;
        let in_order = raft.as_ref().is_some_and(|m| keeps_order(core, to, m));
        let beats = raft
            .as_ref()
            .is_some_and(|m| m.get_msg_type() == MessageType::MsgHeartbeat && m.context.is_empty());
        // What this round acknowledges leaves after it has been taken.
        let at_ms = core.knows_watermark().then_some(now.wall_ms);
        let claim = watermark.map(|(term, index)| Claim { term, index, at_ms });
        let Some((group, chunks)) = wire::Group::new(config.group, config.me, to, raft, claim)
        else {
            return;
        };
        let group = group.with_notice(catch_up.as_deref());
        if in_order {
            let (key, of_meta) = (stream_key(at), at == TopicPartition::META);
            self.appends.push(round::Append { to: node, key, of_meta, group, chunks });
        } else {
            let lane = if beats { &mut self.heartbeats } else { &mut self.control };
            lane.entry(node).or_default().push(group);
        }
    }
}

/// Whether the message must not overtake what left before it. An append without entries, which tells how
/// far is committed, names the entry before it: where the follower does not have that yet it would refuse
/// what came first by another lane, and the leader would send again all that is on its way.
fn keeps_order(core: &Core, to: ReplicaId, message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgAppend
        && (!message.entries.is_empty() || LogIndex(message.index) > core.matched_of(to))
}
