//! The transport as the replicas use it, and as the topology describes it.

use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{Compression, Topology};
use isobar_transport::{self as transport, Frame, Lane, LinkTuning, Peer, Transport};

use super::inbound::method;
use crate::model::{DcName, NodeId};
use crate::replica::driver::Network;

/// How long a range may take: on a link of 2 Mbit/s it comes through, and so it does behind as many
/// others as a node serves at a time on a faster one.
const RANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Every other node, with how to reach it from `node`.
pub fn peers(topology: &Topology, node: NodeId) -> Vec<Peer> {
    let Some(here) = topology.dc_of(node) else { return Vec::new() };
    let others = topology.nodes().filter(|peer| peer.id != node);
    others
        .map(|peer| Peer {
            node: peer.id,
            dc: peer.dc.clone(),
            addr: peer.peer.advertised.to_string(),
            link: tuning(topology, here, &peer.dc),
        })
        .collect()
}

fn tuning(topology: &Topology, here: &DcName, there: &DcName) -> LinkTuning {
    if here == there {
        return LinkTuning::local();
    }
    let Some(link) = topology.link(here, there) else { return LinkTuning::local() };
    let compression = match link.compression {
        Compression::None => transport::Compression::None,
        Compression::Zstd => transport::Compression::Zstd,
    };
    LinkTuning::wan(link.rtt, link.bandwidth.bytes_per_second(), compression)
}

/// Frames out.
pub struct Wire {
    transport: Transport,
    peers: Vec<NodeId>,
    /// Where calls wait for their answers: the replicas' loop has a thread of its own.
    runtime: tokio::runtime::Handle,
}

impl Wire {
    /// To be called from within the runtime.
    pub fn new(transport: Transport, peers: Vec<NodeId>) -> Self {
        Self { transport, peers, runtime: tokio::runtime::Handle::current() }
    }

    fn send(&self, to: NodeId, lane: Lane, key: u64, frame: Frame) {
        // A full queue or an unknown peer is a lost frame; the transport counts it.
        if let Err(dropped) = self.transport.send(to, lane, key, frame) {
            tracing::trace!(%to, %lane, %dropped, "frame dropped");
        }
    }
}

impl Network for Wire {
    fn control(&self, to: NodeId, frame: Frame) {
        self.send(to, Lane::Control, 0, frame);
    }

    fn replication(&self, to: NodeId, key: u64, frame: Frame) {
        self.send(to, Lane::Replication, key, frame);
    }

    fn metadata(&self, to: NodeId, key: u64, frame: Frame) {
        let lane = if self.transport.is_up(to) { Lane::Replication } else { Lane::Control };
        self.send(to, lane, key, frame);
    }

    fn range(&self, to: NodeId, body: Bytes, then: Box<dyn FnOnce(Option<Bytes>) + Send>) {
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            let answer = transport.bulk(to, method::RANGE, body, RANGE_TIMEOUT).await;
            if let Err(error) = &answer {
                tracing::debug!(%to, %error, "no range");
            }
            then(answer.ok());
        });
    }

    fn peers(&self) -> Vec<NodeId> {
        self.peers.clone()
    }

    fn suspect(&self, node: NodeId) {
        self.transport.suspect(node);
    }
}
