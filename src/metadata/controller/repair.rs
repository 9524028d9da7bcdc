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
/// One voter a step, and only while a majority of the voters still has its disk: with fewer there is
/// no quorum to change the group, and what is lost is for a failover to find out.
pub fn repair(image: &Image) -> Vec<Placement> {
    let partitions = image.topics.values().flat_map(|topic| {
        (0..)
            .zip(&topic.partitions)
            .map(|(partition, placed)| (TopicPartition { topic: topic.id, partition }, placed))
    });
    partitions.filter_map(|(at, placed)| repair_one(image, at, placed)).take(REPAIRS_MAX).collect()
}

fn is_lost(image: &Image, replica: &Replica) -> bool {
    let registered = image.nodes.get(&replica.node);
    registered.is_some_and(|node| replica.disk.is_some_and(|disk| disk != node.disk))
}

fn repair_one(image: &Image, at: TopicPartition, now: &Arc<Partition>) -> Option<Placement> {
    if now.phase != Phase::Active || !now.replicas.iter().any(|r| is_lost(image, r)) {
        return None;
    }
    let healthy = now.voters().filter(|r| !is_lost(image, r)).count();
    let mut may_drop_voter = healthy >= majority(now.voters().count());
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

pub fn promote(
    context: &Context<'_>,
    at: TopicPartition,
    id: ReplicaId,
    home_epoch: HomeEpoch,
    placement_generation: u64,
) -> Result<Decision, Refusal> {
    let image = context.image;
    let refused = |reason, message: String| Err(Refusal::new(reason, message));
    let (Some(topic), Some(now)) = (image.topics.get(&at.topic), image.partition(at)) else {
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
    let dc = image.nodes.get(&replica.node).map(|node| &node.dc);
    let policy = config::effective(image, topic).map(|effective| effective.policy);
    let wanted = policy.and_then(|policy| policy.replicas.get(&now.home).copied()).unwrap_or(0);
    if dc != Some(&now.home) || now.voters().count() >= wanted as usize {
        return refused(
            Reason::InvalidReplicaAssignment,
            format!("{at} has all the {wanted} voters that its home {} is to have", now.home),
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
