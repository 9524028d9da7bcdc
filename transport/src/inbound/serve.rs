//! An accepted connection: its readers until it ends, and at most one per (peer, lane).

use std::sync::Arc;

use quinn::Connection;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::{calls, frames};
use crate::Lane;
use crate::node::Node;
use crate::peers::Entry;
use crate::traffic::End;
use crate::wire::close;

/// The accepted connection of one (peer, lane).
#[derive(Default)]
pub(crate) struct Slot {
    current: Mutex<Option<(Connection, JoinHandle<()>)>>,
}

/// Serves the connection in place of its predecessor, whose readers have ended before the first frame of
/// this one is delivered: order per (peer, lane, stream).
pub(super) async fn install(node: Arc<Node>, peer: Arc<Entry>, lane: Lane, connection: Connection) {
    let mut current = peer.slot(lane).current.lock().await;
    if let Some((old, task)) = current.take() {
        old.close(close::SUPERSEDED, b"superseded");
        // It only fails by a panic of the layer above, which the runtime has reported.
        let _ = task.await;
    }
    let outlet = peer.outlet(lane);
    outlet.traffic.begin(End::Accepted, &connection);
    if peer.is_stopped() {
        // It left the topology while it said hello.
        connection.close(close::PEER_CHANGED, b"not in the topology");
        return;
    }
    // The peer is there: dial it now rather than at the end of a backoff.
    peer.outlets().iter().for_each(|outlet| outlet.nudge());
    let task = tokio::spawn(serve(node, peer.clone(), lane, connection.clone()));
    *current = Some((connection, task));
}

async fn serve(node: Arc<Node>, peer: Arc<Entry>, lane: Lane, connection: Connection) {
    // Dropped at the end, and with it calls that nobody waits for any more.
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            // Those that have ended first: there may always be new ones.
            biased;
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(node = %node.id, peer = %peer.node(), %lane, %error, "a reader failed");
                connection.close(close::MALFORMED, b"a reader failed");
                break;
            },
            stream = connection.accept_uni() => match stream {
                Ok(receive) => {
                    let (node, peer) = (node.clone(), peer.clone());
                    tasks.spawn(frames::read(node, peer, lane, connection.clone(), receive));
                }
                Err(_) => break,
            },
            stream = connection.accept_bi() => match stream {
                Ok(stream) => {
                    let (node, peer) = (node.clone(), peer.clone());
                    tasks.spawn(calls::serve(node, peer, lane, connection.clone(), stream));
                }
                Err(_) => break,
            },
        }
    }
    peer.outlet(lane).traffic.end(End::Accepted, &connection);
    tasks.shutdown().await;
}
