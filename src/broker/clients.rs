//! The listeners for Kafka clients.

use std::sync::Arc;

use metrics::Recorder;
use tokio::task::JoinSet;

use super::node::{Error, Node};
use crate::kafka::{self, Context, Front, Listener, Metrics, Parts, Shared, connection};

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

/// Serves clients on what was bound until the node stops.
pub fn serve(
    node: &Node,
    listeners: Vec<Listener>,
    recorder: &dyn Recorder,
    seed: u64,
    tasks: &mut JoinSet<()>,
) {
    let metrics = Arc::new(Metrics::new(recorder));
    let dc = node.topology.dc_of(node.id).expect("a node is in a DC").clone();
    let context = Context::new(Parts {
        node: node.id,
        dc,
        config: kafka::Config::default(),
        metadata: Arc::new(node.metadata.clone()),
        replicas: node.replicas.clone(),
        groups: node.groups.clone(),
        liveness: Arc::new(node.liveness()),
        metrics: Arc::clone(&metrics),
        shutdown: node.stopping(),
        seed,
    });
    let shared = Arc::new(Shared {
        service: Arc::new(Front::new(Arc::new(context))),
        admission: kafka::Admission::new(kafka::Limits::default()),
        room: connection::Room::default(),
        metrics,
        shutdown: node.stopping(),
    });
    for listener in listeners {
        tasks.spawn(listener.serve(Arc::clone(&shared)));
    }
}
