//! The transport as the replicas use it, and as the topology describes it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{Compression, Topology};
use isobar_transport::{self as transport, Frame, Lane, LinkTuning, Peer, Transport};

use tokio::sync::watch;

use super::inbound::method;
use crate::metadata::service;
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

/// A link that is described differently is dialled anew. Not before whoever applied the topology has its answer, which
/// comes over such a link where the leader of `__meta` is beyond it.
const REDIAL_AFTER: Duration = Duration::from_secs(2);

/// The peers that a running node speaks to from now on, of those that a changed topology has. One that it knew keeps
/// its address until this node restarts: it still listens there, having been started with the file of before.
fn with_known(
    changed: &[Peer],
    known: impl Fn(NodeId) -> Option<Peer>,
    links_too: bool,
) -> Vec<Peer> {
    let keep = |peer: &Peer| match known(peer.node) {
        Some(before) if links_too => Peer { addr: before.addr, ..peer.clone() },
        Some(before) => Peer { dc: peer.dc.clone(), ..before },
        None => peer.clone(),
    };
    changed.iter().map(keep).collect()
}

/// Follows every topology that is applied once this node's image is `current`: new nodes are spoken to, and links are
/// as they are described. Before that the node goes by the file that it was started with, since who moved a cluster to
/// other addresses must reach it to say so.
pub async fn follow(
    node: NodeId,
    transport: Transport,
    metadata: service::Handle,
    mut current: watch::Receiver<bool>,
) {
    if current.wait_for(|current| *current).await.is_err() {
        return;
    }
    let mut images = metadata.watch();
    let mut followed_to = images.borrow_and_update().topology_generation;
    while images.changed().await.is_ok() {
        let image = Arc::clone(&images.borrow_and_update());
        let Some(topology) = image.topology.as_ref() else { continue };
        if image.topology_generation <= followed_to {
            continue;
        }
        followed_to = image.topology_generation;
        let changed = peers(topology, node);
        for links_too in [false, true] {
            if links_too {
                tokio::time::sleep(REDIAL_AFTER).await;
            }
            let peers = with_known(&changed, |id| transport.peer(id), links_too);
            if let Err(error) = transport.set_peers(peers) {
                tracing::error!(%node, generation = followed_to, %error, "the topology's peers");
            }
        }
        tracing::info!(%node, generation = followed_to, "peers and links are as the topology has them");
    }
}

/// Frames out.
pub struct Wire {
    transport: Transport,
    /// Where calls wait for their answers: the replicas' loop has a thread of its own.
    runtime: tokio::runtime::Handle,
}

impl Wire {
    /// To be called from within the runtime.
    pub fn new(transport: Transport) -> Self {
        Self { transport, runtime: tokio::runtime::Handle::current() }
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
        self.transport.peers()
    }

    fn is_near(&self, node: NodeId) -> bool {
        self.transport.peer(node).is_some_and(|peer| peer.link.same_dc)
    }

    fn suspect(&self, node: NodeId) {
        self.transport.suspect(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_keeps_its_address_and_takes_the_new_link() {
        let peer = |id, addr: &str, link| Peer {
            node: NodeId::new(id).unwrap(),
            dc: "fra".parse().unwrap(),
            addr: addr.to_owned(),
            link,
        };
        let wide =
            LinkTuning::wan(Duration::from_millis(90), 1 << 30, transport::Compression::None);
        let known = |id: NodeId| (id.as_u32() == 2).then(|| peer(2, "old:1", LinkTuning::local()));
        let changed = vec![peer(2, "new:1", wide.clone()), peer(3, "three:1", wide.clone())];
        let at_once = [peer(2, "old:1", LinkTuning::local()), peer(3, "three:1", wide.clone())];
        assert_eq!(with_known(&changed, known, false), at_once);
        let then = [peer(2, "old:1", wide.clone()), peer(3, "three:1", wide)];
        assert_eq!(with_known(&changed, known, true), then);
    }
}
