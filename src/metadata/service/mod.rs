//! The driver of `__meta` on one node: thin, and the only part of this room that waits.
//!
//! ```text
//!   Handle::submit ──▶ route ──▶ leader here? ──yes──▶ queue ──▶ lead: settle, decide, append,
//!        │               │                                        wait until applied, answer
//!        │               └──no──▶ Forward ──▶ Handle::serve of that node ──▶ its queue
//!        ▼
//!   waits until the own image shows it (read your writes)
//!
//!   follow: the log's committed records ──▶ Replay ──▶ image, published
//! ```
//!
//! One request at a time is decided, and only when everything in the log is applied: so a decision
//! sees the effects of all before it.
//!
//! A committed record that cannot be applied ends `follow` with a [`Fatal`]: the node must stop, for
//! its image would be another cluster's from there on ([`Running::failed`]).

mod follow;
mod lead;
pub mod log;
mod route;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use isobar_topology::Topology;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::image::{DiskId, Image};
use super::refusal::{Reason, Refusal};
use super::replay;
use super::request::{Reply, Request, Response, WireError};
use crate::model::{NodeId, Offset, TopicId, record};

pub use log::Log;

/// Requests that wait for the leader. Each takes about one round trip to a majority of `__meta`;
/// beyond this the callers hear at once that it is busy, and try again.
pub const QUEUE_MAX: usize = 256;

/// Carries a request to another node's [`Handle::serve`].
pub trait Forward: Send + Sync + 'static {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, ForwardError>> + Send;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It never left; asking again is safe.
    #[error("node {0} cannot be reached")]
    NotSent(NodeId),
    /// It left, and no answer came.
    #[error("node {0} did not answer")]
    Lost(NodeId),
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was done. Retriable.
    #[error("the metadata quorum has no leader that answers")]
    NoLeader,
    /// Nothing was done. Retriable.
    #[error("the leader of the metadata quorum has too much to do")]
    Busy,
    /// It may have been done. Look before trying again.
    #[error("the request was sent, and what became of it is not known")]
    Unknown,
    /// It was done; this node has not seen it yet.
    #[error("it was done, and this node's image does not show it yet")]
    Behind,
    #[error("the leader answers what this node does not understand: {0}")]
    Wire(#[from] WireError),
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// Why this node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Replay(#[from] replay::Error),
    #[error("__meta cannot be read: {0}")]
    Read(#[from] crate::replica::ReadError),
    #[error("__meta: {0}")]
    Records(#[from] record::Error),
}

/// What a service is made with; the seams are given as functions.
pub struct Options {
    pub node: NodeId,
    /// The topology that this node was started with: the first leader of a new cluster proposes its
    /// own as generation 1.
    pub own_topology: Arc<Topology>,
    /// What a new cluster is named, if this node leads it first: [`cluster_id`] of random bytes.
    pub cluster_id: String,
    /// Who begins the cluster with this node, and on which disks; none on a node that joined later.
    pub founders: BTreeMap<NodeId, DiskId>,
    /// Nodes that answer at present, this one among them.
    pub live: Box<dyn Fn() -> BTreeSet<NodeId> + Send + Sync>,
    pub new_topic_id: Box<dyn FnMut() -> TopicId + Send>,
    /// Wall clock, for the timestamps of records; nothing depends on it.
    pub now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// A cluster id as Kafka writes one: 16 bytes in base64 for URLs, 22 characters.
pub fn cluster_id(random: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(random);
    let sextet = |i: u32| (if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 } & 63) as usize;
    (0..22).map(|i| char::from(ALPHABET[sextet(i)])).collect()
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    image: Arc<ArcSwap<Image>>,
    images: watch::Receiver<Arc<Image>>,
    route: Arc<dyn Route>,
    calls: mpsc::Sender<Call>,
}

/// Routes a request to the leader, wherever it is; an object so that handles have no parameters.
trait Route: Send + Sync {
    fn route(&self, request: Request, timeout: Duration) -> Answer<'_>;
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<(Response, Offset), Error>> + Send + 'a>>;

/// A request on its way to the leader's loop.
struct Call {
    request: Request,
    deadline: Instant,
    reply: oneshot::Sender<Reply>,
}

/// What was applied, as the leader's loop needs to know it.
#[derive(Clone)]
struct Applied {
    image: Arc<Image>,
    /// Whether the image is whole (a log that starts with a snapshot has to be read to its end).
    is_complete: bool,
    is_snapshot_due: bool,
    last_snapshot: Option<Offset>,
    /// Commands that were refused at apply, the latest last.
    refused: Arc<std::collections::VecDeque<(Offset, Refusal)>>,
}

/// The tasks; dropping it ends them.
pub struct Running {
    follow: JoinHandle<Fatal>,
    lead: JoinHandle<()>,
}

impl Running {
    /// Returns when this node cannot go on.
    ///
    /// Cancel-safe: it only waits for a task that goes on by itself.
    pub async fn failed(&mut self) -> Fatal {
        match (&mut self.follow).await {
            Ok(fatal) => fatal,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    pub fn stop(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        self.follow.abort();
        self.lead.abort();
    }
}

/// Starts following the log, and leading it whenever this node is the leader.
pub fn start<L: Log, F: Forward>(log: L, forward: F, options: Options) -> (Handle, Running) {
    let log = Arc::new(log);
    let image = Arc::new(ArcSwap::from_pointee(Image::default()));
    let (images, watching) = watch::channel(Arc::new(Image::default()));
    let (applied, applying) = watch::channel(Applied {
        image: Arc::new(Image::default()),
        is_complete: false,
        is_snapshot_due: false,
        last_snapshot: None,
        refused: Arc::default(),
    });
    let (calls, queue) = mpsc::channel(QUEUE_MAX);
    let route =
        route::Router { node: options.node, log: log.clone(), forward, calls: calls.clone() };
    let publish = follow::Publish { image: image.clone(), images, applied };
    let follow = tokio::spawn(follow::run(log.clone(), publish));
    let lead = tokio::spawn(lead::run(lead::Lead::new(log, applying, options), queue));
    let handle = Handle { image, images: watching, route: Arc::new(route), calls };
    (handle, Running { follow, lead })
}

impl Handle {
    /// What this node knows of the cluster. Never waits.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// Every change of the image; who is slow sees only the newest.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.images.clone()
    }

    /// Has the leader of `__meta` decide a request, wherever it is, and returns once this node's
    /// image shows what was done.
    ///
    /// Dropping the future abandons the wait: what was appended stays, and may be done.
    pub async fn submit(&self, request: Request, timeout: Duration) -> Result<Response, Error> {
        let started = Instant::now();
        let (response, visible_at) = self.route.route(request, timeout).await?;
        let left = timeout.saturating_sub(started.elapsed());
        let mut images = self.images.clone();
        let shows = images.wait_for(|image| image.next_offset >= visible_at);
        match tokio::time::timeout(left, shows).await {
            Ok(Ok(_)) => Ok(response),
            Ok(Err(_)) => Err(Error::ShuttingDown),
            Err(_) => Err(Error::Behind),
        }
    }

    /// Answers a request that node `from` forwarded; who that is says its certificate. A node
    /// registers nobody but itself.
    pub async fn serve(
        &self,
        from: NodeId,
        request: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, WireError> {
        let request = Request::decode(request)?;
        let of = match &request {
            Request::RegisterNode(node) => Some(node.id),
            Request::AdmitDisk { node, .. } => Some(*node),
            _ => None,
        };
        if let Some(node) = of.filter(|node| *node != from) {
            let message = format!("node {from} tries to register node {node}");
            return Ok(Reply::Refused(Refusal::new(Reason::UnknownNode, message)).encode());
        }
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + timeout;
        if self.calls.try_send(Call { request, deadline, reply }).is_err() {
            return Ok(Reply::Busy.encode());
        }
        // Without an answer the loop has ended half-way.
        Ok(answer.await.unwrap_or(Reply::Unknown).encode())
    }
}
