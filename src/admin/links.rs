//! Paths between DCs: as declared, as measured and, where a development WAN is put under the node,
//! as it shapes them.

use std::collections::BTreeMap;
use std::time::Duration;

use isobar_topology::Topology;
use isobar_transport::impair::{LinkState, Wan};
use isobar_transport::{Lane, PeerStats};

use super::api;
use super::cluster::image;
use super::routes::Refusal;
use super::source::Source;
use crate::model::DcName;

/// Round trips and jitter beyond this are a typing mistake: the Moon is 2.6 s away.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

pub fn show(source: &dyn Source) -> Result<api::Links, Refusal> {
    let image = image(source)?;
    let topology = image.topology.as_ref().expect("the image has one");
    let (peers, wan) = (source.peers(), source.wan());
    let shapes = wan.as_ref().map(|wan| wan.show());
    let links = topology.links().map(|link| {
        let (a, b) = &link.between;
        let shape = shapes.as_ref().map(|all| [direction(all, a, b), direction(all, b, a)]);
        api::Link {
            between: (a.to_string(), b.to_string()),
            declared_rtt_seconds: link.rtt.as_secs_f64(),
            measured_rtt_seconds: measured(&source.dc(), &peers, a, b),
            shape,
        }
    });
    Ok(api::Links {
        asked: source.node().as_u32(),
        wan: wan.is_some(),
        links: links.collect(),
        peers: by_peer(&peers),
    })
}

fn direction(all: &[LinkState], from: &DcName, to: &DcName) -> api::Direction {
    let state = all.iter().find(|state| state.from == *from && state.to == *to);
    // A direction that nobody has set is clear.
    let (link, counters) =
        state.map(|state| (state.link.clone(), state.counters)).unwrap_or_default();
    api::Direction {
        from: from.to_string(),
        to: to.to_string(),
        delay_seconds: link.delay.as_secs_f64(),
        jitter_seconds: link.jitter.as_secs_f64(),
        loss: link.loss,
        rate_bits_per_second: link.rate_bytes_per_second.map(|bytes| bytes * 8),
        cut: link.cut,
        packets: counters.packets,
        bytes: counters.bytes,
        lost_packets: counters.lost,
        queue_dropped_packets: counters.queue_dropped,
        cut_dropped_packets: counters.cut_dropped,
    }
}

/// The shortest round trip of control between this node and the DC at the link's other end.
fn measured(here: &DcName, peers: &[PeerStats], a: &DcName, b: &DcName) -> Option<f64> {
    let there = match (here == a, here == b) {
        (true, _) => b,
        (_, true) => a,
        _ => return None,
    };
    rtt_to(peers, there).map(|rtt| rtt.as_secs_f64())
}

/// The shortest round trip of control to a node of that DC.
pub(super) fn rtt_to(peers: &[PeerStats], dc: &DcName) -> Option<Duration> {
    let control = peers.iter().filter(|peer| peer.lane == Lane::Control && peer.dc == *dc);
    control.filter_map(|peer| peer.rtt).min()
}

fn by_peer(lanes: &[PeerStats]) -> Vec<api::Peer> {
    let mut peers: BTreeMap<u32, api::Peer> = BTreeMap::new();
    for lane in lanes {
        let node = lane.node.as_u32();
        let peer = peers.entry(node).or_insert_with(|| api::Peer {
            node,
            dc: lane.dc.to_string(),
            connected: false,
            via: None,
            rtt_seconds: None,
            sent_bytes: 0,
            received_bytes: 0,
            lost_packets: 0,
            dropped_frames: 0,
        });
        if lane.lane == Lane::Control {
            peer.connected = lane.connected;
            peer.via = lane.via.map(|node| node.as_u32());
            peer.rtt_seconds = lane.rtt.map(|rtt| rtt.as_secs_f64());
        }
        peer.sent_bytes += lane.sent_bytes;
        peer.received_bytes += lane.received_bytes;
        peer.lost_packets += lane.lost_packets;
        peer.dropped_frames += lane.dropped_frames;
    }
    peers.into_values().collect()
}

/// Shapes the development WAN.
pub fn change(source: &dyn Source, change: api::LinkChange) -> Result<api::Links, Refusal> {
    let Some(wan) = source.wan() else {
        return Err(Refusal::Forbidden(format!(
            "only a dev cluster's WAN can be shaped: node {} runs on a real network",
            source.node()
        )));
    };
    let image = image(source)?;
    let topology = image.topology.as_ref().expect("the image has one");
    match change {
        api::LinkChange::Set { a, b, rtt_seconds, jitter_seconds, loss, rate_bits_per_second } => {
            let (a, b) = link_of(topology, &a, &b)?;
            let rtt = rtt_seconds.map(|rtt| delay("rtt", rtt)).transpose()?;
            let jitter = jitter_seconds.map(|jitter| delay("jitter", jitter)).transpose()?;
            if let Some(loss) = loss.filter(|loss| !(0.0..=1.0).contains(loss)) {
                return Err(Refusal::Bad(format!("loss: found {loss}; expected 0 to 1")));
            }
            for (from, to) in [(&a, &b), (&b, &a)] {
                set(&wan, (from, to), rtt.map(|rtt| rtt / 2), jitter, loss, rate_bits_per_second);
            }
        }
        api::LinkChange::Cut { a, b, one_way } => {
            let (a, b) = link_of(topology, &a, &b)?;
            wan.cut(&a, &b, one_way);
        }
        api::LinkChange::Heal { a, b } => {
            let (a, b) = link_of(topology, &a, &b)?;
            wan.heal(&a, &b);
        }
    }
    show(source)
}

fn set(
    wan: &Wan,
    (from, to): (&DcName, &DcName),
    delay: Option<Duration>,
    jitter: Option<Duration>,
    loss: Option<f64>,
    rate_bits_per_second: Option<u64>,
) {
    let mut link = wan.link(from, to);
    link.delay = delay.unwrap_or(link.delay);
    link.jitter = jitter.unwrap_or(link.jitter);
    link.loss = loss.unwrap_or(link.loss);
    if let Some(bits) = rate_bits_per_second {
        // Less than a byte a second is still a limit; only 0 is none.
        link.rate_bytes_per_second = (bits > 0).then_some((bits / 8).max(1));
    }
    wan.set_one_way(from, to, link);
}

fn delay(what: &str, seconds: f64) -> Result<Duration, Refusal> {
    let found = Duration::try_from_secs_f64(seconds).ok().filter(|found| *found <= DELAY_MAX);
    found.ok_or_else(|| {
        let most = DELAY_MAX.as_secs();
        Refusal::Bad(format!("{what}: found {seconds} seconds; expected 0 to {most}"))
    })
}

/// Two DCs that the topology links.
fn link_of(topology: &Topology, a: &str, b: &str) -> Result<(DcName, DcName), Refusal> {
    let dcs = || {
        let names: Vec<&str> = topology.dcs().iter().map(|dc| dc.name.as_str()).collect();
        names.join(", ")
    };
    let dc = |name: &str| {
        let known = topology.dcs().iter().find(|dc| dc.name.as_str() == name);
        let unknown =
            || Refusal::Bad(format!("there is no DC {name:?}; expected one of {}", dcs()));
        known.map(|dc| dc.name.clone()).ok_or_else(unknown)
    };
    let (a, b) = (dc(a)?, dc(b)?);
    if a == b {
        return Err(Refusal::Bad(format!(
            "a link has two ends: found {a} twice; expected two of {}",
            dcs()
        )));
    }
    Ok((a, b))
}
