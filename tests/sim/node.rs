//! A node: the real replicas and the real group commit, between the simulator's queues.
//!
//! Mirrors `replica::driver`: inputs gather, a round takes them all, and ends with what it wants
//! done. The disk does one commit at a time, of whatever waited when it began.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isobar::broker::mend::Mending;
use isobar::log::disk::sim::SimDisk;
use isobar::log::{self, Options, Reader, Recovered, Store, Write};
use isobar::metadata::image::{DiskId, Image};
use isobar::metadata::lease;
use isobar::metadata::reconciler::{self, Action, Local, LocalReplica};
use isobar::model::{HomeEpoch, NodeId, Term, TopicPartition};
use isobar::replica::core::effect::{RangeWanted, Ticket};
use isobar::replica::core::raft_log::Wanted;
use isobar::replica::core::{Now, Queued};
use isobar::replica::driver::disk::{Command, Done, Note, Writer};
use isobar::replica::driver::replicas::{Outcome, Replicas};
use isobar::replica::driver::{Desk, Mover, Order};
use isobar::replica::host::Answers;
use isobar::replica::wire::Lead;
use isobar::replica::{Leader, Leaders, ProduceError};
use isobar_transport::Frame;

use crate::calls::{Answer, Answered, Call};
use crate::client::Request;
use crate::image::disk_id;
use crate::jobs::{Job, Ranges};
use crate::reconcile;
use crate::rot::Ways;
use crate::scenario::{Micros, RESERVES, Scenario, dc_name, dc_of, node_id, wall_ms};

/// As the driver's inbox.
const FRAMES_MAX: usize = 4096;

pub const DIR: &str = "/data";

/// A call to hand off, and what came of it.
pub type HandedOff = (Call, Answered);

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
    /// Whether it has one, and for which homes it is none.
    pub lease: Option<(bool, BTreeMap<TopicPartition, HomeEpoch>)>,
    pub step_down: bool,
    pub orders: Vec<Order>,
    pub hand_offs: Vec<Call>,
}

/// What waits for the disk, in the order in which it came.
pub enum Task {
    Write(Write, Note),
    Order(Command),
}

/// What the disk does at present: one commit, or one thing between two.
pub enum Work {
    Commit(Vec<(Write, Note)>),
    Order(Box<Command>),
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
    /// Wait for what is under way.
    pub to_write: VecDeque<Task>,
    pub committing: Option<Work>,
    pub asked: BTreeMap<Ticket, Request>,
    /// Who carries out moves here, and where his words arrive.
    pub mover: Mover,
    pub desk: Desk,
    pub jobs: BTreeMap<u64, Job>,
    pub ranges: Ranges,
    pub handing_off: BTreeMap<Ticket, Call>,
    /// As the reconciler keeps them: open in an epoch, and on the disk since an earlier life.
    pub local: BTreeMap<TopicPartition, LocalReplica>,
    pub asleep: BTreeMap<TopicPartition, LocalReplica>,
    pub actions: VecDeque<Action>,
    /// One of them is under way.
    pub follows: bool,
    /// Who mends what has rotted here, whether he is at it, and how often he has read all.
    pub mending: Mending<Ways>,
    pub mends: bool,
    pub passes: u64,
    /// All is looked at again soon, for one that could not be done.
    pub retries: bool,
    /// Moves that `__meta` is being told of, or has been, in this life.
    pub told: BTreeSet<(TopicPartition, HomeEpoch)>,
    /// The image has changed meanwhile.
    pub changed: bool,
    tickets: u64,
    begun: Micros,
    skew_ms: i64,
}

pub struct Node {
    pub index: usize,
    pub disk: SimDisk,
    pub disk_id: DiskId,
    /// Disks that it has had before this one.
    pub disks_lost: u8,
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
        let (disk_id, disks_lost) = (disk_id(index, 0), 0);
        Self {
            index,
            disk,
            disk_id,
            disks_lost,
            life,
            running,
            paused_until,
            slow_until,
            lease,
            touched,
        }
    }

    /// Opens the disk and whatever replicas the scenario gives this node. An error is the disk
    /// failing under recovery. Returns what the disk gave back.
    pub fn start(
        &mut self,
        now: Micros,
        (scenario, image): (&Scenario, &Image),
        seed: u64,
    ) -> Result<Vec<(Recovered, Reader)>, log::Error> {
        let disk = Arc::new(self.disk.clone());
        let (produce_reserve_bytes, append_reserve_bytes) =
            scenario.faults.full_disk.map_or((0, 0), |_| RESERVES);
        let options = Options {
            produce_reserve_bytes,
            append_reserve_bytes,
            journal_bytes: scenario.journal_bytes,
            ..Options::default()
        };
        let (mut store, recovered) =
            Store::open(disk, Path::new(DIR), node_id(self.index), self.disk_id, options)?;
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
        replicas.host.idle_ticks = scenario.idle_ticks;
        if seed.is_multiple_of(2) {
            // Whatever memory does not have travels as ranges.
            replicas.catch_up_bytes_min = 0;
        }
        replicas.host.lease_but(clock, self.lease, lease::left(image));
        let mut asleep = reconcile::on_disk(&with_readers);
        let mut open = BTreeMap::new();
        let none = BTreeMap::new();
        let (node, disk) = (node_id(self.index), self.disk_id);
        let local = Local { node, disk, replicas: &none, is_current: false };
        for action in reconciler::reconcile(image, &local) {
            let Action::Create(create) = action else { unreachable!("nothing is open yet") };
            let (at, spec) = (create.partition, reconcile::spec(scenario, &create));
            if asleep.get(&at).is_some_and(|found| found.home_epoch != create.home_epoch) {
                continue;
            }
            reconcile::open(&mut replicas, &mut store, clock, spec)?;
            asleep.remove(&at);
            open.insert(at, reconcile::local(&create));
        }
        let (mover, desk) = Mover::apart(scenario.partitions.iter().map(|p| p.at));
        let (orders, mender) = mover.menders();
        let (dc, peers, counters) = (dc_name(dc_of(self.index)), Ways::default(), Arc::default());
        let mending = Mending { node, dc, peers, orders, mender, counters };
        self.life += 1;
        self.running = Some(Running {
            replicas,
            writer: Writer::new(store),
            leaders: Leaders::default(),
            has_lease: self.lease,
            inbox: Inbox::default(),
            round_is_due: false,
            to_write: VecDeque::new(),
            committing: None,
            asked: BTreeMap::new(),
            mover,
            desk,
            jobs: BTreeMap::new(),
            ranges: Ranges::default(),
            handing_off: BTreeMap::new(),
            local: open,
            asleep,
            actions: VecDeque::new(),
            follows: false,
            mending,
            mends: false,
            passes: 0,
            retries: false,
            told: BTreeSet::new(),
            changed: false,
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

    /// As `broker::reconcile`.
    pub fn has_promised(&mut self, at: TopicPartition, promised: HomeEpoch) {
        let asleep = self.asleep.remove(&at).map(|asleep| (at, asleep));
        self.local.extend(asleep);
        if let Some(local) = self.local.get_mut(&at) {
            local.promised = promised;
        }
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
    pub fn round(&mut self, me: NodeId, now: Micros) -> (Outcome, Vec<usize>, Vec<HandedOff>) {
        let inbox = std::mem::take(&mut self.inbox);
        let clock = self.now(now);
        let mut early = Answers::default();
        for order in inbox.orders {
            let answers = self.obey(now, order);
            early.replies.extend(answers.replies);
            early.deleted.extend(answers.deleted);
            early.handed_off.extend(answers.handed_off);
        }
        if let Some((valid, left)) = inbox.lease {
            self.has_lease = valid;
            self.replicas.host.lease_but(clock, valid, left);
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
            if let Some((ticket, refused)) = self.take_request(clock, request) {
                early.replies.push((ticket, Err(refused)));
            }
        }
        let mut handed_off = Vec::new();
        for call in inbox.hand_offs {
            handed_off.extend(self.hand_off(now, call));
        }
        let mut outcome = self.replicas.end_round(clock);
        for lead in &outcome.leads {
            self.learn(me, lead);
        }
        let Answers { replies, deleted, handed_off: handed, .. } = &mut outcome.answers;
        replies.splice(0..0, early.replies);
        deleted.splice(0..0, early.deleted);
        handed.splice(0..0, early.handed_off);
        for (ticket, done) in std::mem::take(handed) {
            let Some(call) = self.handing_off.remove(&ticket) else { continue };
            let done = done.map(|_| Answer::HandedOff).map_err(|why| why.to_string());
            handed_off.push((call, done));
        }
        (outcome, inbox.up, handed_off)
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn take_request(&mut self, clock: Now, request: Request) -> Option<(Ticket, ProduceError)> {
        let ticket = self.ticket();
        let deadline = clock.mono + request.timeout;
        let at = request.partition;
        if let Some(before) = request.delete_before {
            self.asked.insert(ticket, request);
            self.replicas.host.delete_records(clock, at, ticket, before, deadline);
            return None;
        }
        let (batches, acks) = (request.batches.clone(), request.acks);
        self.asked.insert(ticket, request);
        let queued = Queued { ticket, batches, acks, deadline };
        self.replicas.produce(at, queued).err().map(|refused| (ticket, refused))
    }

    fn learn(&self, from: NodeId, lead: &Lead) {
        let at = lead.partition().expect("a frame of ours");
        let nodes = lead.in_sync.iter().filter_map(|id| NodeId::new(u64::from(*id)).ok());
        let epoch = Term(lead.term).leader_epoch();
        self.leaders.learn(at, Leader { node: from, epoch, in_sync: nodes.collect() });
    }
}
