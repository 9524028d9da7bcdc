//! Nodes that were reached a moment ago.
//!
//! A client that reads in one answer of a partition's next leader and that the last one is no broker any more may lose
//! the partition between the two: librdkafka lets go of the broker while the partition is on its way from it, and asks
//! for the leader again half a second later. So a node that is gone is named as a broker for as long as clients take to
//! hear who leads next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::model::NodeId;

/// Longer than any client's pause between two questions who leads: at most 1 s, librdkafka's and Java's
/// `retry.backoff.max.ms`. Kafka names a broker that died for its session's 9 s.
const NAMED_FOR: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Departed {
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Nodes {
    reached: BTreeSet<NodeId>,
    lost: BTreeMap<NodeId, Instant>,
}

impl Departed {
    /// Who is reached now.
    pub fn note(&self, reached: &[NodeId], now: Instant) {
        let mut nodes = self.nodes.lock().expect("no panic while held");
        let reached: BTreeSet<NodeId> = reached.iter().copied().collect();
        let before = std::mem::replace(&mut nodes.reached, reached);
        for node in before {
            if !nodes.reached.contains(&node) {
                nodes.lost.insert(node, now);
            }
        }
        nodes.lost.retain(|_, since| now.duration_since(*since) < NAMED_FOR);
    }

    /// Whether it was reached when that was last noted, or not long before.
    pub fn was_there(&self, node: NodeId, now: Instant) -> bool {
        let nodes = self.nodes.lock().expect("no panic while held");
        let lately = |since: &Instant| now.duration_since(*since) < NAMED_FOR;
        nodes.reached.contains(&node) || nodes.lost.get(&node).is_some_and(lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn a_node_that_is_gone_was_there_for_a_while() {
        let (departed, begin) = (Departed::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert!(!departed.was_there(node(1), begin));
        departed.note(&[node(1), node(2)], at(0));
        departed.note(&[node(2)], at(5000));
        assert!(departed.was_there(node(1), at(5000)) && departed.was_there(node(1), at(7999)));
        assert!(!departed.was_there(node(1), at(8000)));
        assert!(departed.was_there(node(2), at(60_000)), "nothing else was noted");
    }

    #[test]
    fn who_comes_back_and_goes_again_is_counted_anew() {
        let (departed, begin) = (Departed::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        departed.note(&[node(1)], at(0));
        departed.note(&[], at(1000));
        departed.note(&[node(1)], at(2000));
        departed.note(&[], at(9000));
        departed.note(&[], at(11_000));
        assert!(
            departed.was_there(node(1), at(11_999)) && !departed.was_there(node(1), at(12_000))
        );
    }
}
