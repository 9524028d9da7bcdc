//! Which nodes the cluster does not reach, from what nodes say of whom they hear. Pure: reports and
//! time in, since when each node is gone out.
//!
//! ```text
//!   reports (node → whom it hears) ──▶ each other DC: does anybody there hear it?
//!                                          no, says a majority of the other DCs ──┐
//!                                          nor does a node beside it that is reached ──▶ gone, since …
//! ```
//!
//! A DC without a report says nothing, so it counts for nobody's loss. One cut link is one DC's word, and
//! one of two is no majority: a DC behind it is not lost. Two DCs without a witness never lose each other, for
//! one word is all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::quorum::majority;
use crate::{NodeId, Topology};

/// Whom each node hears that has said so a moment ago; whoever collects them is among them.
pub type Reports = BTreeMap<NodeId, BTreeSet<NodeId>>;

/// Since when nodes are gone, by the clock of whoever asks. It forgets nothing but what comes back, so a new one
/// takes as long as any to call a node gone.
#[derive(Debug, Clone, Default)]
pub struct Detector {
    gone: BTreeMap<NodeId, Duration>,
}

impl Detector {
    pub fn handle_reports(&mut self, now: Duration, topology: &Topology, reports: &Reports) {
        let gone = gone(topology, reports);
        self.gone.retain(|node, _| gone.contains(node));
        for node in gone {
            self.gone.entry(node).or_insert(now);
        }
    }

    /// How long each node has been gone without a break.
    pub fn gone_for(&self, now: Duration) -> BTreeMap<NodeId, Duration> {
        self.gone.iter().map(|(node, since)| (*node, now.saturating_sub(*since))).collect()
    }
}

/// Nodes that a majority of the other DCs does not hear, nor any node beside them that is heard.
pub fn gone(topology: &Topology, reports: &Reports) -> BTreeSet<NodeId> {
    let others = topology.dcs().len().saturating_sub(1);
    if others < 2 {
        return BTreeSet::new();
    }
    let mut gone = BTreeSet::new();
    for dc in topology.dcs() {
        let misses = |node: NodeId| {
            let elsewhere = topology.dcs().iter().filter(|other| other.name != dc.name);
            let miss = elsewhere.filter(|other| {
                let mut said = topology.nodes_in(&other.name).filter_map(|n| reports.get(&n.id));
                let first = said.next();
                first.is_some_and(|first| !first.contains(&node))
                    && said.all(|hears| !hears.contains(&node))
            });
            miss.count() >= majority(others)
        };
        let here = || topology.nodes_in(&dc.name).map(|node| node.id);
        let (missed, mut reached): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            here().partition(|node| misses(*node));
        let mut missed = missed;
        while let Some(beside) = missed.iter().copied().find(|node| {
            reached.iter().filter_map(|by| reports.get(by)).any(|hears| hears.contains(node))
        }) {
            missed.remove(&beside);
            reached.insert(beside);
        }
        gone.extend(missed);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev;
    use proptest::prelude::*;

    /// fra has nodes 1 to 3, iad 4 to 6, sin 7 to 9.
    fn topology() -> Topology {
        Topology::parse(&dev::text(&dev::Spec {
            kafka_ports: dev::consecutive(9092).unwrap(),
            admin_ports: dev::consecutive(9640).unwrap(),
            peer_ports: dev::consecutive(7400).unwrap(),
            data_dir: "/data",
        }))
        .unwrap()
        .0
    }

    fn n(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// Whom everybody hears that is not in `dead`, but for pairs that are cut, each way.
    fn reports(dead: &[u64], is_cut: impl Fn(u64, u64) -> bool) -> Reports {
        let alive: Vec<u64> = (1..=9).filter(|id| !dead.contains(id)).collect();
        let hears = |by: u64| {
            alive.iter().filter(|of| **of != by && !is_cut(by, **of)).map(|id| n(*id)).collect()
        };
        alive.iter().map(|by| (n(*by), hears(*by))).collect()
    }

    fn dc(id: u64) -> u64 {
        (id - 1) / 3
    }

    fn between(a: u64, b: u64) -> impl Fn(u64, u64) -> bool {
        move |by, of| (dc(by), dc(of)) == (a, b) || (dc(by), dc(of)) == (b, a)
    }

    fn ids(gone: BTreeSet<NodeId>) -> Vec<u32> {
        gone.into_iter().map(NodeId::as_u32).collect()
    }

    #[test]
    fn a_dead_datacenter_is_gone_and_a_dead_node_too() {
        let topology = topology();
        assert_eq!(ids(gone(&topology, &reports(&[], |_, _| false))), []);
        assert_eq!(ids(gone(&topology, &reports(&[1, 2, 3], |_, _| false))), [1, 2, 3]);
        assert_eq!(ids(gone(&topology, &reports(&[5], |_, _| false))), [5]);
    }

    #[test]
    fn behind_one_cut_link_nobody_is_gone() {
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            assert_eq!(ids(gone(&topology(), &reports(&[], between(a, b)))), []);
        }
    }

    #[test]
    fn who_is_cut_off_from_both_is_gone_by_their_reports() {
        let isolated = |by: u64, of: u64| dc(by) != dc(of) && (dc(by) == 0 || dc(of) == 0);
        let mut seen = reports(&[], isolated);
        // The reports of fra reach nobody.
        seen.retain(|by, _| by.as_u32() > 3);
        assert_eq!(ids(gone(&topology(), &seen)), [1, 2, 3]);
        // And in fra everybody else is missed by one of two only.
        let mut own = reports(&[], isolated);
        own.retain(|by, _| by.as_u32() <= 3);
        assert_eq!(ids(gone(&topology(), &own)), []);
    }

    #[test]
    fn who_is_heard_by_a_reached_neighbour_is_not_gone() {
        let only_inside = |by: u64, of: u64| dc(by) != dc(of) && (by == 1 || of == 1);
        assert_eq!(ids(gone(&topology(), &reports(&[], only_inside))), []);
        assert_eq!(ids(gone(&topology(), &reports(&[2, 3], only_inside))), [1, 2, 3]);
    }

    #[test]
    fn without_reports_nobody_is_gone_and_a_break_begins_the_time_anew() {
        let (topology, lost) = (topology(), reports(&[1, 2, 3], |_, _| false));
        let mut detector = Detector::default();
        let at = Duration::from_secs;
        detector.handle_reports(at(1), &topology, &Reports::new());
        assert!(detector.gone_for(at(9)).is_empty());
        detector.handle_reports(at(10), &topology, &lost);
        detector.handle_reports(at(12), &topology, &lost);
        assert_eq!(detector.gone_for(at(13))[&n(1)], at(3));
        detector.handle_reports(at(13), &topology, &reports(&[2, 3], |_, _| false));
        assert_eq!(detector.gone_for(at(13)).keys().copied().collect::<Vec<_>>(), [n(2), n(3)]);
        detector.handle_reports(at(14), &topology, &lost);
        assert_eq!(detector.gone_for(at(15))[&n(1)], at(1));
        assert_eq!(detector.gone_for(at(15))[&n(2)], at(5));
    }

    proptest! {
        /// Whatever one datacenter says or does not say, it loses nobody alone.
        #[test]
        fn one_datacenters_word_is_never_enough(
            liar in 0u64..3,
            heard in prop::collection::vec(prop::collection::btree_set(1u64..=9, 0..9), 3),
        ) {
            let mut seen = reports(&[], |_, _| false);
            for (node, heard) in (liar * 3 + 1..).zip(heard) {
                seen.insert(n(node), heard.into_iter().map(n).collect());
            }
            let gone = gone(&topology(), &seen);
            prop_assert!(gone.is_empty(), "{gone:?}");
        }
    }
}
