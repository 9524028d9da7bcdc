//! The handle: starting, changing and stopping a node's transport.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{DcName, NodeId};
use quinn::{AsyncUdpSocket, EndpointConfig, Runtime, TokioRuntime};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::impair::ImpairedSocket;
use crate::inbound::{accept, server_config};
use crate::limits::IDENTITY_POLL;
use crate::node::Node;
use crate::outbound::drive;
use crate::peers::{Directory, Entry};
use crate::rng::Seed;
use crate::wire::close;
use crate::{Config, Dropped, Error, Frame, Inbound, Lane, Peer, RpcError, socket};

/// A node's end of all its connections. Cheap to clone; when the last clone is dropped, everything stops as
/// with [`Transport::shutdown`], only without waiting. An [`Inbound`] that holds a clone keeps itself alive
/// until somebody calls `shutdown`.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    node: Arc<Node>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// One lane of one peer, what we dialled and what it dialled together.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerStats {
    pub node: NodeId,
    pub dc: DcName,
    pub lane: Lane,
    /// Our connection to the peer is up. Only control always is; the others open when used.
    pub connected: bool,
    /// QUIC's smoothed round trip, live or last known; `None` before the first connection.
    pub rtt: Option<Duration>,
    /// Of those that this node sent.
    pub lost_packets: u64,
    /// UDP payload, including what QUIC adds and sends again.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Waiting here, or taken by QUIC only in part.
    pub queue_bytes: u64,
    /// Refused by `send`, or lost with a connection before they were written.
    pub dropped_frames: u64,
    /// Control only: the node that frames take a hop through at present.
    pub via: Option<NodeId>,
}

impl Transport {
    /// Binds, listens, and begins to dial the peers. Needs a tokio runtime with time and I/O.
    pub async fn start(config: Config, inbound: Arc<dyn Inbound>) -> Result<Transport, Error> {
        let failed = |source| Error::Bind { addr: config.bind, source };
        let bound = socket::bind(config.bind).map_err(failed)?;
        let plain = TokioRuntime.wrap_udp_socket(bound).map_err(failed)?;
        let transport = Self::start_on(plain, Seed::default(), config, inbound)?;
        let watch = tokio::spawn(watch_identity(transport.inner.node.clone()));
        transport.inner.keep(watch.abort_handle());
        Ok(transport)
    }

    /// As [`Transport::start`], on a socket of the caller's, on tokio's clock, which may be a simulated one, and with
    /// what is drawn drawn by `seed`; keys of connections are not. Certificates stay as they are.
    pub async fn start_simulated(
        socket: Arc<dyn AsyncUdpSocket>,
        seed: u64,
        config: Config,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Transport, Error> {
        Self::start_on(socket, Seed::of(seed), config, inbound)
    }

    fn start_on(
        plain: Arc<dyn AsyncUdpSocket>,
        seed: Seed,
        config: Config,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Transport, Error> {
        let Config { node: id, dc, cluster, bind, peers, identity, wan } = config;
        identity.check(&cluster, &dc, id)?;
        let directory = Arc::new(Directory::new(&cluster));
        let server = server_config(&identity, &directory)?;
        let failed = |source| Error::Bind { addr: bind, source };
        let local_addr = plain.local_addr().map_err(failed)?;
        let socket: Arc<dyn AsyncUdpSocket> = match &wan {
            None => plain,
            Some(wan) => {
                tracing::warn!(node = %id, "a WAN is emulated below this node: for development only");
                wan.register(local_addr, dc.clone());
                Arc::new(ImpairedSocket::new(plain, dc.clone(), wan.clone()))
            }
        };
        let mut settings = EndpointConfig::default();
        settings.rng_seed(seed.of_endpoint());
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            settings,
            Some(server.clone()),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let node = Arc::new(Node {
            id,
            dc,
            cluster,
            cluster_id: watch::Sender::new(None),
            identity: RwLock::new(Arc::new(identity)),
            server: RwLock::new(server),
            endpoint,
            local_addr,
            peers: directory,
            inbound,
            wan,
            reach: watch::Sender::default(),
            shut_down: AtomicBool::new(false),
            incarnation: seed.draw(id),
            seed,
        });
        let transport = Transport { inner: Arc::new(Inner { node, tasks: Mutex::default() }) };
        transport.set_peers(peers)?;
        transport.inner.keep(tokio::spawn(accept(transport.inner.node.clone())).abort_handle());
        Ok(transport)
    }

    /// Where it listens, port 0 replaced by the one taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.node.local_addr
    }

    /// Replaces the peers. Those that stay as they are keep their connections; those that are gone, or are
    /// described differently now, lose them. To be called from within the runtime.
    pub fn set_peers(&self, peers: Vec<Peer>) -> Result<(), Error> {
        let node = &self.inner.node;
        let before = node.peers.all();
        let mut entries = BTreeMap::new();
        let mut added = Vec::new();
        for peer in peers {
            let id = peer.node;
            if id == node.id {
                return Err(Error::PeerIsSelf(id));
            }
            let kept = before.get(&id).filter(|entry| entry.config == peer).cloned();
            let entry = kept.unwrap_or_else(|| {
                let entry = Arc::new(Entry::new(&node.cluster, peer));
                added.push(entry.clone());
                entry
            });
            if entries.insert(id, entry).is_some() {
                return Err(Error::DuplicatePeer(id));
            }
        }
        let stays = |entry: &Arc<Entry>| {
            entries.get(&entry.node()).is_some_and(|now| Arc::ptr_eq(now, entry))
        };
        let removed: Vec<_> = before.values().filter(|entry| !stays(entry)).cloned().collect();
        node.peers.replace(entries);
        for entry in removed {
            let was_up = entry.is_up();
            entry.stop(close::PEER_CHANGED, b"the topology changed");
            if was_up {
                node.inbound.peer_down(entry.node());
            }
        }
        node.reach_changed();
        for entry in added {
            if let (Some(wan), Some(addr)) = (&node.wan, entry.resolved()) {
                wan.register(addr, entry.config.dc.clone());
            }
            for lane in Lane::ALL {
                let driver = tokio::spawn(drive(node.clone(), entry.clone(), lane));
                entry.keep_driver(driver.abort_handle());
            }
        }
        Ok(())
    }

    /// The cluster's own id, once known: a peer that knows another one is refused from now on, on connections
    /// that are open too.
    pub fn set_cluster_id(&self, cluster_id: Bytes) {
        self.inner.node.cluster_id.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&cluster_id);
            *known = Some(cluster_id);
            changed
        });
    }

    /// Queues a frame, without waiting. `key` (the hash of a group, say) picks one of the ordered streams of
    /// [`Lane::Replication`]; control has one.
    ///
    /// `Ok` promises nothing about arrival, see [`Inbound::frames_lost`].
    pub fn send(&self, to: NodeId, lane: Lane, key: u64, frame: Frame) -> Result<(), Dropped> {
        self.inner.node.send(to, lane, key, frame)
    }

    /// Calls a method of the peer's [`Inbound::call`]; through a third DC while the direct path is down.
    pub async fn call(
        &self,
        to: NodeId,
        method: u16,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        self.inner.node.call(to, Lane::Rpc, method, body, timeout).await
    }

    /// As [`Transport::call`], on a connection that large bodies do not share with anyone in a hurry, and
    /// never through a third DC.
    pub async fn bulk(
        &self,
        to: NodeId,
        method: u16,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        self.inner.node.call(to, Lane::Bulk, method, body, timeout).await
    }

    /// Each lane of each peer, in order of node and lane.
    pub fn stats(&self) -> Vec<PeerStats> {
        let node = &self.inner.node;
        let peers = node.peers.all();
        let lanes = |peer: &Arc<Entry>| Lane::ALL.map(|lane| lane_stats(node, peer, lane));
        peers.values().flat_map(lanes).collect()
    }

    /// Whether frames reach the peer without a hop.
    pub fn is_up(&self, peer: NodeId) -> bool {
        self.inner.node.peers.entry(peer).is_some_and(|entry| entry.is_up())
    }

    /// Whether frames on the control lane reach the peer: without a hop, or with one.
    pub fn is_reachable(&self, peer: NodeId) -> bool {
        let node = &self.inner.node;
        node.peers.entry(peer).is_some_and(|entry| entry.is_up() || node.hop(&entry).is_some())
    }

    /// Every other node, as [`Transport::set_peers`] was last told.
    pub fn peers(&self) -> Vec<NodeId> {
        self.inner.node.peers.all().keys().copied().collect()
    }

    /// One of them, and the path to it.
    pub fn peer(&self, node: NodeId) -> Option<Peer> {
        self.inner.node.peers.entry(node).map(|entry| entry.config.clone())
    }

    /// Whether our connection of this lane to the peer is up: a call on one that is not takes a dial first.
    pub fn is_connected(&self, peer: NodeId, lane: Lane) -> bool {
        self.inner.node.peers.entry(peer).is_some_and(|entry| entry.outlet(lane).is_up())
    }

    /// Opens our connection of this lane to the peer, if it is not up: whoever knows that it is about to send much
    /// saves two round trips.
    pub fn warm(&self, peer: NodeId, lane: Lane) {
        if let Some(entry) = self.inner.node.peers.entry(peer) {
            entry.outlet(lane).want();
        }
    }

    /// Whether a peer speaks, as far as the nodes of its own DC have said: false soon after its process died or
    /// froze, long before [`Transport::is_reachable`].
    pub fn is_heard(&self, peer: NodeId) -> bool {
        self.inner.node.is_heard(peer)
    }

    /// The peers to whom control is up, without a hop, and that speak; and each change of that.
    pub fn reached(&self) -> watch::Receiver<Arc<Vec<NodeId>>> {
        self.inner.node.reach.subscribe()
    }

    /// Whom each peer that is heard says that it hears.
    pub fn reports(&self) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        let peers = self.inner.node.peers.all();
        let heard = peers.values().filter(|p| p.is_up() && p.silent_since().is_none());
        heard.map(|peer| (peer.node(), peer.reach())).collect()
    }

    /// A peer should have spoken by now and did not. It is not heard, see [`Transport::is_heard`], until its next
    /// frame, call or answer comes.
    pub fn suspect(&self, peer: NodeId) {
        self.inner.node.suspect(peer);
    }

    /// Looks at the certificate files now rather than at the next poll. True if they had changed.
    pub async fn reload_identity(&self) -> Result<bool, Error> {
        Ok(self.inner.node.reload_identity().await?)
    }

    /// Closes all connections and waits until the peers have been told, for a second at most.
    pub async fn shutdown(&self) {
        const GOODBYE_MAX: Duration = Duration::from_secs(1);
        self.inner.stop();
        let _ = tokio::time::timeout(GOODBYE_MAX, self.inner.node.endpoint.wait_idle()).await;
    }
}

fn lane_stats(node: &Node, peer: &Entry, lane: Lane) -> PeerStats {
    let outlet = peer.outlet(lane);
    let totals = outlet.traffic.totals();
    let connected = outlet.is_up();
    let via = match lane {
        Lane::Control if !connected => node.hop(peer).map(|relay| relay.node()),
        _ => None,
    };
    PeerStats {
        node: peer.node(),
        dc: peer.config.dc.clone(),
        lane,
        connected,
        rtt: outlet.traffic.rtt(),
        lost_packets: totals.lost_packets,
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        queue_bytes: outlet.queue_bytes(),
        dropped_frames: outlet.dropped(),
        via,
    }
}

async fn watch_identity(node: Arc<Node>) {
    let mut last = None;
    loop {
        tokio::time::sleep(IDENTITY_POLL).await;
        let error = node.reload_identity().await.err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|_| last != error) {
            tracing::warn!(node = %node.id, error, "new certificates are not used; the old ones stay");
        }
        last = error;
    }
}

impl Inner {
    fn keep(&self, task: AbortHandle) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    fn stop(&self) {
        self.node.shut_down.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.into_iter().for_each(|task| task.abort());
        let peers = self.node.peers.all();
        peers.values().for_each(|peer| peer.stop(close::SHUT_DOWN, b"shut down"));
        self.node.peers.replace(BTreeMap::new());
        self.node.endpoint.close(close::SHUT_DOWN, b"shut down");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
