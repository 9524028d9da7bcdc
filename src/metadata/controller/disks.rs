//! A node that comes with an empty disk.
//!
//! Whether it may is decided here, once, and `__meta` writes it down as one compare-and-set: the
//! node's disk, the retirement of the old one, and the node's new replica of `__meta`. Its other
//! replicas follow by themselves ([`super::repair`]).
//!
//! That a majority of `__meta` still has its disks needs no check: without one there would be no
//! leader to ask. Of the partitions it does: once the old disk is retired nothing on it can be
//! brought back, so where it may hold what no majority has any more, the operator's word is needed.

use isobar_topology::quorum::majority;

use super::repair::is_lost;
use super::{Context, Decision, topology};
use crate::metadata::apply::disks::check;
use crate::metadata::command::{AdmitDisk, Command};
use crate::metadata::image::{DiskId, Image, Partition, Replica};
use crate::metadata::quorum;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{Admitted, Response};
use crate::model::NodeId;

/// Partitions named in one refusal; the rest is a number.
const NAMED_MAX: usize = 5;

pub fn admit(
    context: &Context<'_>,
    node: NodeId,
    disk: DiskId,
    accept_loss: bool,
) -> Result<Decision, Refusal> {
    let image = context.image;
    let declared = topology(image)?.node(node).is_some();
    let Some(meta) = image.meta.as_ref().filter(|_| declared) else {
        let message = format!(
            "generation {} of the topology has no node {node}: apply one that has it first",
            image.topology_generation
        );
        return Err(Refusal::new(Reason::UnknownNode, message));
    };
    check(image, node, disk)?;
    let expected = image.nodes.get(&node).map(|n| n.disk);
    let (replica, next) = quorum::admitted(meta, node, disk);
    let answer = |placement_generation, replicas| {
        let (home_epoch, fork) = (meta.home_epoch, meta.fork.clone());
        let admitted = Admitted { replica, placement_generation, replicas, home_epoch, fork };
        Response::Admitted(admitted)
    };
    let Some(next) = next else {
        let response = answer(meta.placement_generation, meta.replicas.clone());
        return Ok(Decision { commands: Vec::new(), response });
    };
    let lost = without_majority(image, node, disk);
    if !lost.is_empty() && !accept_loss {
        return Err(Refusal::new(Reason::MajorityLost, refusal(node, &lost)));
    }
    let response = answer(meta.placement_generation + 1, next.replicas.clone());
    let admit = AdmitDisk { node, expected, disk, meta: next };
    Ok(Decision { commands: vec![(0, Command::AdmitDisk(admit))], response })
}

fn refusal(node: NodeId, lost: &[String]) -> String {
    let named = lost[..lost.len().min(NAMED_MAX)].join(", ");
    let more = match lost.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "node {node} comes with an empty disk, and without its old one a majority of the voters' disks \
         is lost of {named}{more}. Nothing was changed. Put the old data directory back; or delete \
         those topics; or, if that disk is gone for good, start the node once with --accept-loss: \
         everything else is repaired, and those partitions stay unavailable"
    )
}

/// Partitions that would have fewer healthy voters than a majority, if this node's old disk were
/// given up.
fn without_majority(image: &Image, node: NodeId, disk: DiskId) -> Vec<String> {
    let lost = |partition: &Partition| {
        let given_up = |r: &Replica| r.node == node && r.disk.is_some_and(|old| old != disk);
        let stays = |r: &&Replica| !given_up(r) && !is_lost(image, r);
        let healthy = partition.voters().filter(stays).count();
        partition.voters().any(given_up) && healthy < majority(partition.voters().count())
    };
    let topics = image.topics.values();
    let partitions = topics.flat_map(|topic| {
        let numbered = (0..).zip(&topic.partitions);
        numbered.map(|(number, placed): (u32, _)| (format!("{}-{number}", topic.name), placed))
    });
    partitions.filter(|(_, placed)| lost(placed)).map(|(name, _)| name).collect()
}
