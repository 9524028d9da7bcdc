//! Group coordinators: the product's shards, and the tasks that drive them and follow who leads, above the simulator's
//! replicas and in simulated time.
//!
//! ```text
//!   consumer ── ask ──▶ coordinator::Handle ──▶ shard ──▶ Led ──▶ Door ──▶ inbox of the node
//!            ◀─ answer ─┘                          ▲                          │
//!                                                  └── acknowledged, or not ◀─┘
//! ```
//!
//! Time passes in steps of a millisecond. What comes from outside is given to the tasks within a step, in one order.
//! One partition of a run's topic is its `__consumer_offsets`.

mod attend;
mod consumer;
mod member;
mod team;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isobar::broker::groups::follow;
use isobar::coordinator::group::{
    CommitOffsets, Config, Error, FetchOffsets, FetchedOffset, Heartbeat, Id, Join, JoinRefused,
    Joined, Leave, MemberId, Sync, Synced,
};
use isobar::coordinator::runtime::{State, partition_for};
use isobar::coordinator::{Handle, Seams};
use isobar::model::{HomeEpoch, LeaderEpoch, TopicPartition};
use isobar::replica::{self, Door, ProduceError, Produced, View};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use consumer::Consumer;
pub use team::{Commit, Team, Track};

use member::Member;

use crate::client::{Asker, Request};
use crate::event::Event;
use crate::paused::{self, Shared, locked};
use crate::scenario::{MILLI, Micros, NODES, SECOND, Scenario, wall_ms};
use crate::world::World;

const MEMBERS: u64 = 0x4d45_4d42;

/// What a consumer asks a coordinator.
#[derive(Debug, Clone)]
pub enum Ask {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    Commit(CommitOffsets),
    Fetch(FetchOffsets),
}

#[derive(Debug)]
pub enum Answer {
    Joined(Result<Joined, JoinRefused>),
    Synced(Result<Synced, Error>),
    Beat(Result<(), Error>),
    Left,
    Committed(Result<(), Error>),
    Fetched(Result<FetchedOffset, Error>),
}

/// An answer as it leaves a node.
#[derive(Debug)]
pub struct Told {
    answer: Answer,
    /// Where the group would go on (R25), by the home that the node knows of.
    from: i64,
    known: HomeEpoch,
    /// In which the node led the groups' partition all the while, if it did.
    epoch: Option<LeaderEpoch>,
    /// When it left.
    at: Micros,
}

/// An answer that a node gave, in one of its lives.
struct Answered {
    node: usize,
    life: u64,
    consumer: usize,
    attempt: u64,
    /// In which it led all the while, if it did.
    epoch: Option<LeaderEpoch>,
    answer: Answer,
}

/// The coordinators of one node, in one life.
struct Seat {
    life: u64,
    handle: Handle,
    door: Door,
    shown: Option<Arc<View>>,
    /// Its shards, when they were last looked at.
    seen: Vec<(i32, LeaderEpoch, State)>,
    replies: BTreeMap<u64, oneshot::Sender<Result<Produced, ProduceError>>>,
    /// Ended with it.
    tasks: JoinSet<()>,
}

/// What is given to the tasks at the next step.
enum Given {
    Start(usize, u64),
    Stop(usize),
    Show(usize, Option<Arc<View>>),
    Ask { node: usize, consumer: usize, attempt: u64, ask: Ask },
    Reply(usize, u64, Result<Produced, ProduceError>),
}

pub struct Groups {
    pub at: TopicPartition,
    given: Vec<Given>,
    tasks: Tasks,
    next_write: u64,
    steps: u64,
    begun: Instant,
    pub teams: Vec<Team>,
    pub consumers: Vec<Consumer>,
    /// What came of it.
    pub counts: Counts,
    /// Consumers ask once more for what they have committed, and that is the end.
    pub closing: bool,
    /// The last to go: what ends above it needs it.
    runtime: Runtime,
}

/// How often something was.
#[derive(Debug, Clone, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// What runs in the runtime.
struct Tasks {
    at: TopicPartition,
    seed: u64,
    skew_ms: [i64; NODES],
    seats: [Option<Seat>; NODES],
    answered: Shared<Vec<Answered>>,
    wall_ms: Arc<AtomicI64>,
}

impl Groups {
    pub fn new(seed: u64, scenario: &Scenario, number: usize, rng: &mut SmallRng) -> Self {
        let (runtime, begun) = paused::runtime();
        let names = (0..).map(|n| format!("g{n}"));
        let here = names.filter(|name| partition_for(name, number as u32 + 1) == number as i32);
        let mut here = here.map(Id::from);
        let (mut teams, mut consumers) = (Vec::new(), Vec::new());
        for team in 0..2 * number {
            let partition = team % number;
            teams.push(Team::new(here.next().expect("names without end"), [partition]));
            consumers.push(Consumer::alone(team, partition, scenario, rng));
        }
        let mut rng = SmallRng::seed_from_u64(seed ^ MEMBERS);
        // One of the two has static members.
        for is_static in [false, true].into_iter().filter(|_| scenario.members) {
            let team = teams.len();
            teams.push(Team::new(here.next().expect("names without end"), 0..number));
            for n in 0..rng.gen_range(2..=3) {
                let ends = (n > 0 && rng.gen_bool(0.3))
                    .then(|| rng.gen_range(10 * SECOND..scenario.faulty_until));
                let member = Member::new(consumers.len(), is_static, ends);
                consumers.push(Consumer::member(team, member, scenario, &mut rng));
            }
        }
        let at = scenario.partitions[number].at;
        let tasks = Tasks {
            at,
            seed,
            skew_ms: scenario.skew_ms,
            seats: Default::default(),
            answered: Shared::default(),
            wall_ms: Arc::default(),
        };
        Self {
            at,
            given: Vec::new(),
            tasks,
            next_write: 0,
            steps: 0,
            begun,
            teams,
            consumers,
            counts: Counts::default(),
            closing: false,
            runtime,
        }
    }

    pub fn now(&self) -> Micros {
        self.steps * MILLI
    }

    /// Who shares its group with others, and is there to the end.
    fn members(&self) -> impl Iterator<Item = &Consumer> {
        let stays = |consumer: &&Consumer| consumer.member.as_ref().is_some_and(Member::stays);
        self.consumers.iter().filter(stays)
    }

    /// Groups that several share, with who is in them and what each owns.
    pub fn shared(&self) -> impl Iterator<Item = (&Team, Vec<(MemberId, Vec<usize>)>)> {
        let of = |n| self.members().filter(move |consumer| consumer.team == n);
        let owned = move |n| of(n).filter_map(Consumer::owned).map(|(_, owned)| owned).collect();
        let teams = self.teams.iter().enumerate();
        teams
            .map(move |(n, team)| (team, owned(n)))
            .filter(|(_, owned): &(_, Vec<_>)| !owned.is_empty())
    }

    /// All have been told where they would go on, and who shares a group is of one generation and reads all of it.
    pub fn has_settled(&self) -> bool {
        let mut shared = BTreeMap::new();
        for consumer in self.members() {
            let Some((generation, (_, own))) = consumer.owned() else { return false };
            let (of, owned) = shared.entry(consumer.team).or_insert((generation, 0));
            if *of != generation {
                return false;
            }
            *owned += own.len();
        }
        let is_read = |(n, team): (usize, &Team)| {
            let is_all = shared.get(&n).is_none_or(|(_, owned)| *owned == team.tracks.len());
            is_all && team.waits().is_none()
        };
        self.teams.iter().enumerate().all(is_read)
    }

    /// What keeps them waiting, in words.
    pub fn waits(&self) -> String {
        let teams = self.teams.iter().filter_map(Team::waits);
        teams.chain(self.consumers.iter().filter_map(Consumer::waits)).collect()
    }

    pub fn start(&mut self, node: usize, life: u64) {
        self.given.push(Given::Start(node, life));
    }

    /// Its process ends: nothing that it was about to say is heard.
    pub fn stop(&mut self, node: usize) {
        self.given.push(Given::Stop(node));
    }

    fn ask(&mut self, (node, consumer, attempt): (usize, usize, u64), ask: Ask) {
        self.given.push(Given::Ask { node, consumer, attempt, ask });
    }

    /// A coordinator's write has been answered.
    pub fn reply(&mut self, node: usize, write: u64, result: Result<Produced, ProduceError>) {
        self.given.push(Given::Reply(node, write, result));
    }

    /// A millisecond passes. Returns what coordinators want written, by node, and what they answered.
    fn step(&mut self, paused: [bool; NODES]) -> (Vec<(usize, Request)>, Vec<Answered>) {
        let now = self.steps * MILLI;
        let until = self.begun + Duration::from_millis(self.steps + 1);
        let Self { given, tasks, runtime, .. } = self;
        tasks.wall_ms.store(wall_ms(now), Ordering::Relaxed);
        // Within the runtime, so that what wakes up does so in this order.
        runtime.block_on(async {
            given.drain(..).for_each(|given| tasks.give(given));
            tokio::time::sleep_until(until).await;
        });
        self.steps += 1;
        let mut wanted = Vec::new();
        for node in (0..NODES).filter(|node| !paused[*node]) {
            let Some(seat) = &mut self.tasks.seats[node] else { continue };
            while let Some(request) = seat.door.take() {
                let replica::Request::Produce(produce) = request else {
                    unreachable!("logs here are too short for snapshots of them");
                };
                self.next_write += 1;
                seat.replies.insert(self.next_write, produce.reply);
                let request = Request {
                    asker: Asker::Coordinator { write: self.next_write, since: now },
                    attempt: 0,
                    partition: produce.partition,
                    batches: produce.batches,
                    acks: produce.acks,
                    timeout: produce.timeout,
                    delete_before: None,
                };
                wanted.push((node, request));
            }
        }
        let mut answered = std::mem::take(&mut *locked(&self.tasks.answered));
        answered.sort_by_key(|a| (a.node, a.consumer, a.attempt));
        (wanted, answered)
    }
}

impl Tasks {
    fn give(&mut self, given: Given) {
        match given {
            Given::Start(node, life) => self.seats[node] = Some(self.seat(node, life)),
            Given::Stop(node) => self.seats[node] = None,
            Given::Show(node, view) => {
                if let Some(seat) = &mut self.seats[node] {
                    seat.door.show(self.at, view.as_ref());
                }
            }
            Given::Ask { node, consumer, attempt, ask } => {
                let answered = Arc::clone(&self.answered);
                let Some(seat) = &mut self.seats[node] else { return };
                let (handle, life) = (seat.handle.clone(), seat.life);
                while seat.tasks.try_join_next().is_some() {}
                seat.tasks.spawn(async move {
                    let leads = || handle.shards().first().map(|(_, epoch, _)| *epoch);
                    let before = leads();
                    let answer = answer(&handle, ask).await;
                    let epoch = before.filter(|before| leads() == Some(*before));
                    let one = Answered { node, life, consumer, attempt, epoch, answer };
                    locked(&answered).push(one);
                });
            }
            Given::Reply(node, write, result) => {
                let seat = self.seats[node].as_mut();
                if let Some(reply) = seat.and_then(|seat| seat.replies.remove(&write)) {
                    let _ = reply.send(result);
                }
            }
        }
    }

    fn seat(&self, node: usize, life: u64) -> Seat {
        let (wall_ms, skew_ms) = (Arc::clone(&self.wall_ms), self.skew_ms[node]);
        let random = SmallRng::seed_from_u64(self.seed ^ (life << 8) ^ node as u64);
        let random = Mutex::new(random);
        let seams = Seams {
            unix_ms: Arc::new(move || wall_ms.load(Ordering::Relaxed) + skew_ms),
            random: Arc::new(move || random.lock().expect("no panic while held").r#gen()),
        };
        let at = self.at;
        let handle = Handle::new(Config::default(), at.partition as u32 + 1, seams);
        let (replicas, door) = replica::Handle::apart();
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(replicas, handle.clone(), move |of| of == at));
        let (shown, seen, replies) = (None, Vec::new(), BTreeMap::new());
        Seat { life, handle, door, shown, seen, replies, tasks }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _within = self.runtime.enter();
        self.tasks.seats = Default::default();
    }
}

async fn answer(handle: &Handle, ask: Ask) -> Answer {
    match ask {
        Ask::Join(join) => Answer::Joined(handle.join(join).await),
        Ask::Sync(sync) => Answer::Synced(handle.sync(sync).await),
        Ask::Heartbeat(heartbeat) => Answer::Beat(handle.heartbeat(heartbeat).await),
        Ask::Leave(leave) => {
            // Whatever came of it: it goes.
            let _ = handle.leave(leave).await;
            Answer::Left
        }
        Ask::Commit(commit) => {
            let mut outcomes = handle.commit_offsets(commit).await;
            Answer::Committed(outcomes.pop().expect("of the one that was asked for").result)
        }
        Ask::Fetch(fetch) => {
            let fetched = handle.fetch_offsets(fetch).await;
            Answer::Fetched(fetched.map(|mut all| all.pop().expect("of the one asked for")))
        }
    }
}

impl World {
    /// A millisecond of the coordinators.
    pub fn step_groups(&mut self) {
        let paused = std::array::from_fn(|node| self.now < self.nodes[node].paused_until);
        let Some(groups) = &mut self.groups else { return };
        for (node, seat) in groups.tasks.seats.iter_mut().enumerate() {
            let (Some(seat), Some(running)) = (seat, &self.nodes[node].running) else { continue };
            let replicas = &running.replicas;
            let view = replicas.view(groups.at).or_else(|| replicas.sealed_view(groups.at));
            if seat.shown.as_ref().map(Arc::as_ptr) != view.map(Arc::as_ptr) {
                seat.shown = view.cloned();
                groups.given.push(Given::Show(node, view.cloned()));
            }
        }
        let (wanted, answered) = groups.step(paused);
        for (node, seat) in groups.tasks.seats.iter_mut().enumerate() {
            let Some(seat) = seat else { continue };
            let shards = seat.handle.shards();
            if shards != seat.seen {
                crate::show::line(self.now, node, || format!("coordinates {shards:?}"));
                seat.seen = shards;
            }
        }
        self.now = self.now.max(groups.now());
        for (node, request) in wanted {
            self.trace.note((self.now, node, &request.batches));
            self.with(node, |running| running.inbox.requests.push(request));
        }
        for one in answered {
            let Answered { node, life, consumer, attempt, epoch, answer } = one;
            if self.alive(node, life).is_none() {
                continue;
            }
            let (from, known) = self.led_back(node, &answer);
            let told = Told { answer, from, known, epoch, at: self.now };
            let leaves = self.nodes[node].paused_until.max(self.now);
            let at = leaves + self.consumer_delay(consumer, node);
            self.at(at, Event::Told(consumer, attempt, Box::new(told)));
        }
    }
}
