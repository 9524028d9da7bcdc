//! Opening a connection: address, TLS as exactly one peer, hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, TransportErrorCode};

use crate::certs::{Accept, Refusal, client_config};
use crate::limits::DIAL_MAX;
use crate::node::Node;
use crate::peers::Entry;
use crate::wire::hello::{self, HELLO_BYTES_MAX, Hello, Welcome};
use crate::wire::{Malformed, STREAM_HELLO, VERSION_MAX, VERSION_MIN, close};
use crate::{Lane, tuning};

/// rustls wants a name; identity is in the certificate's URI, and no name is sent (SNI is off).
const SERVER_NAME: &str = "isobar";

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot resolve {addr:?}: {source}")]
    Resolve { addr: String, source: std::io::Error },
    #[error("{addr:?} has no address of this node's address family")]
    NoAddress { addr: String },
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
    #[error("no cipher suite for QUIC's first packets")]
    NoInitialCipherSuite,
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("refused by the peer: this node {0}")]
    Refused(String),
    #[error("the peer {0}")]
    Refuse(hello::Refused),
    #[error("malformed hello: {0}")]
    Malformed(#[from] Malformed),
    #[error("hello: {0}")]
    Hello(String),
    #[error("a stream's writer ended: {0}")]
    Writer(String),
}

impl DialError {
    /// Somebody must act: certificates or set-up are wrong. A peer that is merely away is not that.
    pub(super) fn needs_attention(&self) -> bool {
        match self {
            DialError::Connection(ConnectionError::TransportError(_)) => true,
            DialError::Connection(ConnectionError::ConnectionClosed(closed)) => {
                // Refused without a word: too many handshakes at a time.
                closed.error_code != TransportErrorCode::CONNECTION_REFUSED
            }
            DialError::Connection(ConnectionError::ApplicationClosed(closed)) => {
                closed.error_code != close::SHUT_DOWN
            }
            DialError::Connection(_) => false,
            DialError::Timeout(_) | DialError::Hello(_) | DialError::Writer(_) => false,
            _ => true,
        }
    }
}

/// A connection whose hello has been answered, and the peer's incarnation. The caller closes it.
///
/// Cancel safe: a connection that nobody holds is closed.
pub(super) async fn dial(
    node: &Node,
    peer: &Entry,
    lane: Lane,
) -> Result<(Connection, u64), DialError> {
    let max = DIAL_MAX + peer.config.link.rtt * 8;
    tokio::time::timeout(max, attempt(node, peer, lane))
        .await
        .unwrap_or(Err(DialError::Timeout(max)))
}

async fn attempt(node: &Node, peer: &Entry, lane: Lane) -> Result<(Connection, u64), DialError> {
    let addr = resolve(node, peer).await?;
    peer.set_resolved(addr);
    if let Some(wan) = &node.wan {
        wan.register(addr, peer.config.dc.clone());
    }
    let expected = peer.identity.clone();
    let accept: Arc<Accept> = Arc::new(move |name| match *name == expected {
        true => Ok(()),
        false => Err(Refusal::OtherNode { name: name.clone(), expected: expected.clone() }),
    });
    let tls = client_config(&node.identity(), accept)?;
    let tls = QuicClientConfig::try_from(tls).map_err(|_| DialError::NoInitialCipherSuite)?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(tuning::dialled(&peer.config.link, lane)));
    let connection = node.endpoint.connect_with(config, addr, SERVER_NAME)?.await?;
    match greet(node, &connection, lane).await {
        Ok(incarnation) => Ok((connection, incarnation)),
        Err(error) => {
            connection.close(close::REFUSED, error.to_string().as_bytes());
            Err(error)
        }
    }
}

async fn resolve(node: &Node, peer: &Entry) -> Result<SocketAddr, DialError> {
    let name = &peer.config.addr;
    if let Ok(addr) = name.parse() {
        return Ok(addr);
    }
    let addrs = tokio::net::lookup_host(name)
        .await
        .map_err(|source| DialError::Resolve { addr: name.clone(), source })?;
    let ours = node.local_addr;
    addrs
        .into_iter()
        .find(|addr| addr.is_ipv4() == ours.is_ipv4())
        .ok_or_else(|| DialError::NoAddress { addr: name.clone() })
}

/// Says hello and reads the answer, the peer's incarnation; also on a live connection, when the cluster's id becomes known.
pub(super) async fn greet(
    node: &Node,
    connection: &Connection,
    lane: Lane,
) -> Result<u64, DialError> {
    let cluster_id: Option<Bytes> = node.cluster_id.borrow().clone();
    let hello = Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        cluster: node.cluster.clone(),
        cluster_id: cluster_id.clone(),
        node: node.id.as_u32(),
        lane: hello::lane_number(lane),
        incarnation: node.incarnation,
    };
    let io = |error: &dyn std::fmt::Display| match connection.close_reason() {
        // The connection says more than the stream: a certificate refused by the peer, say.
        Some(reason) => DialError::Connection(reason),
        None => DialError::Hello(error.to_string()),
    };
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[STREAM_HELLO]).await.map_err(|error| io(&error))?;
    send.write_all(&hello::encode(&hello)).await.map_err(|error| io(&error))?;
    let _ = send.finish();
    let mut length = [0; 2];
    receive.read_exact(&mut length).await.map_err(|error| io(&error))?;
    let length = usize::from(u16::from_be_bytes(length));
    crate::wire::limit("hello", length as u64, HELLO_BYTES_MAX as u64)?;
    let mut body = vec![0; length];
    receive.read_exact(&mut body).await.map_err(|error| io(&error))?;
    let welcome: Welcome = hello::decode(&body)?;
    if let Some(reason) = welcome.refusal {
        return Err(DialError::Refused(reason));
    }
    if !(VERSION_MIN..=VERSION_MAX).contains(&welcome.version) {
        return Err(
            Malformed::Unknown { what: "wire version", value: welcome.version.into() }.into()
        );
    }
    hello::check_cluster_id(welcome.cluster_id.as_deref(), cluster_id.as_deref())
        .map_err(DialError::Refuse)?;
    Ok(welcome.incarnation)
}
