//! What the admin port asks of its node. `broker` answers; tests have a node of paper.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use isobar_transport::PeerStats;
use isobar_transport::impair::Wan;

use crate::coordinator::group::{Error, LedBack};
use crate::metadata::automatic::Held;
use crate::metadata::image::Image;
use crate::metadata::request::{Request, Response};
use crate::metadata::service;
use crate::model::{DcName, NodeId, TopicPartition};
use crate::replica::Leader;
use crate::replica::host::Status;

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Counted by the replicas' loop since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Won by replicas of this node.
    pub elections: u64,
    pub disk_commits: u64,
    pub disk_files_synced: u64,
    pub disk_appended_bytes: u64,
    pub disk_commit: Duration,
    /// Groups of a peer's frame that no replica here took.
    pub groups_dropped: u64,
    pub frames_malformed: u64,
    pub ranges_fetched: u64,
    pub range_bytes_fetched: u64,
    pub ranges_failed: u64,
    pub range_bytes_served: u64,
    pub damaged: u64,
    pub mended: u64,
}

/// Why another node gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: {why}")]
pub struct Silent {
    pub node: NodeId,
    pub why: String,
}

/// Everything is as of now and from memory, but for what returns an [`Answer`].
pub trait Source: Send + Sync + 'static {
    fn node(&self) -> NodeId;

    fn dc(&self) -> DcName;

    /// `None` while `__meta` is not open here yet.
    fn image(&self) -> Option<Arc<Image>>;

    /// Unix time, for people.
    fn now_ms(&self) -> i64;

    /// What the node waits for before it serves clients; empty when it does.
    fn missing(&self) -> Vec<String>;

    /// As far as this node has heard, alive or not.
    fn leader(&self, partition: TopicPartition) -> Option<Leader>;

    /// Whether the node is believed alive; this one is.
    fn is_alive(&self, node: NodeId) -> bool;

    /// Whether a leader there may be named, as [`crate::kafka::Liveness::is_heard`] has it.
    fn is_heard(&self, node: NodeId) -> bool {
        self.is_alive(node)
    }

    /// Nodes that the other datacenters do not hear, and for how long, see [`isobar_topology::detector`].
    fn gone_for(&self) -> BTreeMap<NodeId, Duration> {
        BTreeMap::new()
    }

    /// Lost homes that do not move by themselves although they are to.
    fn held(&self) -> Vec<Held> {
        Vec::new()
    }

    /// Of every replica on this node; empty while it stops.
    fn statuses(&self) -> Answer<'_, Vec<Status>>;

    /// Bytes of a local replica's log, all segments.
    fn log_bytes(&self, partition: TopicPartition) -> Option<u64>;

    fn counts(&self) -> Counts;

    fn peers(&self) -> Vec<PeerStats>;

    /// What groups that are coordinated here have committed beyond the ends of homes before the present ones.
    fn led_back(&self) -> Answer<'_, Result<Vec<LedBack>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The development WAN under this node.
    fn wan(&self) -> Option<Arc<Wan>>;

    /// Has the leader of `__meta` decide a request.
    fn submit(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Answer<'_, Result<Response, service::Error>>;

    /// Asks another node's admin room, see [`super::ask`]; what [`super::ask::answer`] says there
    /// comes back.
    fn ask(
        &self,
        node: NodeId,
        question: Vec<u8>,
        timeout: Duration,
    ) -> Answer<'_, Result<Vec<u8>, Silent>>;
}
