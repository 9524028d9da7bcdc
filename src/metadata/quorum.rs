//! Where the replicas of `__meta` itself are.
//!
//! ```text
//!   first topology ─▶ a replica on every node, of the node's own number; those of `meta_voters` vote
//!   another disk   ─▶ (incarnation << 32 | node), a learner; promoted when it has everything
//! ```
//!
//! It is a placement like any other, in the image, and the leader of `__meta` takes Raft's
//! configuration after it. What differs is the id: it names its node, and the incarnation grows with
//! every replica that is made, whichever node it is for ([`ReplicaId::of_meta`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_topology::{Replication, Topology, meta_voters};

use super::command::Placement;
use super::image::{DiskId, Image, Partition, Phase, Replica};
use crate::model::{HomeEpoch, Mode, NodeId, ReplicaId, TopicPartition};

/// Of a cluster that begins: every disk is still unknown.
pub(super) fn founded(topology: &Topology) -> Option<Partition> {
    let voters = meta_voters(topology);
    let replica = |node: NodeId| Replica {
        id: ReplicaId::of_meta(0, node),
        node,
        voter: voters.contains(&node),
        disk: None,
    };
    Some(Partition {
        // It spans the DCs, and no gate counts for it: any name serves.
        home: topology.dc_of(*voters.first()?)?.clone(),
        home_epoch: HomeEpoch::FIRST,
        fork: None,
        lossy_cut: None,
        budget: None,
        phase: Phase::Active,
        replication: Replication::Async,
        mode: Mode::default(),
        began: Mode::default(),
        ever_sync: false,
        placement_generation: 1,
        replicas: topology.nodes().map(|n| replica(n.id)).collect(),
        next_replica_id: ReplicaId(1 << 32),
    })
}

/// Nodes that a topology no longer has leave, and are returned; new ones come when they ask to be
/// admitted.
pub(super) fn follow(meta: &mut Arc<Partition>, topology: &Topology) -> Vec<Replica> {
    let leaves = |r: &Replica| topology.node(r.node).is_none();
    let gone: Vec<Replica> = meta.replicas.iter().copied().filter(leaves).collect();
    if !gone.is_empty() {
        let meta = Arc::make_mut(meta);
        meta.replicas.retain(|r| !leaves(r));
        meta.placement_generation += 1;
    }
    gone
}

/// As it stands, to be changed.
fn placement(meta: &Partition) -> Placement {
    Placement {
        partition: TopicPartition::META,
        home_epoch: meta.home_epoch,
        placement_generation: meta.placement_generation,
        replicas: meta.replicas.clone(),
        next_replica_id: meta.next_replica_id,
    }
}

/// With the disks of those who founded the cluster, as its first leader saw them; `None` if there is
/// nothing to add.
pub fn bound(image: &Image, founders: &BTreeMap<NodeId, DiskId>) -> Option<Placement> {
    let mut next = placement(image.meta.as_ref()?);
    let mut changed = false;
    for replica in next.replicas.iter_mut().filter(|r| r.disk.is_none()) {
        if let Some(disk) = founders.get(&replica.node) {
            replica.disk = Some(*disk);
            changed = true;
        }
    }
    changed.then_some(next)
}

/// With a replica for a disk that comes empty, and its id; `None` in place of a placement that has
/// it already.
///
/// A replica that nobody knows the disk of may have been there on another before: it gets a new id, as
/// one whose disk was lost does.
pub fn admitted(meta: &Partition, node: NodeId, disk: DiskId) -> (ReplicaId, Option<Placement>) {
    let mut next = placement(meta);
    let at = next.replicas.iter().position(|r| r.node == node);
    if let Some(known) = at.map(|at| &next.replicas[at]).filter(|r| r.disk == Some(disk)) {
        return (known.id, None);
    }
    let id = ReplicaId(next.next_replica_id.0 | u64::from(node.as_u32()));
    let replica = Replica { id, node, voter: false, disk: Some(disk) };
    match at {
        Some(at) => next.replicas[at] = replica,
        None => next.replicas.push(replica),
    }
    next.next_replica_id = ReplicaId(next.next_replica_id.0 + (1 << 32));
    (id, Some(next))
}
