//! The admin port: what it is told of this node, and what it asks of others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use isobar_transport::impair::Wan;
use isobar_transport::{PeerStats, RpcError, Transport};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::automatic::Watching;
use super::inbound::{self, Switch, method};
use super::node::Error;
use crate::admin::{self, Counts, Recorder, Server, Silent, Source, ask};
use crate::coordinator;
use crate::coordinator::group::{CommittedOffset, LedBack};
use crate::metadata::automatic::Held;
use crate::metadata::image::Image;
use crate::metadata::request::{Request, Response};
use crate::metadata::service;
use crate::model::{DcName, NodeId, TopicPartition};
use crate::replica::driver::{Counters, Orders};
use crate::replica::host::Status;
use crate::replica::{self, Leader};

/// The parts of a node that the admin port speaks of.
pub struct Told {
    pub node: NodeId,
    pub dc: DcName,
    pub transport: Transport,
    pub replicas: replica::Handle,
    pub orders: Orders,
    pub counters: Arc<Counters>,
    pub switch: Arc<Switch>,
    /// Empty until `__meta` is open here.
    pub metadata: Arc<OnceLock<service::Handle>>,
    pub registered: watch::Receiver<bool>,
    /// Whether it ever held a lease.
    pub leased: watch::Receiver<bool>,
    pub wan: Option<Arc<Wan>>,
    pub watching: Watching,
    pub groups: coordinator::Handle,
}

/// Binds the admin listener; an address that is taken is an error that names it.
pub async fn bind(address: SocketAddr) -> Result<Server, Error> {
    let named = |source| Error::Admin { address, source };
    Server::bind(address).await.map_err(named)
}

/// Serves from here on: what is not open yet is said so.
pub fn serve(told: Told, server: Server, recorder: &Arc<Recorder>, tasks: &mut JoinSet<()>) {
    let switch = Arc::clone(&told.switch);
    let source: Arc<dyn Source> = Arc::new(told);
    switch.take_up(method::ADMIN, answer(Arc::downgrade(&source)));
    tasks.spawn(server.serve(source, Arc::clone(recorder)));
    let recorder = Arc::clone(recorder);
    tasks.spawn(async move { recorder.keep().await });
}

/// Weak, because the source holds the transport, and that the switch: a node that is dropped goes.
fn answer(source: Weak<dyn Source>) -> inbound::Answer {
    Box::new(move |_from, question| {
        let source = source.upgrade();
        Box::pin(async move {
            let source = source.ok_or(RpcError::ShutDown)?;
            Ok(ask::answer(&*source, &question).await.into())
        })
    })
}

impl Source for Told {
    fn node(&self) -> NodeId {
        self.node
    }

    fn dc(&self) -> DcName {
        self.dc.clone()
    }

    fn image(&self) -> Option<Arc<Image>> {
        self.metadata.get().map(service::Handle::image)
    }

    fn now_ms(&self) -> i64 {
        super::node::unix_ms()
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.metadata.get().is_none() {
            missing.push("waiting for a majority of __meta's voters to answer".to_owned());
        } else if !*self.registered.borrow() {
            missing.push("not registered: the leader of __meta has not answered yet".to_owned());
        } else if !*self.leased.borrow() {
            missing.push("no lease from the leader of __meta yet".to_owned());
        }
        missing
    }

    fn leader(&self, partition: TopicPartition) -> Option<Leader> {
        self.replicas.leaders().of(partition)
    }

    fn is_alive(&self, node: NodeId) -> bool {
        node == self.node || self.transport.is_reachable(node)
    }

    fn is_heard(&self, node: NodeId) -> bool {
        node == self.node || self.transport.is_heard(node)
    }

    fn gone_for(&self) -> BTreeMap<NodeId, Duration> {
        self.watching.seen().gone_for
    }

    fn held(&self) -> Vec<Held> {
        self.watching.seen().held
    }

    fn statuses(&self) -> admin::Answer<'_, Vec<Status>> {
        // The loop has ended only while the node stops.
        Box::pin(async { self.orders.statuses().await.unwrap_or_default() })
    }

    fn log_bytes(&self, partition: TopicPartition) -> Option<u64> {
        Some(self.replicas.view(partition)?.log_bytes())
    }

    fn counts(&self) -> Counts {
        let counters = &self.counters;
        Counts {
            elections: counters.elections.load(Relaxed),
            disk_commits: counters.commits.load(Relaxed),
            disk_files_synced: counters.files_synced.load(Relaxed),
            disk_appended_bytes: counters.bytes_appended.load(Relaxed),
            disk_commit: Duration::from_micros(counters.commit_micros.load(Relaxed)),
            groups_dropped: counters.groups_dropped.load(Relaxed),
            frames_malformed: counters.frames_malformed.load(Relaxed),
            ranges_fetched: counters.ranges_fetched.load(Relaxed),
            range_bytes_fetched: counters.range_bytes_fetched.load(Relaxed),
            ranges_failed: counters.ranges_failed.load(Relaxed),
            damaged: counters.damaged.load(Relaxed),
            mended: counters.mended.load(Relaxed),
            range_bytes_served: counters.range_bytes_served.load(Relaxed),
        }
    }

    fn peers(&self) -> Vec<PeerStats> {
        self.transport.stats()
    }

    fn led_back(&self) -> admin::Answer<'_, Result<Vec<LedBack>, coordinator::group::Error>> {
        Box::pin(async {
            let Some(image) = self.image() else { return Ok(Vec::new()) };
            let end_of = move |of: &coordinator::group::TopicPartition, at: &CommittedOffset| {
                let topic = image.topic(&of.topic)?.id;
                let placed = image.partition(TopicPartition { topic, partition: of.partition })?;
                placed.end_of_epoch(at.leader_epoch).map(|end| end.0)
            };
            self.groups.led_back(end_of).await
        })
    }

    fn wan(&self) -> Option<Arc<Wan>> {
        self.wan.clone()
    }

    fn submit(
        &self,
        request: Request,
        timeout: Duration,
    ) -> admin::Answer<'_, Result<Response, service::Error>> {
        Box::pin(async move {
            match self.metadata.get() {
                Some(metadata) => metadata.submit(request, timeout).await,
                None => Err(service::Error::NoLeader),
            }
        })
    }

    fn ask(
        &self,
        node: NodeId,
        question: Vec<u8>,
        timeout: Duration,
    ) -> admin::Answer<'_, Result<Vec<u8>, Silent>> {
        Box::pin(async move {
            let answer = self.transport.call(node, method::ADMIN, question.into(), timeout).await;
            let silent = |error: RpcError| Silent { node, why: error.to_string() };
            answer.map(|bytes| bytes.to_vec()).map_err(silent)
        })
    }
}
