//! The handle.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{DcName, NodeId};

use crate::{Config, Dropped, Error, Frame, Inbound, Lane, Peer, RpcError};

/// A node's end of all its connections; cheap to clone.
#[derive(Clone)]
pub struct Transport {}

/// One lane of one peer, both directions together.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerStats {
    pub node: NodeId,
    pub dc: DcName,
    pub lane: Lane,
    /// Our connection to the peer is up.
    pub connected: bool,
    /// QUIC's smoothed round trip; `None` before the first connection.
    pub rtt: Option<Duration>,
    pub lost_packets: u64,
    /// UDP payload, including QUIC's own overhead.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub queue_bytes: u64,
    pub dropped_frames: u64,
    /// The node that control frames take a hop through at present.
    pub via: Option<NodeId>,
}

impl Transport {
    pub async fn start(_config: Config, _inbound: Arc<dyn Inbound>) -> Result<Transport, Error> {
        todo!()
    }

    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    pub fn set_peers(&self, _peers: Vec<Peer>) -> Result<(), Error> {
        todo!()
    }

    pub fn set_cluster_id(&self, _cluster_id: Bytes) {
        todo!()
    }

    pub fn send(&self, _to: NodeId, _lane: Lane, _key: u64, _frame: Frame) -> Result<(), Dropped> {
        todo!()
    }

    pub async fn call(
        &self,
        _to: NodeId,
        _method: u16,
        _body: Bytes,
        _timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        todo!()
    }

    pub async fn bulk(
        &self,
        _to: NodeId,
        _method: u16,
        _body: Bytes,
        _timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        todo!()
    }

    pub fn stats(&self) -> Vec<PeerStats> {
        todo!()
    }

    pub async fn reload_identity(&self) -> Result<bool, Error> {
        todo!()
    }

    pub async fn shutdown(&self) {
        todo!()
    }
}
