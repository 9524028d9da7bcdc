//! Carrying one move from its beginning in `__meta` to its activation. Pure: the leader of `__meta` has one
//! for each move that is under way, and forgets it with its leadership; the next one begins anew, for
//! every step may be repeated.
//!
//! ```text
//!   switchover ─▶ HandOff, and Seal of the target once it has that ─┐
//!   failover ───────────────────────────────────────────────────────┴▶ Seal, each replica ─▶ enough? F ─┬▶ Choose F ─▶ Hold, who lacks it in the target
//!                               ▲ not within a while: again      │                │ a majority holds
//!                               └──────── RETRY ◀────────────────┴────────────────┤ WaitForLeases, if it must
//!                                                  (a majority ends at F already)  └▶ Activate
//! ```
//!
//! Invariants: nothing is activated that was not sealed first and is held by a majority of the target
//! (R10, R13); a switchover without its home's majority sealed never is (R18); an answer to an attempt
//! that was given up counts for nothing. No log is made to end at F before F is chosen in `__meta`; once it
//! is, no other F is looked for.

mod count;
mod step;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use isobar_topology::home_move::Found;
use isobar_topology::quorum::majority;

use super::{Activation, Choice, Chosen, FORK_TERMS_MAX, Kind, Verdict, cannot_fetch};
use crate::log::Fork;
use crate::metadata::image::Replica;
use crate::metadata::lease::Wait;
use crate::model::{LogIndex, NodeId, ReplicaId};

pub use step::{Attempt, Course, Effect, Seal, When};

/// Between two tries of a move that found too few: somebody may come back.
const RETRY: Duration = Duration::from_millis(500);

/// How long one attempt waits for seals, and between two questions for them while leases are waited for: a WAN
/// round trip or two, a dial and an fsync.
pub const SEAL_WAIT: Duration = Duration::from_secs(2);

/// How long a topic that needs no proof waits for every datacenter to answer before it goes on with those
/// that did: the T of R11.
const ALL_ANSWER_WAIT: Duration = SEAL_WAIT;

/// How much longer the rest of the target is waited for once there is enough: replicas that come in this time
/// vote from the start, the others are promoted when they have caught up.
const REST_WAIT: Duration = Duration::from_millis(50);

/// How long the target may take to hold F before the move begins again: where much is missing, the next
/// attempt goes on where this one was.
pub const HOLD_WAIT: Duration = Duration::from_secs(60);

/// How long the old home's leases are waited for before the whole attempt begins again. Its silent voters are
/// asked again every [`SEAL_WAIT`] meanwhile: a home that is up goes on renewing, and its promise ends the
/// wait. More than the longest lease that anybody waits for.
const LEASES_WAIT: Duration = Duration::from_secs(100);

/// How long a planned move may take before it is given up: the leader has stopped, so its home goes on
/// in the next epoch where it was (R18).
pub const SWITCHOVER_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(in crate::metadata::moves::carrier) struct Told {
    node: NodeId,
    seal: Seal,
}

#[derive(Debug)]
enum Stage {
    HandingOff,
    Sealing { until: Duration },
    Choosing(Plan),
    Holding { until: Duration, plan: Plan, holders: Vec<ReplicaId>, asked: usize },
    Waiting { until: Duration, ask_at: Duration, activation: Box<Activation> },
    Activating,
    Resting { until: Duration },
    Over,
}

/// How the target comes to hold F.
#[derive(Debug)]
struct Plan {
    chosen: Chosen,
    source: NodeId,
    holders: Vec<ReplicaId>,
    lacking: Vec<(ReplicaId, NodeId)>,
}

#[derive(Debug)]
pub struct Carrier {
    course: Course,
    /// What the next attempt goes by.
    newest: Option<Course>,
    attempt: Attempt,
    stage: Stage,
    told: BTreeMap<ReplicaId, Told>,
    silent: BTreeMap<NodeId, String>,
    sealing_since: Duration,
    /// Asked for a seal, and no answer yet.
    asked: BTreeSet<ReplicaId>,
    /// A planned move, and again where `__meta` did not answer.
    give_up_at: Duration,
    effects: VecDeque<Effect>,
    /// Why it has not ended yet, for people.
    stuck: Option<String>,
}

impl Carrier {
    pub fn new(now: Duration, course: Course) -> Self {
        let mut carrier = Self {
            course,
            newest: None,
            attempt: Attempt(0),
            stage: Stage::Over,
            told: BTreeMap::new(),
            silent: BTreeMap::new(),
            sealing_since: now,
            asked: BTreeSet::new(),
            give_up_at: now + SWITCHOVER_MAX,
            effects: VecDeque::new(),
            stuck: None,
        };
        carrier.begin(now);
        carrier
    }

    pub fn course(&self) -> &Course {
        &self.course
    }

    /// The same move as the image has it by now: another carrier may have had its cut chosen.
    pub fn handle_course(&mut self, course: Course) {
        self.newest = Some(course);
    }

    /// Whether there is nothing left to do: it was activated, as far as is known here.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Why it is not over, once an attempt has come to nothing.
    pub fn stuck(&self) -> Option<&str> {
        self.stuck.as_deref()
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Carrier::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Sealing { until } | Stage::Holding { until, .. } | Stage::Resting { until } => {
                Some(*until)
            }
            Stage::Waiting { until, ask_at, .. } => Some(*until.min(ask_at)),
            Stage::HandingOff | Stage::Choosing(_) | Stage::Activating | Stage::Over => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.poll_timeout().is_none_or(|until| now < until) {
            return;
        }
        match &mut self.stage {
            Stage::Sealing { .. } => self.end_sealing(now),
            Stage::Holding { .. } => self.end_holding(now),
            Stage::Resting { .. } => self.begin(now),
            Stage::Waiting { until, .. } if *until <= now => {
                self.rest(now, "nodes of the old home go on renewing their leases".into());
            }
            Stage::Waiting { ask_at, .. } => {
                *ask_at = now + SEAL_WAIT;
                let voters = self.course.placed.voters().map(|r| (r.id, r.node)).collect();
                self.ask(voters, When::AtOnce);
            }
            Stage::HandingOff | Stage::Choosing(_) | Stage::Activating | Stage::Over => {}
        }
    }

    /// The leader has stopped, or it could not be asked, or not everything has arrived in time.
    pub fn handle_handed_off(&mut self, now: Duration, of: Attempt, done: Result<(), String>) {
        if of != self.attempt || !matches!(self.stage, Stage::HandingOff) {
            return;
        }
        match done {
            Ok(()) => self.seal(now),
            // What has been sealed cannot be handed off to any more; it holds F all the same, or fetches it.
            Err(_) if self.told.len() >= majority(self.there().len()) => self.seal(now),
            Err(why) => self.rest(now, why),
        }
    }

    /// What a replica answered.
    pub fn handle_sealed(
        &mut self,
        now: Duration,
        of: Attempt,
        (replica, node): (ReplicaId, NodeId),
        answer: Result<Seal, String>,
    ) {
        let waits = matches!(self.stage, Stage::Waiting { .. });
        let asks = waits || matches!(self.stage, Stage::HandingOff | Stage::Sealing { .. });
        if of != self.attempt || !asks || !self.asked.remove(&replica) {
            return;
        }
        match answer {
            Ok(seal) if seal.replica == replica => {
                self.told.insert(replica, Told { node, seal });
                if waits {
                    return self.promised_late();
                }
            }
            Ok(seal) => {
                self.silent.insert(node, format!("it has replica {}", seal.replica));
            }
            Err(why) => {
                self.silent.insert(node, why);
            }
        }
        if waits || matches!(self.stage, Stage::HandingOff) {
            return;
        }
        let found = self.count();
        let all_said =
            self.asked.is_empty() || now.saturating_sub(self.sealing_since) >= ALL_ANSWER_WAIT;
        if self.asked.is_empty() {
            self.end_sealing(now);
        } else if self.is_enough(&found, all_said) {
            let rest = self.there().iter().any(|(id, _)| !self.told.contains_key(id));
            let wait = if rest { REST_WAIT } else { Duration::ZERO };
            if let Stage::Sealing { until } = &mut self.stage {
                *until = (*until).min(now + wait);
            }
            self.handle_timeout(now);
        }
    }

    /// The cut is fixed, or it is another one already.
    pub fn handle_chosen(&mut self, now: Duration, of: Attempt, done: Result<(), String>) {
        if of != self.attempt || !matches!(self.stage, Stage::Choosing(_)) {
            return;
        }
        let Stage::Choosing(plan) = std::mem::replace(&mut self.stage, Stage::Activating) else {
            unreachable!("it was looked at above");
        };
        match done {
            Ok(()) => {
                self.course.chosen = Some(plan.chosen.clone());
                self.hold(now, plan);
            }
            Err(why) => self.rest(now, why),
        }
    }

    /// Whether a replica holds F now.
    pub fn handle_held(
        &mut self,
        now: Duration,
        of: Attempt,
        replica: ReplicaId,
        answer: Result<bool, String>,
    ) {
        let all = self.there().len();
        let Stage::Holding { until, holders, asked, .. } = &mut self.stage else { return };
        if of != self.attempt {
            return;
        }
        *asked -= 1;
        match answer {
            Ok(true) => holders.push(replica),
            Ok(false) => self.stuck = Some("whoever has the cut gave nothing of it".into()),
            Err(why) => self.stuck = Some(why),
        }
        if holders.len() >= majority(all) {
            *until = (*until).min(now + REST_WAIT);
        }
        if *asked == 0 || holders.len() == all {
            self.end_holding(now);
        }
    }

    /// No lease of the old home is left, or nobody here can say so any more.
    pub fn handle_leases_over(&mut self, now: Duration, of: Attempt, done: Result<(), String>) {
        if of != self.attempt || !matches!(self.stage, Stage::Waiting { .. }) {
            return;
        }
        if let Err(why) = done {
            return self.rest(now, why);
        }
        if let Stage::Waiting { activation, .. } =
            std::mem::replace(&mut self.stage, Stage::Activating)
        {
            self.effects.push_back(Effect::Activate(self.attempt, activation));
        }
    }

    pub fn handle_activated(&mut self, now: Duration, of: Attempt, done: Result<(), String>) {
        if of != self.attempt || !matches!(self.stage, Stage::Activating) {
            return;
        }
        match done {
            Ok(()) => self.stage = Stage::Over,
            Err(why) => self.rest(now, why),
        }
    }

    /// One of the old home that was silent has promised after the cut was chosen: it acknowledges nothing any
    /// more, and its lease is waited for no longer. It would renew it for ever.
    fn promised_late(&mut self) {
        let wait = self.leases();
        if !wait.is_for_nobody() {
            self.effects.push_back(Effect::WaitForLeases(self.attempt, wait));
        } else if let Stage::Waiting { activation, .. } =
            std::mem::replace(&mut self.stage, Stage::Activating)
        {
            self.effects.push_back(Effect::Activate(self.attempt, activation));
        }
    }

    /// Who is sealed acknowledges nothing any more; who is not may hold a lease.
    fn leases(&self) -> Wait {
        let silent = self.course.placed.voters().filter(|r| !self.told.contains_key(&r.id));
        let (replaced, rest): (Vec<_>, Vec<_>) =
            silent.partition(|r| self.course.gone.contains(&r.id));
        let nodes = |of: Vec<&Replica>| of.into_iter().map(|r| r.node).collect();
        Wait::new(nodes(rest), nodes(replaced))
    }

    fn begin(&mut self, now: Duration) {
        if let Some(newest) = self.newest.take() {
            let before = std::mem::replace(&mut self.course, newest);
            self.course.chosen = self.course.chosen.take().or(before.chosen);
        }
        self.attempt.0 += 1;
        self.told.clear();
        self.silent.clear();
        self.asked.clear();
        match self.course.aim.kind {
            Kind::Switchover => {
                if now >= self.give_up_at {
                    self.give_up_at = now + SWITCHOVER_MAX;
                    self.effects.push_back(Effect::GiveUp);
                }
                self.stage = Stage::HandingOff;
                self.effects.push_back(Effect::HandOff(self.attempt));
                self.ask(self.there(), When::HandedOff);
            }
            Kind::Failover => self.seal(now),
        }
    }

    fn rest(&mut self, now: Duration, why: String) {
        self.stuck = Some(why);
        self.stage = Stage::Resting { until: now + RETRY };
    }

    fn seal(&mut self, now: Duration) {
        self.silent.clear();
        self.sealing_since = now;
        self.stage = Stage::Sealing { until: now + SEAL_WAIT };
        self.ask(
            self.course.placed.replicas.iter().map(|r| (r.id, r.node)).collect(),
            When::AtOnce,
        );
    }

    /// Asks those who have not told, and are not about to.
    fn ask(&mut self, whom: Vec<(ReplicaId, NodeId)>, when: When) {
        for (replica, node) in whom {
            if !self.told.contains_key(&replica) && self.asked.insert(replica) {
                let attempt = self.attempt;
                self.effects.push_back(Effect::Seal { attempt, replica, node, when });
            }
        }
    }

    fn end_sealing(&mut self, now: Duration) {
        let found = self.count();
        if !self.is_enough(&found, true) {
            let why = self.missing(&found);
            return self.rest(now, why);
        }
        let Some((source, chosen)) = self.cut(&found) else {
            let why = "the cut is chosen, and nobody who has it answers: bring one of them back, or \
                       fail over again, which chooses anew";
            return self.rest(now, why.to_owned());
        };
        let ends = |id: &ReplicaId| self.told.get(id).map(|told| told.seal.last);
        let at = chosen.fork.at;
        let is_chosen = self.course.chosen.is_some();
        let begins_after = if is_chosen { LogIndex::ZERO } else { self.begins_after(&found) };
        let (mut holders, mut lacking, mut too_old) = (Vec::new(), Vec::new(), Vec::new());
        for (id, node) in self.there() {
            match ends(&id) {
                Some(end) if end == at => holders.push(id),
                Some(end) if end.index < begins_after => too_old.push(node),
                Some(_) => lacking.push((id, node)),
                None => {}
            }
        }
        if !too_old.is_empty() && holders.len() + lacking.len() < majority(self.there().len()) {
            let why = cannot_fetch(&self.course.aim.to, source, &too_old);
            return self.rest(now, why);
        }
        let plan = Plan { chosen, source, holders, lacking };
        // Sealed logs that end at F hold it already: after a hand-off that is all of them, and two
        // round trips are saved.
        if is_chosen || plan.holders.len() >= majority(self.there().len()) {
            return self.hold(now, plan);
        }
        let Course { at, placed, .. } = &self.course;
        let choice = Box::new(Choice {
            at: *at,
            home_epoch: placed.home_epoch,
            fork: Fork::clone(&plan.chosen.fork),
            verdict: plan.chosen.verdict,
            by_word: self.course.by_word && plan.chosen.verdict != Verdict::Lossless,
        });
        self.stage = Stage::Choosing(plan);
        self.effects.push_back(Effect::Choose(self.attempt, choice));
    }

    /// F and who has it: what was chosen, or what these seals say. `None` if who has it is silent.
    fn cut(&self, found: &Found) -> Option<(NodeId, Chosen)> {
        if let Some(chosen) = &self.course.chosen {
            return Some((self.holder(chosen.fork.at)?, chosen.clone()));
        }
        let (source, last, epochs) = self.longest(found);
        let skipped = epochs.len().saturating_sub(FORK_TERMS_MAX);
        let (home_epoch, epochs) = (self.course.next, epochs[skipped..].to_vec());
        let verdict = match found.proven {
            true => Verdict::Lossless,
            false => self.unproven(found),
        };
        let fork = Arc::new(Fork { home_epoch, at: last, epochs });
        Some((source, Chosen { fork, verdict }))
    }

    fn hold(&mut self, now: Duration, mut plan: Plan) {
        let holders = std::mem::take(&mut plan.holders);
        let lacking = match holders.len() >= majority(self.there().len()) {
            true => Vec::new(),
            false => std::mem::take(&mut plan.lacking),
        };
        for (replica, node) in &lacking {
            let (attempt, fork, source) =
                (self.attempt, Arc::clone(&plan.chosen.fork), plan.source);
            let (replica, node) = (*replica, *node);
            self.effects.push_back(Effect::Hold { attempt, replica, node, fork, source });
        }
        let asked = lacking.len();
        self.stage = Stage::Holding { until: now + HOLD_WAIT, plan, holders, asked };
        if asked == 0 {
            self.end_holding(now);
        }
    }

    fn end_holding(&mut self, now: Duration) {
        let stage = std::mem::replace(&mut self.stage, Stage::Activating);
        let Stage::Holding { plan, mut holders, .. } = stage else {
            unreachable!("the caller has looked");
        };
        let all = self.there().len();
        if holders.len() < majority(all) {
            let why = format!(
                "{} of {all} replicas in {} hold the cut, a majority is needed: {}",
                holders.len(),
                self.course.aim.to,
                self.stuck.as_deref().unwrap_or("no answer"),
            );
            return self.rest(now, why);
        }
        holders.sort();
        let Chosen { fork, verdict } = plan.chosen;
        let activation = Box::new(Activation {
            at: self.course.at,
            home_epoch: self.course.placed.home_epoch,
            home: self.course.aim.to.clone(),
            voters: holders,
            fork: Fork::clone(&fork),
            verdict,
            by_word: self.course.by_word && verdict != Verdict::Lossless,
            ended_ms: 0,
        });
        let wait = self.leases();
        if verdict == Verdict::Lossless || !self.course.fences || wait.is_for_nobody() {
            self.effects.push_back(Effect::Activate(self.attempt, activation));
        } else {
            let (until, ask_at) = (now + LEASES_WAIT, now + SEAL_WAIT);
            self.stage = Stage::Waiting { until, ask_at, activation };
            self.effects.push_back(Effect::WaitForLeases(self.attempt, wait));
        }
    }
}
