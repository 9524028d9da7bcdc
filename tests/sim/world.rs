//! One seed's run: one thread, one clock, one queue of events.
//!
//! ```text
//!   Tick · Fault · Think · Frame · Request …      ordered by (time, number)
//!        └──▶ inbox of a node ──▶ Round ──▶ frames, writes, reads, answers ──▶ events
//!                                   └──▶ oracle: what was given, shown, sent, acknowledged
//! ```

use std::collections::BTreeMap;

use isobar::replica::driver::disk::Note;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::calls::Waiter;
use crate::carry::Carried;
use crate::client::{Producer, Reader};
use crate::event::Event;
use crate::groups::Groups;
use crate::invariants::{Violation, progress};
use crate::meta::Meta;
use crate::network::Network;
use crate::node::{Node, Running, Task};
use crate::oracle::Oracle;
use crate::quic::Quic;
use crate::scenario::{MILLI, Micros, NODES, SECOND, Scenario, dc_of};
use crate::show;
use crate::trace::Trace;

const TICK: Micros = isobar_topology::TICK.as_micros() as Micros;
const CHECKPOINT: Micros = SECOND;
/// More often than the driver's minute, so that a short run sees it.
const RETAIN: Micros = 3 * SECOND;

/// Simulated time after the last fault in which all must converge. The longest wait in it is a
/// producer's, whose five batches time out one after another.
const HEAL_MAX: Micros = 240 * SECOND;

pub struct World {
    pub now: Micros,
    pub rng: SmallRng,
    seed: u64,
    pub scenario: Scenario,
    queue: BTreeMap<(Micros, u64), Event>,
    number: u64,
    waiting: usize,
    pub nodes: Vec<Node>,
    pub network: Network,
    /// In its place, in a few seeds.
    pub quic: Option<Quic>,
    pub quic_frames: u64,
    pub groups: Option<Groups>,
    pub producers: Vec<Producer>,
    pub readers: Vec<Reader>,
    pub oracle: Oracle,
    pub trace: Trace,
    pub healed: bool,
    pub faults: BTreeMap<&'static str, u64>,
    /// Of each partition, while its home is left alone: the term in which it is led.
    /// Replicas that were quiet, at every second.
    pub quiet_replicas: u64,
    pub quiet_terms: Vec<Option<u64>>,
    /// When it was last seen to be led.
    pub led_at: Vec<Micros>,
    /// Producers from here on came when all was healed.
    pub late_from: usize,
    pub meta: Meta,
    pub carriers: BTreeMap<u64, Carried>,
    pub next_carrier: u64,
    /// The datacenter that lost its disks.
    pub wiped: Option<usize>,
    pub waiters: BTreeMap<u64, Waiter>,
    pub next_call: u64,
    pub next_job: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub simulated: Micros,
    pub events: u64,
    pub acked: u64,
    pub terms: u64,
    /// Events that waited at once, at most.
    pub waiting: usize,
    pub trace: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// Seconds of replicas.
    pub quiet: u64,
    /// Of frames that came over QUIC.
    pub quic: u64,
    /// What consumers came to, in groups.
    pub groups: BTreeMap<&'static str, u64>,
    /// Moves of homes, by what they came to.
    pub moves: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let scenario = Scenario::draw(seed, &mut rng);
        let mut producers: Vec<Producer> =
            (0..scenario.producers).map(|i| Producer::draw(i, &scenario, &mut rng)).collect();
        producers.iter_mut().for_each(|p| p.settle_acks(&scenario));
        let mut readers = Vec::new();
        for partition in 0..scenario.partitions.len() {
            for dc in 0..3 {
                let node = dc * 3 + rng.gen_range(0..3);
                let offset = isobar::model::Offset::ZERO;
                readers.push(Reader { dc, partition, node, offset });
            }
        }
        let groups = scenario.groups.map(|number| Groups::new(seed, &scenario, number, &mut rng));
        let mut world = Self {
            now: 0,
            seed,
            queue: BTreeMap::new(),
            number: 0,
            waiting: 0,
            nodes: (0..NODES).map(|i| Node::new(i, seed)).collect(),
            network: Network::new(&scenario),
            quic: scenario.quic.then(|| Quic::new(seed, &scenario)),
            quic_frames: 0,
            groups,
            producers,
            readers,
            oracle: Oracle::new(&scenario),
            trace: Trace::default(),
            healed: false,
            faults: BTreeMap::new(),
            quiet_replicas: 0,
            quiet_terms: vec![None; scenario.partitions.len()],
            led_at: vec![0; scenario.partitions.len()],
            late_from: usize::MAX,
            meta: Meta::new(seed, &scenario),
            carriers: BTreeMap::new(),
            next_carrier: 0,
            wiped: None,
            waiters: BTreeMap::new(),
            next_call: 0,
            next_job: 0,
            rng,
            scenario,
        };
        for node in 0..NODES {
            let at = world.rng.gen_range(0..200 * MILLI);
            world.at(at, Event::Start(node));
        }
        for producer in 0..world.producers.len() {
            world.after(SECOND, Event::Think(producer));
        }
        for reader in 0..world.readers.len() {
            world.after(SECOND, Event::Follow(reader));
        }
        let consumers = world.groups.as_ref().map_or(0, |groups| groups.consumers.len());
        for consumer in 0..consumers {
            world.after(SECOND, Event::Consume(consumer));
        }
        world.after(SECOND, Event::Watch);
        world.plan_faults();
        world.plan_moves();
        let until = world.scenario.faulty_until;
        world.at(until, Event::Healed);
        world
    }

    pub fn at(&mut self, at: Micros, event: Event) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), event);
        self.waiting = self.waiting.max(self.queue.len());
    }

    pub fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) -> Result<Report, Violation> {
        while let Some((at, event)) = self.next() {
            self.now = at;
            if matches!(event, Event::Look) {
                if self.has_converged() {
                    self.check_end()?;
                    return Ok(self.report());
                }
                if self.is_late() {
                    return Err(self.not_converged());
                }
                self.after(SECOND / 2, Event::Look);
                continue;
            }
            self.take(event)?;
        }
        unreachable!("a run looks at itself until it ends")
    }

    /// What comes next, after all that travels until then.
    fn next(&mut self) -> Option<(Micros, Event)> {
        loop {
            let ((at, _), _) = self.queue.first_key_value()?;
            let due = at.saturating_sub(MILLI);
            if let Some(quic) = self.quic.as_mut().filter(|quic| quic.now() <= due) {
                let arrived = quic.step();
                self.now = self.now.max(quic.now());
                arrived.into_iter().for_each(|one| self.hear(one));
            } else if self.groups.as_ref().is_some_and(|groups| groups.now() <= due) {
                self.step_groups();
            } else {
                break;
            }
        }
        self.queue.pop_first().map(|((at, _), event)| (at, event))
    }

    fn is_late(&self) -> bool {
        self.now > self.scenario.faulty_until + HEAL_MAX
    }

    fn report(&self) -> Report {
        Report {
            simulated: self.now,
            events: self.trace.events,
            acked: self.oracle.partitions.iter().map(|p| p.acked.len() as u64).sum(),
            terms: self.oracle.partitions.iter().map(|p| p.leaders.len() as u64).sum(),
            waiting: self.waiting,
            trace: self.trace.hash(),
            faults: self.faults.clone(),
            quiet: self.quiet_replicas,
            quic: self.quic_frames,
            groups: self.groups.as_ref().map(|g| g.counts.0.clone()).unwrap_or_default(),
            moves: self.meta.moves.clone(),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(node, life) => self.tick(node, life),
            Event::Checkpoint(node, life) => self.checkpoint(node, life),
            Event::Retain(node, life) => {
                if let Some(running) = self.alive(node, life) {
                    running.inbox.retain = true;
                    self.round_soon(node);
                    self.after(RETAIN, Event::Retain(node, life));
                }
            }
            Event::Round(node, life) => return self.round(node, life),
            Event::Frame(arrival) => self.arrive(arrival),
            // Its transports tell.
            Event::Lost { .. } | Event::Up { .. } if self.quic.is_some() => {}
            Event::Lost { at, peer } => {
                self.with(at, |running| running.inbox.lost.push(peer));
            }
            Event::Up { at, peer } => {
                self.with(at, |running| running.inbox.up.push(peer));
            }
            Event::Committed(node, life) => return self.committed(node, life),
            Event::Read(node, life, read) => self.read(node, life, *read),
            Event::Bulk(node, life, bulk) => self.take_bulk(node, life, *bulk),
            Event::Think(producer) => self.think(producer),
            Event::Retry(producer) => self.pump(producer),
            Event::Request(node, request) => self.request(node, *request),
            Event::Respond(client, attempt, response) => self.respond(client, attempt, response),
            Event::GiveUp(client, attempt) => self.respond(client, attempt, Err(None)),
            Event::Follow(reader) => return self.follow(reader),
            Event::Fault(fault) => return self.strike(fault),
            Event::Aimed(node, life, moment) => self.hit(node, life, moment),
            Event::Undo(undo) => self.undo(undo),
            Event::Start(node) => return self.start(node),
            Event::Healed => {
                self.heal();
                self.after(progress::LATE, Event::Late);
            }
            Event::Watch => return self.watch(),
            // A home that still moves has no leader to answer.
            Event::Late if !self.meta_is_quiet() && !self.is_late() => {
                self.after(SECOND, Event::Late);
            }
            Event::Late => {
                if self.scenario.late {
                    self.late_producers();
                }
                self.groups.iter_mut().for_each(|groups| groups.closing = true);
                self.after(SECOND, Event::Look);
            }
            Event::Answered => return self.check_answered(),
            Event::Look => unreachable!("taken by the loop"),
            Event::MetaLook => return self.meta_look(),
            Event::MetaShift => self.meta_shift(),
            Event::Proposed(id) => self.proposed(id),
            Event::MetaCommit(id, term) => return self.meta_commit(id, term),
            Event::Decided(id, done) => self.decided(id, *done),
            Event::Learn(node, to) => self.learn(node, to),
            Event::Reconcile(node, life) => {
                if self.alive(node, life).is_some() {
                    self.reconcile(node);
                }
            }
            Event::LookForRot(node, life) => self.look_for_rot(node, life),
            Event::Emptied(node) => self.lose_disk(node),
            Event::Carry(id) => self.carry(id),
            Event::Leases(id, of, wait) => self.leases(id, of, wait),
            Event::Called(call) => self.called(*call),
            Event::Answer(id, answer) => self.answered(id, *answer),
            Event::Impatient(node, life, job) => self.impatient(node, life, job),
            Event::Operate(plan) => self.operate(plan),
            Event::Admit(node) => self.admit(node),
            Event::Consume(consumer) => self.consume(consumer),
            Event::Coordinate(node, consumer, attempt, ask) => {
                self.coordinate(node, consumer, attempt, *ask);
            }
            Event::Told(consumer, attempt, told) => return self.told(consumer, attempt, *told),
            Event::Impatience(consumer, attempt) => self.give_up(consumer, attempt),
        }
        Ok(())
    }

    pub fn alive(&mut self, node: usize, life: u64) -> Option<&mut Running> {
        let node = &mut self.nodes[node];
        node.running.as_mut().filter(|_| node.life == life)
    }

    /// Puts something into a running node's inbox.
    pub fn with(&mut self, node: usize, put: impl FnOnce(&mut Running)) {
        if let Some(running) = &mut self.nodes[node].running {
            put(running);
            self.round_soon(node);
        }
    }

    pub fn round_soon(&mut self, node: usize) {
        let Node { life, paused_until, running, .. } = &mut self.nodes[node];
        let Some(running) = running.as_mut().filter(|r| !r.round_is_due) else { return };
        running.round_is_due = true;
        let (life, from) = (*life, (*paused_until).max(self.now));
        let at = from + self.rng.gen_range(5..200);
        self.at(at, Event::Round(node, life));
    }

    /// Where the node stands still, the event comes again when it goes on.
    pub fn is_paused(&mut self, node: usize, again: Event) -> Option<Event> {
        let until = self.nodes[node].paused_until;
        if self.now < until {
            self.at(until, again);
            return None;
        }
        Some(again)
    }

    fn tick(&mut self, node: usize, life: u64) {
        if let Some(running) = self.alive(node, life) {
            running.inbox.tick = true;
            self.round_soon(node);
            self.after(TICK, Event::Tick(node, life));
        }
    }

    fn checkpoint(&mut self, node: usize, life: u64) {
        if self.alive(node, life).is_none() {
            return;
        }
        let Some(Event::Checkpoint(..)) = self.is_paused(node, Event::Checkpoint(node, life))
        else {
            return;
        };
        if let Some(running) = self.alive(node, life) {
            let writes = running.replicas.checkpoint();
            let tasks = writes.into_iter().map(|w| Task::Write(w, Note::Checkpoint));
            running.to_write.extend(tasks);
        }
        self.commit_soon(node);
        self.after(CHECKPOINT, Event::Checkpoint(node, life));
    }

    fn start(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].running.is_some() {
            return Ok(());
        }
        // Power may go again while a log is being recovered.
        let is_unlucky = !self.healed && self.nodes[node].life > 0 && self.rng.gen_bool(0.1);
        if is_unlucky {
            let changes = self.rng.gen_range(0..30);
            self.nodes[node].disk.crash_after(changes);
        }
        let changes = self.scenario.moves.is_some() || self.scenario.degrade_after().is_some();
        if changes && self.nodes[node].life > 0 {
            self.meta_restart(node);
        }
        let from = (&self.scenario, &self.meta.images[self.meta.learned[node]]);
        let started = self.nodes[node].start(self.now, from, self.seed ^ node as u64);
        let recovered = match started {
            Ok(recovered) => recovered,
            Err(error) => {
                // A sync that was to fail fails here, once; nothing else may keep a node down.
                let excused = self.now < self.scenario.faulty_until + 10 * SECOND;
                assert!(excused, "n{} does not start: {error}", node + 1);
                let disk = &self.nodes[node].disk;
                if is_unlucky {
                    disk.crash()
                } else {
                    disk.kill()
                }
                self.after(SECOND, Event::Start(node));
                return Ok(());
            }
        };
        self.trace.note((self.now, node, "start", self.nodes[node].disk.used_bytes()));
        if is_unlucky {
            // It outlived the recovery; it is cut off before it says anything.
            self.nodes[node].running = None;
            self.nodes[node].disk.crash();
            self.after(SECOND, Event::Start(node));
            return Ok(());
        }
        for (r, _) in &recovered {
            show::line(self.now, node, || {
                let (state, at) = (&r.state, r.partition.partition);
                let has = (state.term, state.vote, state.applied, r.start, r.last, r.hw);
                format!("p{at} comes back with (term, vote, applied, start, last, HW) {has:?}")
            });
        }
        self.oracle.restarted(node, &recovered)?;
        self.touch(node);
        let life = self.nodes[node].life;
        if let Some(quic) = &mut self.quic {
            quic.start(&self.scenario, node, life);
        }
        if let Some(groups) = &mut self.groups {
            groups.start(node, life);
        }
        let phase = self.rng.gen_range(0..TICK);
        self.after(phase, Event::Tick(node, life));
        self.after(CHECKPOINT, Event::Checkpoint(node, life));
        self.after(RETAIN, Event::Retain(node, life));
        if self.scenario.faults.rot.is_some() {
            self.after(SECOND, Event::LookForRot(node, life));
        }
        self.round_soon(node);
        for peer in (0..NODES).filter(|peer| *peer != node) {
            let delay = self.network.delay(dc_of(node), dc_of(peer), &mut self.rng);
            self.after(delay, Event::Up { at: peer, peer: node });
            self.after(delay, Event::Up { at: node, peer });
        }
        self.reconcile(node);
        Ok(())
    }
}
