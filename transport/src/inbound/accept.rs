//! Incoming connections, from the first packet to the hello's answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ConnectionError, Incoming, VarInt};
use tokio::sync::Semaphore;

use super::refusals::Refusals;
use super::{hello, serve};
use crate::certs::{self, Identity, NameError};
use crate::limits::{CALLS_SERVED_MAX, HANDSHAKE_MAX, HANDSHAKES_MAX, REPLICATION_STREAMS};
use crate::node::Node;
use crate::peers::{Directory, Entry};
use crate::wire::close;
use crate::{Lane, tuning};

#[derive(Debug, thiserror::Error)]
enum RefusedConnection {
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("node {0} has left the topology")]
    Gone(isobar_topology::NodeId),
    #[error("no hello within {} s", HANDSHAKE_MAX.as_secs())]
    Timeout,
    #[error("{0}")]
    Hello(#[from] hello::Error),
}

/// TLS for incoming connections, with the certificates of now.
pub(crate) fn server_config(
    identity: &Identity,
    peers: &Arc<Directory>,
) -> Result<quinn::ServerConfig, certs::Error> {
    let peers = peers.clone();
    let tls = certs::server_config(identity, Arc::new(move |name| peers.accept(name)))
        .and_then(|tls| {
            QuicServerConfig::try_from(tls)
                .map_err(|error| rustls::Error::General(error.to_string()))
        })
        .map_err(certs::Error::Tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.max_incoming(HANDSHAKES_MAX).migration(false);
    Ok(config)
}

/// Runs until the endpoint is closed.
pub(crate) async fn accept(node: Arc<Node>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut log = Refusals::default();
    let (refusals, mut refused) =
        tokio::sync::mpsc::channel::<(SocketAddr, RefusedConnection)>(REFUSALS_QUEUED_MAX);
    loop {
        let incoming = tokio::select! {
            biased;
            Some((addr, error)) = refused.recv() => {
                if let Some(suppressed) = log.line(Instant::now(), addr.ip(), &error.to_string()) {
                    tracing::warn!(node = %node.id, %addr, %error, suppressed, "refused a connection");
                }
                continue;
            }
            incoming = node.endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        if handshakes.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
            // Under load an address has to prove that it receives what we send.
            let _ = incoming.retry();
            continue;
        }
        let (node, refusals) = (node.clone(), refusals.clone());
        tokio::spawn(async move {
            let addr = incoming.remote_address();
            let admitted = tokio::time::timeout(HANDSHAKE_MAX, admit(&node, incoming)).await;
            drop(permit);
            match admitted.unwrap_or(Err(RefusedConnection::Timeout)) {
                Ok((peer, lane, connection)) => serve::install(node, peer, lane, connection).await,
                // A full queue of refusals is a flood: one line less is no loss.
                Err(error) => drop(refusals.try_send((addr, error))),
            }
        });
    }
}

async fn admit(
    node: &Node,
    incoming: Incoming,
) -> Result<(Arc<Entry>, Lane, Connection), RefusedConnection> {
    let link = node.peers.link_to(incoming.remote_address());
    let mut config = node.server_config();
    config.transport_config(Arc::new(tuning::accepted(&link)));
    let connection = incoming.accept_with(Arc::new(config))?.await?;
    let name = certs::peer_identity(&connection)?;
    // The certificate was compared with the topology during the handshake; it may have changed since.
    let peer = node.peers.entry(name.node).filter(|peer| peer.identity == name);
    let Some(peer) = peer else {
        connection.close(close::PEER_CHANGED, b"not in the topology");
        return Err(RefusedConnection::Gone(name.node));
    };
    let lane = hello::first(node, &peer, &connection).await?;
    let (frames, calls) = match lane {
        Lane::Control => (1, 1),
        Lane::Replication => (REPLICATION_STREAMS as u32, 1),
        Lane::Rpc | Lane::Bulk => (0, CALLS_SERVED_MAX),
    };
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(frames));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(calls));
    Ok((peer, lane, connection))
}

/// Refusals on their way to the log. A flood loses lines, no more.
const REFUSALS_QUEUED_MAX: usize = 64;
