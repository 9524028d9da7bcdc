//! What the handlers of one node work with; the broker puts it together.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::fetch_sessions;
use super::listener::stopped;
use super::metrics::Metrics;
use super::producer_ids::ProducerIds;
use super::suffixes::{Ledgers, Suffixes};
use crate::coordinator;
use crate::metadata::image::{Image, Topic};
use crate::metadata::request::{Request, Response};
use crate::metadata::service;
use crate::model::{DcName, NodeId, TopicId, TopicPartition};
use crate::replica;

/// Record bytes of one fetch response: Kafka's `fetch.max.bytes` of a broker.
pub const FETCH_BYTES_MAX: usize = 55 << 20;

/// How long a leader of another DC counts as heard from its election on: clients ask for it by then in intervals of about 100 ms.
const ELECTED_JUST_NOW: Duration = Duration::from_millis(300);

/// How long an answer to Metadata may wait for a leader's successor: the longest election within a DC. librdkafka
/// asks again by itself after as long.
const SUCCESSOR_MAX: Duration = Duration::from_secs(1);

/// How long the answer to CreateTopics waits for the new partitions' leaders: two elections within a
/// DC.
const LEADERS_MAX: Duration = Duration::from_secs(3);

/// Fetches of a node that may be reading their disks at once; more wait. Beyond it reads only
/// queue in the kernel, and each holds a thread.
pub const DISK_READS_MAX: usize = 32;

/// Record bytes read from disk for fetches of a node and not yet sent. Records in memory are shared
/// with everyone and cost nothing; these are this fetch's own.
pub const NODE_FETCH_BYTES_MAX: usize = 512 << 20;

/// What a fetch may read from disk even when that room is used up: it must get on.
const FETCH_SHARE_BYTES_MIN: usize = 1 << 20;

/// Room for what was read from disk.
#[derive(Debug)]
pub(super) struct FetchRoom(Arc<Semaphore>);

impl Default for FetchRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(NODE_FETCH_BYTES_MAX)))
    }
}

impl FetchRoom {
    /// How much of what it wants a fetch should read now: a quarter of what is left at the most,
    /// so that fetches become smaller rather than fewer.
    pub fn share(&self, wanted_bytes: usize) -> usize {
        wanted_bytes.min((self.0.available_permits() / 4).max(FETCH_SHARE_BYTES_MIN))
    }

    /// Takes room for what was read; `None` where there is none left.
    pub fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// What an operator may set on a node's front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Kafka's `auto.create.topics.enable`: a Metadata request that allows it makes the topics
    /// that it names. On by default, because clients and their test suites expect it.
    pub auto_create_topics: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { auto_create_topics: true }
    }
}

/// Who is believed alive. An answer may be late; nothing that must be right depends on it.
pub trait Liveness: Send + Sync {
    fn is_alive(&self, node: NodeId) -> bool;

    /// Whether the nodes beside it hear it now: false a moment after its process died. What a
    /// leader must be to be named to a client; by default as good as alive.
    fn is_heard(&self, node: NodeId) -> bool {
        self.is_alive(node)
    }

    /// Whether it is alive, or was until so lately that clients may not know yet who does its work now.
    fn was_alive(&self, node: NodeId) -> bool {
        self.is_alive(node)
    }

    /// Asks nodes whether they are there, so that [`Liveness::is_heard`] is true to this moment.
    fn probe(&self, _nodes: BTreeSet<NodeId>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// Done when some node is heard again, or no more, after this call; by default that never happens.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

impl<F: Fn(NodeId) -> bool + Send + Sync> Liveness for F {
    fn is_alive(&self, node: NodeId) -> bool {
        self(node)
    }
}

pub type Submitted = Pin<Box<dyn Future<Output = Result<Response, service::Error>> + Send>>;

/// The door to the metadata quorum.
pub trait Metadata: Send + Sync {
    /// As of now, from memory.
    fn image(&self) -> Arc<Image>;

    /// Has a request decided. When the answer is there, so is [`Metadata::image`] of this node.
    fn submit(&self, request: Request, timeout: Duration) -> Submitted;
}

impl Metadata for service::Handle {
    fn image(&self) -> Arc<Image> {
        Self::image(self)
    }

    fn submit(&self, request: Request, timeout: Duration) -> Submitted {
        let handle = self.clone();
        Box::pin(async move { Self::submit(&handle, request, timeout).await })
    }
}

pub struct Context {
    pub node: NodeId,
    pub dc: DcName,
    pub config: Config,
    pub metadata: Arc<dyn Metadata>,
    pub replicas: replica::Handle,
    pub groups: coordinator::Handle,
    pub liveness: Arc<dyn Liveness>,
    pub metrics: Arc<Metrics>,
    /// Turns true, or closes, when the node shuts down: waits end early then.
    pub shutdown: watch::Receiver<bool>,
    pub(super) producer_ids: ProducerIds,
    pub(super) disk_reads: Arc<Semaphore>,
    pub(super) fetch_room: FetchRoom,
    pub(super) suffixes: Suffixes,
    fetch_sessions: Mutex<fetch_sessions::Cache>,
    started_at: Instant,
}

/// What [`Context::new`] needs from outside.
pub struct Parts {
    pub node: NodeId,
    pub dc: DcName,
    pub config: Config,
    pub metadata: Arc<dyn Metadata>,
    pub replicas: replica::Handle,
    pub groups: coordinator::Handle,
    pub liveness: Arc<dyn Liveness>,
    pub metrics: Arc<Metrics>,
    pub shutdown: watch::Receiver<bool>,
    /// For the ids of fetch sessions.
    pub seed: u64,
    pub ledgers: Ledgers,
}

impl Context {
    pub fn new(parts: Parts) -> Self {
        let Parts { node, dc, config, metadata, replicas, groups, liveness, .. } = parts;
        let Parts { metrics, shutdown, seed, ledgers, .. } = parts;
        Self {
            node,
            dc,
            config,
            metadata,
            replicas,
            groups,
            liveness,
            metrics,
            shutdown,
            producer_ids: ProducerIds::default(),
            disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
            fetch_room: FetchRoom::default(),
            suffixes: Suffixes::new(ledgers),
            fetch_sessions: Mutex::new(fetch_sessions::Cache::new(seed)),
            started_at: Instant::now(),
        }
    }

    /// Keeps producer ids in reserve, until the node stops.
    pub async fn keep_producer_ids(&self) {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            () = self.producer_ids.keep(&*self.metadata) => {}
            _ = shutdown.wait_for(|down| *down) => {}
        }
    }

    /// Whether a node is believed alive; this one is.
    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.node || self.liveness.is_alive(node)
    }

    /// Whether a node is alive, or was a moment ago.
    pub fn was_alive(&self, node: NodeId) -> bool {
        node == self.node || self.liveness.was_alive(node)
    }

    /// Whether a node is heard now; this one is.
    pub fn is_heard(&self, node: NodeId) -> bool {
        node == self.node || self.liveness.is_heard(node)
    }

    /// Whether a leader may be named to a client: not one that is silent or hands its leadership over, nor one
    /// whose successor a replica here has voted for, nor one of a home that is moving or has moved. A client
    /// that is refused asks who leads; told the same name it believes it, and stops asking.
    fn may_be_named(&self, partition: TopicPartition, leader: &replica::Leader) -> bool {
        if !self.is_of_its_home(partition, leader) {
            return false;
        }
        let here = self.replicas.view(partition).map(|view| view.progress());
        if here.is_some_and(|here| here.leader_epoch > leader.epoch) {
            return false;
        }
        match leader.node == self.node {
            true => here.is_some_and(|here| here.role == replica::Role::Leader && !here.hands_over),
            false => self.liveness.is_heard(leader.node),
        }
    }

    /// Whether a node is of the same DC, a millisecond away.
    fn is_near(&self, node: NodeId) -> bool {
        self.metadata.image().nodes.get(&node).is_some_and(|registered| registered.dc == self.dc)
    }

    fn is_of_its_home(&self, partition: TopicPartition, leader: &replica::Leader) -> bool {
        let image = self.metadata.image();
        image.partition(partition).is_none_or(|placed| {
            let next = placed.moving().map(|moving| moving.epoch);
            let home = next.unwrap_or(placed.home_epoch);
            leader.epoch >= home.first_term().leader_epoch()
        })
    }

    /// Asks the leaders of these topics whether they are there. A client asks for metadata because
    /// its leader has just died, and asks again only a second later if it is told the same name. Who would not be
    /// named is not asked, nor who was elected a moment ago across a WAN: it costs a round trip.
    pub(super) async fn probe_leaders<'a>(&self, topics: impl Iterator<Item = &'a Topic>) {
        let known = self.replicas.leaders();
        let partitions = topics.flat_map(partitions);
        let doubted = |at: &TopicPartition| {
            let is_fresh = known.since(*at).is_some_and(|since| since.elapsed() < ELECTED_JUST_NOW);
            let is_spared = |leader: &replica::Leader| is_fresh && !self.is_near(leader.node);
            known.of(*at).filter(|leader| !is_spared(leader) && self.is_of_its_home(*at, leader))
        };
        let nodes = partitions.filter_map(|at| doubted(&at)).map(|leader| leader.node);
        let nodes: BTreeSet<NodeId> = nodes.filter(|node| *node != self.node).collect();
        self.liveness.probe(nodes).await;
    }

    /// Waits while a leader of these topics may not be named any more: an election or a move is about to end. Told
    /// that there is none, librdkafka asks in intervals of its own, of up to a second. Whoever needs the connection
    /// for something else ends the wait.
    pub(super) async fn await_successors<'a>(
        &self,
        topics: impl Iterator<Item = &'a Topic>,
        someone_waits: impl Future<Output = ()>,
    ) {
        let partitions: Vec<TopicPartition> = topics.flat_map(partitions).collect();
        let known = self.replicas.leaders();
        let awaited = |at: &TopicPartition| {
            known.of(*at).is_some_and(|leader| !self.may_be_named(*at, &leader))
        };
        let named = async {
            loop {
                let (learned, heard) = (known.changed(), self.liveness.changed());
                if !partitions.iter().any(awaited) {
                    return;
                }
                tokio::select! { () = learned => {} () = heard => {} }
            }
        };
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = named => {}
            () = someone_waits => {}
            () = stopped(&mut shutdown) => {}
            () = tokio::time::sleep(SUCCESSOR_MAX) => {}
        }
    }

    /// Who leads a partition, as far as is known and may be told.
    pub fn leader(&self, partition: TopicPartition) -> Option<replica::Leader> {
        self.replicas.leaders().of(partition).filter(|leader| self.may_be_named(partition, leader))
    }

    /// Waits until new partitions have leaders, as far as this node knows, so that a client that
    /// made a topic can use it at once: Kafka's controller gives a partition its leader when it is
    /// made, here it is elected a moment later. Returns at the latest after [`LEADERS_MAX`].
    pub(super) async fn await_leaders(&self, topics: &[TopicId]) {
        let image = self.metadata.image();
        let topics = topics.iter().filter_map(|id| image.topics.get(id));
        let partitions: Vec<TopicPartition> = topics.flat_map(|t| partitions(t)).collect();
        // Late is no error: clients take LEADER_NOT_AVAILABLE and ask again.
        let _ = tokio::time::timeout(LEADERS_MAX, self.replicas.leaders().known(&partitions)).await;
    }

    pub(super) fn fetch_sessions(&self) -> MutexGuard<'_, fetch_sessions::Cache> {
        self.fetch_sessions.lock().expect("no panic while held")
    }

    /// A clock that only grows.
    pub(super) fn now(&self) -> Duration {
        self.started_at.elapsed()
    }
}

fn partitions(topic: &Topic) -> impl Iterator<Item = TopicPartition> + use<> {
    let id = topic.id;
    let numbers = 0..topic.partitions.len() as i32;
    numbers.map(move |partition| TopicPartition { topic: id, partition })
}
