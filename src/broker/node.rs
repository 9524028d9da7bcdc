//! One node, from its data directory up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isobar_topology::{Topology, meta_voters, timing};
use isobar_transport::certs::{Files, Identity};
use isobar_transport::impair::Wan;
use isobar_transport::{self as transport, Transport};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::bootstrap::{Beginning, Begun, Newcomer};
use super::inbound::{Switch, method};
use super::leave::Leaving;
use super::peers::{self, Wire};
use super::reconcile::Reconciler;
use super::{
    admin, automatic, bootstrap, clients, disks, forward, groups, lease, mend, modes, moves,
    promote, ranges, reconcile, recover, rejoin, scrub,
};
use crate::admin::{Recorder, Server};
use crate::coordinator;
use crate::kafka;
use crate::log;
use crate::metadata::command::FEATURE_LEVEL;
use crate::metadata::config::OFFSETS_PARTITIONS;
use crate::metadata::image::{CONSUMER_OFFSETS, DiskId, Listener, Node as Registered};
use crate::metadata::refusal::Reason;
use crate::metadata::request::Request;
use crate::metadata::service;
use crate::model::{HomeEpoch, NodeId, TopicId, TopicPartition};
use crate::replica;
use crate::replica::driver::{self, Ends, Orders, Refused, Spec};

/// How long a registration may take before it is tried again: `__meta` may have no leader yet.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
const REGISTER_RETRY: Duration = Duration::from_millis(500);

/// How long what an image asks for and could not be done waits before it is tried again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(2);

pub struct Config {
    pub topology: Arc<Topology>,
    pub node: NodeId,
    /// At least one.
    pub data_dirs: Vec<PathBuf>,
    /// What relative paths of certificates in the topology are relative to.
    pub certs_base: PathBuf,
    /// `isobar dev` and tests put a WAN under the transport.
    pub wan: Option<Arc<Wan>>,
    /// Of Raft's election timeouts and of session ids.
    pub seed: u64,
    /// The operator's word, where this disk is empty: the one before is gone for good, also if
    /// partitions are left without a majority of their voters' disks.
    pub accept_loss: bool,
}

/// A node that has its ports for clients and operators, and nothing else yet.
pub struct Bound {
    config: Config,
    listeners: Vec<kafka::Listener>,
    admin: Server,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("node {0} is not in the topology")]
    UnknownNode(NodeId),
    #[error(transparent)]
    Disks(#[from] disks::Error),
    #[error(transparent)]
    Certificates(#[from] transport::certs::Error),
    #[error(transparent)]
    Transport(#[from] transport::Error),
    #[error(transparent)]
    Bootstrap(#[from] bootstrap::Error),
    #[error(transparent)]
    Replica(#[from] Refused),
    #[error("listener {name:?}: cannot bind {address}: {source}")]
    Listener { name: String, address: SocketAddr, source: std::io::Error },
    #[error("admin: cannot bind {address}: {source}")]
    Admin { address: SocketAddr, source: std::io::Error },
    #[error("starting a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running node.
pub struct Node {
    pub id: NodeId,
    pub topology: Arc<Topology>,
    pub transport: Transport,
    pub replicas: replica::Handle,
    pub orders: Orders,
    pub counters: Arc<driver::Counters>,
    pub metadata: service::Handle,
    pub groups: coordinator::Handle,
    pub wan: Option<Arc<Wan>>,
    /// This node's own: nine of them share a process in `isobar dev`.
    pub recorder: Arc<Recorder>,
    ready: watch::Receiver<bool>,
    shutdown: watch::Sender<bool>,
    /// Listeners, each with its connections.
    clients: JoinSet<()>,
    tasks: JoinSet<()>,
}

impl Node {
    /// Takes the ports that clients and operators come to; nothing is opened yet.
    pub async fn bind(config: Config) -> Result<Bound, Error> {
        let here = config.topology.node(config.node).ok_or(Error::UnknownNode(config.node))?;
        let (listeners, admin) = (clients::bind(here).await?, admin::bind(here.admin.bind).await?);
        Ok(Bound { config, listeners, admin })
    }

    /// Starts a node. Returns when its part in `__meta` is open; [`Node::ready`] tells when
    /// clients are well served.
    pub async fn start(bound: Bound) -> Result<Self, Error> {
        let Bound { config, listeners, admin } = bound;
        let Config { topology, node, data_dirs, certs_base, wan, seed, accept_loss } = config;
        let here = topology.node(node).ok_or(Error::UnknownNode(node))?.clone();
        let disks::Opened { stores, disk, cluster_id } = disks::open(&data_dirs, node)?;
        let files = Files {
            ca: certs_base.join(&topology.cluster().ca),
            cert: certs_base.join(&here.tls.cert),
            key: certs_base.join(&here.tls.key),
        };
        let cluster = topology.cluster().name.to_string();
        let certificate = Identity::load(files, &cluster, &here.dc, node)?;
        let ends = Ends::default();
        let switch = Switch::new(ends.inlet.clone());
        let transport = transport::Config {
            node,
            dc: here.dc.clone(),
            cluster,
            bind: here.peer.bind,
            peers: peers::peers(&topology, node),
            identity: certificate,
            wan: wan.clone(),
        };
        let transport = Transport::start(transport, switch.clone()).await?;
        if let Some(id) = &cluster_id {
            transport.set_cluster_id(id.clone().into());
        }
        let replicas = driver::Config { node, seed, on_fatal: Box::new(end_the_process) };
        let network = Wire::new(transport.clone());
        let recovered = || stores.iter().flat_map(|(_, recovered)| recovered);
        let on_disk = reconcile::on_disk(recovered());
        let meta = recovered().find(|r| r.partition == TopicPartition::META);
        if meta.is_some_and(recover::is_unfinished) {
            return Err(bootstrap::Error::Unfinished(node).into());
        }
        let resumed = meta.and_then(|meta| bootstrap::resumed_spec(&topology, node, meta));
        let begun = resumed.as_ref().map(bootstrap::voters).map(OnceLock::from).unwrap_or_default();
        let begun = Begun::new(begun);
        let driver::Started { handle: replicas, orders, mender, mover, counters, asks } =
            driver::start(replicas, ends, network, stores)?;

        let service = Arc::new(OnceLock::<service::Handle>::new());
        take_up(&switch, &service, disk, cluster_id.clone(), &begun);
        switch.take_up(method::RANGE, ranges::answer(replicas.clone(), Arc::clone(&counters)));
        switch.take_up(method::STANDING, mend::answer(orders.clone()));
        let (registered_in, registered) = watch::channel(false);
        let (held_in, held) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let menders = mend::Mending {
            node,
            dc: here.dc.clone(),
            peers: mend::Lanes(transport.clone()),
            orders: orders.clone(),
            mender,
            counters: Arc::clone(&counters),
        };
        tasks.spawn(mend::damaged(menders.clone()));
        tasks.spawn(scrub::watch(menders, replicas.clone()));
        let recorder = Arc::<Recorder>::default();
        let watching = automatic::Watching::default();
        let groups = coordinator::Handle::new(
            coordinator::group::Config::default(),
            OFFSETS_PARTITIONS,
            coordinator::Seams::system(),
        );
        let told = admin::Told {
            node,
            dc: here.dc.clone(),
            transport: transport.clone(),
            replicas: replicas.clone(),
            orders: orders.clone(),
            counters: Arc::clone(&counters),
            switch: Arc::clone(&switch),
            metadata: Arc::clone(&service),
            registered: registered.clone(),
            leased: held.clone(),
            wan: wan.clone(),
            watching: watching.clone(),
            groups: groups.clone(),
        };
        admin::serve(told, admin, &recorder, &mut tasks);
        let newcomer =
            Newcomer { topology: &topology, transport: &transport, node, disk, accept_loss };
        let (spec, founders) = match resumed {
            Some(spec) => (Some(spec), BTreeMap::new()),
            None => begin(&newcomer, cluster_id).await?,
        };
        let begun_in = spec.as_ref().map(|spec| spec.group.home_epoch);
        if let Some(spec) = spec {
            let voters = bootstrap::voters(&spec);
            orders.open(spec).await?;
            begun.get_or_init(|| voters);
        }
        let live = transport.clone();
        let options = service::Options {
            node,
            own_topology: Arc::clone(&topology),
            founders,
            cluster_id: service::cluster_id(uuid::Uuid::new_v4().into_bytes()),
            live: Box::new(move || {
                let peers = live.peers().into_iter().filter(|peer| live.is_reachable(*peer));
                peers.chain([node]).collect()
            }),
            new_topic_id: Box::new(TopicId::random),
            now_ms: Box::new(unix_ms),
        };
        let by_rpc = forward::ByRpc::new(transport.clone());
        let (metadata, running) = service::start(replicas.clone(), by_rpc, options);
        assert!(service.set(metadata.clone()).is_ok(), "the service is started once");

        let (shutdown, _) = watch::channel(false);
        tasks.spawn(end_with(node, running));
        let me = registration(&topology, node, disk);
        tasks.spawn(register(me, metadata.clone(), registered_in));
        tasks.spawn(modes::run(node, metadata.clone(), asks));
        tasks.spawn(promote::run(node, metadata.clone(), orders.clone()));
        tasks.spawn(peers::follow(node, transport.clone(), metadata.clone(), registered.clone()));
        tasks.spawn(name_cluster(metadata.clone(), transport.clone(), orders.clone()));
        let replaced = (orders.clone(), mover.clone(), metadata.clone());
        let reconciler = Reconciler::new(node, disk, replaced, on_disk);
        tasks.spawn(follow_image(reconciler, metadata.clone(), registered.clone()));
        let images = metadata.watch();
        tasks.spawn(groups::follow(replicas.clone(), groups.clone(), move |at| {
            images.borrow().topic(CONSUMER_OFFSETS).is_some_and(|topic| topic.id == at.topic)
        }));
        let rejoin = rejoin::Rejoin {
            node,
            disk,
            topology: Arc::clone(&topology),
            transport: transport.clone(),
            mover: mover.clone(),
            replicas: replicas.clone(),
            metadata: metadata.clone(),
            home_epoch: begun_in.unwrap_or(HomeEpoch::FIRST),
        };
        tasks.spawn(rejoin.watch());
        let terms = timing::lease(&topology.timing(&meta_voters(&topology)));
        let office = lease::Office::new(replicas.clone(), metadata.clone(), terms);
        switch.take_up(method::RENEW, office.answer());
        let moving = moves::Moves {
            node,
            transport: transport.clone(),
            orders: orders.clone(),
            mover,
            replicas: replicas.clone(),
            metadata: metadata.clone(),
            office: Arc::clone(&office),
        };
        moves::take_up(&moving, &switch);
        tasks.spawn(automatic::run(moving.clone(), watching));
        tasks.spawn(moves::run(moving));
        tasks.spawn(lease::hold(node, terms, office, transport.clone(), orders.clone(), held_in));
        let (ready_in, ready) = watch::channel(false);
        tasks.spawn(tell_ready(registered.clone(), held, ready_in));
        let mut started = Self {
            id: node,
            topology,
            transport,
            replicas,
            orders,
            counters,
            metadata,
            groups,
            wan,
            recorder,
            ready,
            shutdown,
            clients: JoinSet::new(),
            tasks: JoinSet::new(),
        };
        let seen = (seed, registered);
        started.clients = clients::serve(&started, listeners, seen, data_dirs, &mut tasks);
        started.tasks = tasks;
        Ok(started)
    }

    /// Turns true when the cluster knows this node, its image is current, and it holds a lease.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Turns true when the node begins to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.shutdown.subscribe()
    }

    /// Stops in order: leaders go first, then clients, each when it has its answers, then everything is synced.
    pub async fn stop(mut self) {
        let Self { id: me, replicas, transport, .. } = &self;
        let image = self.metadata.image();
        Leaving { me: *me, image: &image, replicas, transport }.hand_over(&self.orders).await;
        let _ = self.shutdown.send(true);
        while self.clients.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        if let Err(error) = self.orders.close().await {
            tracing::warn!(node = %self.id, %error, "the replicas' loop had ended");
        }
        self.transport.shutdown().await;
    }
}

pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A failed disk: what reached it is unknown, so nothing may be acknowledged after this (R20).
fn end_the_process(fatal: log::Fatal) {
    tracing::error!(%fatal, "the disk failed; the process ends without acknowledging anything more");
    std::process::exit(74); // EX_IOERR of sysexits.h
}

/// An image that cannot be followed would be another cluster's from there on.
async fn end_with(node: NodeId, mut running: service::Running) {
    let fatal = running.failed().await;
    tracing::error!(%node, %fatal, "__meta cannot be followed; the process ends");
    std::process::exit(70); // EX_SOFTWARE
}

/// How a node with an empty disk begins: its replica of `__meta`, and who founds the cluster with it.
async fn begin(
    newcomer: &Newcomer<'_>,
    joined: Option<String>,
) -> Result<(Option<Spec>, BTreeMap<NodeId, DiskId>), bootstrap::Error> {
    let Newcomer { topology, node, .. } = *newcomer;
    if let Some(cluster_id) = joined {
        return Err(bootstrap::Error::Emptied { node, cluster_id });
    }
    Ok(match newcomer.begin().await? {
        Beginning::Founded(founders) => (bootstrap::founding_spec(topology, node), founders),
        Beginning::Admitted(admitted) => {
            (bootstrap::admitted_spec(topology, node, &admitted), BTreeMap::new())
        }
    })
}

fn take_up(
    switch: &Switch,
    service: &Arc<OnceLock<service::Handle>>,
    disk: DiskId,
    cluster_id: Option<String>,
    begun: &Begun,
) {
    switch.take_up(method::METADATA, forward::answer(Arc::clone(service)));
    let (service, begun) = (Arc::clone(service), Arc::clone(begun));
    switch.take_up(
        method::WHO,
        Box::new(move |_from, _body| {
            let image = service.get().map(service::Handle::image).unwrap_or_default();
            let answer = bootstrap::answer(&image, cluster_id.as_deref(), disk, begun.get());
            Box::pin(async move { Ok(answer) })
        }),
    );
}

fn registration(topology: &Topology, node: NodeId, disk: DiskId) -> Registered {
    let here = topology.node(node).expect("the caller has looked");
    let listener = |l: &isobar_topology::Listener| Listener {
        name: l.name.to_string(),
        host: l.address.advertised.host.to_string(),
        port: l.address.advertised.port,
    };
    Registered {
        id: node,
        dc: here.dc.clone(),
        disk,
        listeners: here.listeners.iter().map(listener).collect(),
        admin: here.admin.advertised.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        feature_level: FEATURE_LEVEL,
    }
}

/// Ready is registered and, once, held a lease: before that, async topics would be fenced.
async fn tell_ready(
    mut registered: watch::Receiver<bool>,
    mut held: watch::Receiver<bool>,
    ready: watch::Sender<bool>,
) {
    let known = registered.wait_for(|known| *known).await.is_ok();
    if known && held.wait_for(|held| *held).await.is_ok() {
        // Nobody may be left who wants to know.
        let _ = ready.send(true);
    }
}

/// The cluster has gone on without this disk. What it holds is left as it is.
pub(super) fn end_fenced(node: NodeId, why: &str) -> ! {
    tracing::error!(%node, "{why}; the process ends");
    std::process::exit(78) // EX_CONFIG
}

/// Registers until it has worked; then the image is current.
async fn register(me: Registered, metadata: service::Handle, registered: watch::Sender<bool>) {
    let mut said = None;
    loop {
        match metadata.submit(Request::RegisterNode(me.clone()), REGISTER_TIMEOUT).await {
            Ok(_) => {
                tracing::info!(node = %me.id, "registered");
                let _ = registered.send(true);
                return;
            }
            Err(service::Error::Refused(refusal)) if refusal.reason == Reason::DiskReplaced => {
                end_fenced(me.id, &refusal.message);
            }
            Err(error) => {
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    tracing::info!(node = %me.id, %error, "not registered yet");
                    said = Some(text);
                }
            }
        }
        tokio::time::sleep(REGISTER_RETRY).await;
    }
}

/// Writes the cluster's id into the data directory and the handshake as soon as it is known.
async fn name_cluster(metadata: service::Handle, transport: Transport, orders: Orders) {
    let mut images = metadata.watch();
    let named = images.wait_for(|image| image.cluster_id.is_some()).await;
    let Ok(id) = named.map(|image| image.cluster_id.clone().expect("waited for")) else { return };
    match orders.cluster_id(id.to_string()).await {
        Ok(()) => transport.set_cluster_id(id.to_string().into()),
        Err(error) => {
            tracing::error!(%error, "this data directory belongs to another cluster");
            std::process::exit(78); // EX_CONFIG
        }
    }
}

/// Has the reconciler follow every image.
async fn follow_image(
    mut reconciler: Reconciler,
    metadata: service::Handle,
    mut registered: watch::Receiver<bool>,
) {
    let mut images = metadata.watch();
    loop {
        let image = images.borrow_and_update().clone();
        let is_current = *registered.borrow_and_update();
        if let Err(refusal) = reconciler.check(&image) {
            end_fenced(reconciler.node(), &refusal.message);
        }
        let is_done = reconciler.follow(&image, is_current).await;
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            // Registered is registered for good: the sender is gone then, and its end says nothing.
            changed = registered.changed(), if !is_current => if changed.is_err() { return },
            () = tokio::time::sleep(FOLLOW_AGAIN), if !is_done => {}
        }
    }
}
