//! Frames between nodes, as the transport promises them: those of one (peer, lane, key) arrive in
//! order or not at all; a lost connection loses frames and never reorders them; only a control
//! frame that took a hop may overtake others (`transport/src/lib.rs`).
//!
//! A cut holds frames back, as retransmissions do, and breaks the connection when it lasts.

use std::collections::BTreeMap;

use isobar_transport::Frame;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::scenario::{Micros, NODES, SECOND, Scenario, dc_of};

/// Silence after which a connection is given up (the transport drops one after 3 to 5 s).
const IDLE: Micros = 4 * SECOND;

/// Frames that a cut holds back per pair of nodes; beyond it the sender's queue drops.
const HELD_MAX: usize = 1_000;

/// Ordered streams of the replication lane.
const STREAMS: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    Control,
    Replication(u64),
}

impl Lane {
    pub fn of_key(key: u64) -> Self {
        Self::Replication(key % STREAMS)
    }
}

/// A frame that will arrive.
#[derive(Debug)]
pub struct Arrival {
    pub at: Micros,
    pub from: usize,
    pub to: usize,
    /// Of the connection that carries it: it is lost if that has gone meanwhile.
    pub connection: u64,
    pub frame: Frame,
}

#[derive(Debug, Default)]
struct Link {
    cut_since: Option<Micros>,
    connection: u64,
    held: Vec<(Lane, Frame)>,
    /// When the last frame of each stream arrives.
    streams: BTreeMap<Lane, Micros>,
}

#[derive(Debug)]
pub struct Network {
    links: Vec<Link>,
    jitter: f64,
    loss: f64,
    hop: f64,
    twice: f64,
    delay: [[Micros; 3]; 3],
}

impl Network {
    pub fn new(scenario: &Scenario) -> Self {
        let Scenario { jitter, loss, hop, twice, delay, .. } = *scenario;
        let links = (0..NODES * NODES).map(|_| Link::default()).collect();
        Self { links, jitter, loss, hop, twice, delay }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * NODES + to]
    }

    /// One way, this time.
    pub fn delay(&self, from_dc: usize, to_dc: usize, rng: &mut SmallRng) -> Micros {
        let base = self.delay[from_dc][to_dc];
        base + (base as f64 * self.jitter * rng.gen_range(0.0..1.0f64)) as Micros
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links[from * NODES + to].cut_since.is_some()
    }

    pub fn is_current(&self, arrival: &Arrival) -> bool {
        self.links[arrival.from * NODES + arrival.to].connection == arrival.connection
    }

    pub fn send(
        &mut self,
        now: Micros,
        (from, to): (usize, usize),
        lane: Lane,
        frame: Frame,
        rng: &mut SmallRng,
    ) -> Vec<Arrival> {
        let (dc_from, dc_to) = (dc_of(from), dc_of(to));
        if self.is_cut(from, to) {
            // Control finds a way round, if two other DCs or one of them can be reached.
            let round = lane == Lane::Control && rng.gen_bool(self.hop);
            if !round {
                let link = self.link(from, to);
                if link.held.len() < HELD_MAX {
                    link.held.push((lane, frame));
                }
                return Vec::new();
            }
        }
        let mut delay = self.delay(dc_from, dc_to, rng);
        if rng.gen_bool(self.loss) {
            delay += self.delay[dc_from][dc_to] * rng.gen_range(2..6);
        }
        let hops = lane == Lane::Control && rng.gen_bool(self.hop);
        let twice = lane == Lane::Control && rng.gen_bool(self.twice);
        let link = self.link(from, to);
        let connection = link.connection;
        let at = if hops {
            now + delay * 2
        } else {
            let last = link.streams.entry(lane).or_default();
            *last = (*last).max(now + delay);
            *last
        };
        let mut arrivals = vec![Arrival { at, from, to, connection, frame: frame.clone() }];
        if twice {
            let at = now + delay * 3;
            arrivals.push(Arrival { at, from, to, connection, frame });
        }
        arrivals
    }

    pub fn cut(&mut self, now: Micros, from: usize, to: usize) {
        self.link(from, to).cut_since.get_or_insert(now);
    }

    /// Ends a cut. What was held back arrives, or, where the connection has gone, is lost: then the
    /// second value is true.
    pub fn heal(
        &mut self,
        now: Micros,
        (from, to): (usize, usize),
        rng: &mut SmallRng,
    ) -> (Vec<Arrival>, bool) {
        let link = self.link(from, to);
        let Some(since) = link.cut_since.take() else { return (Vec::new(), false) };
        let held = std::mem::take(&mut link.held);
        if now - since >= IDLE {
            self.reconnect(from, to);
            return (Vec::new(), true);
        }
        let pair = (from, to);
        let arrivals =
            held.into_iter().flat_map(|(lane, frame)| self.send(now, pair, lane, frame, rng));
        (arrivals.collect(), false)
    }

    /// The connection breaks and is made again: what was on its way is lost.
    pub fn reconnect(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        link.connection += 1;
        link.held.clear();
        link.streams.clear();
    }
}
