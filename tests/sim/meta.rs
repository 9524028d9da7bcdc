//! `__meta`, as far as moves need it: commands in one order, decided by the product's controller and
//! applied by its `apply`, that every node hears of late, and a leader that changes, dies, or is
//! deposed without knowing it. How a Raft group comes to such an order is what the partitions show;
//! here it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use isobar::metadata::apply::{Outcome, apply};
use isobar::metadata::command::Command;
use isobar::metadata::controller::{self, Context};
use isobar::metadata::image::{Image, Partition, Phase};
use isobar::metadata::lease::{self, Grantor, Renew, Wait};
use isobar::metadata::request::{Request, Response};
use isobar::model::{Offset, ReplicaId, TopicPartition};
use isobar::replica::core::Core;
use isobar_topology::timing::Lease;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::carry::Asked;
use crate::event::Event;
use crate::image::first_image;
use crate::invariants::Violation;
use crate::scenario::{MILLI, Micros, NODES, SECOND, Scenario, dc_of, node_id};
use crate::show;
use crate::world::World;

/// So that what a seed did before homes moved stays as it was.
const META: u64 = 0x4d45_5441;

/// Between two looks at who leads, and at whose lease is over.
pub const LOOK: Micros = SECOND / 2;

/// How long a node acknowledges without hearing from the leader of `__meta`.
const LEASE: Micros = 3 * SECOND;

/// Whoever proposes hears nothing for so long, and gives up.
const PROPOSAL_MAX: Micros = 10 * SECOND;

const NO_ANSWER: &str = "no answer";

/// Who waits for a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposer {
    Nobody,
    Carrier(u64, Asked),
    /// Node, its life, and what it repeats until it was heard.
    Reporter(usize, u64),
}

pub struct Proposal {
    pub from: usize,
    pub request: Request,
    pub who: Proposer,
}

pub struct Meta {
    /// After every command; the last is the truth.
    pub images: Vec<Image>,
    pub leader: usize,
    pub term: u64,
    /// Deposed, and until when they do not know it.
    deposed: BTreeMap<usize, Micros>,
    /// How much of it each node has heard.
    pub learned: [usize; NODES],
    granted: [Micros; NODES],
    /// What the leader knows of that.
    grantor: Grantor,
    /// Leases that a fault has taken away.
    pub lapsed: [bool; NODES],
    pub proposals: BTreeMap<u64, Proposal>,
    next_proposal: u64,
    /// When each partition's placement last changed.
    pub changed: Vec<Micros>,
    /// Of each partition's move: the term of `__meta` in which it began.
    pub begun_in: Vec<u64>,
    /// Moves, by what they came to.
    pub moves: BTreeMap<&'static str, u64>,
    /// What leaders saw of learners that are to vote: what was committed.
    pub looks: BTreeMap<(usize, ReplicaId), u64>,
    pub rng: SmallRng,
}

/// Of whoever is elected at `now`.
fn grantor(now: Micros, term: u64) -> Grantor {
    let lease = Lease { length: duration(LEASE), renew_every: duration(LOOK) };
    Grantor::elected(duration(now), term as i32, lease)
}

impl Meta {
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ META);
        Self {
            images: vec![first_image(scenario)],
            leader: rng.gen_range(0..NODES),
            term: 1,
            deposed: BTreeMap::new(),
            learned: [0; NODES],
            granted: [0; NODES],
            grantor: grantor(0, 1),
            lapsed: [false; NODES],
            proposals: BTreeMap::new(),
            next_proposal: 0,
            changed: vec![0; scenario.partitions.len()],
            begun_in: vec![1; scenario.partitions.len()],
            moves: BTreeMap::new(),
            looks: BTreeMap::new(),
            rng,
        }
    }

    pub fn truth(&self) -> &Image {
        self.images.last().expect("there is a first one")
    }

    pub fn image(&self, node: usize) -> &Image {
        &self.images[self.learned[node]]
    }

    pub fn placed(&self, at: TopicPartition) -> &Arc<Partition> {
        self.truth().partition(at).expect("a partition of the scenario")
    }

    /// When a wait is over, as who leads knows it. Nodes notice the end of a lease at their next look.
    pub fn over_at(&self, wait: &mut Wait) -> Micros {
        wait.over_at(&self.grantor).as_micros() as Micros + LOOK
    }

    /// Whether it carries moves: it leads, or has not heard that it does not.
    pub fn believes(&self, now: Micros, node: usize) -> bool {
        self.leader == node || self.deposed.get(&node).is_some_and(|until| now < *until)
    }
}

impl World {
    /// Whether frames pass between them, both ways.
    pub fn hears(&self, a: usize, b: usize) -> bool {
        a == b || !self.network.is_cut(a, b) && !self.network.is_cut(b, a)
    }

    pub fn reaches_majority(&self, node: usize) -> bool {
        let up = |n: &usize| self.nodes[*n].running.is_some() && self.hears(node, *n);
        self.nodes[node].running.is_some() && (0..NODES).filter(up).count() > NODES / 2
    }

    /// Time passes for `__meta`: leaders that are gone, leases, learners that may vote.
    pub fn meta_look(&mut self) -> Result<(), Violation> {
        self.after(LOOK, Event::MetaLook);
        let leader = self.meta.leader;
        let is_paused = self.nodes[leader].paused_until > self.now + SECOND;
        if !self.reaches_majority(leader) || is_paused {
            self.elect_meta();
        }
        let leader = self.meta.leader;
        for node in 0..NODES {
            if self.nodes[node].running.is_some()
                && self.hears(node, leader)
                && self.reaches_majority(leader)
            {
                let renew = Renew { version: 1, id: 1, length_ms: LEASE / MILLI };
                let as_of = Offset(self.meta.images.len() as i64);
                let of = (duration(self.now), node_id(node));
                let granted = self.meta.grantor.handle_renew(of.0, of.1, renew, as_of);
                // One that knows less asks again.
                if granted.is_some_and(|g| g.counts_at(Offset(self.meta.learned[node] as i64 + 1)))
                {
                    self.meta.granted[node] = self.now;
                }
            }
            let valid = !self.meta.lapsed[node] && self.now < self.meta.granted[node] + LEASE;
            if self.nodes[node].lease != valid || self.meta.granted[node] == self.now {
                self.tell_lease(node, valid);
            }
        }
        self.carry_all(leader);
        self.promote();
        self.repair()
    }

    /// A node looks at its lease: by what it knows of `__meta` it is none for homes that were moved.
    pub fn tell_lease(&mut self, node: usize, valid: bool) {
        self.nodes[node].lease = valid;
        let left = lease::left(self.meta.image(node));
        self.with(node, |running| running.inbox.lease = Some((valid, left)));
    }

    /// Another node leads `__meta`; the one that did may not know it for a while.
    pub fn elect_meta(&mut self) {
        let may: Vec<usize> =
            (0..NODES).filter(|n| *n != self.meta.leader && self.reaches_majority(*n)).collect();
        if may.is_empty() {
            return;
        }
        let next = may[self.meta.rng.gen_range(0..may.len())];
        let before = std::mem::replace(&mut self.meta.leader, next);
        if self.meta.rng.gen_bool(0.7) {
            let until = self.now + self.meta.rng.gen_range(0..5 * SECOND);
            self.meta.deposed.insert(before, until);
        }
        self.meta.deposed.remove(&next);
        self.meta.term += 1;
        self.meta.grantor = grantor(self.now, self.meta.term);
        self.trace.note((self.now, "meta", next));
        show::line(self.now, next, || format!("leads __meta, and n{} does not", before + 1));
        self.carry_all(next);
    }

    pub fn propose(&mut self, from: usize, request: Request, who: Proposer) {
        self.meta.next_proposal += 1;
        let id = self.meta.next_proposal;
        self.meta.proposals.insert(id, Proposal { from, request, who });
        self.after(PROPOSAL_MAX, Event::Decided(id, Box::new(Err(NO_ANSWER.into()))));
        // A deposed leader that does not know it writes to a log of its own.
        let is_lost = self.meta.leader != from && self.meta.believes(self.now, from);
        if is_lost && self.meta.rng.gen_bool(0.5) || !self.hears(from, self.meta.leader) {
            return;
        }
        let there = self.meta_delay(from, self.meta.leader);
        self.after(there, Event::Proposed(id));
    }

    pub fn meta_delay(&mut self, from: usize, to: usize) -> Micros {
        let (from, to) = (dc_of(from), dc_of(to));
        self.network.delay(from, to, &mut self.meta.rng)
    }

    /// A proposal has reached the leader: it is decided there, and committed a round trip later.
    pub fn proposed(&mut self, id: u64) {
        let leader = self.meta.leader;
        if !self.reaches_majority(leader) {
            return;
        }
        let commit = self.meta.rng.gen_range(MILLI..250 * MILLI);
        let term = self.meta.term;
        self.after(commit, Event::MetaCommit(id, term));
    }

    /// What came of a proposal; only the first word counts.
    pub fn decided(&mut self, id: u64, done: Result<(), String>) {
        let Some(proposal) = self.meta.proposals.remove(&id) else { return };
        match proposal.who {
            Proposer::Nobody => {}
            Proposer::Carrier(carrier, asked) => self.meta_answered(carrier, asked, done),
            Proposer::Reporter(node, life) => {
                // A refusal is an answer: that move is not kept any more.
                if done.is_err_and(|why| why == NO_ANSWER) && self.alive(node, life).is_some() {
                    self.propose(node, proposal.request, proposal.who);
                }
            }
        }
    }

    pub fn meta_commit(&mut self, id: u64, term: u64) -> Result<(), Violation> {
        // Of a leader that is gone: it had reached the others, or it had not.
        if term != self.meta.term && self.meta.rng.gen_bool(0.5) {
            return Ok(());
        }
        let Some(proposal) = self.meta.proposals.get(&id) else { return Ok(()) };
        let (from, request) = (proposal.from, proposal.request.clone());
        let done = self.decide(request)?;
        let leader = self.meta.leader;
        let back = self.meta_delay(leader, from);
        if self.hears(leader, from) && term == self.meta.term && !self.meta.rng.gen_bool(0.03) {
            // Its image is as new as what it is told.
            let to = self.meta.images.len() - 1;
            self.after(back, Event::Learn(from, to));
            self.after(back, Event::Decided(id, Box::new(done)));
        }
        Ok(())
    }

    fn decide(&mut self, request: Request) -> Result<Result<(), String>, Violation> {
        let live = BTreeSet::new();
        let image = self.meta.truth().clone();
        let mut context =
            Context { image: &image, live: &live, new_topic_id: &mut || unreachable!("no topic") };
        let decision = match controller::decide(&mut context, request) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal.to_string())),
        };
        let commands: Vec<_> = decision.commands.iter().map(|(_, c)| c.clone()).collect();
        let outcomes = self.apply_all(commands)?;
        let answer = controller::answer(decision, outcomes);
        let one = |results: Vec<Result<(), _>>| results.into_iter().next().expect("one was asked");
        Ok(match answer {
            Ok(Response::MovesBegun(r) | Response::CutsChosen(r) | Response::HomesActivated(r)) => {
                one(r).map_err(|refusal: isobar::metadata::refusal::Refusal| refusal.to_string())
            }
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.to_string()),
        })
    }

    pub fn apply_all(&mut self, commands: Vec<Command>) -> Result<Vec<Outcome>, Violation> {
        let mut image = self.meta.truth().clone();
        let mut outcomes = Vec::new();
        for command in commands {
            let before = image.clone();
            let offset = image.next_offset;
            self.trace.note((self.now, command.encode()));
            let outcome = apply(&mut image, offset, command);
            if outcome.is_ok() {
                self.meta.images.push(image.clone());
                self.followed(&before, &image)?;
            }
            outcomes.push(outcome);
        }
        self.tell_all();
        Ok(outcomes)
    }

    fn tell_all(&mut self) {
        let to = self.meta.images.len() - 1;
        for node in 0..NODES {
            let late = match self.meta.rng.gen_range(0..10) {
                0 => self.meta.rng.gen_range(0..5 * SECOND),
                _ => self.meta.rng.gen_range(MILLI..400 * MILLI),
            };
            self.after(late, Event::Learn(node, to));
        }
    }

    /// A node hears of `__meta` up to there, unless it is cut off: then later.
    pub fn learn(&mut self, node: usize, to: usize) {
        if self.nodes[node].running.is_none() || self.meta.learned[node] >= to {
            return;
        }
        let is_paused = self.now < self.nodes[node].paused_until;
        if !self.reaches_majority(node) || is_paused {
            self.after(LOOK, Event::Learn(node, to));
            return;
        }
        self.meta.learned[node] = to;
        self.trace.note((self.now, node, "learns", to));
        self.reconcile(node);
        self.pump_all(node);
        self.carry_all(node);
    }

    /// A node starts with an image that may be older than the one that it had.
    pub fn meta_restart(&mut self, node: usize) {
        self.meta.deposed.remove(&node);
        let had = self.meta.learned[node];
        if had > 0 && self.meta.rng.gen_bool(0.5) {
            self.meta.learned[node] = self.meta.rng.gen_range(0..=had);
        }
        let delay = self.meta.rng.gen_range(MILLI..SECOND);
        let to = self.meta.images.len() - 1;
        self.after(delay, Event::Learn(node, to));
    }

    /// As who leads a partition sees to it: a learner that had at this look what was committed at the
    /// last may vote (`broker::promote`).
    fn promote(&mut self) {
        let before = std::mem::take(&mut self.meta.looks);
        let (mut looks, mut wanted) = (BTreeMap::new(), Vec::new());
        for n in 0..self.scenario.partitions.len() {
            let at = self.scenario.partitions[n].at;
            for node in 0..NODES {
                let ready = |core: &&Core| core.is_ready_to_lead();
                let Some(core) = self.core(node, n).filter(ready) else { continue };
                let image = self.meta.image(node);
                let placed = image.partition(at).expect("a partition of the scenario");
                if placed.home_epoch != core.config().group.home_epoch {
                    continue;
                }
                for replica in &placed.replicas {
                    if !controller::is_to_vote(image, at, placed, replica) {
                        continue;
                    }
                    let committed = core.committed().0;
                    looks.insert((n, replica.id), committed);
                    let due = before.get(&(n, replica.id));
                    let matched = core.standing(replica.id).matched.0;
                    if due.is_some_and(|due| matched >= *due) {
                        let request = Request::PromoteReplica {
                            partition: at,
                            replica: replica.id,
                            home_epoch: placed.home_epoch,
                            placement_generation: placed.placement_generation,
                        };
                        wanted.push((node, request));
                    }
                }
            }
        }
        self.meta.looks = looks;
        if self.scenario.faults.rot.is_some() {
            // Disk after disk may be given up, and `__meta` must have voters.
            wanted.extend(self.meta_voters());
        }
        for (node, request) in wanted {
            self.propose(node, request, Proposer::Nobody);
        }
    }

    /// What has been let in of `__meta` votes at once: its log is the images, which nobody lacks.
    fn meta_voters(&self) -> Option<(usize, Request)> {
        let (at, leader, image) = (TopicPartition::META, self.meta.leader, self.meta.truth());
        let placed = image.meta.as_ref()?;
        let waits =
            placed.replicas.iter().find(|r| controller::is_to_vote(image, at, placed, r))?;
        let (home_epoch, placement_generation) = (placed.home_epoch, placed.placement_generation);
        let (partition, replica) = (at, waits.id);
        let request =
            Request::PromoteReplica { partition, replica, home_epoch, placement_generation };
        self.reaches_majority(leader).then_some((leader, request))
    }

    /// Whether every move has ended, every node knows it, and all who are to vote do.
    pub fn meta_is_quiet(&self) -> bool {
        let newest = self.meta.images.len() - 1;
        let image = self.meta.truth();
        self.meta.learned.iter().all(|learned| *learned == newest)
            && self.scenario.partitions.iter().all(|p| {
                let placed = self.meta.placed(p.at);
                let waits = |r| controller::is_to_vote(image, p.at, placed, r);
                placed.phase == Phase::Active && !placed.replicas.iter().any(waits)
            })
    }
}

pub fn duration(micros: Micros) -> Duration {
    Duration::from_micros(micros)
}
