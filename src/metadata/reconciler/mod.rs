//! From the image to what this node must do: which replicas to make, which to let go, and what to
//! tell those that stay. Pure; called on every change of the image and at the start.
//!
//! Replica identity is (node, disk) (R22): a placement that was made for another disk of this node
//! is none of ours, and whatever stands on this disk under it must not vote. The controller gives
//! the node a new replica id; until then the partition has one replica less here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::budgets;
use super::config::{self, Effective};
use super::image::{DiskId, Image, Partition, Topic};
use super::moves::Kind;
use crate::log::Fork;
use crate::model::{DcName, HomeEpoch, LogIndex, Mode, NodeId, ReplicaId, TopicPartition};

/// What this node has.
#[derive(Debug, Clone)]
pub struct Local<'a> {
    pub node: NodeId,
    pub disk: DiskId,
    pub replicas: &'a BTreeMap<TopicPartition, LocalReplica>,
    /// Whether the image is known to be as new as everything that was committed before this node
    /// started: true once `Request::RegisterNode` was answered. Before that, a topic that the image
    /// lacks may only be one that it does not have *yet*, so nothing is removed.
    pub is_current: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReplica {
    pub id: ReplicaId,
    pub home_epoch: HomeEpoch,
    /// What it has promised, as far as this reconciler has heard; the home epoch that it is in
    /// otherwise.
    pub promised: HomeEpoch,
    pub placement_generation: u64,
    /// The mode on record, as last told.
    pub recorded: Mode,
    /// As last told; `None` after a restart.
    pub effective: Option<Arc<Effective>>,
}

/// One of a partition's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: ReplicaId,
    pub node: NodeId,
    pub dc: DcName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    pub placement_generation: u64,
    /// The first is the preferred leader.
    pub voters: Vec<Member>,
    pub learners: Vec<Member>,
}

/// Everything a replica starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    pub partition: TopicPartition,
    pub topic: Arc<str>,
    pub replica: ReplicaId,
    pub home: DcName,
    pub home_epoch: HomeEpoch,
    /// Where that epoch began; `None` in the first.
    pub fork: Option<Arc<Fork>>,
    /// Where acknowledged records may last have been lost.
    pub lossy_cut: Option<LogIndex>,
    /// The mode that the epoch began with, and the one on record now.
    pub began: Mode,
    pub recorded: Mode,
    /// It stands in for a replica that the group had before: what that one had acknowledged, this
    /// one has not, until it has caught up (R23).
    pub stands_in: bool,
    pub members: Members,
    pub effective: Arc<Effective>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveReason {
    /// The topic was deleted.
    Deleted,
    /// The partition lives on without this node.
    Unplaced,
    /// What stands here is another replica than the one that is placed here: of an id that was
    /// dropped. The new one is made in its place, from nothing.
    Replaced,
}

/// In the order in which they are to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Remove {
        partition: TopicPartition,
        replica: ReplicaId,
        reason: RemoveReason,
    },
    Create(Box<Create>),
    /// The partition has another home since: the log is cut at its fork, and the replica begins the
    /// new home epoch with what is left (R1, R15).
    BeginEpoch(Box<Create>),
    /// The home is being moved by force: the replica promises the next epoch by itself, whoever can or
    /// cannot ask it (R10). A planned move has the leader hand off first.
    Seal {
        partition: TopicPartition,
        epoch: HomeEpoch,
    },
    /// Who the others are has changed: where its leader is here, a change of the Raft configuration
    /// follows.
    UpdatePlacement {
        partition: TopicPartition,
        members: Members,
    },
    /// Another mode is on record: a leader may be waiting for it (R7).
    UpdateMode {
        partition: TopicPartition,
        home_epoch: HomeEpoch,
        mode: Mode,
    },
    UpdatePolicy {
        partition: TopicPartition,
        effective: Arc<Effective>,
    },
}

/// What to do so that this node has what the image says.
pub fn reconcile(image: &Image, local: &Local<'_>) -> Vec<Action> {
    let mut removed = Vec::new();
    let mut rest = Vec::new();
    for (partition, replica) in local.replicas {
        if let Some(reason) = leaves(image, local, *partition, replica) {
            let (partition, replica) = (*partition, replica.id);
            removed.push(Action::Remove { partition, replica, reason });
        }
    }
    for topic in image.topics.values() {
        let mut shared = None;
        for (number, placed) in (0..).zip(&topic.partitions) {
            let at = TopicPartition { topic: topic.id, partition: number };
            let Some(id) = placed_here(placed, local) else { continue };
            let shared = shared.get_or_insert_with(|| effective(image, topic));
            let Some(effective) = shared.as_ref().map(|shared| budgets::enforced(shared, placed))
            else {
                continue;
            };
            match local.replicas.get(&at) {
                Some(known)
                    if known.id == id
                        && known.home_epoch < placed.home_epoch
                        && known.promised <= placed.home_epoch =>
                {
                    let create = create(image, topic, at, id, placed, &effective);
                    rest.push(Action::BeginEpoch(Box::new(create)));
                }
                // After a restart the image is read from an older one on.
                Some(known) if known.id == id && known.home_epoch > placed.home_epoch => {}
                Some(known) if known.id == id && forced(placed) > Some(known.promised) => {
                    let epoch = forced(placed).expect("it is compared above");
                    rest.push(Action::Seal { partition: at, epoch });
                }
                // It has promised an epoch after that already, and begins none before.
                Some(known) if known.id == id && known.home_epoch < placed.home_epoch => {}
                Some(known) if known.id == id => {
                    rest.extend(update(image, at, known, placed, &effective));
                }
                // Another id stands there and is being removed, or may be only later.
                Some(_) if !local.is_current => {}
                _ => {
                    let create = create(image, topic, at, id, placed, &effective);
                    rest.push(Action::Create(Box::new(create)));
                }
            }
        }
    }
    removed.into_iter().chain(rest).collect()
}

/// The epoch that every replica is to promise, where the home is moved by force.
fn forced(placed: &Partition) -> Option<HomeEpoch> {
    placed.moving().filter(|m| m.aim.kind == Kind::Failover).map(|moving| moving.epoch)
}

/// The id of the replica that this node's disk is to hold, if any.
fn placed_here(partition: &Partition, local: &Local<'_>) -> Option<ReplicaId> {
    let replica = partition.replica_on(local.node)?;
    (replica.disk == Some(local.disk)).then_some(replica.id)
}

fn leaves(
    image: &Image,
    local: &Local<'_>,
    at: TopicPartition,
    replica: &LocalReplica,
) -> Option<RemoveReason> {
    // The metadata quorum's own replica follows from the topology, not from the image.
    if !local.is_current || at == TopicPartition::META {
        return None;
    }
    let Some(partition) = image.partition(at) else {
        return Some(RemoveReason::Deleted);
    };
    // Its persisted log may be what a failover needs (R10).
    if partition.moving().is_some() {
        return None;
    }
    match placed_here(partition, local) {
        Some(id) if id == replica.id => None,
        Some(_) => Some(RemoveReason::Replaced),
        None => Some(RemoveReason::Unplaced),
    }
}

fn effective(image: &Image, topic: &Topic) -> Option<Arc<Effective>> {
    config::effective(image, topic).map(Arc::new)
}

fn create(
    image: &Image,
    topic: &Topic,
    at: TopicPartition,
    id: ReplicaId,
    placed: &Partition,
    effective: &Arc<Effective>,
) -> Create {
    Create {
        partition: at,
        topic: topic.name.clone(),
        replica: id,
        home: placed.home.clone(),
        home_epoch: placed.home_epoch,
        fork: placed.fork.clone(),
        lossy_cut: placed.lossy_cut,
        began: placed.began,
        recorded: placed.mode,
        // A new partition's replicas are numbered from 1; one that came in another's place has a
        // later number.
        stands_in: id.0 > placed.replicas.len() as u64,
        members: members(image, placed),
        effective: effective.clone(),
    }
}

fn update(
    image: &Image,
    at: TopicPartition,
    known: &LocalReplica,
    placed: &Partition,
    effective: &Arc<Effective>,
) -> impl Iterator<Item = Action> {
    let moved = known.placement_generation < placed.placement_generation;
    let placement = moved.then(|| {
        let members = members(image, placed);
        Action::UpdatePlacement { partition: at, members }
    });
    let told = known.effective.as_ref().is_some_and(|known| known == effective);
    let policy = (!told).then(|| {
        let effective = effective.clone();
        Action::UpdatePolicy { partition: at, effective }
    });
    let changed = known.recorded.sid < placed.mode.sid;
    let mode = changed.then_some(Action::UpdateMode {
        partition: at,
        home_epoch: placed.home_epoch,
        mode: placed.mode,
    });
    placement.into_iter().chain(policy).chain(mode)
}

/// A partition's replicas with where they are.
pub fn members(image: &Image, partition: &Partition) -> Members {
    let dc_of = |node: NodeId| {
        let declared = image.topology.as_ref().and_then(|topology| topology.dc_of(node));
        declared.or_else(|| image.nodes.get(&node).map(|node| &node.dc)).cloned()
    };
    let member = |voter: bool| {
        let replicas = partition.replicas.iter().filter(move |r| r.voter == voter);
        let placed = replicas.filter_map(|r| {
            let dc = dc_of(r.node)?;
            Some(Member { id: r.id, node: r.node, dc })
        });
        placed.collect::<Vec<_>>()
    };
    let placement_generation = partition.placement_generation;
    Members { placement_generation, voters: member(true), learners: member(false) }
}

#[cfg(test)]
mod tests;
