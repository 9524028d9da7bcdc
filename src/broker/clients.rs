//! The listeners for Kafka clients.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use isobar_topology::NodeId;
use isobar_transport::{Lane, Peer, RpcError, Transport};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::departed::Departed;
use super::inbound::method;
use super::node::{Error, Node};
use crate::kafka::{self, Context, Front, Listener, Metrics, Parts, Shared, connection};
use crate::log::disk::OsDisk;

/// Binds every listener of the node; an address that is taken is an error that names it.
pub async fn bind(node: &isobar_topology::Node) -> Result<Vec<Listener>, Error> {
    let mut bound = Vec::new();
    for listener in &node.listeners {
        let (name, address) = (listener.name.as_str(), listener.address.bind);
        let socket = Listener::bind(name, &address.to_string()).await;
        let named = |source| Error::Listener { name: name.to_owned(), address, source };
        bound.push(socket.map_err(named)?);
    }
    Ok(bound)
}

/// How long clients wait for this node to know what `__meta` has decided while it was away. Beyond that, one that
/// cannot know still serves what it has: a lost majority of `__meta` stops no reads. Half of what librdkafka waits for
/// its first answer.
const CURRENT_MAX: Duration = Duration::from_secs(5);

/// Serves clients on what was bound until the node stops. Not before the image is `current`: of a topic that was
/// made while the node was away it would say that there is none. What is returned ends when the node stops, and the
/// last answer has left.
pub fn serve(
    node: &Node,
    listeners: Vec<Listener>,
    (seed, current): (u64, watch::Receiver<bool>),
    data_dirs: Vec<PathBuf>,
    tasks: &mut JoinSet<()>,
) -> JoinSet<()> {
    let metrics = Arc::new(Metrics::new(node.recorder.registry()));
    let dc = node.topology.dc_of(node.id).expect("a node is in a DC").clone();
    let liveness = Liveness { transport: node.transport.clone(), departed: Arc::default() };
    tasks.spawn(watch_departures(Arc::clone(&liveness.departed), node.transport.clone()));
    let context = Context::new(Parts {
        node: node.id,
        dc,
        config: kafka::Config::default(),
        metadata: Arc::new(node.metadata.clone()),
        replicas: node.replicas.clone(),
        groups: node.groups.clone(),
        liveness: Arc::new(liveness),
        metrics: Arc::clone(&metrics),
        shutdown: node.stopping(),
        seed,
        ledgers: kafka::Ledgers { disk: Arc::new(OsDisk), data_dirs },
    });
    let context = Arc::new(context);
    let (keeper, mut known) = (Arc::clone(&context), current.clone());
    tasks.spawn(async move {
        // Closed without it: the node stops.
        if known.wait_for(|current| *current).await.is_ok() {
            keeper.keep_producer_ids().await;
        }
    });
    let shared = Arc::new(Shared {
        service: Arc::new(Front::new(context)),
        admission: kafka::Admission::new(kafka::Limits::default()),
        room: connection::Room::default(),
        metrics,
        shutdown: node.stopping(),
    });
    let mut clients = JoinSet::new();
    for listener in listeners {
        let (shared, current) = (Arc::clone(&shared), current.clone());
        clients.spawn(async move {
            become_current(current, shared.shutdown.clone()).await;
            listener.serve(shared).await;
        });
    }
    clients
}

async fn become_current(mut current: watch::Receiver<bool>, mut shutdown: watch::Receiver<bool>) {
    tokio::select! {
        _ = current.wait_for(|current| *current) => {}
        _ = shutdown.wait_for(|down| *down) => {}
        () = tokio::time::sleep(CURRENT_MAX) => tracing::warn!(
            "clients are served with topics as this node last knew them: the leader of __meta has not answered for \
             {CURRENT_MAX:?}"
        ),
    }
}

/// Until the transport ends.
async fn watch_departures(departed: Arc<Departed>, transport: Transport) {
    let mut reached = transport.reached();
    loop {
        let now = Arc::clone(&reached.borrow_and_update());
        departed.note(&now, Instant::now());
        if reached.changed().await.is_err() {
            return;
        }
    }
}

/// How long a node of the same DC may take to say that it is there, a dial included. A client's other
/// questions on that connection wait meanwhile.
const PROBE_NEAR: Duration = Duration::from_millis(100);

/// What a node of another DC may take beyond two round trips; its answer takes one, and the second
/// mends a lost packet. Longer, since what follows from a late answer is seen by more clients.
const PROBE_FAR: Duration = Duration::from_millis(300);

/// Who is there, as the transport sees it.
struct Liveness {
    transport: Transport,
    departed: Arc<Departed>,
}

impl kafka::Liveness for Liveness {
    /// Control to it is up, or another node says that it reaches it. A leader behind a cut link is
    /// alive, and clients may have a path of their own to it.
    fn is_alive(&self, node: NodeId) -> bool {
        self.transport.is_reachable(node)
    }

    fn is_heard(&self, node: NodeId) -> bool {
        self.transport.is_heard(node)
    }

    fn was_alive(&self, node: NodeId) -> bool {
        self.is_alive(node) || self.departed.was_there(node, Instant::now())
    }

    /// Costs a round trip to the farthest of them, which is why only Metadata asks.
    fn probe(&self, nodes: BTreeSet<NodeId>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut asked = JoinSet::new();
        for node in nodes.into_iter().filter(|node| self.is_heard(*node)) {
            let Some(Peer { link, .. }) = self.transport.peer(node) else { continue };
            let near = link.same_dc;
            let patience = if near { PROBE_NEAR } else { 2 * link.rtt + PROBE_FAR };
            let transport = self.transport.clone();
            // A dial across a WAN takes longer than that, and says nothing of who is there.
            let counts = near || transport.is_connected(node, Lane::Rpc);
            asked.spawn(async move {
                let call = transport.call(node, method::PING, Bytes::new(), patience);
                // Any other answer is one, and an overloaded path says nothing about its end.
                let silent =
                    matches!(call.await, Err(RpcError::Timeout | RpcError::ConnectionLost));
                if silent && counts {
                    transport.suspect(node);
                }
            });
        }
        Box::pin(async move { while asked.join_next().await.is_some() {} })
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut reached = self.transport.reached();
        Box::pin(async move {
            // Its end is the node's, which ends whoever waits.
            if reached.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
