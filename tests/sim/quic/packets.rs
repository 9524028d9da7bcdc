//! UDP between the nodes: packets are late, overtake each other, get lost, come twice, or meet a cut.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::locked;
use crate::scenario::{MILLI, NODES, Scenario, dc_of};

/// Packets that a node reads in a millisecond. A larger number quinn takes in parts, by how long they take it in the
/// machine's time.
const READ_MAX: usize = 16;

/// Packets that another one was before.
const OVERTAKES: f64 = 0.002;

const PORT: u16 = 9_000;

pub fn address(node: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, node as u8 + 1), PORT).into()
}

fn node_at(addr: SocketAddr) -> Option<usize> {
    (0..NODES).find(|node| address(*node) == addr)
}

/// All packets that are on their way, and where they go. Times are milliseconds.
#[derive(Debug)]
pub struct Packets {
    now: u64,
    ports: Vec<Port>,
    paths: Vec<Path>,
    /// By when they arrive, on which path, and the how manieth there.
    flying: BTreeMap<(u64, usize, u64), Bytes>,
    loss: f64,
    twice: f64,
    jitter: f64,
}

#[derive(Debug, Default)]
struct Port {
    /// Of the process that has it.
    life: Option<u64>,
    paused_until: u64,
    backlog: VecDeque<(SocketAddr, Bytes)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Path {
    rng: SmallRng,
    delay: u64,
    is_cut: bool,
    silent_until: u64,
    sent: u64,
    /// When the last of those arrives that keep their order.
    last: u64,
}

impl Packets {
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        let path = |n: usize| Path {
            rng: SmallRng::seed_from_u64(seed ^ (n as u64) << 32),
            delay: (scenario.delay[dc_of(n / NODES)][dc_of(n % NODES)] / MILLI).max(1),
            is_cut: false,
            silent_until: 0,
            sent: 0,
            last: 0,
        };
        Self {
            now: 0,
            ports: (0..NODES).map(|_| Port::default()).collect(),
            paths: (0..NODES * NODES).map(path).collect(),
            flying: BTreeMap::new(),
            loss: scenario.loss,
            twice: scenario.twice,
            jitter: scenario.jitter,
        }
    }

    pub fn open(&mut self, node: usize, life: u64) {
        self.ports[node] = Port { life: Some(life), ..Port::default() };
    }

    pub fn close(&mut self, node: usize) {
        self.ports[node] = Port::default();
    }

    pub fn set_cut(&mut self, from: usize, to: usize, is_cut: bool) {
        self.paths[from * NODES + to].is_cut = is_cut;
    }

    pub fn silence(&mut self, from: usize, to: usize, until: u64) {
        self.paths[from * NODES + to].silent_until = until;
    }

    pub fn pause(&mut self, node: usize, until: u64) {
        self.ports[node].paused_until = until;
    }

    fn send(&mut self, (from, life): (usize, u64), to: SocketAddr, packet: &[u8]) {
        let Some(to) = node_at(to) else { return };
        if self.ports[from].life != Some(life) {
            return;
        }
        let leaves = self.now.max(self.ports[from].paused_until);
        let n = from * NODES + to;
        let path = &mut self.paths[n];
        let copies = 1 + u32::from(path.rng.gen_bool(self.twice));
        let lost = path.rng.gen_bool(self.loss);
        if lost || path.is_cut || leaves < path.silent_until {
            return;
        }
        for _ in 0..copies {
            let late = path.delay as f64 * self.jitter * path.rng.gen_range(0.0..1.0);
            let mut arrives = leaves + path.delay + late as u64;
            // A queue keeps its order, and so do most paths: QUIC takes what was overtaken for lost.
            if !path.rng.gen_bool(OVERTAKES) {
                path.last = path.last.max(arrives);
                arrives = path.last;
            }
            path.sent += 1;
            let key = (arrives, n, path.sent);
            self.flying.insert(key, Bytes::copy_from_slice(packet));
        }
    }

    /// What is due at `now` lies before its receiver.
    pub fn deliver(&mut self, now: u64) {
        self.now = now;
        let later = self.flying.split_off(&(now + 1, 0, 0));
        for ((_, n, number), packet) in std::mem::replace(&mut self.flying, later) {
            let port = &mut self.ports[n % NODES];
            if now < port.paused_until || port.backlog.len() >= READ_MAX {
                let later = port.paused_until.max(now + 1);
                self.flying.insert((later, n, number), packet);
            } else if port.life.is_some() {
                port.backlog.push_back((address(n / NODES), packet));
                if let Some(waker) = port.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

/// A node's socket, for as long as its process lives.
#[derive(Debug)]
pub struct Socket {
    node: usize,
    life: u64,
    packets: Arc<Mutex<Packets>>,
}

impl Socket {
    pub fn new(node: usize, life: u64, packets: Arc<Mutex<Packets>>) -> Self {
        Self { node, life, packets }
    }
}

/// There is always room.
#[derive(Debug)]
struct Ready;

impl UdpPoller for Ready {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Ready)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let from = (self.node, self.life);
        locked(&self.packets).send(from, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut packets = locked(&self.packets);
        let port = &mut packets.ports[self.node];
        if port.life != Some(self.life) {
            return Poll::Pending;
        }
        let mut taken = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((addr, contents)) = port.backlog.pop_front() else { break };
            buf[..contents.len()].copy_from_slice(&contents);
            let (len, stride) = (contents.len(), contents.len());
            *meta = RecvMeta { addr, len, stride, ..RecvMeta::default() };
            taken += 1;
        }
        if taken == 0 {
            port.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(self.node))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
