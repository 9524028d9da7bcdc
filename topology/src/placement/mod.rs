//! Which nodes hold a partition. Pure and deterministic: the same topology, settings and load give
//! the same placement on every machine.
//!
//! Invariants, as properties below: never two replicas of a partition on one node; in each DC the
//! replicas go to the least loaded nodes, so that max − min ≤ 1 stays so; the first voter is the
//! preferred leader, and the leaders of one call are spread over the home DC's nodes.
//!
//! Deliberately missing: disks of a node (the node's own choice), racks inside a DC, and moving
//! what is already placed.

use std::collections::BTreeMap;

use crate::policy::Settings;
use crate::{DcName, NodeId, Topology};

/// Replicas that a node already holds.
pub type Load = BTreeMap<NodeId, usize>;

/// More partitions in one topic than a cluster of ours has been tried with; where it is refused, a
/// typing mistake has been stopped before it made a million Raft groups.
pub const PARTITIONS_MAX: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionPlacement {
    pub home: DcName,
    /// In the home DC; the first is the preferred leader.
    pub voters: Vec<NodeId>,
    /// In the other DCs, ordered by DC name.
    pub learners: Vec<NodeId>,
}

impl PartitionPlacement {
    /// Voters, then learners: Kafka's replica list, preferred leader first.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }
}

/// Why a placement is not possible. Settings that [`crate::resolve`] gave for the same topology
/// never run into the last two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{found} partitions: expected 1 to {PARTITIONS_MAX}")]
    Partitions { found: u32 },
    #[error("home {home} has no replicas: expected a DC of `replicas`")]
    HomeWithoutReplicas { home: DcName },
    #[error("{wanted} replicas in {dc}, which has {nodes} node(s): expected at most {nodes}")]
    TooFewNodes { dc: DcName, wanted: u32, nodes: usize },
}

/// Places `partitions` partitions, the first of which is number `start` of its topic.
///
/// `existing_load` counts the replicas that each node holds already; nodes it lacks have none.
/// For a new topic a `start` other than 0 is welcome too (say, the number of partitions in the
/// cluster): it turns the rotation of leaders and of `home = "spread"`, so that many topics of one
/// partition do not all lead from the same node.
pub fn place(
    topology: &Topology,
    settings: &Settings,
    partitions: u32,
    start: u64,
    existing_load: &Load,
) -> Result<Vec<PartitionPlacement>, Error> {
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err(Error::Partitions { found: partitions });
    }
    let homes = settings.homes();
    if let Some(home) = homes.iter().find(|home| !settings.replicas.contains_key(*home)) {
        return Err(Error::HomeWithoutReplicas { home: home.clone() });
    }
    let mut dcs = BTreeMap::new();
    for (dc, wanted) in &settings.replicas {
        dcs.insert(dc, Roster::new(topology, dc, *wanted, start, existing_load)?);
    }
    let placed = (0..u64::from(partitions)).map(|i| {
        let home = &homes[(start.wrapping_add(i) % homes.len() as u64) as usize];
        let mut voters = Vec::new();
        let mut learners = Vec::new();
        for (dc, roster) in &mut dcs {
            let chosen = roster.choose();
            if *dc == home {
                voters = roster.leader_first(chosen);
            } else {
                learners.extend(chosen);
            }
        }
        PartitionPlacement { home: home.clone(), voters, learners }
    });
    Ok(placed.collect())
}

/// The nodes of one DC while a topic is placed.
struct Roster {
    nodes: Vec<NodeId>,
    replicas: Vec<usize>,
    leaders: Vec<usize>,
    wanted: usize,
    /// Where the next search starts, so that equally loaded nodes take turns.
    cursor: usize,
}

impl Roster {
    fn new(
        topology: &Topology,
        dc: &DcName,
        wanted: u32,
        start: u64,
        load: &Load,
    ) -> Result<Self, Error> {
        let nodes: Vec<NodeId> = topology.nodes_in(dc).map(|node| node.id).collect();
        if wanted == 0 || wanted as usize > nodes.len() {
            return Err(Error::TooFewNodes { dc: dc.clone(), wanted, nodes: nodes.len() });
        }
        let replicas = nodes.iter().map(|id| load.get(id).copied().unwrap_or(0)).collect();
        let leaders = vec![0; nodes.len()];
        let cursor = (start % nodes.len() as u64) as usize;
        Ok(Self { nodes, replicas, leaders, wanted: wanted as usize, cursor })
    }

    /// The least loaded nodes, in turn among equals.
    fn choose(&mut self) -> Vec<NodeId> {
        let count = self.nodes.len();
        let mut order: Vec<usize> = (0..count).map(|i| (self.cursor + i) % count).collect();
        order.sort_by_key(|i| self.replicas[*i]);
        order.truncate(self.wanted);
        self.cursor = (order[self.wanted - 1] + 1) % count;
        for i in &order {
            self.replicas[*i] += 1;
        }
        order.into_iter().map(|i| self.nodes[i]).collect()
    }

    /// Brings the one that leads least to the front.
    fn leader_first(&mut self, mut chosen: Vec<NodeId>) -> Vec<NodeId> {
        let index = |id: &NodeId| self.nodes.binary_search(id).expect("chosen from these nodes");
        let leader = (0..chosen.len())
            .min_by_key(|i| self.leaders[index(&chosen[*i])])
            .expect("at least one replica was wanted");
        let led = index(&chosen[leader]);
        self.leaders[led] += 1;
        chosen.rotate_left(leader);
        chosen
    }
}

#[cfg(test)]
mod tests;
