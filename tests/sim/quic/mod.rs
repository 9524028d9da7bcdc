//! Frames over real QUIC: the product's transports of all nodes, above a UDP network of the seed's, in simulated time.
//!
//! ```text
//!   World ── send ──▶ Transport of a node ──▶ Socket ──▶ Packets ──▶ Socket ──▶ Transport ──▶ Ear ──▶ World
//!                     QUIC, mutual TLS, lanes, hops       lost, late, twice, cut
//! ```
//!
//! Time passes in steps of a millisecond, the least that tokio's paused clock knows: all that is ready runs, then the
//! clock goes on. Keys and connections' ids differ from run to run; how long packets are, and when they leave, does not,
//! as long as nothing wakes a task from outside of the runtime, or at random (`select!`, waiting for a `watch`).
//!
//! Links are tuned as inside a datacenter: quinn's BBR draws numbers that cannot be seeded. Calls, what clients say and
//! the words of `__meta` do not travel here.

mod certificates;
mod packets;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use isobar::model::NodeId;
use isobar_transport::{BoxFuture, Config, Frame, Inbound, Lane, LinkTuning, Peer};
use isobar_transport::{PeerIdentity, RpcError, Transport};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::network;
use crate::paused::{self, Shared, locked};
use crate::scenario::{MILLI, Micros, NODES, Scenario, dc_name, dc_of, node_id, node_of};
pub use certificates::clean;
use packets::{Packets, Socket, address};

const CLUSTER: &str = "sim";

/// What a transport told its node.
#[derive(Debug)]
pub enum Heard {
    Up,
    Lost,
    Frame(Lane, Frame),
}

impl Heard {
    /// Of what comes from one peer in one step; several lanes tell.
    fn rank(&self) -> (u8, Option<Lane>) {
        match self {
            Heard::Lost => (0, None),
            Heard::Up => (1, None),
            Heard::Frame(lane, _) => (2, Some(*lane)),
        }
    }
}

#[derive(Debug)]
pub struct Arrived {
    pub to: usize,
    /// Of the node when its transport was begun.
    pub life: u64,
    pub from: usize,
    pub what: Heard,
}

pub struct Quic {
    transports: [Option<Transport>; NODES],
    packets: Shared<Packets>,
    arrived: Shared<Vec<Arrived>>,
    /// In this millisecond, and on its way at the end of it.
    sent: Vec<(usize, usize, Lane, u64, Frame)>,
    seed: u64,
    begun: Instant,
    steps: u64,
    /// The last to go: what ends above it needs it.
    runtime: Runtime,
}

/// One node's end of what arrives.
struct Ear {
    to: usize,
    life: u64,
    arrived: Shared<Vec<Arrived>>,
}

impl Quic {
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        let (runtime, begun) = paused::runtime();
        Self {
            transports: Default::default(),
            packets: Arc::new(Mutex::new(Packets::new(seed, scenario))),
            arrived: Shared::default(),
            sent: Vec::new(),
            seed,
            begun,
            steps: 0,
            runtime,
        }
    }

    /// How far its time is.
    pub fn now(&self) -> Micros {
        self.steps * MILLI
    }

    /// A millisecond passes.
    pub fn step(&mut self) -> Vec<Arrived> {
        let until = self.begun + Duration::from_millis(self.steps + 1);
        let (sent, now) = (std::mem::take(&mut self.sent), self.steps);
        // Within the runtime, so that what wakes up does so in this order.
        self.runtime.block_on(async {
            locked(&self.packets).deliver(now);
            for (from, to, lane, key, frame) in sent {
                if let Some(transport) = &self.transports[from] {
                    // What does not fit is lost.
                    let _ = transport.send(node_id(to), lane, key, frame);
                }
            }
            tokio::time::sleep_until(until).await;
        });
        self.steps += 1;
        let mut arrived = std::mem::take(&mut *locked(&self.arrived));
        arrived.sort_by_key(|a| (a.to, a.from, a.what.rank()));
        arrived
    }

    /// A node begins, in a new life.
    pub fn start(&mut self, scenario: &Scenario, node: usize, life: u64) {
        locked(&self.packets).open(node, life);
        let socket = Arc::new(Socket::new(node, life, Arc::clone(&self.packets)));
        let ear = Arc::new(Ear { to: node, life, arrived: Arc::clone(&self.arrived) });
        let peers = (0..NODES).filter(|peer| *peer != node);
        let config = Config {
            node: node_id(node),
            dc: dc_name(dc_of(node)),
            cluster: CLUSTER.to_owned(),
            bind: address(node),
            peers: peers.map(|peer| peer_of(scenario, node, peer)).collect(),
            identity: certificates::identity(node),
            wan: None,
        };
        let seed = self.seed ^ (life << 8) ^ node as u64;
        let started = Transport::start_simulated(socket, seed, config, ear);
        let started = self.runtime.block_on(started).expect("a transport that starts");
        self.transports[node] = Some(started);
    }

    /// Its process ends: nothing leaves any more.
    pub fn stop(&mut self, node: usize) {
        locked(&self.packets).close(node);
        self.sent.retain(|(from, ..)| *from != node);
        let gone = self.transports[node].take();
        self.runtime.block_on(async { drop(gone) });
    }

    pub fn send(&mut self, (from, to): (usize, usize), lane: network::Lane, frame: Frame) {
        let (lane, key) = match lane {
            network::Lane::Control => (Lane::Control, 0),
            network::Lane::Replication(key) => (Lane::Replication, key),
        };
        self.sent.push((from, to, lane, key, frame));
    }

    pub fn set_cut(&mut self, from: usize, to: usize, is_cut: bool) {
        locked(&self.packets).set_cut(from, to, is_cut);
    }

    /// Nothing gets through until then.
    pub fn silence(&mut self, from: usize, to: usize, until: Micros) {
        locked(&self.packets).silence(from, to, until / MILLI);
    }

    /// A node stands still until then, and with it what it would send.
    pub fn pause(&mut self, node: usize, until: Micros) {
        locked(&self.packets).pause(node, until / MILLI);
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        (0..NODES).for_each(|node| self.stop(node));
    }
}

fn peer_of(scenario: &Scenario, node: usize, peer: usize) -> Peer {
    let rtt = Duration::from_micros(2 * scenario.delay[dc_of(node)][dc_of(peer)]);
    Peer {
        node: node_id(peer),
        dc: dc_name(dc_of(peer)),
        addr: address(peer).to_string(),
        link: LinkTuning { rtt, ..LinkTuning::local() },
    }
}

impl Ear {
    fn hear(&self, from: NodeId, what: Heard) {
        let (to, life, from) = (self.to, self.life, node_of(from));
        locked(&self.arrived).push(Arrived { to, life, from, what });
    }
}

impl Inbound for Ear {
    fn frame(&self, from: &PeerIdentity, lane: Lane, frame: Frame) {
        self.hear(from.node, Heard::Frame(lane, frame));
    }

    fn call(&self, _: PeerIdentity, method: u16, _: Bytes) -> BoxFuture<Result<Bytes, RpcError>> {
        Box::pin(async move { Err(RpcError::UnknownMethod(method)) })
    }

    fn peer_up(&self, node: NodeId) {
        self.hear(node, Heard::Up);
    }

    fn peer_down(&self, node: NodeId) {
        self.hear(node, Heard::Lost);
    }

    fn frames_lost(&self, to: NodeId, _lane: Lane) {
        self.hear(to, Heard::Lost);
    }
}
