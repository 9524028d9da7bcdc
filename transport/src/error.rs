//! What can go wrong, by who has to know.

use std::net::SocketAddr;

use isobar_topology::NodeId;

/// The transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot bind UDP {addr}: {source}")]
    Bind { addr: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Certs(#[from] crate::certs::Error),
    #[error("peer list names node {0} twice")]
    DuplicatePeer(NodeId),
    #[error("peer list names this node ({0}) itself")]
    PeerIsSelf(NodeId),
}

/// A frame was not taken. Nothing waits: the layer above sends again when it has reason to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    #[error("node {0} is not in the peer list")]
    UnknownPeer(NodeId),
    #[error("the queue is full")]
    QueueFull,
    #[error("the frame exceeds a limit (header, payload bytes or chunks)")]
    TooLarge,
    #[error("{0} carries calls, not frames")]
    WrongLane(crate::Lane),
    #[error("the transport is shut down")]
    ShutDown,
}

/// A call failed.
///
/// [`RpcError::Timeout`] and [`RpcError::ConnectionLost`] leave open whether the peer has acted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    #[error("node {0} is not in the peer list")]
    UnknownPeer(NodeId),
    #[error("node {0} is unreachable, directly and through a third DC")]
    Unreachable(NodeId),
    #[error("no answer in time")]
    Timeout,
    #[error("the connection was lost before the answer")]
    ConnectionLost,
    #[error("too many calls in flight")]
    Overloaded,
    #[error("a body of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the peer knows no method {0}")]
    UnknownMethod(u16),
    /// The method's own refusal; code and text are the caller's business.
    #[error("refused ({code}): {message}")]
    Refused { code: u16, message: String },
    #[error("the peer's answer is malformed")]
    Malformed,
    #[error("the transport is shut down")]
    ShutDown,
}
