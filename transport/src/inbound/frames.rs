//! The reader of one stream of frames.

use std::sync::Arc;

use bytes::Bytes;
use isobar_topology::NodeId;
use quinn::{Connection, RecvStream};

use crate::node::Node;
use crate::peers::Entry;
use crate::wire::frame::{Decoder, Envelope};
use crate::wire::{Malformed, close};
use crate::{Frame, Lane, PeerIdentity};

/// Chunks of QUIC data taken at a time; a packet carries one.
const CHUNKS_READ_MAX: usize = 64;

/// Reads until the stream or its connection ends.
pub(super) async fn read(
    node: Arc<Node>,
    peer: Arc<Entry>,
    lane: Lane,
    connection: Connection,
    mut receive: RecvStream,
) {
    let mut index = [0];
    if receive.read_exact(&mut index).await.is_err() {
        return;
    }
    let mut decoder = Decoder::default();
    let mut chunks: Vec<Bytes> = vec![Bytes::new(); CHUNKS_READ_MAX];
    while let Ok(Some(count)) = receive.read_chunks(&mut chunks).await {
        chunks[..count].iter_mut().for_each(|chunk| decoder.push(std::mem::take(chunk)));
        if let Err(error) = deliver_all(&node, &peer, lane, &mut decoder) {
            let (node, peer) = (node.id, peer.node());
            tracing::warn!(%node, %peer, %lane, stream = index[0], %error, "malformed frame");
            connection.close(close::MALFORMED, error.to_string().as_bytes());
            return;
        }
    }
}

fn deliver_all(
    node: &Node,
    peer: &Entry,
    lane: Lane,
    decoder: &mut Decoder,
) -> Result<(), Malformed> {
    while let Some(envelope) = decoder.next()? {
        node.heard(peer);
        match (envelope, lane) {
            (Envelope::Direct(frame), _) => node.inbound.frame(&peer.identity, lane, frame),
            (Envelope::Reach(nodes), Lane::Control) => peer.set_reach(nodes),
            (Envelope::Relay { origin, destination, frame }, Lane::Control) => {
                relay(node, peer, origin, destination, frame)?;
            }
            (Envelope::Reach(_) | Envelope::Relay { .. }, _) => {
                return Err(Malformed::Unknown { what: "relay outside of control", value: 0 });
            }
        }
    }
    Ok(())
}

/// A frame on a hop: either it ends here, under its origin's name, or its origin is the peer itself and it
/// goes on to its destination. There is no second hop.
fn relay(
    node: &Node,
    peer: &Entry,
    origin: NodeId,
    destination: NodeId,
    frame: Frame,
) -> Result<(), Malformed> {
    if destination == node.id {
        // An origin that is not (or not yet) in our topology gets nothing, like its certificate would.
        if let Some(identity) = origin_identity(node, peer, origin) {
            node.inbound.frame(&identity, Lane::Control, frame);
        }
        return Ok(());
    }
    if origin != peer.node() {
        return Err(Malformed::Unknown {
            what: "origin of a relayed frame",
            value: origin.as_u32().into(),
        });
    }
    let Some(destination) = node.peers.entry(destination) else { return Ok(()) };
    let outlet = destination.outlet(Lane::Control);
    if !outlet.is_up() {
        outlet.count_dropped(1);
        return Ok(());
    }
    let onward = Envelope::Relay { origin, destination: destination.node(), frame };
    // What is dropped is counted there; its sender sends again when it has reason to.
    let _ = outlet.push(0, onward);
    Ok(())
}

/// Who a relayed frame or call is from. The node between vouches for it: it is a node of the cluster.
pub(super) fn origin_identity(node: &Node, peer: &Entry, origin: NodeId) -> Option<PeerIdentity> {
    if origin == peer.node() {
        return None;
    }
    node.peers.entry(origin).map(|entry| entry.identity.clone())
}
