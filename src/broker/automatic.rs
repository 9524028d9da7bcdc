//! Homes that move by themselves: who hears whom, told to the pure cores, and what they decide carried out by
//! the leader of `__meta`.
//!
//! Every node watches, so that a new leader has watched as long as any, and so that any node can be asked what it
//! sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isobar_topology::detector::{Detector, Reports};
use isobar_transport::Transport;
use tokio::time::{Instant, MissedTickBehavior};

use super::moves::Moves;
use super::node::unix_ms;
use crate::metadata::automatic::{Decision, Held, LOST_AFTER, decide};
use crate::metadata::image::Image;
use crate::metadata::moves::Begin;
use crate::metadata::request::{Request, TOPICS_MAX};
use crate::model::NodeId;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// For one request: a round trip to a majority of `__meta`, several times.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a node sees at present, for people.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Nodes that a majority of the other datacenters does not hear, and for how long.
    pub gone_for: BTreeMap<NodeId, Duration>,
    /// Lost homes whose policy says that they move by themselves, and that do not.
    pub held: Vec<Held>,
}

/// Where the last look is kept.
#[derive(Debug, Clone, Default)]
pub struct Watching(Arc<Mutex<Seen>>);

impl Watching {
    pub fn seen(&self) -> Seen {
        self.0.lock().expect("no panic while held").clone()
    }

    fn set(&self, seen: Seen) {
        *self.0.lock().expect("no panic while held") = seen;
    }
}

/// Runs as long as the node.
pub async fn run(moves: Moves, watching: Watching) {
    let begun = Instant::now();
    let mut detector = Detector::default();
    let mut look = tokio::time::interval(LOOK_EVERY);
    // A node that stood still has not watched meanwhile.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let image = moves.metadata.image();
        let Some(topology) = &image.topology else { continue };
        let now = begun.elapsed();
        detector.handle_reports(now, topology, &reports(moves.node, &moves.transport));
        let gone_for = detector.gone_for(now);
        let lost: BTreeSet<NodeId> = gone_for
            .iter()
            .filter(|(_, gone_for)| **gone_for >= LOST_AFTER)
            .map(|(node, _)| *node)
            .collect();
        let Decision { begins, held } = decide(&image, &lost, unix_ms());
        let leads = moves.leads_meta();
        if leads {
            tell_held(&moves, &image, &watching.seen().held, &held);
        }
        watching.set(Seen { gone_for, held });
        if leads {
            begin(&moves, &lost, begins).await;
        }
    }
}

/// What this node and the peers that it hears say of whom they hear.
fn reports(node: NodeId, transport: &Transport) -> Reports {
    let mut reports: Reports = transport.reports();
    let own: BTreeSet<NodeId> = transport.reached().borrow().iter().copied().collect();
    reports.insert(node, own);
    reports
}

async fn begin(moves: &Moves, lost: &BTreeSet<NodeId>, mut begins: Vec<Begin>) {
    while !begins.is_empty() {
        let rest = begins.split_off(begins.len().min(TOPICS_MAX));
        let now = std::mem::replace(&mut begins, rest);
        tracing::warn!(
            node = %moves.node, ?lost, partitions = now.len(),
            "homes are lost and move by themselves, as their policy says: `isobar dc status`, `isobar dc history`"
        );
        if let Err(error) =
            moves.metadata.submit(Request::MoveHomes { moves: now }, BEGIN_TIMEOUT).await
        {
            tracing::warn!(node = %moves.node, %error, "moves were not begun; they are tried again");
            return;
        }
    }
}

/// Once for each reason.
fn tell_held(moves: &Moves, image: &Image, before: &[Held], now: &[Held]) {
    let is_new = |held: &&Held| {
        let same = |old: &Held| {
            old.at == held.at
                && std::mem::discriminant(&old.why) == std::mem::discriminant(&held.why)
        };
        !before.iter().any(same)
    };
    for held in now.iter().filter(is_new) {
        let topic = image.topics.get(&held.at.topic).map(|topic| &*topic.name);
        let (topic, partition) = (topic.unwrap_or_default(), held.at.partition);
        tracing::warn!(
            node = %moves.node, topic, partition, why = %held.why,
            "a home is lost and does not move by itself"
        );
    }
}
