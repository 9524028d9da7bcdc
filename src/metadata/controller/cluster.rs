//! Nodes, producer ids and the topology.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isobar_topology::policy::policy_of;
use isobar_topology::{Replication, TEXT_BYTES_MAX, Topology, meta_voters};

use super::{Context, Decision, topology};
use crate::metadata::apply::disks;
use crate::metadata::command::Command;
use crate::metadata::image::{DiskId, Image, Node, Topic};
use crate::metadata::quorum;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{ProducerIds, Response, TopologyApplied};
use crate::model::NodeId;

/// Producer ids in a block: Kafka's number (KIP-730). A node that restarts wastes at most a block,
/// and 2^63 ids are 9 × 10^15 blocks.
pub const PRODUCER_IDS: u32 = 1000;

/// Topics named in one refusal; the rest is a number.
const NAMED_MAX: usize = 5;

/// What the first leader of a cluster proposes: a name, the topology that it was started with, and
/// then the disks of those who founded the cluster with it.
pub fn first_topology(
    image: &Image,
    cluster_id: &str,
    own: &Arc<Topology>,
    founders: &BTreeMap<NodeId, DiskId>,
) -> Vec<Command> {
    let mut commands = Vec::new();
    if image.cluster_id.is_none() {
        commands.push(Command::NameCluster { id: cluster_id.into() });
    }
    if image.topology.is_none() {
        let (expected, topology) = (image.topology_generation, own.clone());
        commands.push(Command::ApplyTopology { expected, topology });
    }
    commands.extend(quorum::bound(image, founders).map(Command::ReplacePlacement));
    commands
}

pub fn register(context: &Context<'_>, node: Node) -> Result<Decision, Refusal> {
    let topology = topology(context.image)?;
    let refused = |message: String| Err(Refusal::new(Reason::UnknownNode, message));
    let Some(declared) = topology.node(node.id) else {
        return refused(format!(
            "generation {} of the topology has no node {}: apply one that has it first",
            context.image.topology_generation, node.id
        ));
    };
    if declared.dc != node.dc {
        return refused(format!(
            "node {} says that it stands in {}; the topology says {}",
            node.id, node.dc, declared.dc
        ));
    }
    disks::check_registered(context.image, node.id, node.disk)?;
    let known = context.image.nodes.get(&node.id).is_some_and(|known| **known == node);
    let command = (!known).then(|| (0, Command::RegisterNode(Arc::new(node))));
    Ok(Decision { commands: command.into_iter().collect(), response: Response::Registered })
}

pub fn allocate_producer_ids(context: &Context<'_>) -> Decision {
    let (first, count) = (context.image.next_producer_id, PRODUCER_IDS);
    Decision {
        commands: vec![(0, Command::AllocateProducerIds { first, count })],
        response: Response::ProducerIds(ProducerIds { first, count }),
    }
}

pub fn apply_topology(
    context: &Context<'_>,
    text: &str,
    expected_generation: Option<u64>,
    validate_only: bool,
) -> Result<Decision, Refusal> {
    let image = context.image;
    let current = topology(image)?;
    let generation = image.topology_generation;
    if let Some(expected) = expected_generation.filter(|expected| *expected != generation) {
        let message = format!(
            "the topology is of generation {generation} now; this was planned against {expected}: \
             plan again"
        );
        return Err(Refusal::new(Reason::Stale, message));
    }
    let refused = |message: String| Refusal::new(Reason::InvalidTopology, message);
    if text.len() > TEXT_BYTES_MAX {
        let found = text.len();
        return Err(refused(format!("{found} bytes of topology: at most {TEXT_BYTES_MAX}")));
    }
    let (next, warnings) =
        Topology::parse(text).map_err(|problems| refused(problems.to_string()))?;
    if next.source() == current.source() {
        let applied = TopologyApplied { generation, notes: Vec::new() };
        return Ok(Decision { commands: Vec::new(), response: Response::Topology(applied) });
    }
    check_members(image, current, &next)?;
    check_topics(image, &next)?;
    let mut notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    notes.extend(members(current, &next));
    notes.extend(stay(image, current, &next));
    if validate_only {
        let applied = TopologyApplied { generation, notes };
        return Ok(Decision { commands: Vec::new(), response: Response::Topology(applied) });
    }
    let applied = TopologyApplied { generation: generation + 1, notes };
    let command = Command::ApplyTopology { expected: generation, topology: Arc::new(next) };
    Ok(Decision { commands: vec![(0, command)], response: Response::Topology(applied) })
}

fn check_members(image: &Image, current: &Topology, next: &Topology) -> Result<(), Refusal> {
    let invalid = |message| Err(Refusal::new(Reason::InvalidTopology, message));
    let (before, after) = (&current.cluster().name, &next.cluster().name);
    if before != after {
        return invalid(format!("cluster.name: found {after}; expected {before}, as it was named"));
    }
    for node in current.nodes() {
        let held = replicas_on(image, node.id);
        match next.dc_of(node.id) {
            None if held > 0 => {
                return invalid(format!(
                    "node {} is gone, and {held} replicas are placed on it",
                    node.id
                ));
            }
            Some(dc) if *dc != node.dc && held > 0 => {
                return invalid(format!(
                    "node {} moves from {} to {dc}, and {held} replicas are placed on it",
                    node.id, node.dc
                ));
            }
            None | Some(_) => {}
        }
    }
    let (before, after) = (meta_voters(current), meta_voters(next));
    if before != after {
        let message = format!(
            "it changes who votes in __meta from {} to {}, which is not built yet",
            list(&before),
            list(&after)
        );
        return Err(Refusal::new(Reason::NotBuilt, message));
    }
    Ok(())
}

/// Topics that exist must make sense in it, and keep their mode.
fn check_topics(image: &Image, next: &Topology) -> Result<(), Refusal> {
    let mut switched = Vec::new();
    for topic in image.topics.values() {
        let resolved = isobar_topology::resolve(next, &topic.name, &topic.configs);
        let resolved = resolved.map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let message = format!("topic {:?} would not fit: {}", topic.name, errors.join("; "));
            Refusal::new(Reason::InvalidTopology, message)
        })?;
        if replication(topic).is_some_and(|now| now != resolved.settings.replication) {
            switched.push(topic.name.to_string());
        }
    }
    if switched.is_empty() {
        return Ok(());
    }
    let message = format!(
        "it changes topics that exist between sync and async, which is not built yet: {}; give \
         them `isobar.replication` of their own first, or leave their policy as it is",
        some_of(&switched)
    );
    Err(Refusal::new(Reason::NotBuilt, message))
}

fn replication(topic: &Topic) -> Option<Replication> {
    topic.partitions.first().map(|p| p.replication)
}

fn replicas_on(image: &Image, node: NodeId) -> usize {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| partition.replica_on(node).is_some()).count()
}

fn members(current: &Topology, next: &Topology) -> Vec<String> {
    let ids = |t: &Topology| t.nodes().map(|n| n.id).collect::<BTreeSet<_>>();
    let (before, after) = (ids(current), ids(next));
    let gone = before.difference(&after).map(|id| format!("node {id} leaves"));
    let come = after.difference(&before).map(|id| format!("node {id} joins"));
    gone.chain(come).collect()
}

/// Topics that stay where they are although their policy now says otherwise.
fn stay(image: &Image, current: &Topology, next: &Topology) -> Option<String> {
    let moved = |topic: &&Arc<Topic>| {
        let of = |topology: &Topology| {
            let policy = policy_of(topology, &topic.name).settings.clone();
            (policy.home, policy.replicas)
        };
        of(current) != of(next)
    };
    let staying = image.topics.values().filter(moved).map(|topic| topic.name.to_string());
    let staying: Vec<String> = staying.collect();
    (!staying.is_empty()).then(|| {
        let topics = some_of(&staying);
        format!("home and replicas of topics that exist stay as they were placed: {topics}")
    })
}

fn some_of(names: &[String]) -> String {
    let named = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED_MAX) {
        Some(more) if more > 0 => format!("{named} and {more} more"),
        _ => named,
    }
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}
