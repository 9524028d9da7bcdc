//! One seed's run: one thread, one clock, one queue of events.
//!
//! ```text
//!   Tick · Fault · Think · Frame · Request …      ordered by (time, number)
//!        └──▶ inbox of a node ──▶ Round ──▶ frames, writes, reads, answers ──▶ events
//!                                   └──▶ oracle: what was given, shown, sent, acknowledged
//! ```

use std::collections::BTreeMap;

use isobar::log::{self, Write};
use isobar::model::TopicPartition;
use isobar::replica::core::raft_log::Wanted;
use isobar::replica::driver::disk::Note;
use isobar::replica::driver::replicas::{Outcome, lead_frames};
use isobar_transport::Frame;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::client::{Producer, Reader, Request, Response};
use crate::faults::Fault;
use crate::invariants::{Violation, gate};
use crate::network::{Arrival, Lane, Network};
use crate::node::{Node, Running};
use crate::oracle::Oracle;
use crate::ranges::Bulk;
use crate::scenario::{MILLI, Micros, NODES, SECOND, Scenario, dc_of, node_id, node_of};
use crate::trace::Trace;

const TICK: Micros = isobar_topology::TICK.as_micros() as Micros;
const CHECKPOINT: Micros = SECOND;
/// More often than the driver's minute, so that a short run sees it.
const RETAIN: Micros = 3 * SECOND;

/// A read of a lagging replica's entries.
type Read = (TopicPartition, Wanted, log::Reader);

/// Simulated time after the last fault in which all must converge. The longest wait in it is a
/// producer's, whose five batches time out one after another.
const HEAL_MAX: Micros = 240 * SECOND;

pub enum Event {
    Tick(usize, u64),
    Checkpoint(usize, u64),
    Retain(usize, u64),
    Round(usize, u64),
    Frame(Arrival),
    Lost { at: usize, peer: usize },
    Up { at: usize, peer: usize },
    Committed(usize, u64),
    Read(usize, u64, Box<Read>),
    Bulk(usize, u64, Box<Bulk>),
    Think(usize),
    Retry(usize),
    Request(usize, Box<Request>),
    Respond(usize, u64, Response),
    GiveUp(usize, u64),
    Follow(usize),
    Fault(Fault),
    Undo(crate::faults::Undo),
    Start(usize),
    Healed,
    Look,
}

pub struct World {
    pub now: Micros,
    pub rng: SmallRng,
    seed: u64,
    pub scenario: Scenario,
    queue: BTreeMap<(Micros, u64), Event>,
    number: u64,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub producers: Vec<Producer>,
    pub readers: Vec<Reader>,
    pub oracle: Oracle,
    pub trace: Trace,
    pub healed: bool,
    pub faults: BTreeMap<&'static str, u64>,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub simulated: Micros,
    pub events: u64,
    pub acked: u64,
    pub terms: u64,
    pub trace: u64,
    pub faults: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut rng);
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
        let mut world = Self {
            now: 0,
            seed,
            queue: BTreeMap::new(),
            number: 0,
            nodes: (0..NODES).map(|i| Node::new(i, seed)).collect(),
            network: Network::new(&scenario),
            producers,
            readers,
            oracle: Oracle::new(&scenario),
            trace: Trace::default(),
            healed: false,
            faults: BTreeMap::new(),
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
        world.plan_faults();
        let until = world.scenario.faulty_until;
        world.at(until, Event::Healed);
        world
    }

    pub fn at(&mut self, at: Micros, event: Event) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), event);
    }

    pub fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) -> Result<Report, Violation> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if matches!(event, Event::Look) {
                if self.has_converged() {
                    self.check_end()?;
                    return Ok(self.report());
                }
                let until = self.scenario.faulty_until + HEAL_MAX;
                if self.now > until {
                    return Err(self.not_converged());
                }
                self.after(SECOND / 2, Event::Look);
                continue;
            }
            self.take(event)?;
        }
        unreachable!("a run looks at itself until it ends")
    }

    fn report(&self) -> Report {
        Report {
            simulated: self.now,
            events: self.trace.events,
            acked: self.oracle.partitions.iter().map(|p| p.acked.len() as u64).sum(),
            terms: self.oracle.partitions.iter().map(|p| p.leaders.len() as u64).sum(),
            trace: self.trace.hash(),
            faults: self.faults.clone(),
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
            Event::Undo(undo) => self.undo(undo),
            Event::Start(node) => return self.start(node),
            Event::Healed => {
                self.heal();
                self.after(SECOND, Event::Look);
            }
            Event::Look => unreachable!("taken by the loop"),
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
    fn is_paused(&mut self, node: usize, again: Event) -> Option<Event> {
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
            running.to_write.extend(writes.into_iter().map(|w| (w, Note::Checkpoint)));
        }
        self.commit_soon(node);
        self.after(CHECKPOINT, Event::Checkpoint(node, life));
    }

    fn round(&mut self, node: usize, life: u64) -> Result<(), Violation> {
        if self.alive(node, life).is_none() {
            return Ok(());
        }
        if self.is_paused(node, Event::Round(node, life)).is_none() {
            return Ok(());
        }
        let now = self.now;
        self.trace.note((now, node, "round"));
        let Some(running) = self.alive(node, life) else { return Ok(()) };
        running.round_is_due = false;
        let (outcome, up) = running.round(node_id(node), now);
        let leads = running.replicas.host.leads();
        for write in &outcome.writes {
            self.oracle.given(node, write)?;
        }
        let Some(running) = &self.nodes[node].running else { return Ok(()) };
        for core in running.replicas.host.cores() {
            self.oracle.look(node, core)?;
        }
        for peer in up {
            for frame in lead_frames(&leads) {
                self.send(node, peer, Lane::Control, frame)?;
            }
        }
        self.carry_out(node, outcome)
    }

    fn carry_out(&mut self, node: usize, outcome: Outcome) -> Result<(), Violation> {
        let Outcome { replication, control, leads, writes, reads, replies, deleted, .. } = outcome;
        for (to, key, frame) in replication {
            self.send(node, node_of(to), Lane::of_key(key), frame)?;
        }
        for (to, frame) in control {
            self.send(node, node_of(to), Lane::Control, frame)?;
        }
        for frame in lead_frames(&leads) {
            for peer in (0..NODES).filter(|peer| *peer != node) {
                self.send(node, peer, Lane::Control, frame.clone())?;
            }
        }
        let life = self.nodes[node].life;
        for (at, wanted, reader) in reads {
            let delay = self.rng.gen_range(100..5 * MILLI);
            self.after(delay, Event::Read(node, life, Box::new((at, wanted, reader))));
        }
        self.ask_ranges(node, outcome.ranges);
        for (ticket, answer) in replies {
            self.trace.note((self.now, node, format!("{answer:?}")));
            let asked = self.asked(node, ticket);
            let Some(request) = asked else { continue };
            if let Ok(produced) = answer {
                self.check_ack(node, &request, produced.next_offset.0)?;
            }
            if let Some(client) = request.client {
                let delay = self.client_delay(client, node);
                let response = answer.map_err(Some);
                self.after(delay, Event::Respond(client, request.attempt, response));
            }
        }
        for (ticket, answer) in deleted {
            self.trace.note((self.now, node, format!("{answer:?}")));
            self.asked(node, ticket);
        }
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        running.to_write.extend(writes.into_iter().map(|w| (w, Note::Persist)));
        self.commit_soon(node);
        Ok(())
    }

    fn asked(
        &mut self,
        node: usize,
        ticket: isobar::replica::core::effect::Ticket,
    ) -> Option<Request> {
        self.nodes[node].running.as_mut()?.asked.remove(&ticket)
    }

    fn check_ack(&mut self, node: usize, request: &Request, end: i64) -> Result<(), Violation> {
        let n = self.partition_of(request.partition);
        let waits = request.acks == isobar::replica::Acks::All || self.scenario.is_sync(n);
        if !waits {
            return Ok(());
        }
        gate::check(node, &self.scenario.partitions[n], &self.oracle.partitions[n], end)
    }

    pub fn partition_of(&self, at: TopicPartition) -> usize {
        usize::try_from(at.partition).expect("partitions are numbered from 0")
    }

    fn send(&mut self, from: usize, to: usize, lane: Lane, frame: Frame) -> Result<(), Violation> {
        self.oracle.sent(from, &frame)?;
        self.trace.note((self.now, from, to, lane, &frame.header));
        let arrivals = self.network.send(self.now, (from, to), lane, frame, &mut self.rng);
        self.will_arrive(arrivals);
        Ok(())
    }

    pub fn will_arrive(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            self.at(arrival.at, Event::Frame(arrival));
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        if !self.network.is_current(&arrival) {
            return;
        }
        let Arrival { from, to, frame, .. } = arrival;
        self.with(to, |running| {
            running.take_frame(from, frame);
        });
    }

    /// Begins a commit of all that waits, unless one is under way.
    pub fn commit_soon(&mut self, node: usize) {
        let (fast, slow) = self.scenario.commit;
        let is_slow = self.now < self.nodes[node].slow_until;
        let Node { life, running, .. } = &mut self.nodes[node];
        let Some(running) = running else { return };
        if running.committing.is_some() || running.to_write.is_empty() {
            return;
        }
        running.committing = Some(std::mem::take(&mut running.to_write));
        let life = *life;
        let mut delay = self.rng.gen_range(fast..=slow);
        if is_slow {
            delay += self.rng.gen_range(50 * MILLI..SECOND);
        }
        self.after(delay, Event::Committed(node, life));
    }

    fn committed(&mut self, node: usize, life: u64) -> Result<(), Violation> {
        if self.alive(node, life).is_none() {
            return Ok(());
        }
        if self.is_paused(node, Event::Committed(node, life)).is_none() {
            return Ok(());
        }
        self.trace.note((self.now, node, "commit"));
        let Some(running) = self.alive(node, life) else { return Ok(()) };
        let writes = running.committing.take().expect("a commit ends once");
        match running.writer.commit(writes.clone()) {
            Ok(done) => {
                running.inbox.done.extend(done);
                let writes: Vec<Write> = writes.into_iter().map(|(write, _)| write).collect();
                self.oracle.persisted(node, &writes);
                self.round_soon(node);
                self.commit_soon(node);
            }
            // The process ends (R20).
            Err(_) => {
                if let Some(running) = &mut self.nodes[node].running {
                    running.committing = Some(writes);
                }
                self.end_process(node, false);
            }
        }
        Ok(())
    }

    fn read(&mut self, node: usize, life: u64, (at, wanted, reader): Read) {
        if let Some(running) = self.alive(node, life) {
            let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(usize::MAX);
            let entries = reader.entries(wanted.low, wanted.high, bytes_max);
            running.inbox.fetched.push((at, wanted, entries));
            self.round_soon(node);
        }
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
        let started = self.nodes[node].start(self.now, &self.scenario, self.seed ^ node as u64);
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
        self.oracle.restarted(node, &recovered)?;
        let life = self.nodes[node].life;
        let phase = self.rng.gen_range(0..TICK);
        self.after(phase, Event::Tick(node, life));
        self.after(CHECKPOINT, Event::Checkpoint(node, life));
        self.after(RETAIN, Event::Retain(node, life));
        self.round_soon(node);
        for peer in (0..NODES).filter(|peer| *peer != node) {
            let delay = self.network.delay(dc_of(node), dc_of(peer), &mut self.rng);
            self.after(delay, Event::Up { at: peer, peer: node });
            self.after(delay, Event::Up { at: node, peer });
        }
        Ok(())
    }
}
