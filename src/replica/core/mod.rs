//! The pure core of one partition's replica, over raft-rs.
//!
//! ```text
//!             handle_*(now, …)                       poll_effect()
//!   produce ──▶ produce ─┐                        ┌─▶ Persist ─▶ … handle_persisted
//!   message ──▶ step ────┼─▶ raft-rs ─▶ ready ────┼─▶ Send
//!   tick ─────▶ tick ────┘      │                 ├─▶ Read    ─▶ … handle_fetched
//!                               ├─▶ apply         ├─▶ Reply
//!                               └─▶ watermark     └─▶ Lead
//! ```
//!
//! A log position passes these points in this order; the distance between any two is what some
//! failure can take away:
//!
//! ```text
//!   log start ≤ applied ≤ committed ≤ persisted ≤ last      on a leader
//!   high watermark ≤ committed, and through the gate        what anybody may see (R5)
//! ```
//!
//! Invariants: the watermark of a replica never goes back; a reply for acks=all leaves when the
//! watermark has reached the record; a message leaves after every earlier Ready of the group is on
//! disk, but for answers to heartbeats; term and vote are on disk before anything that follows from
//! them is sent.
//!
//! A core lives in one home epoch. The epoch is in every group id and term, so a message of another
//! home is never stepped (R1); a replica whose home moves gets another core.
//!
//! Deliberately missing: transactions.

mod appends;
mod apply;
pub mod budget;
pub mod catch_up;
pub mod config;
mod confirm;
pub mod control;
pub mod effect;
mod election;
pub mod entry;
mod exposure;
mod gaps;
mod hand_off;
mod in_sync;
mod joining;
mod lease;
pub mod mode;
mod placement;
mod probes;
mod produce;
pub mod producers;
mod quiesce;
pub mod raft_log;
mod ready;
mod staleness;
#[cfg(test)]
pub(crate) mod tests;
pub mod watermark;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use raft::{RawNode, StateRole};
use rand::SeedableRng;
use rand::rngs::SmallRng;

pub use self::apply::start_state;
use self::budget::Held;
pub use self::budget::{AtStake, Budget};
pub use self::catch_up::Standing;
use self::config::{APPENDS_IN_FLIGHT_MAX, COMMITTED_BYTES_MAX, Config};
use self::effect::{Effect, Outgoing};
pub use self::exposure::Exposure;
use self::exposure::Samples;
pub use self::mode::Promise;
pub use self::produce::Queued;
use self::produce::Waiters;
use self::producers::Producers;
use self::raft_log::{RaftLog, Restored, Wanted};
use self::staleness::{Moment, Staleness};
use self::watermark::Claim;
use super::{ProduceError, Progress, Role};
use crate::log;
use crate::model::{LogIndex, Mode, Offset, ReplicaId, Term};

/// Both clocks at one moment: `mono` counts from any fixed point and never goes back; `wall_ms`
/// only labels records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    pub mono: Duration,
    pub wall_ms: i64,
}

pub struct Core {
    config: Config,
    raw: RawNode<RaftLog>,
    rng: SmallRng,
    /// Term and role for which the election timeout was last drawn.
    drawn_for: (u64, StateRole),
    /// In ticks, as drawn.
    election_timeout: usize,
    ticks: u64,
    /// The host's ticks before this core's first one, so that all groups leave out the same
    /// heartbeats.
    phase: u64,
    /// What Raft has committed at least, to be written with the next checkpoint.
    watermark: LogIndex,
    high_watermark: Offset,
    log_start: Offset,
    /// Where applied entries beyond the watermark will move it.
    log_starts: VecDeque<(LogIndex, Offset)>,
    /// The leader's claim: (term, index).
    claimed: (Term, LogIndex),
    /// Up to where an append of this term has matched our log: (term, index) (R27).
    verified: (Term, LogIndex),
    /// The leader's own empty entry, and whether it is applied (R6).
    own_entry: Option<LogIndex>,
    ready_to_lead: bool,
    producers: Producers,
    queued: Vec<Queued>,
    /// Wait for room in the exposure budget.
    held: Held,
    waiters: Waiters,
    /// Entries beyond the watermark, oldest first.
    beyond: VecDeque<Position>,
    beyond_bytes: usize,
    samples: Samples,
    /// What this leader has appended for producers.
    accepted: Samples,
    /// The end of the exposure budget was reached, and that was said.
    at_budget: bool,
    staleness: Staleness,
    heard: BTreeMap<ReplicaId, u64>,
    in_sync: Vec<ReplicaId>,
    unpersisted: VecDeque<ready::Unpersisted>,
    /// First entries of segments that were begun and are not applied yet.
    segment_begins: VecDeque<LogIndex>,
    lease_valid: bool,
    feeds: catch_up::Feeds,
    probes: probes::Probes,
    catching: Option<catch_up::Catching>,
    confirming: confirm::Confirming,
    handing_off: Option<hand_off::HandingOff>,
    /// The last entry appended here, if it is a hand-off.
    hand_off_at: Option<LogIndex>,
    joining: joining::Joining,
    modes: mode::Modes,
    /// Of the newest placement that Raft's configuration was changed for.
    conf_generation: u64,
    /// The heartbeats that are ready are for all.
    pings: bool,
    effects: VecDeque<Effect>,
}

/// What a restarted or new replica begins with.
#[derive(Debug, Default)]
pub struct Restart {
    pub log: Restored,
    pub producers: Producers,
    pub log_start: Offset,
    /// The checkpointed high watermark; a restarted replica serves up to it.
    pub watermark: (LogIndex, Offset),
    /// Every entry after the watermark.
    pub beyond: Vec<Position>,
    /// Of the newest placement that Raft's configuration follows.
    pub conf_generation: u64,
    /// It has not caught up with its group since it came in another's place (R23).
    pub joins: bool,
    /// By the entries that are applied.
    pub mode: Mode,
}

/// Where an entry beyond the watermark ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub index: LogIndex,
    pub next_offset: Offset,
    pub bytes: usize,
}

impl Core {
    /// # Panics
    /// If the restored log and the configuration contradict each other.
    pub fn new(config: Config, restart: Restart, seed: u64, logger: &slog::Logger) -> Self {
        let applied = restart.log.applied;
        let unapplied = restart.log.recent.iter().filter(|e| e.index > applied);
        let unapplied: Vec<log::Entry> = unapplied.cloned().collect();
        let timing = config.timing;
        let raft = raft::Config {
            id: config.me.0,
            election_tick: timing.election_ticks_min as usize,
            min_election_tick: timing.election_ticks_min as usize,
            max_election_tick: timing.election_ticks_max as usize,
            heartbeat_tick: timing.heartbeat_ticks as usize,
            applied: applied.0,
            max_size_per_msg: config.append_bytes_max,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            // Ours is tighter and tells the producer: `config::UNGATED_BYTES_MAX`.
            max_uncommitted_size: raft::NO_LIMIT,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..raft::Config::default()
        };
        let raw = RawNode::new(&raft, RaftLog::new(restart.log), logger)
            .expect("a configuration that the topology has checked");
        let (watermark, high_watermark) = restart.watermark;
        let mut modes = mode::Modes::new(restart.mode, config.recorded);
        modes.note(config.group.home_epoch, &unapplied, None);
        let mut core = Self {
            config,
            raw,
            rng: SmallRng::seed_from_u64(seed),
            drawn_for: (u64::MAX, StateRole::Follower),
            election_timeout: 0,
            ticks: 0,
            phase: 0,
            watermark: watermark.min(applied),
            high_watermark,
            log_start: restart.log_start,
            log_starts: VecDeque::new(),
            claimed: (Term(0), LogIndex(0)),
            verified: (Term(0), LogIndex(0)),
            own_entry: None,
            ready_to_lead: false,
            producers: restart.producers,
            queued: Vec::new(),
            held: Held::default(),
            waiters: Waiters::default(),
            beyond_bytes: restart.beyond.iter().map(|p| p.bytes).sum(),
            beyond: restart.beyond.into(),
            samples: Samples::default(),
            accepted: Samples::default(),
            at_budget: false,
            staleness: Staleness::default(),
            heard: BTreeMap::new(),
            in_sync: Vec::new(),
            unpersisted: VecDeque::new(),
            segment_begins: VecDeque::new(),
            lease_valid: true,
            feeds: catch_up::Feeds::default(),
            probes: probes::Probes::default(),
            catching: None,
            confirming: confirm::Confirming::default(),
            handing_off: None,
            hand_off_at: None,
            joining: joining::Joining::new(restart.joins),
            modes,
            conf_generation: restart.conf_generation,
            pings: false,
            effects: VecDeque::new(),
        };
        core.producers.set_lossy_cut(core.config.lossy_cut);
        core.redraw();
        if core.config.preferred && core.is_before_first_term() {
            core.campaign();
        }
        core.process(Now::default());
        core
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn log(&self) -> &RaftLog {
        self.raw.store()
    }

    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    /// What the next checkpoint writes: (index, offset).
    pub fn watermark(&self) -> (LogIndex, Offset) {
        (self.watermark, self.high_watermark)
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The replica that this one believes to lead.
    pub fn leader(&self) -> Option<ReplicaId> {
        let id = self.raw.raft.leader_id;
        (id != raft::INVALID_ID).then_some(ReplicaId(id))
    }

    pub fn in_sync(&self) -> &[ReplicaId] {
        &self.in_sync
    }

    /// Replicas by how far their disks are, as a leader knows it.
    pub fn matched(&self) -> BTreeMap<ReplicaId, LogIndex> {
        let progress = self.raw.raft.prs().iter();
        progress.map(|(id, p)| (ReplicaId(*id), LogIndex(p.matched))).collect()
    }

    pub fn progress(&self) -> Progress {
        let voter = self.config.members.get(&self.config.me).is_some_and(|m| m.voter);
        Progress {
            role: match (self.is_leader(), voter) {
                (true, _) => Role::Leader,
                (false, true) => Role::Follower,
                (false, false) => Role::Learner,
            },
            hands_over: self.raw.raft.lead_transferee.is_some() || self.handing_off.is_some(),
            handed_off: self.hand_off_at == Some(self.log().persisted()),
            leader_epoch: self.term().leader_epoch(),
            log_start: self.log_start,
            high_watermark: self.high_watermark,
            watermark_known: !self.is_leader() || self.knows_watermark(),
            log_end: self.log().next_offset(),
        }
    }

    pub fn handle_tick(&mut self, now: Now) {
        self.ticks += 1;
        let asks = self.wants_first_term();
        if asks {
            self.campaign();
        }
        if self.ticks.is_multiple_of(config::PLACEMENT_TICKS) {
            self.propose_placement();
        }
        if !self.is_installing() {
            self.raw.tick();
        }
        self.waiters.expire(now.mono, &mut self.effects);
        self.expire_hand_off(now.mono);
        self.expire_confirming(now.mono);
        // A follower's tick, and most of a leader's, change nothing that anyone could see.
        let looks = self.is_leader() && self.ticks.is_multiple_of(config::LOOK_TICKS);
        if looks {
            self.watch_feeds();
            self.watch_budget(now);
            self.watch_mode(now);
        }
        if !self.held.is_empty() {
            self.expire_held(now);
            self.flush(now);
        }
        if self.raw.has_ready() || looks || asks {
            self.process(now);
        }
    }

    /// Tells how often the host had ticked before it took this replica in.
    pub fn handle_phase(&mut self, ticks: u64) {
        self.phase = ticks;
    }

    /// Whether there is anything for [`Core::poll_effect`].
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// A message from another replica of this very group; the caller has checked the group and
    /// that the sender's node holds that replica. Whether anything may have come of it.
    pub fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message) -> bool {
        if !self.belongs_here(&message) {
            return false;
        }
        self.heard.insert(from, self.ticks);
        let answers_heartbeat = message.get_msg_type() == MessageType::MsgHeartbeatResponse;
        // An error is a peer that this configuration no longer has: nothing to do.
        let _ = self.raw.step(message);
        // Most of what an idle leader hears: it only says that a replica is there, which the next
        // look at the in-sync replicas takes in.
        if answers_heartbeat && !self.raw.has_ready() && !self.log().has_wanted() {
            return false;
        }
        self.process(now);
        true
    }

    /// Raft's terms stay within the home epoch's range (R2), and followers refuse proposals
    /// instead of forwarding them.
    fn belongs_here(&self, message: &Message) -> bool {
        let epoch = self.config.group.home_epoch;
        let in_range =
            |term| term == 0 || Term(term).is_valid() && Term(term).home_epoch() == epoch;
        message.to == self.config.me.0
            && in_range(message.term)
            && message.get_msg_type() != MessageType::MsgPropose
    }

    /// The leader's high watermark, which travels apart from appends (R27).
    /// Whether it was news.
    pub fn handle_watermark(&mut self, now: Now, claim: Claim) -> bool {
        let Claim { term, index, at_ms } = claim;
        if self.is_leader() || term != self.term() {
            return false;
        }
        if let Some(there_ms) = at_ms {
            self.staleness.claimed(Moment { here: now.mono, there_ms }, index, self.watermark);
        }
        let news = (term, index) > self.claimed;
        if news {
            self.claimed = (term, index);
            self.process(now);
        }
        news
    }

    /// The disk has done the oldest Persist.
    pub fn handle_persisted(&mut self, now: Now) {
        self.persisted();
        self.process(now);
    }

    /// The disk began a segment with this entry: the producers' state before it is worth keeping.
    /// Called before the write is told to be done, so the entry is not applied yet.
    pub fn handle_segment_began(&mut self, first: LogIndex) {
        if first > self.log().applied() {
            self.segment_begins.push_back(first);
        }
    }

    /// Whole segments left the log; it begins after `start` now.
    pub fn handle_start_moved(&mut self, start: raft_log::Start, producers: &Bytes) {
        let state = start_state(start, producers, self.mode());
        self.raw.mut_store().move_start(start, state);
    }

    /// The disk read what a [`Effect::Read`] wanted; none if it no longer has it.
    pub fn handle_fetched(&mut self, now: Now, wanted: Wanted, entries: &[log::Entry]) {
        self.raw.mut_store().set_fetched(entries);
        self.raw.on_entries_fetched(wanted.context);
        self.raw.mut_store().clear_fetched();
        self.process(now);
    }

    /// The connection to a replica is gone: probe it before sending more.
    pub fn handle_unreachable(&mut self, replica: ReplicaId) {
        if self.is_leader() {
            self.raw.report_unreachable(replica.0);
            self.probes.forget(replica);
        }
    }

    /// A changed policy: what acknowledgements wait for from here on.
    pub fn handle_policy(&mut self, now: Now, ack: config::AckPolicy) {
        self.config.ack = ack;
        self.process(now);
    }

    /// Hands leadership to the most caught-up other voter, for an orderly shutdown.
    pub fn handle_step_down(&mut self, now: Now) {
        let me = self.config.me;
        let voters = self.config.members.iter().filter(|(id, m)| m.voter && **id != me);
        let matched = |id: &ReplicaId| self.raw.raft.prs().get(id.0).map(|p| p.matched);
        let best = voters.filter_map(|(id, _)| Some((matched(id)?, *id))).max();
        if let Some((_, to)) = best.filter(|_| self.is_leader()) {
            self.raw.transfer_leader(to.0);
            self.process(now);
        }
    }

    /// The replica goes: whoever waits is told that it does not lead.
    pub fn close(&mut self) {
        for queued in std::mem::take(&mut self.queued) {
            let refused = Err(ProduceError::NotLeader);
            self.effects.push_back(Effect::Reply(queued.ticket, refused));
        }
        self.held.fail_all(&mut self.effects);
        self.waiters.fail_all(&mut self.effects);
        self.fail_hand_off();
        self.fail_confirming();
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Lets Raft, the watermark and the replies follow what was just handled.
    fn process(&mut self, now: Now) {
        self.drain_ready(now);
        self.follow_role(now);
        self.advance_watermark(now);
        self.watch_hand_off();
        self.watch_joining();
        self.watch_in_sync();
        self.continue_catch_up();
        for wanted in self.raw.mut_store().take_wanted() {
            self.effects.push_back(Effect::Read(wanted));
        }
    }

    fn send(&mut self, to: ReplicaId, raft: Option<Message>) {
        let watermark = self.is_leader().then(|| (self.term(), self.watermark));
        self.effects.push_back(Effect::Send(Outgoing { to, raft, watermark, catch_up: None }));
    }
}
