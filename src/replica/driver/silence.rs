//! Which leaders of this DC have gone silent.
//!
//! A node that leads anything here speaks at every heartbeat round. One that missed two of them is
//! most likely dead, and a client that asks who leads is told that nobody does, long before the
//! transport gives the connection up: told the name of the dead one, librdkafka believes it and asks
//! again only a second later.

use std::collections::BTreeMap;

use isobar_topology::NodeId;

/// Ticks without a frame after which a leader's node is silent. Heartbeats leave at every third
/// tick, so two have been missed by then, and a tick is left for a busy machine. No election
/// follows from this, so that it may be wrong now and then.
const SILENT_TICKS: u64 = 7;

#[derive(Default)]
pub(super) struct Silence {
    ticks: u64,
    /// The other nodes of this DC that ever came, and when they last spoke.
    heard: BTreeMap<NodeId, u64>,
}

impl Silence {
    /// A node of this DC is there.
    pub fn add(&mut self, node: NodeId) {
        self.heard.insert(node, self.ticks);
    }

    /// A node spoke.
    pub fn heard(&mut self, node: NodeId) {
        if let Some(at) = self.heard.get_mut(&node) {
            *at = self.ticks;
        }
    }

    /// Time goes on; returns who is silent. `leads` says of a node whether it leads a group that
    /// has a voter here, and so owes us heartbeats. A silence that lasts is told again and again.
    pub fn tick(&mut self, leads: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        self.ticks += 1;
        let silence = |at: u64| self.ticks - at;
        // Asked now and then: `leads` looks at every group.
        let due = self.heard.iter().filter(|(_, at)| silence(**at).is_multiple_of(SILENT_TICKS));
        due.map(|(node, _)| *node).filter(|node| leads(*node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn a_leader_that_misses_two_heartbeats_is_silent() {
        let mut silence = Silence::default();
        silence.add(node(2));
        silence.add(node(3));
        let leads = |n| n == node(2);
        assert!((1..SILENT_TICKS).all(|_| silence.tick(leads).is_empty()));
        assert_eq!(silence.tick(leads), [node(2)], "3 leads nothing, so owes nothing");
    }

    #[test]
    fn heartbeats_keep_a_leader_from_being_silent() {
        let mut silence = Silence::default();
        silence.add(node(2));
        for tick in 0..100 {
            assert!(silence.tick(|_| true).is_empty(), "tick {tick}");
            if tick % 3 == 0 {
                silence.heard(node(2));
            }
        }
    }
}
