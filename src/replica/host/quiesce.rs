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

mod inward;
mod outward;

use std::collections::BTreeMap;

use self::inward::{BEAT_SILENT_TICKS, Inward, Taken};
use self::outward::Outward;
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
        if let Some(outward) = self.quiescence.outward.get_mut(&node) {
            outward.begin_session(self.quiescence.sessions);
        }
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
                Outward::new(self.quiescence.sessions)
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
