//! Replicas whose disk is gone, and learners that may vote again.
//!
//! A replica is (node, disk) (R22): a node that came back with an empty disk has forgotten what its
//! replicas promised, so each is dropped and the node gets a new replica id, as a learner. Where it
//! was a voter, the partition's leader says when it has everything, and it is promoted.
//!
//! ```text
//!   voters 1 2 3      ──repair──▶  voters 1 2, learner 4   ──PromoteReplica──▶  voters 1 2 4
//!          (3: disk lost)          (4: same node, new disk)
//! ```

use std::sync::Arc;

use isobar_topology::meta_voters;
use isobar_topology::quorum::majority;

use super::{Context, Decision};
use crate::metadata::command::{Command, Placement};
use crate::metadata::config;
use crate::metadata::image::{Image, Partition, Phase, Replica};
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::Response;
use crate::model::{HomeEpoch, ReplicaId, TopicPartition};

/// Partitions that one step repairs: what fits a few batches. The next step takes the next ones.
const REPAIRS_MAX: usize = 500;

/// The placements that should replace what stands in the image; none when every replica is on the
/// disk that it was made for.
///
/// One voter a step, the next when the one before votes again: so a placement is never further than
/// that from what Raft has, and their majorities always meet. And only while a majority of the voters
/// still has its disk: with fewer there is no quorum to change the group, and what is lost is for a
/// failover to find out.
pub fn repair(image: &Image) -> Vec<Placement> {
    let partitions = image.topics.values().flat_map(|topic| {
        (0..)
            .zip(&topic.partitions)
            .map(|(partition, placed)| (TopicPartition { topic: topic.id, partition }, placed))
    });
    partitions.filter_map(|(at, placed)| repair_one(image, at, placed)).take(REPAIRS_MAX).collect()
}

pub(super) fn is_lost(image: &Image, replica: &Replica) -> bool {
    let registered = image.nodes.get(&replica.node);
    registered.is_some_and(|node| replica.disk.is_some_and(|disk| disk != node.disk))
}

fn repair_one(image: &Image, at: TopicPartition, now: &Arc<Partition>) -> Option<Placement> {
    if now.phase != Phase::Active || !now.replicas.iter().any(|r| is_lost(image, r)) {
        return None;
    }
    let healthy = now.voters().filter(|r| !is_lost(image, r)).count();
    let waits = now.replicas.iter().any(|r| is_to_vote(image, at, now, r));
    let mut may_drop_voter = !waits && healthy >= majority(now.voters().count());
    let mut next_replica_id = now.next_replica_id;
    let mut replicas = Vec::new();
    let mut changed = false;
    for replica in &now.replicas {
        let dropped = is_lost(image, replica) && (!replica.voter || may_drop_voter);
        if !dropped {
            replicas.push(*replica);
            continue;
        }
        may_drop_voter &= !replica.voter;
        changed = true;
        let disk = image.nodes.get(&replica.node).map(|node| node.disk);
        replicas.push(Replica { id: next_replica_id, node: replica.node, voter: false, disk });
        next_replica_id = ReplicaId(next_replica_id.0 + 1);
    }
    let (home_epoch, placement_generation) = (now.home_epoch, now.placement_generation);
    let partition = at;
    changed.then_some(Placement {
        partition,
        home_epoch,
        placement_generation,
        replicas,
        next_replica_id,
    })
}

/// Whether a learner is to vote as soon as it has everything.
pub fn is_to_vote(
    image: &Image,
    at: TopicPartition,
    placed: &Partition,
    replica: &Replica,
) -> bool {
    !replica.voter && is_seat(image, at, placed, replica) && {
        placed.voters().count() < seats(image, at, placed)
    }
}

/// Whether a replica on this node may vote at all: in the home DC, or where `__meta` votes.
fn is_seat(image: &Image, at: TopicPartition, placed: &Partition, replica: &Replica) -> bool {
    match &image.topology {
        Some(topology) if at == TopicPartition::META => {
            meta_voters(topology).contains(&replica.node)
        }
        Some(topology) => topology.dc_of(replica.node) == Some(&placed.home),
        None => false,
    }
}

/// How many are to vote.
fn seats(image: &Image, at: TopicPartition, placed: &Partition) -> usize {
    if at == TopicPartition::META {
        return image.topology.as_ref().map_or(0, |topology| meta_voters(topology).len());
    }
    let policy = image.topics.get(&at.topic).and_then(|topic| config::effective(image, topic));
    let wanted = policy.and_then(|e| e.policy.replicas.get(&placed.home).copied());
    wanted.unwrap_or(0) as usize
}

pub fn promote(
    context: &Context<'_>,
    at: TopicPartition,
    id: ReplicaId,
    home_epoch: HomeEpoch,
    placement_generation: u64,
) -> Result<Decision, Refusal> {
    let image = context.image;
    let refused = |reason, message: String| Err(Refusal::new(reason, message));
    let Some(now) = image.partition(at) else {
        return refused(Reason::UnknownTopic, format!("there is no partition {at}"));
    };
    let done = |commands| Ok(Decision { commands, response: Response::Promoted });
    let Some(replica) = now.replicas.iter().find(|r| r.id == id) else {
        return refused(Reason::Stale, format!("{at} has no replica {id}"));
    };
    if replica.voter {
        return done(Vec::new());
    }
    if (home_epoch, placement_generation) != (now.home_epoch, now.placement_generation) {
        return refused(Reason::Stale, format!("the placement of {at} has changed"));
    }
    if !is_to_vote(image, at, now, replica) {
        let (wanted, home) = (seats(image, at, now), &now.home);
        return refused(
            Reason::InvalidReplicaAssignment,
            format!("{at} has all the {wanted} voters that its home {home} is to have"),
        );
    }
    let mut replicas = now.replicas.clone();
    replicas.iter_mut().filter(|r| r.id == id).for_each(|r| r.voter = true);
    let placement = Placement {
        partition: at,
        home_epoch,
        placement_generation,
        replicas,
        next_replica_id: now.next_replica_id,
    };
    done(vec![(0, Command::ReplacePlacement(placement))])
}
