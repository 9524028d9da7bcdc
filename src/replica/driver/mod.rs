//! The loop that drives a node's replicas: moves bytes and time between the pure host, the disk
//! thread, the transport, and whoever holds a handle.
//!
//! ```text
//!   Handle ── requests ──┐                 ┌── frames ──▶ transport
//!   transport ── frames ─┼─▶ one loop ─────┼── writes ──▶ disk thread ─┐
//!   reconciler ─ orders ─┤   (host round)  ├── reads ───▶ blocking pool│
//!   clock ────── ticks ──┘        ▲        └── replies                 │
//!                                 └────────── done ───────────────────┘
//! ```
//!
//! The loop never waits for a disk: reads go to the blocking pool, writes to the disk thread.

mod carry;
mod damaged;
pub mod disk;
mod disks;
mod moving;
mod orders;
mod raft_logger;
pub mod replicas;
pub mod restart;
mod silence;
pub mod slot;
mod spec;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, mpsc as thread_mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use isobar_topology::NodeId;
use isobar_transport::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

pub use self::damaged::Damaged;
use self::disk::Done;
use self::disks::Disks;
pub use self::disks::Mender;
pub use self::moving::{Desk, LetGo, Mover};
pub use self::orders::{Order, Orders, Refused};
use self::replicas::Replicas;
use self::silence::Silence;
pub use self::spec::{Policy, Spec};
use super::core::effect::{RangeWanted, Ticket};
use super::core::mode::Ask;
use super::core::raft_log::Wanted;
use super::core::{Now, Queued};
use super::handle::{INBOX_REQUESTS_MAX, Produce, Request};
use super::host::Answers;
use super::views::Views;
use super::{Handle, Leaders, ProduceError, Produced};
use crate::log::{self, Fatal, Store};
use crate::model::{LeaderEpoch, LogIndex, Offset, TopicPartition};

/// Length of a tick. Everything that Raft counts is a number of these.
pub const TICK: Duration = isobar_topology::TICK;

/// A tick later than this is told: it is half of the silence after which a leader may be voted out.
const LATE_TOLD: Duration = Duration::from_millis(250);

/// Rounds may follow on each other for this long before timers get their turn.
const TURN_EVERY: Duration = Duration::from_millis(5);

/// Frames from peers that may wait for the loop. A peer's burst beyond it is dropped, and Raft
/// sends again; at 64 KiB a frame this is 256 MiB.
const FRAMES_MAX: usize = 4096;

/// Inputs of one kind taken in one round, so that ticks and other kinds get their turn.
const ROUND_INPUTS_MAX: usize = 1024;

/// Requests to `__meta` that wait; each partition has one at a time, and makes it again.
const ASKS_MAX: usize = 1024;

/// How often the watermark is checkpointed: what a restarted replica serves at once is at most
/// this old.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How often retention and the expiry of producers are looked at. Kafka's
/// `log.retention.check.interval.ms` is five minutes; a minute keeps small disks within bounds.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Idle time after which a producer is forgotten: Kafka's `producer.id.expiration.ms`.
const PRODUCER_EXPIRATION: Duration = Duration::from_secs(24 * 3600);

/// Frames out, and who is there. The transport in production, the simulator in tests.
pub trait Network: Send + 'static {
    /// Never blocks. A frame that cannot be queued is lost, as on any network.
    fn control(&self, to: NodeId, frame: Frame);
    fn replication(&self, to: NodeId, key: u64, frame: Frame);
    /// Entries of `__meta`: few and small, and needed by every node. Where the direct path is down they go through a
    /// third datacenter, as control frames do; Raft bears what overtakes them.
    fn metadata(&self, to: NodeId, key: u64, frame: Frame);
    /// Asks another node for entries, on the bulk lane: [`wire::range`] is the body, frames are the
    /// answer. Calls `then` with it on any thread but the caller's, or with nothing.
    ///
    /// [`wire::range`]: super::wire::range
    fn range(&self, to: NodeId, body: Bytes, then: Box<dyn FnOnce(Option<Bytes>) + Send>);
    /// Every other node of the cluster.
    fn peers(&self) -> Vec<NodeId>;
    /// Whether a node is of this DC.
    fn is_near(&self, node: NodeId) -> bool;
    /// A node of this DC leads something and says nothing.
    fn suspect(&self, node: NodeId);
}

/// What reaches the loop from peers.
#[derive(Debug)]
pub enum FromPeer {
    Frame(NodeId, Frame),
    /// A connection was made: tell that node who leads what.
    Up(NodeId),
    /// Frames that were sent to it were lost.
    Lost(NodeId),
}

/// Where the transport puts what peers send. Never blocks; a full queue drops.
#[derive(Debug, Clone)]
pub struct Inlet {
    frames: mpsc::Sender<FromPeer>,
}

impl Inlet {
    /// Whether it was taken.
    pub fn put(&self, input: FromPeer) -> bool {
        self.frames.try_send(input).is_ok()
    }
}

/// The ends of the loop's queues, made before the loop: the transport needs the inlet to start, and
/// the loop needs the transport.
pub struct Ends {
    pub inlet: Inlet,
    frames: mpsc::Receiver<FromPeer>,
}

impl Default for Ends {
    fn default() -> Self {
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        Self { inlet: Inlet { frames: sender }, frames }
    }
}

/// Numbers for the metrics, written by the loop and read by anyone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Won by replicas of this node.
    pub elections: std::sync::atomic::AtomicU64,
    pub commits: std::sync::atomic::AtomicU64,
    pub files_synced: std::sync::atomic::AtomicU64,
    pub bytes_appended: std::sync::atomic::AtomicU64,
    pub commit_micros: std::sync::atomic::AtomicU64,
    pub groups_dropped: std::sync::atomic::AtomicU64,
    pub frames_malformed: std::sync::atomic::AtomicU64,
    /// Ranges that other nodes gave, and their bytes; and those that came to nothing.
    pub ranges_fetched: std::sync::atomic::AtomicU64,
    pub range_bytes_fetched: std::sync::atomic::AtomicU64,
    pub ranges_failed: std::sync::atomic::AtomicU64,
    /// Replicas that stay closed because their logs are damaged; and how often damage was mended.
    pub damaged: std::sync::atomic::AtomicU64,
    pub mended: std::sync::atomic::AtomicU64,
    /// Bytes of ranges that this node gave others.
    pub range_bytes_served: std::sync::atomic::AtomicU64,
}

pub struct Config {
    pub node: NodeId,
    /// Of the election timeouts' random numbers.
    pub seed: u64,
    /// Called when the disk failed: it must end the process (R20).
    pub on_fatal: Box<dyn FnOnce(Fatal) + Send>,
}

pub struct Started {
    pub handle: Handle,
    pub orders: Orders,
    pub mender: Mender,
    pub mover: Mover,
    pub counters: Arc<Counters>,
    /// What leaders here want `__meta` to record.
    pub asks: mpsc::Receiver<Ask>,
}

enum Internal {
    Done(Done),
    Fetched(TopicPartition, Wanted, Result<Vec<log::Entry>, log::Error>),
    Ranged(RangeWanted, Option<Vec<log::Entry>>),
}

pub(super) enum Waiting {
    Produce(oneshot::Sender<Result<Produced, ProduceError>>),
    Delete(oneshot::Sender<Result<Offset, ProduceError>>),
    HandOff(oneshot::Sender<Result<LogIndex, ProduceError>>),
    Confirm(oneshot::Sender<Result<LeaderEpoch, ProduceError>>),
}

/// Everything that the loop owns.
pub(super) struct Driver<N> {
    node: NodeId,
    replicas: Replicas,
    network: N,
    views: Arc<Views>,
    leaders: Arc<Leaders>,
    waiting: HashMap<Ticket, Waiting>,
    tickets: u64,
    disks: Disks,
    internal: mpsc::UnboundedSender<Internal>,
    counters: Arc<Counters>,
    asks: mpsc::Sender<Ask>,
    silence: Silence,
    begun: Instant,
}

/// The process's monotonic clock.
fn monotonic() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

/// Starts a thread for each disk, and the loop's, over opened stores: one for each data directory.
pub fn start<N: Network>(
    config: Config,
    ends: Ends,
    network: N,
    stores: Vec<(Store, Vec<log::Recovered>)>,
) -> std::io::Result<Started> {
    let (requests_in, requests) = mpsc::channel(INBOX_REQUESTS_MAX);
    let (orders_in, orders) = mpsc::unbounded_channel();
    let (internal_in, internal) = mpsc::unbounded_channel();
    let (done_in, mut done) = mpsc::unbounded_channel();
    let (asks_in, asks) = mpsc::channel(ASKS_MAX);
    let views = Arc::<Views>::default();
    let leaders = Arc::<Leaders>::default();
    let counters = Arc::<Counters>::default();
    let node = config.node;
    // Whichever disk fails first ends the process.
    let on_fatal = Arc::new(Mutex::new(Some(config.on_fatal)));
    let mut senders = Vec::new();
    let mut on_disks = BTreeMap::new();
    let mut recovered = Vec::new();
    for (number, (store, found)) in stores.into_iter().enumerate() {
        let (commands_in, commands) = thread_mpsc::channel();
        senders.push(commands_in);
        for one in found {
            if let Ok(reader) = store.reader(one.partition) {
                on_disks.insert(one.partition, number);
                recovered.push((one, reader));
            }
        }
        let disk = disk::Disk::new(number, store, commands, done_in.clone(), monotonic);
        let on_fatal = Arc::clone(&on_fatal);
        std::thread::Builder::new().name(format!("disk-{node}-{number}")).spawn(move || {
            if let Err(fatal) = disk.run()
                && let Some(end) = on_fatal.lock().expect("no panic while held").take()
            {
                end(fatal);
            }
        })?;
    }
    drop(done_in);
    let disks = Disks::new(senders, on_disks);
    let mender = Mender::new(disks.clone());
    let orders_out = Orders::new(orders_in);
    let mover = Mover::new(orders_out.clone(), disks.clone());
    let shared = (Arc::clone(&views), Arc::clone(&leaders), Arc::clone(&counters));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("replicas-{node}")).spawn(move || {
        runtime.block_on(async move {
            let (views, leaders, counters) = shared;
            let driver = Driver {
                node,
                replicas: Replicas::new(node, config.seed, raft_logger::new(node), recovered),
                network,
                views,
                leaders,
                waiting: HashMap::new(),
                tickets: 0,
                disks,
                internal: internal_in.clone(),
                counters,
                asks: asks_in,
                silence: Silence::default(),
                begun: Instant::now(),
            };
            let forward = async {
                while let Some(done) = done.recv().await {
                    let _ = internal_in.send(Internal::Done(done));
                }
            };
            let inputs = Inputs { requests, orders, internal, frames: ends.frames };
            tokio::join!(forward, driver.run(inputs));
        });
    })?;
    let handle = Handle::new(requests_in, views, leaders);
    Ok(Started { handle, orders: orders_out, mender, mover, counters, asks })
}

struct Inputs {
    requests: mpsc::Receiver<Request>,
    orders: mpsc::UnboundedReceiver<Order>,
    internal: mpsc::UnboundedReceiver<Internal>,
    frames: mpsc::Receiver<FromPeer>,
}

impl<N: Network> Driver<N> {
    async fn run(mut self, mut inputs: Inputs) {
        let mut tick = tokio::time::interval(TICK);
        // Missed ticks are never replayed in a burst: a stalled process must not hold elections.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checkpoint = tokio::time::interval(CHECKPOINT_EVERY);
        checkpoint.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retention = tokio::time::interval(RETENTION_EVERY);
        retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = Vec::new();
        let mut internal = Vec::new();
        let mut frames = Vec::new();
        let mut turned = Instant::now();
        loop {
            // What is due by the clock comes first: drawn among inputs that are always there, a heartbeat could wait for many
            // rounds. None of these starves the others: each round takes of all of them.
            // Cancel-safe: `recv_many` takes nothing until it returns, intervals keep their time.
            tokio::select! {
                biased;
                due = tick.tick() => {
                    self.note_late(due.elapsed());
                    let now = self.now();
                    self.replicas.host.tick(now);
                    let host = &self.replicas.host;
                    for node in self.silence.tick(|node| host.follows(node)) {
                        self.network.suspect(node);
                    }
                }
                _ = checkpoint.tick() => self.checkpoint(),
                _ = retention.tick() => {
                    let now = self.now();
                    self.replicas.retain(now);
                }
                order = inputs.orders.recv() => match order {
                    Some(order) => if self.obey(order).await { return },
                    None => return,
                },
                n = inputs.internal.recv_many(&mut internal, ROUND_INPUTS_MAX) => {
                    if n == 0 { return; }
                }
                n = inputs.frames.recv_many(&mut frames, ROUND_INPUTS_MAX) => {
                    if n == 0 { return; }
                }
                n = inputs.requests.recv_many(&mut requests, ROUND_INPUTS_MAX) => {
                    if n == 0 { return; }
                }
            }
            // Whatever else is there joins the round.
            while requests.len() < ROUND_INPUTS_MAX
                && let Ok(request) = inputs.requests.try_recv()
            {
                requests.push(request);
            }
            while internal.len() < ROUND_INPUTS_MAX
                && let Ok(input) = inputs.internal.try_recv()
            {
                internal.push(input);
            }
            while frames.len() < ROUND_INPUTS_MAX
                && let Ok(frame) = inputs.frames.try_recv()
            {
                frames.push(frame);
            }
            internal.drain(..).for_each(|input| self.take_internal(input));
            frames.drain(..).for_each(|input| self.take_frame(input));
            requests.drain(..).for_each(|request| self.take_request(request));
            self.end_round();
            // The runtime looks at its clock between two polls of this future, and while there is always some input it
            // would be polled for as long as tokio's budget lasts: dozens of rounds.
            if turned.elapsed() >= TURN_EVERY {
                tokio::task::yield_now().await;
                turned = Instant::now();
            }
        }
    }

    /// Says that heartbeats leave late, which may be why another has led since.
    fn note_late(&self, late: Duration) {
        if late >= LATE_TOLD {
            let (node, late_ms) = (self.node, late.as_millis());
            tracing::warn!(%node, late_ms, "heartbeats are late: the process stood still, or is short of processors");
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.begun.elapsed(), wall_ms: wall.as_millis() as i64 }
    }

    fn ticket(&mut self, waiting: Waiting) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, waiting);
        ticket
    }

    fn take_request(&mut self, request: Request) {
        let now = self.now();
        match request {
            Request::Produce(produce) => self.take_produce(now, produce),
            Request::DeleteRecords { partition, before, reply } => {
                if !self.replicas.is_open(partition) {
                    let _ = reply.send(Err(ProduceError::UnknownPartition));
                    return;
                }
                let ticket = self.ticket(Waiting::Delete(reply));
                let deadline = now.mono + Duration::from_secs(30);
                self.replicas.host.delete_records(now, partition, ticket, before, deadline);
            }
            Request::Confirm { partition, timeout, reply } => {
                let ticket = self.ticket(Waiting::Confirm(reply));
                if !self.replicas.host.confirm(now, partition, ticket, now.mono + timeout) {
                    let refused = (ticket, Err(ProduceError::UnknownPartition));
                    self.answer(Answers { confirmed: vec![refused], ..Answers::default() });
                }
            }
        }
    }

    fn take_produce(&mut self, now: Now, produce: Produce) {
        let Produce { partition, batches, acks, timeout, reply } = produce;
        let ticket = self.ticket(Waiting::Produce(reply));
        let queued = Queued { ticket, batches, acks, deadline: now.mono + timeout };
        let has_room = self.disks.of(partition).is_none_or(|disk| self.replicas.has_room(disk));
        let taken = match has_room {
            true => self.replicas.produce(partition, queued),
            false => Err(ProduceError::DiskFull),
        };
        if let Err(refused) = taken {
            self.answer(Answers { replies: vec![(ticket, Err(refused))], ..Answers::default() });
        }
    }

    fn take_internal(&mut self, input: Internal) {
        let now = self.now();
        match input {
            Internal::Done(done) => self.take_done(now, done),
            Internal::Fetched(at, wanted, read) => self.replicas.fetched(now, at, wanted, read),
            Internal::Ranged(wanted, entries) => self.replicas.ranged(now, &wanted, entries),
        }
    }

    fn take_frame(&mut self, input: FromPeer) {
        use std::sync::atomic::Ordering::Relaxed;
        match input {
            FromPeer::Frame(from, frame) => {
                self.silence.heard(from);
                match self.receive(from, frame) {
                    Ok(dropped) => {
                        self.counters.groups_dropped.fetch_add(dropped as u64, Relaxed);
                    }
                    Err(error) => {
                        self.counters.frames_malformed.fetch_add(1, Relaxed);
                        tracing::warn!(%from, %error, "a peer's frame was dropped");
                    }
                }
            }
            FromPeer::Up(node) => {
                if self.network.is_near(node) {
                    self.silence.add(node);
                }
                self.tell_leads(node);
            }
            FromPeer::Lost(node) => self.replicas.host.unreachable(node),
        }
    }
}
