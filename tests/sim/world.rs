//! One seed's run: one thread, one clock, one queue of events.
//!
//! ```text
//!   Tick · Fault · Think · Frame · Request …      ordered by (time, number)
//!        └──▶ inbox of a node ──▶ Round ──▶ frames, writes, reads, answers ──▶ events
//!                                   └──▶ oracle: what was given, shown, sent, acknowledged
//! ```

use std::collections::BTreeMap;

use isobar::model::{HomeEpoch, TopicPartition};
use isobar::replica::driver::disk::Note;
use isobar::replica::driver::replicas::{Outcome, Replicate, lead_frames};
use isobar_transport::Frame;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::aims::Moment;
use crate::client::{Producer, Reader, Request, Response};
use crate::disk::Read;
use crate::faults::Fault;
use crate::invariants::{Violation, fence, frame_size, gate, progress};
use crate::network::{Arrival, Lane, Network};
use crate::node::{Node, Running};
use crate::oracle::Oracle;
use crate::ranges::Bulk;
use crate::scenario::{MILLI, Micros, NODES, SECOND, Scenario, dc_of, node_id, node_of};
use crate::show;
use crate::trace::Trace;

const TICK: Micros = isobar_topology::TICK.as_micros() as Micros;
const CHECKPOINT: Micros = SECOND;
/// More often than the driver's minute, so that a short run sees it.
const RETAIN: Micros = 3 * SECOND;

/// Simulated time after the last fault in which all must converge. The longest wait in it is a
/// producer's, whose five batches time out one after another.
const HEAL_MAX: Micros = 240 * SECOND;

pub enum Event {
    Tick(usize, u64),
    Checkpoint(usize, u64),
    Retain(usize, u64),
    Round(usize, u64),
    Frame(Arrival),
    Lost {
        at: usize,
        peer: usize,
    },
    Up {
        at: usize,
        peer: usize,
    },
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
    Aimed(usize, u64, Moment),
    Undo(crate::faults::Undo),
    Start(usize),
    Healed,
    Watch,
    /// Clients that have waited for this begin.
    Late,
    Answered,
    Look,
}

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
    pub producers: Vec<Producer>,
    pub readers: Vec<Reader>,
    pub oracle: Oracle,
    pub trace: Trace,
    pub healed: bool,
    pub faults: BTreeMap<&'static str, u64>,
    /// Of each partition, while its home is left alone: the term in which it is led.
    pub quiet_terms: Vec<Option<u64>>,
    /// Producers from here on came when all was healed.
    pub late_from: usize,
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
        let mut world = Self {
            now: 0,
            seed,
            queue: BTreeMap::new(),
            number: 0,
            waiting: 0,
            nodes: (0..NODES).map(|i| Node::new(i, seed)).collect(),
            network: Network::new(&scenario),
            producers,
            readers,
            oracle: Oracle::new(&scenario),
            trace: Trace::default(),
            healed: false,
            faults: BTreeMap::new(),
            quiet_terms: vec![None; scenario.partitions.len()],
            late_from: usize::MAX,
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
        world.after(SECOND, Event::Watch);
        world.plan_faults();
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
            waiting: self.waiting,
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
            Event::Aimed(node, life, moment) => self.hit(node, life, moment),
            Event::Undo(undo) => self.undo(undo),
            Event::Start(node) => return self.start(node),
            Event::Healed => {
                self.heal();
                self.after(progress::LATE, Event::Late);
            }
            Event::Watch => return self.watch(),
            Event::Late => {
                if self.scenario.late {
                    self.late_producers();
                }
                self.after(SECOND, Event::Look);
            }
            Event::Answered => return self.check_answered(),
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
            show::write(now, node, write);
            self.oracle.given(now, node, write)?;
        }
        let Some(running) = &self.nodes[node].running else { return Ok(()) };
        let mut is_elected = false;
        for core in running.replicas.host.cores() {
            is_elected |= self.oracle.look(node, core)?;
        }
        if is_elected {
            show::line(now, node, || format!("leads {leads:?}"));
            self.aim(node, Moment::Elected);
        }
        for peer in up {
            for frame in lead_frames(&leads) {
                self.send(node, peer, Lane::Control, frame)?;
            }
        }
        self.carry_out(node, outcome)
    }

    fn carry_out(&mut self, node: usize, outcome: Outcome) -> Result<(), Violation> {
        let Outcome { replication, control, leads, writes, reads, answers, .. } = outcome;
        for Replicate { to, key, frame, .. } in replication {
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
        for (ticket, answer) in answers.replies {
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
        for (ticket, answer) in answers.deleted {
            self.trace.note((self.now, node, format!("{answer:?}")));
            self.asked(node, ticket);
        }
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        running.to_write.extend(writes.into_iter().map(|w| (w, Note::Persist(HomeEpoch::FIRST))));
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
        let running = self.nodes[node].running.as_ref();
        let has_lease = running.is_some_and(|running| running.has_lease);
        fence::check(node, &self.scenario.partitions[n], has_lease)?;
        let waits = request.acks == isobar::replica::Acks::All || self.scenario.is_sync(n);
        if !waits {
            return Ok(());
        }
        let history = &mut self.oracle.partitions[n];
        history.acked_end = history.acked_end.max(end);
        gate::check(node, &self.scenario.partitions[n], history, end)
    }

    pub fn partition_of(&self, at: TopicPartition) -> usize {
        usize::try_from(at.partition).expect("partitions are numbered from 0")
    }

    fn send(&mut self, from: usize, to: usize, lane: Lane, frame: Frame) -> Result<(), Violation> {
        show::frame(self.now, from, to, &frame);
        frame_size::check(from, &frame, self.scenario.append_bytes_max)?;
        if self.oracle.sent(from, &frame)? {
            self.aim(from, Moment::Voted);
        }
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
