//! The controller: from a request and the image to commands, or to a refusal. Pure; only the leader
//! of `__meta` asks it, one request at a time, with everything that is in the log applied, so what
//! it decides is what will be applied.
//!
//! Deliberately missing: reassignment, more or fewer replicas of topics that exist, and changes
//! between sync and async of topics that exist. Each is refused by name. A sync topic that degrades
//! stays one.

mod cluster;
mod configs;
mod disks;
mod homes;
mod modes;
mod partitions;
mod repair;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeSet;

use isobar_topology::{Load, Topology};

use super::apply::Outcome;
use super::command::Command;
use super::image::Image;
use super::moves::topics::{PREFIX, is_suffix};
use super::refusal::{Reason, Refusal};
use super::request::{Request, Response};
use crate::model::{NodeId, TopicId};

pub use cluster::{PRODUCER_IDS, first_topology};
pub use repair::{is_to_vote, repair};

/// Partitions of all topics together. Design §7 measures 5,000 groups; ten times as many is where
/// this would have to be thought through again, so it ends there with a clear word.
pub const CLUSTER_PARTITIONS_MAX: usize = 50_000;

/// What a decision is made from.
pub struct Context<'a> {
    pub image: &'a Image,
    /// Nodes that answer at present. New replicas go elsewhere only where there is no choice.
    pub live: &'a BTreeSet<NodeId>,
    /// A seam: random in life, counted in tests.
    pub new_topic_id: &'a mut dyn FnMut() -> TopicId,
}

/// What to append, and what to answer once it is applied.
#[derive(Debug)]
pub struct Decision {
    /// Each with the item of the response that it belongs to.
    pub commands: Vec<(usize, Command)>,
    pub response: Response,
}

/// Decides a request. An `Err` refuses it as a whole; items of it may be refused in the response.
pub fn decide(context: &mut Context<'_>, request: Request) -> Result<Decision, Refusal> {
    let decision = match request {
        Request::RegisterNode(node) => cluster::register(context, node)?,
        Request::AdmitDisk { node, disk, accept_loss } => {
            disks::admit(context, node, disk, accept_loss)?
        }
        Request::CreateTopics { topics, validate_only } => {
            topics::create(context, topics, validate_only)?
        }
        Request::EnsureTopics { names } => topics::ensure(context, names)?,
        Request::DeleteTopics { topics } => topics::delete(context, topics)?,
        Request::CreatePartitions { topics, validate_only } => {
            partitions::create(context, topics, validate_only)?
        }
        Request::AlterConfigs { topics, validate_only } => {
            configs::alter(context, topics, validate_only)?
        }
        Request::AllocateProducerIds => cluster::allocate_producer_ids(context),
        Request::ApplyTopology { text, expected_generation, validate_only } => {
            cluster::apply_topology(context, &text, expected_generation, validate_only)?
        }
        Request::PromoteReplica { partition, replica, home_epoch, placement_generation } => {
            repair::promote(context, partition, replica, home_epoch, placement_generation)?
        }
        Request::MoveHomes { moves } => homes::begin(context, moves)?,
        Request::ChooseCuts { choices } => homes::choose(choices)?,
        Request::ActivateHomes { activations } => homes::activate(activations)?,
        Request::ReportSuffix(report) => homes::report(report),
        Request::ChangeModes { changes } => modes::change(context, changes)?,
    };
    gate(context.image, &decision)?;
    Ok(decision)
}

/// The answer, given what became of the commands. Where one was refused at apply after all, its
/// item says so.
pub fn answer(decision: Decision, outcomes: Vec<Outcome>) -> Result<Response, Refusal> {
    let Decision { commands, mut response } = decision;
    for ((item, _), outcome) in commands.into_iter().zip(outcomes) {
        let Err(refusal) = outcome else { continue };
        match &mut response {
            Response::TopicsCreated(items) => items[item] = Err(refusal),
            Response::TopicsDeleted(items) => items[item] = Err(refusal),
            Response::PartitionsCreated(items) => items[item] = Err(refusal),
            Response::ConfigsAltered(items) => items[item] = Err(refusal),
            Response::MovesBegun(items) => items[item] = Err(refusal),
            Response::CutsChosen(items) => items[item] = Err(refusal),
            Response::HomesActivated(items) => items[item] = Err(refusal),
            Response::ModesChanged(items) => items[item] = Err(refusal),
            Response::Registered
            | Response::Admitted(_)
            | Response::ProducerIds(_)
            | Response::Topology(_)
            | Response::Promoted
            | Response::Reported => return Err(refusal),
        }
    }
    Ok(response)
}

/// No command that a node of the cluster could not apply.
fn gate(image: &Image, decision: &Decision) -> Result<(), Refusal> {
    let oldest = image.nodes.values().min_by_key(|node| node.feature_level);
    let needed = decision.commands.iter().map(|(_, command)| command.feature_level()).max();
    match (oldest, needed) {
        (Some(node), Some(needed)) if node.feature_level < needed => {
            let message = format!(
                "this needs feature level {needed}, and node {} ({}) has {}: upgrade it first",
                node.id, node.version, node.feature_level
            );
            Err(Refusal::new(Reason::FeatureLevel, message))
        }
        _ => Ok(()),
    }
}

fn topology(image: &Image) -> Result<&Topology, Refusal> {
    match (&image.topology, &image.cluster_id) {
        (Some(topology), Some(_)) => Ok(topology),
        _ => Err(Refusal::new(Reason::NotReady, "the cluster has no topology yet; try again")),
    }
}

/// More than any node holds, so that nodes that do not answer are chosen last.
const LOAD_OF_THE_DEAD: usize = 1 << 40;

/// Replicas on each node.
fn load(context: &Context<'_>, topology: &Topology) -> Load {
    let mut load = Load::new();
    for node in topology.nodes() {
        let dead = !context.live.contains(&node.id);
        load.insert(node.id, if dead { LOAD_OF_THE_DEAD } else { 0 });
    }
    let topics = context.image.topics.values();
    for replica in topics.flat_map(|t| &t.partitions).flat_map(|p| &p.replicas) {
        *load.entry(replica.node).or_default() += 1;
    }
    load
}

/// Names that stand more than once in a request.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).map(str::to_owned).collect()
}

fn twice(name: &str) -> Refusal {
    Refusal::new(Reason::InvalidRequest, format!("topic {name:?} stands twice in the request"))
}

fn unknown_topic(name: &str) -> Refusal {
    let unknown = || Refusal::new(Reason::UnknownTopic, format!("no topic is named {name:?}"));
    of_a_ledger(name).unwrap_or_else(unknown)
}

/// What a ledger has is there to be read; nothing is made of it, and nothing is done to it.
fn of_a_ledger(topic: &str) -> Option<Refusal> {
    let refused = || {
        let message = format!(
            "{topic}: topics whose names begin with {PREFIX} show what ledgers have, and are read-only; one \
             goes when its directory is removed from the ledger"
        );
        Refusal::new(Reason::InternalTopic, message)
    };
    is_suffix(topic).then(refused)
}

/// No request longer than what a leader looks through at a time.
fn bounded(count: usize) -> Result<(), Refusal> {
    let max = super::request::TOPICS_MAX;
    if count <= max {
        return Ok(());
    }
    let message = format!("{count} topics in one request: expected at most {max}");
    Err(Refusal::new(Reason::LimitExceeded, message))
}
