//! Replicas that nobody uses cost nothing: a leader that has had nothing to do for a while, and all of whose followers
//! are where it is, is not ticked any more, nor are they. One beat for each pair of nodes stands for the heartbeats of
//! all its quiet groups, and its answer for their answers.
//!
//! ```text
//!   leader's node                                   follower's node
//!   idle for IDLE_TICKS ── begins ────────────────▶ quiet, if it is where the leader says
//!   every round ────────── beat ──────────────────▶ as a heartbeat of each of them
//!   no answer ─▶ all that are quiet there wake      no beat ─▶ all that are quiet by it wake, and count from its
//!   a produce, a message ─▶ wakes, and says so      last beat: elections come when they would have come
//! ```
//!
//! Safety is Raft's, and needs no time. What a beat claims (R27, and how old what a follower has may be) holds because
//! both sides speak of the same set: every beat names the version that it begins with, and a follower's node that has
//! another one takes nothing from it. A message lost, doubled or overtaken so costs at most a new session, in which
//! everything is awake at first. A node that never answers, as older software does not, has no quiet leaders' followers.
//!
//! `__meta` is never quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{HEARTBEAT_ROUND_TICKS, Host, Round};
use crate::model::{LogIndex, NodeId, ReplicaId, Term, TopicPartition};
use crate::replica::core::config::SILENT_TICKS;
use crate::replica::core::{Core, Now};
use crate::replica::wire;
use crate::replica::wire::beat::{Answer, Beat, Still};

/// For how long a leader must have had nothing to do: 3 s, so that one that is used now and then stays awake.
pub const IDLE_TICKS: u64 = 60;

/// Ticks between two looks for such leaders; of a round, so that their followers hear of it at once.
const LOOK_TICKS: u64 = 7 * HEARTBEAT_ROUND_TICKS;

/// Leaders that become quiet at one look: what a frame bears.
const LOOK_MAX: usize = 2048;

/// Ticks between two beats to a node that has no voters: as between two heartbeats of a learner.
const FAR_BEAT_TICKS: u64 = 4 * HEARTBEAT_ROUND_TICKS;

/// Ticks without a beat after which the voters that are quiet wake: two have been missed. They go on counting towards
/// an election from the last one, so this must be less than the shortest election timeout.
const BEAT_SILENT_TICKS: u64 = 2 * HEARTBEAT_ROUND_TICKS + 1;

/// Ticks without an answer from a node with voters after which the leaders that are quiet wake.
const ANSWER_SILENT_TICKS: u64 = 3 * HEARTBEAT_ROUND_TICKS + 1;

/// Ticks for which a node is sent beats after some leader wanted to be quiet.
const WANTED_TICKS: u64 = 10 * LOOK_TICKS;

/// Beats after which a follower that is not where its leader says is told of: its entries may be on their way.
const BEATS_UNTIL_TOLD: u32 = 2;

// Who has just been found silent is still awake when the group may fall quiet again.
const _: () = assert!(SILENT_TICKS < IDLE_TICKS);

#[derive(Default)]
pub(super) struct Quiescence {
    outward: BTreeMap<NodeId, Outward>,
    inward: BTreeMap<NodeId, Inward>,
    quiet: BTreeMap<TopicPartition, Quiet>,
    /// Leaders that have nothing to do, where they stand, and since which tick.
    idle: BTreeMap<TopicPartition, (Term, LogIndex, u64)>,
    answers: BTreeMap<NodeId, Answer>,
    sessions: u64,
}

/// A replica that is not ticked.
#[derive(Debug, Clone, Copy)]
struct Quiet {
    since: u64,
    /// Whose beats stand for its leader; `None` if it leads itself.
    by: Option<NodeId>,
}

/// The quiet leaders here that have a replica on another node, and what was said of them.
#[derive(Debug, Default)]
struct Outward {
    session: u64,
    version: u64,
    quiet: BTreeSet<TopicPartition>,
    /// Since the last beat.
    ends: BTreeSet<TopicPartition>,
    begins: BTreeMap<TopicPartition, Still>,
    /// The tick of the last answer in sync, in this session.
    answered_at: Option<u64>,
    wanted_at: u64,
    /// It has a voter of one of them.
    votes: bool,
    beat_at: u64,
}

/// What another node says of quiet leaders there that have a replica here.
#[derive(Debug, Default)]
struct Inward {
    session: u64,
    version: u64,
    set: BTreeMap<TopicPartition, Still>,
    /// Those of the set that are ticked all the same, and at how many beats they were.
    awake: BTreeMap<TopicPartition, u32>,
    /// The last beat in sync: its tick, its moment here, and its sender's Unix time.
    heard_at: u64,
    here: Duration,
    there_ms: i64,
    is_silent: bool,
    /// A voter of one of them is here.
    votes: bool,
}

enum Taken {
    /// It had been overtaken.
    Old,
    /// What it builds on is not known here.
    Gap,
    /// These are not in the set any more.
    Here(Vec<TopicPartition>),
}

impl Outward {
    fn begin(&mut self, still: Still) {
        self.quiet.insert(still.group.partition);
        self.begins.insert(still.group.partition, still);
    }

    fn end(&mut self, at: TopicPartition) {
        if self.quiet.remove(&at) && self.begins.remove(&at).is_none() {
            self.ends.insert(at);
        }
    }

    fn answer_limit(&self) -> u64 {
        if self.votes { ANSWER_SILENT_TICKS } else { SILENT_TICKS }
    }

    fn silent_for(&self, ticks: u64) -> Option<u64> {
        self.answered_at.map(|at| ticks - at)
    }

    fn answers(&self, ticks: u64) -> bool {
        self.silent_for(ticks).is_some_and(|silent| silent <= self.answer_limit())
    }

    fn is_due(&self, ticks: u64) -> bool {
        let has_news = !self.ends.is_empty() || !self.begins.is_empty();
        let every = if self.votes || has_news { HEARTBEAT_ROUND_TICKS } else { FAR_BEAT_TICKS };
        let is_used = !self.quiet.is_empty() || has_news || ticks - self.wanted_at <= WANTED_TICKS;
        is_used && ticks.is_multiple_of(every) && self.beat_at != ticks
    }

    fn beat(&mut self, ticks: u64, at_ms: i64) -> Beat {
        let (ends, begins) = (std::mem::take(&mut self.ends), std::mem::take(&mut self.begins));
        let before = self.version;
        self.version += u64::from(!ends.is_empty() || !begins.is_empty());
        self.beat_at = ticks;
        Beat::new(self.session, (before, self.version), at_ms, ends, begins.into_values())
    }
}

impl Inward {
    fn take(&mut self, beat: &Beat) -> Result<Taken, wire::Error> {
        let (ends, begins) = (beat.ends()?, beat.begins()?);
        let is_known = beat.session == self.session;
        // A sender whose clock went back at its restart is heard once the one before is silent.
        let is_earlier = beat.session < self.session && !self.is_silent;
        let is_twice = is_known && beat.from_version < self.version && beat.version <= self.version;
        if is_earlier || is_twice {
            return Ok(Taken::Old);
        }
        let mut left = Vec::new();
        if beat.from_version == 0 {
            left.extend(std::mem::take(&mut self.set).into_keys());
            self.awake.clear();
        } else if !is_known || beat.from_version != self.version {
            return Ok(Taken::Gap);
        }
        (self.session, self.version) = (beat.session, beat.version);
        for at in ends {
            self.awake.remove(&at);
            left.extend(self.set.remove(&at).map(|_| at));
        }
        for still in begins {
            let at = still.group.partition;
            left.extend(self.set.insert(at, still).map(|_| at));
            self.awake.insert(at, 0);
        }
        Ok(Taken::Here(left))
    }

    fn beat_limit(&self) -> u64 {
        if self.votes { BEAT_SILENT_TICKS } else { SILENT_TICKS }
    }
}

impl Host {
    pub fn is_quiet(&self, at: TopicPartition) -> bool {
        self.quiescence.quiet.contains_key(&at)
    }

    pub fn quiet_replicas(&self) -> usize {
        self.quiescence.quiet.len()
    }

    /// Whether voters here are quiet by the beats of that node.
    pub(super) fn is_quiet_by(&self, node: NodeId) -> bool {
        let inward = self.quiescence.inward.get(&node);
        inward.is_some_and(|inward| inward.votes && inward.set.len() > inward.awake.len())
    }

    /// A replica is ticked again, if it was not.
    pub fn wake(&mut self, at: TopicPartition) {
        let Some(quiet) = self.quiescence.quiet.remove(&at) else { return };
        self.awake.insert(at);
        let Some(core) = self.cores.get_mut(&at) else { return };
        let slept = self.ticks - quiet.since;
        if let Some(node) = quiet.by {
            let inward = self.quiescence.inward.entry(node).or_default();
            if inward.set.contains_key(&at) {
                inward.awake.insert(at, 0);
            }
            core.handle_still(inward.here, inward.there_ms);
            core.wake_follower(slept, self.ticks - inward.heard_at);
        } else {
            let outward = &self.quiescence.outward;
            let silent = core.config().members.iter().filter_map(|(id, member)| {
                Some((*id, outward.get(&member.node)?.silent_for(self.ticks)?))
            });
            let silent: BTreeMap<ReplicaId, u64> = silent.collect();
            core.wake_leader(slept, silent);
            self.touched.insert(at);
            for outward in self.quiescence.outward.values_mut() {
                outward.end(at);
            }
        }
    }

    /// Brings what quiet followers know of their leaders up to the last beats.
    pub(super) fn settle_quiet(&mut self) {
        for (at, quiet) in &self.quiescence.quiet {
            let inward = quiet.by.and_then(|node| self.quiescence.inward.get(&node));
            if let (Some(inward), Some(core)) = (inward, self.cores.get_mut(at)) {
                core.handle_still(inward.here, inward.there_ms);
            }
        }
    }

    pub fn handle_beat(&mut self, now: Now, from: NodeId, beat: &Beat) -> Result<(), wire::Error> {
        let inward = self.quiescence.inward.entry(from).or_default();
        let left = match inward.take(beat)? {
            Taken::Old => return Ok(()),
            Taken::Gap => {
                let answer = Answer::new(beat.session, beat.version, false, []);
                self.quiescence.answers.insert(from, answer);
                return Ok(());
            }
            Taken::Here(left) => left,
        };
        // They count from the beat before.
        for at in left {
            if self.quiescence.quiet.get(&at).is_some_and(|quiet| quiet.by == Some(from)) {
                self.wake(at);
            }
        }
        let inward = self.quiescence.inward.entry(from).or_default();
        (inward.heard_at, inward.here, inward.there_ms) = (self.ticks, now.mono, beat.at_ms);
        inward.is_silent = false;
        let mut elsewhere = Vec::new();
        inward.awake.retain(|at, beats| {
            let core = self.cores.get(at);
            let here = core.filter(|core| is_where(core, from, &inward.set[at]));
            if let Some(core) = here.filter(|_| !self.quiescence.quiet.contains_key(at)) {
                inward.votes |= core.votes();
                self.awake.remove(at);
                let quiet = Quiet { since: self.ticks, by: Some(from) };
                self.quiescence.quiet.insert(*at, quiet);
                return false;
            }
            *beats += 1;
            // Where another epoch or term has begun it is the leader that is behind.
            let still = &inward.set[at];
            let is_past = |c: &Core| c.config().group != still.group || c.term() > still.term;
            if *beats >= BEATS_UNTIL_TOLD || core.is_none_or(is_past) {
                elsewhere.push(*at);
            }
            true
        });
        let answer = Answer::new(beat.session, beat.version, true, elsewhere);
        self.quiescence.answers.insert(from, answer);
        Ok(())
    }

    pub fn handle_answer(&mut self, from: NodeId, answer: &Answer) -> Result<(), wire::Error> {
        let awake = answer.awake()?;
        let outward = self.quiescence.outward.get_mut(&from);
        let Some(outward) = outward.filter(|o| o.session == answer.session) else { return Ok(()) };
        if !answer.in_sync {
            self.begin_session(from);
            return Ok(());
        }
        outward.answered_at = Some(self.ticks);
        let awake: Vec<TopicPartition> =
            awake.into_iter().filter(|at| outward.quiet.contains(at)).collect();
        awake.into_iter().for_each(|at| self.wake(at));
        Ok(())
    }

    /// What was said to that node may not have come: all that are quiet there wake.
    pub(super) fn begin_session(&mut self, node: NodeId) {
        let Some(outward) = self.quiescence.outward.get(&node) else { return };
        let quiet: Vec<TopicPartition> = outward.quiet.iter().copied().collect();
        quiet.into_iter().for_each(|at| self.wake(at));
        self.quiescence.sessions += 1;
        let session = self.quiescence.sessions;
        let outward = self.quiescence.outward.entry(node).or_default();
        let Outward { wanted_at, votes, beat_at, .. } = *outward;
        *outward = Outward { session, wanted_at, votes, beat_at, ..Outward::default() };
    }

    pub(super) fn tick_quiescence(&mut self, now: Now) {
        let ticks = self.ticks;
        let outward = self.quiescence.outward.iter();
        let silent = outward.filter(|(_, o)| !o.quiet.is_empty() && !o.answers(ticks));
        let silent: Vec<NodeId> = silent.map(|(node, _)| *node).collect();
        silent.into_iter().for_each(|node| self.begin_session(node));

        let mut unheard = Vec::new();
        for inward in self.quiescence.inward.values_mut() {
            if !inward.is_silent && ticks - inward.heard_at > inward.beat_limit() {
                inward.is_silent = true;
                let quiet = inward.set.keys().filter(|at| !inward.awake.contains_key(at));
                unheard.extend(quiet.copied());
            }
        }
        unheard.into_iter().for_each(|at| self.wake(at));

        let look = self.idle_ticks.clamp(1, LOOK_TICKS).next_multiple_of(HEARTBEAT_ROUND_TICKS);
        if ticks.is_multiple_of(look) {
            self.look_for_idle(now);
        }
    }

    fn look_for_idle(&mut self, now: Now) {
        let mut idle = BTreeMap::new();
        let mut wants_quiet = Vec::new();
        for at in self.awake.iter().filter(|at| **at != TopicPartition::META) {
            let Some(core) = self.cores.get(at) else { continue };
            // Else an election could be due before its voters are woken.
            let in_time = u64::from(core.config().timing.election_ticks_min) > BEAT_SILENT_TICKS;
            let Some((term, index)) = core.is_idle_at().filter(|_| in_time) else { continue };
            let before = self.quiescence.idle.get(at);
            let since =
                before.filter(|(t, i, _)| (*t, *i) == (term, index)).map(|(.., since)| *since);
            let since = since.unwrap_or(self.ticks);
            idle.insert(*at, (term, index, since));
            if self.ticks - since >= self.idle_ticks {
                wants_quiet.push((*at, term, index));
            }
        }
        self.quiescence.idle = idle;
        // Of no earlier life of this node.
        self.quiescence.sessions = self.quiescence.sessions.max(now.wall_ms.unsigned_abs());
        let mut most = LOOK_MAX;
        for (at, term, index) in wants_quiet {
            if most == 0 {
                break;
            }
            most -= usize::from(self.quiesce(at, (term, index)));
        }
    }

    /// A leader becomes quiet, if all nodes that have its followers answer; whether it did.
    fn quiesce(&mut self, at: TopicPartition, (term, index): (Term, LogIndex)) -> bool {
        let Some(core) = self.cores.get(&at) else { return false };
        let (group, leader) = (core.config().group, core.config().me);
        let members = &core.config().members;
        let others = || members.iter().filter(|(id, _)| **id != leader);
        let mut all_answer = true;
        for (_, member) in others() {
            let outward = self.quiescence.outward.entry(member.node).or_insert_with(|| {
                self.quiescence.sessions += 1;
                Outward { session: self.quiescence.sessions, ..Outward::default() }
            });
            outward.wanted_at = self.ticks;
            outward.votes |= member.voter;
            all_answer &= outward.answers(self.ticks);
        }
        if !all_answer {
            return false;
        }
        for (id, member) in others() {
            if let Some(outward) = self.quiescence.outward.get_mut(&member.node) {
                outward.begin(Still { group, leader, follower: *id, term, index });
            }
        }
        self.awake.remove(&at);
        self.quiescence.idle.remove(&at);
        self.quiescence.quiet.insert(at, Quiet { since: self.ticks, by: None });
        true
    }

    /// What is due to other nodes at the end of a round.
    pub(super) fn take_beats(&mut self, now: Now, round: &mut Round) {
        let ticks = self.ticks;
        let due = self.quiescence.outward.iter_mut().filter(|(_, outward)| outward.is_due(ticks));
        round.beats =
            due.map(|(node, outward)| (*node, outward.beat(ticks, now.wall_ms))).collect();
        round.beat_answers = std::mem::take(&mut self.quiescence.answers).into_iter().collect();
    }

    /// The replica goes.
    pub(super) fn forget_quiet(&mut self, at: TopicPartition) {
        self.wake(at);
        self.awake.remove(&at);
        self.quiescence.idle.remove(&at);
    }
}

/// Whether a follower is where its leader's node says.
fn is_where(core: &Core, from: NodeId, still: &Still) -> bool {
    let config = core.config();
    config.group == still.group
        && config.me == still.follower
        && core.node_of(still.leader) == Some(from)
        && core.is_idle_behind(still.leader, (still.term, still.index))
}
