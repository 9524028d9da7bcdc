//! A node: the real replicas and the real group commit, between the simulator's queues.
//!
//! Mirrors `replica::driver`: inputs gather, a round takes them all, and ends with what it wants
//! done. The disk does one commit at a time, of whatever waited when it began.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isobar::log::disk::sim::SimDisk;
use isobar::log::{self, Options, Reader, Recovered, Store, Write};
use isobar::model::{NodeId, Term, TopicPartition};
use isobar::replica::core::effect::{RangeWanted, Ticket};
use isobar::replica::core::raft_log::Wanted;
use isobar::replica::core::{Now, Queued};
use isobar::replica::driver::disk::{Done, Note, Writer};
use isobar::replica::driver::replicas::{Opening, Outcome, Replicas};
use isobar::replica::driver::restart;
use isobar::replica::wire::Lead;
use isobar::replica::{Leader, Leaders};
use isobar_transport::Frame;

use crate::client::Request;
use crate::scenario::{Micros, Scenario, node_id, wall_ms};

/// As the driver's inbox.
const FRAMES_MAX: usize = 4096;

const DIR: &str = "/data";

/// What waits for the next round.
#[derive(Default)]
pub struct Inbox {
    pub done: Vec<Done>,
    pub fetched: Vec<(TopicPartition, Wanted, Result<Vec<log::Entry>, log::Error>)>,
    pub ranged: Vec<(RangeWanted, Option<Vec<log::Entry>>)>,
    pub frames: VecDeque<(usize, Frame)>,
    pub lost: Vec<usize>,
    pub up: Vec<usize>,
    pub requests: Vec<Request>,
    pub tick: bool,
    pub retain: bool,
    pub lease: Option<bool>,
    pub step_down: bool,
}

/// A node that runs.
pub struct Running {
    pub replicas: Replicas,
    pub writer: Writer,
    pub leaders: Leaders,
    /// What it was last told of its lease.
    pub has_lease: bool,
    pub inbox: Inbox,
    pub round_is_due: bool,
    /// Wait for the commit under way.
    pub to_write: Vec<(Write, Note)>,
    pub committing: Option<Vec<(Write, Note)>>,
    pub asked: BTreeMap<Ticket, Request>,
    tickets: u64,
    begun: Micros,
    skew_ms: i64,
}

pub struct Node {
    pub index: usize,
    pub disk: SimDisk,
    /// Counts its starts; events of an earlier life are void.
    pub life: u64,
    pub running: Option<Running>,
    pub paused_until: Micros,
    pub slow_until: Micros,
    pub lease: bool,
    /// When something last happened to it or to its connections within the DC.
    pub touched: Micros,
}

impl Node {
    pub fn new(index: usize, seed: u64) -> Self {
        let disk = SimDisk::new(seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9));
        let (running, paused_until, slow_until) = (None, 0, 0);
        let (life, lease, touched) = (0, true, 0);
        Self { index, disk, life, running, paused_until, slow_until, lease, touched }
    }

    /// Opens the disk and whatever replicas the scenario gives this node. An error is the disk
    /// failing under recovery. Returns what the disk gave back.
    pub fn start(
        &mut self,
        now: Micros,
        scenario: &Scenario,
        seed: u64,
    ) -> Result<Vec<(Recovered, Reader)>, log::Error> {
        let disk = Arc::new(self.disk.clone());
        let options = Options {
            produce_reserve_bytes: 0,
            append_reserve_bytes: 0,
            journal_bytes: scenario.journal_bytes,
            ..Options::default()
        };
        let (mut store, recovered) = Store::open(
            disk,
            Path::new(DIR),
            node_id(self.index),
            [self.index as u8; 16],
            options,
        )?;
        let mut with_readers = Vec::new();
        for one in recovered {
            let reader = store.reader(one.partition)?;
            with_readers.push((one, reader));
        }
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let seed = seed ^ self.life.wrapping_mul(0xa076_1d64_78bd_642f);
        let mut replicas = Replicas::new(node_id(self.index), seed, logger, with_readers.clone());
        let wall_ms = wall_ms(now) + scenario.skew_ms[self.index];
        let clock = Now { mono: Duration::ZERO, wall_ms };
        replicas.append_bytes_max = scenario.append_bytes_max;
        if seed.is_multiple_of(2) {
            // Whatever memory does not have travels as ranges.
            replicas.catch_up_bytes_min = 0;
        }
        replicas.host.lease(clock, self.lease);
        for partition in 0..scenario.partitions.len() {
            let spec = scenario.spec(partition, self.index);
            let at = spec.group.partition;
            let opening = match replicas.resume(&spec).expect("a disk without corruption") {
                Some(resumed) => {
                    store.set_config(at, spec.policy.log)?;
                    resumed
                }
                None => {
                    let state = restart::new_state(&spec);
                    store.create(at, &spec.topic_name, state.clone(), spec.policy.log)?;
                    Opening::fresh(state, store.reader(at)?)
                }
            };
            replicas.open(clock, spec, opening);
        }
        self.life += 1;
        self.running = Some(Running {
            replicas,
            writer: Writer::new(store),
            leaders: Leaders::default(),
            has_lease: self.lease,
            inbox: Inbox::default(),
            round_is_due: false,
            to_write: Vec::new(),
            committing: None,
            asked: BTreeMap::new(),
            tickets: 0,
            begun: now,
            skew_ms: scenario.skew_ms[self.index],
        });
        Ok(with_readers)
    }
}

impl Running {
    pub fn now(&self, now: Micros) -> Now {
        let wall_ms = wall_ms(now) + self.skew_ms;
        Now { mono: Duration::from_micros(now - self.begun), wall_ms }
    }

    /// `false` if the inbox is full: the frame is lost.
    pub fn take_frame(&mut self, from: usize, frame: Frame) -> bool {
        let room = self.inbox.frames.len() < FRAMES_MAX;
        if room {
            self.inbox.frames.push_back((from, frame));
        }
        room
    }

    /// One round of the loop over everything that came in.
    pub fn round(&mut self, me: NodeId, now: Micros) -> (Outcome, Vec<usize>) {
        let inbox = std::mem::take(&mut self.inbox);
        let clock = self.now(now);
        if let Some(valid) = inbox.lease {
            self.has_lease = valid;
            self.replicas.host.lease(clock, valid);
        }
        if inbox.step_down {
            self.replicas.host.step_down(clock);
        }
        if inbox.tick {
            self.replicas.host.tick(clock);
        }
        if inbox.retain {
            self.replicas.retain(clock);
        }
        for done in inbox.done {
            self.replicas.done(clock, done);
        }
        for (at, wanted, read) in inbox.fetched {
            self.replicas.fetched(clock, at, wanted, read);
        }
        for (wanted, entries) in inbox.ranged {
            self.replicas.ranged(clock, &wanted, entries);
        }
        for (from, frame) in inbox.frames {
            let from = node_id(from);
            let heard = self.replicas.receive(clock, from, frame).expect("a frame of ours");
            for lead in &heard.leads {
                self.learn(from, lead);
            }
        }
        for peer in inbox.lost {
            self.replicas.host.unreachable(node_id(peer));
        }
        for request in inbox.requests {
            self.take_request(clock, request);
        }
        let outcome = self.replicas.end_round(clock);
        for lead in &outcome.leads {
            self.learn(me, lead);
        }
        (outcome, inbox.up)
    }

    fn take_request(&mut self, clock: Now, request: Request) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let deadline = clock.mono + request.timeout;
        let at = request.partition;
        if let Some(before) = request.delete_before {
            self.asked.insert(ticket, request);
            self.replicas.host.delete_records(clock, at, ticket, before, deadline);
            return;
        }
        let (batches, acks) = (request.batches.clone(), request.acks);
        self.asked.insert(ticket, request);
        let queued = Queued { ticket, batches, acks, deadline };
        self.replicas.produce(at, queued).expect("a partition with a replica here, and room");
    }

    fn learn(&self, from: NodeId, lead: &Lead) {
        let at = lead.partition().expect("a frame of ours");
        let nodes = lead.in_sync.iter().filter_map(|id| NodeId::new(u64::from(*id)).ok());
        let epoch = Term(lead.term).leader_epoch();
        self.leaders.learn(at, Leader { node: from, epoch, in_sync: nodes.collect() });
    }
}
