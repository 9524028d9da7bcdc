//! Keeps the connection of one lane to one peer.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, WriteError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::dial::{DialError, dial, greet};
use super::outlet::Outlet;
use super::writer::write;
use crate::limits::{CALLS_IDLE, REPLICATION_IDLE};
use crate::node::Node;
use crate::peers::Entry;
use crate::traffic::End;
use crate::wire::close;
use crate::{Compression, Lane};

/// Why a connection is over.
enum Ended {
    Idle,
    Lost(DialError),
}

type Writers = JoinSet<Result<(), WriteError>>;

/// Runs until aborted.
pub(crate) async fn drive(node: Arc<Node>, peer: Arc<Entry>, lane: Lane) {
    let outlet = peer.outlet(lane).clone();
    let mut backoff = Backoff::new(node.seed.draw((node.id, peer.node(), lane)));
    let mut log = Log { node: node.id, peer: peer.clone(), lane, last: None };
    loop {
        if lane != Lane::Control && outlet.queue().is_empty() {
            outlet.wanted.notified().await;
        }
        // Before the hello goes out: an id that becomes known from here on is said in another one.
        let mut cluster_id = node.cluster_id.subscribe();
        match dial_until_nudged(&node, &peer, &outlet).await {
            Ok((connection, incarnation)) => {
                backoff.reset();
                log.up();
                let ended =
                    carry(&node, &peer, &outlet, (&connection, incarnation), &mut cluster_id).await;
                outlet.set_down();
                let was_idle = matches!(ended, Ended::Idle);
                lose(&node, &peer, &outlet, !was_idle);
                match ended {
                    Ended::Idle => continue,
                    Ended::Lost(error) => log.lost(&error),
                }
            }
            Err(error) => {
                outlet.set_failed();
                lose(&node, &peer, &outlet, false);
                log.failed(&error);
            }
        }
        tokio::select! {
            biased;
            () = sleep(backoff.next()) => {}
            () = outlet.nudged.notified() => backoff.reset(),
        }
    }
}

/// An attempt begun while the peer was away retransmits ever more slowly. When the peer turns up meanwhile, a
/// fresh attempt is faster than waiting for this one.
async fn dial_until_nudged(
    node: &Node,
    peer: &Entry,
    outlet: &Outlet,
) -> Result<(Connection, u64), DialError> {
    // Long enough for an attempt that is going well.
    let fair = Duration::from_millis(200) + peer.config.link.rtt * 4;
    loop {
        let nudged_late = async {
            sleep(fair).await;
            outlet.nudged.notified().await;
        };
        tokio::select! {
            biased;
            result = dial(node, peer, outlet.lane) => return result,
            () = nudged_late => {}
        }
    }
}

/// Tells everyone that a connection broke, ended idle, or did not come about.
fn lose(node: &Node, peer: &Entry, outlet: &Outlet, broke: bool) {
    let lost = outlet.queue().clear();
    outlet.count_dropped(lost);
    if broke && outlet.lane == Lane::Control {
        node.reach_changed();
        node.inbound.peer_down(peer.node());
    }
    // What QUIC had taken may or may not have arrived.
    let uncertain = broke && outlet.lane == Lane::Replication;
    if lost > 0 || uncertain {
        node.inbound.frames_lost(peer.node(), outlet.lane);
    }
}

/// From the hello's answer until the connection is over, by either side.
async fn carry(
    node: &Node,
    peer: &Entry,
    outlet: &Arc<Outlet>,
    (connection, incarnation): (&Connection, u64),
    cluster_id: &mut watch::Receiver<Option<Bytes>>,
) -> Ended {
    let mut writers = Writers::new();
    if outlet.lane == Lane::Control {
        outlet.queue().claim(0);
        let reach = Some(node.reach.subscribe());
        writers.spawn(write(connection.clone(), outlet.clone(), 0, Compression::None, reach));
    }
    outlet.touch();
    outlet.traffic.begin(End::Dialled, connection);
    if peer.is_stopped() {
        // This task is about to be aborted too.
        connection.close(close::PEER_CHANGED, b"the topology changed");
        return pending().await;
    }
    outlet.set_up(connection, incarnation);
    if outlet.lane == Lane::Control {
        node.reach_changed();
        node.inbound.peer_up(peer.node());
    }
    let ended =
        serve(node, peer, outlet, (connection, incarnation), cluster_id, &mut writers).await;
    if let Ended::Lost(error) = &ended {
        connection.close(close::REFUSED, error.to_string().as_bytes());
    }
    outlet.traffic.end(End::Dialled, connection);
    // Awaited, so that no writer touches the queue's accounts after they are cleared.
    writers.shutdown().await;
    ended
}

async fn serve(
    node: &Node,
    peer: &Entry,
    outlet: &Arc<Outlet>,
    (connection, incarnation): (&Connection, u64),
    cluster_id: &mut watch::Receiver<Option<Bytes>>,
    writers: &mut Writers,
) -> Ended {
    let compression = peer.config.link.compression;
    loop {
        for stream in outlet.queue().claim_writers() {
            writers.spawn(write(connection.clone(), outlet.clone(), stream, compression, None));
        }
        tokio::select! {
            biased;
            reason = connection.closed() => return Ended::Lost(reason.into()),
            Some(ended) = writers.join_next() => {
                let reason = connection.close_reason().map(DialError::from);
                return Ended::Lost(reason.unwrap_or_else(|| DialError::Writer(format!("{ended:?}"))));
            }
            () = outlet.wanted.notified() => {}
            Ok(()) = cluster_id.changed() => {
                if let Err(error) = greet(node, connection, outlet.lane).await {
                    return Ended::Lost(error);
                }
            }
            () = idle(outlet) => {
                if close_idle(outlet, connection, incarnation) {
                    return Ended::Idle;
                }
            }
        }
    }
}

fn idle_max(lane: Lane) -> Option<Duration> {
    match lane {
        Lane::Control => None,
        Lane::Replication => Some(REPLICATION_IDLE),
        Lane::Rpc | Lane::Bulk => Some(CALLS_IDLE),
    }
}

/// Until the lane may have been unused for long enough.
async fn idle(outlet: &Outlet) {
    match idle_max(outlet.lane) {
        Some(max) => sleep(max.saturating_sub(outlet.idle_for())).await,
        None => pending().await,
    }
}

/// Closes unless the lane is in use. Down first, then looking: a call counts itself first, then looks for the
/// connection, so one of the two sees the other.
fn close_idle(outlet: &Outlet, connection: &Connection, incarnation: u64) -> bool {
    let Some(max) = idle_max(outlet.lane) else { return false };
    outlet.set_down();
    if outlet.idle_for() < max || outlet.is_busy() {
        outlet.set_up(connection, incarnation);
        // Asks again after another while, not at once.
        outlet.touch();
        return false;
    }
    connection.close(close::IDLE, b"idle");
    true
}

/// One line when something changes, not one an attempt.
struct Log {
    node: isobar_topology::NodeId,
    peer: Arc<Entry>,
    lane: Lane,
    last: Option<String>,
}

impl Log {
    fn up(&mut self) {
        self.last = None;
        let (node, peer, lane) = (self.node, self.peer.node(), self.lane);
        tracing::debug!(%node, %peer, dc = %self.peer.config.dc, %lane, "connected");
    }

    fn lost(&mut self, error: &DialError) {
        let (node, peer, lane) = (self.node, self.peer.node(), self.lane);
        tracing::info!(%node, %peer, dc = %self.peer.config.dc, %lane, %error, "connection lost");
    }

    fn failed(&mut self, error: &DialError) {
        let text = error.to_string();
        if self.last.as_ref() == Some(&text) {
            return;
        }
        let (node, peer, lane, dc) = (self.node, self.peer.node(), self.lane, &self.peer.config.dc);
        let addr = &self.peer.config.addr;
        match error.needs_attention() {
            true => tracing::warn!(%node, %peer, %dc, %lane, addr, %error, "cannot connect"),
            false => tracing::info!(%node, %peer, %dc, %lane, addr, %error, "cannot connect"),
        }
        self.last = Some(text);
    }
}
