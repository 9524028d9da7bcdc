//! What all tasks of a node share, and where a frame or a call goes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{DcName, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::certs::{self, Identity};
use crate::impair::Wan;
use crate::inbound::server_config;
use crate::limits::{BODY_BYTES_MAX, REACH_FRESH};
use crate::outbound::call::{Call, call};
use crate::peers::{Directory, Entry};
use crate::relay::{Candidate, choose};
use crate::rng::Seed;
use crate::wire::call::Route;
use crate::wire::frame::{Envelope, within_limits};
use crate::{Dropped, Frame, Inbound, Lane, RpcError};

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) dc: DcName,
    pub(crate) cluster: String,
    pub(crate) cluster_id: watch::Sender<Option<Bytes>>,
    pub(crate) identity: RwLock<Arc<Identity>>,
    pub(crate) server: RwLock<quinn::ServerConfig>,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) local_addr: SocketAddr,
    pub(crate) peers: Arc<Directory>,
    pub(crate) inbound: Arc<dyn Inbound>,
    pub(crate) wan: Option<Arc<Wan>>,
    /// The peers to which control is up, for whoever looks for a hop.
    pub(crate) reach: watch::Sender<Arc<Vec<NodeId>>>,
    pub(crate) shut_down: AtomicBool,
    /// Drawn at each start, so that peers notice one before their connections time out.
    pub(crate) incarnation: u64,
    pub(crate) seed: Seed,
}

impl Node {
    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Relaxed)
    }

    pub(crate) fn server_config(&self) -> quinn::ServerConfig {
        self.server.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the certificate files as they are now, if they changed and are good. Open connections stay.
    pub(crate) async fn reload_identity(&self) -> Result<bool, certs::Error> {
        let current = self.identity();
        let read = tokio::task::spawn_blocking(move || current.reload_if_changed()).await;
        let Some(identity) = read.expect("reading certificates does not panic")? else {
            return Ok(false);
        };
        let server = server_config(&identity, &self.peers)?;
        self.endpoint.set_server_config(Some(server.clone()));
        *self.server.write().unwrap_or_else(PoisonError::into_inner) = server;
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
        tracing::info!(node = %self.id, "certificates replaced");
        Ok(true)
    }

    /// Control to some peer came up or went down.
    pub(crate) fn reach_changed(&self) {
        let entries = self.peers.all();
        let heard = |entry: &&Arc<Entry>| entry.is_up() && entry.silent_since().is_none();
        let up: Vec<NodeId> = entries.values().filter(heard).map(|entry| entry.node()).collect();
        self.reach.send_if_modified(|reach| {
            let changed = **reach != up;
            *reach = Arc::new(up);
            changed
        });
        entries.values().for_each(|entry| entry.outlet(Lane::Control).tell_reach());
    }

    /// A peer should have spoken and did not. Others are told that it is not reached from here, until it speaks.
    pub(crate) fn suspect(&self, peer: NodeId) {
        if self.peers.entry(peer).is_some_and(|entry| entry.set_silent(Instant::now())) {
            self.reach_changed();
        }
    }

    /// A frame, a call or an answer came from a peer.
    pub(crate) fn heard(&self, peer: &Entry) {
        if peer.set_heard() {
            self.reach_changed();
        }
    }

    /// Whether the nodes beside a peer, in its own DC, hear it: they notice within a few hundred milliseconds
    /// what a node across a WAN notices after seconds. Where nobody is beside it, any path counts.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        let entries = self.peers.all();
        let Some(peer) = entries.get(&node) else { return false };
        let we_are_beside = self.dc == peer.config.dc;
        match peer.silent_since() {
            // The others' word may still be from before.
            Some(since) if since.elapsed() < REACH_FRESH => return false,
            None if we_are_beside && peer.is_up() => return true,
            None | Some(_) => {}
        }
        let is_beside =
            |entry: &&Arc<Entry>| entry.config.dc == peer.config.dc && entry.node() != node;
        let mut beside =
            entries.values().filter(is_beside).filter(|entry| entry.is_up()).peekable();
        match we_are_beside || beside.peek().is_some() {
            true => beside.any(|entry| entry.reaches(node)),
            false => peer.is_up() || self.hop(peer).is_some(),
        }
    }

    pub(crate) fn send(
        &self,
        to: NodeId,
        lane: Lane,
        key: u64,
        frame: Frame,
    ) -> Result<(), Dropped> {
        let unknown =
            if self.is_shut_down() { Dropped::ShutDown } else { Dropped::UnknownPeer(to) };
        let peer = self.peers.entry(to).ok_or(unknown)?;
        if !within_limits(&frame) {
            peer.outlet(lane).count_dropped(1);
            return Err(Dropped::TooLarge);
        }
        match self.hop_for_frames(&peer, lane) {
            None => peer.outlet(lane).push(key, Envelope::Direct(frame)),
            Some(relay) => {
                let envelope = Envelope::Relay { origin: self.id, destination: to, frame };
                relay.outlet(lane).push(key, envelope)
            }
        }
    }

    fn hop_for_frames(&self, peer: &Entry, lane: Lane) -> Option<Arc<Entry>> {
        if lane == Lane::Control && !peer.is_up() { self.hop(peer) } else { None }
    }

    /// The node to go through while control to `peer` is down.
    pub(crate) fn hop(&self, peer: &Entry) -> Option<Arc<Entry>> {
        let entries = self.peers.all();
        let up = entries.values().filter(|entry| entry.is_up() && entry.node() != peer.node());
        let candidates = up.map(|entry| Candidate {
            node: entry.node(),
            dc: &entry.config.dc,
            rtt: entry.outlet(Lane::Control).traffic.rtt(),
            reaches: entry.reaches(peer.node()),
        });
        let chosen = choose(&self.dc, &peer.config.dc, candidates)?;
        entries.get(&chosen).cloned()
    }

    pub(crate) async fn call(
        &self,
        to: NodeId,
        lane: Lane,
        method: u16,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        let unknown =
            if self.is_shut_down() { RpcError::ShutDown } else { RpcError::UnknownPeer(to) };
        let peer = self.peers.entry(to).ok_or(unknown)?;
        if body.len() > BODY_BYTES_MAX {
            return Err(RpcError::TooLarge { bytes: body.len(), bytes_max: BODY_BYTES_MAX });
        }
        let deadline = Instant::now() + timeout;
        let call = Call { to, method, body, timeout, route: None };
        match tokio::time::timeout_at(deadline, self.reach_out(&peer, lane, call, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(RpcError::Timeout),
        }
    }

    /// Directly; or through a third node, where control says that the path is dead, or the attempt does.
    async fn reach_out(
        &self,
        peer: &Entry,
        lane: Lane,
        request: Call,
        deadline: Instant,
    ) -> Result<Bytes, RpcError> {
        if lane == Lane::Rpc
            && !peer.is_up()
            && let Some(relay) = self.hop(peer)
        {
            return self.call_through(&relay, request, deadline).await;
        }
        match call(peer.outlet(lane), request.clone()).await {
            Err(RpcError::Unreachable(_)) if lane == Lane::Rpc => match self.hop(peer) {
                Some(relay) => self.call_through(&relay, request, deadline).await,
                None => Err(RpcError::Unreachable(peer.node())),
            },
            result => {
                use RpcError::{Refused, UnknownMethod};
                if matches!(result, Ok(_) | Err(Refused { .. } | UnknownMethod(_))) {
                    self.heard(peer);
                }
                result
            }
        }
    }

    async fn call_through(
        &self,
        relay: &Entry,
        request: Call,
        deadline: Instant,
    ) -> Result<Bytes, RpcError> {
        let route = Some(Route { origin: self.id, destination: request.to });
        let timeout = deadline.saturating_duration_since(Instant::now());
        call(relay.outlet(Lane::Rpc), Call { route, timeout, ..request }).await
    }
}
