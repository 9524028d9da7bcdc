//! CreateTopics, auto-creation, DeleteTopics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isobar_topology::Topology;
use isobar_topology::placement::PARTITIONS_MAX;

use super::partitions::{Plan, commands_of};
use super::{Context, Decision, bounded, of_a_ledger, repeated, topology, twice, unknown_topic};
use crate::metadata::command::Command;
use crate::metadata::config::{self, OFFSETS_PARTITIONS};
use crate::metadata::image::{CONSUMER_OFFSETS, Topic, is_internal};
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{CreatedTopic, DeletedTopic, NewTopic, Response, TopicRef};
use crate::model::TopicId;

/// Kafka's, because a topic's name was a directory there; tools and clients check it, too.
const NAME_BYTES_MAX: usize = 249;

/// What the cluster sets on its own topic of committed offsets: never expired by age, because group
/// coordinators write snapshots of their state and move log start themselves; and closed in small
/// segments, so that log start can follow.
const CONSUMER_OFFSETS_CONFIGS: &[(&str, &str)] =
    &[("retention.ms", "-1"), ("segment.bytes", "16777216")];

pub fn create(
    context: &mut Context<'_>,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Result<Decision, Refusal> {
    bounded(topics.len())?;
    let repeated = repeated(topics.iter().map(|t| t.name.as_str()));
    let mut creation = Creation::new(context)?;
    let mut results = Vec::new();
    for (item, new) in topics.into_iter().enumerate() {
        let checked = if repeated.contains(&new.name) {
            Err(twice(&new.name))
        } else if let Some(refusal) = of_a_ledger(&new.name) {
            Err(refusal)
        } else if is_internal(&new.name) {
            let message = format!("{} is made by the cluster itself", new.name);
            Err(Refusal::new(Reason::InvalidTopicName, message))
        } else {
            creation.topic(context, item, &new)
        };
        results.push(checked);
    }
    let mut commands = creation.commands;
    if validate_only {
        commands.clear();
        results.iter_mut().flatten().for_each(|topic| topic.id = TopicId::ZERO);
    }
    Ok(Decision { commands, response: Response::TopicsCreated(results) })
}

/// Topics by name, each with what its policy says; those that exist are left as they are.
pub fn ensure(context: &mut Context<'_>, names: Vec<String>) -> Result<Decision, Refusal> {
    bounded(names.len())?;
    let mut creation = Creation::new(context)?;
    let mut results: Vec<Result<CreatedTopic, Refusal>> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (item, name) in names.into_iter().enumerate() {
        if let Some(first) = seen.get(&name) {
            results.push(results[*first].clone());
            continue;
        }
        let result = match (context.image.topic(&name), of_a_ledger(&name)) {
            (Some(topic), _) => Ok(existing(topic)),
            (None, Some(refusal)) => Err(refusal),
            (None, None) if is_internal(&name) && name != CONSUMER_OFFSETS => {
                let message = format!("{name} is for what is not built yet");
                Err(Refusal::new(Reason::InvalidTopicName, message))
            }
            (None, None) => creation.topic(context, item, &new_topic(&name)),
        };
        seen.insert(name, item);
        results.push(result);
    }
    Ok(Decision { commands: creation.commands, response: Response::TopicsCreated(results) })
}

fn new_topic(name: &str) -> NewTopic {
    let name = name.to_owned();
    if name != CONSUMER_OFFSETS {
        return NewTopic { name, ..NewTopic::default() };
    }
    let configs = CONSUMER_OFFSETS_CONFIGS.iter();
    let configs = configs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    NewTopic { name, partitions: Some(OFFSETS_PARTITIONS as i32), configs, ..NewTopic::default() }
}

fn existing(topic: &Topic) -> CreatedTopic {
    let factor = topic.partitions.first().map_or(0, |p| p.replicas.len());
    CreatedTopic {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.len() as i32,
        replication_factor: factor as i16,
        existed: true,
    }
}

pub fn delete(context: &Context<'_>, topics: Vec<TopicRef>) -> Result<Decision, Refusal> {
    bounded(topics.len())?;
    let mut commands = Vec::new();
    let mut results = Vec::new();
    let mut deleted = BTreeSet::new();
    for (item, wanted) in topics.into_iter().enumerate() {
        let found = find(context, &wanted).and_then(|topic| {
            if is_internal(&topic.name) {
                let message = format!("{} is one of Kafka's own topics", topic.name);
                Err(Refusal::new(Reason::InternalTopic, message))
            } else if !deleted.insert(topic.id) {
                Err(twice(&topic.name))
            } else {
                Ok(topic)
            }
        });
        if let Ok(topic) = &found {
            commands.push((item, Command::DeleteTopic { id: topic.id }));
        }
        results.push(found.map(|t| DeletedTopic { name: t.name.clone(), id: t.id }));
    }
    Ok(Decision { commands, response: Response::TopicsDeleted(results) })
}

fn find<'a>(context: &'a Context<'_>, wanted: &TopicRef) -> Result<&'a Arc<Topic>, Refusal> {
    match wanted {
        TopicRef::Name(name) => context.image.topic(name).ok_or_else(|| unknown_topic(name)),
        TopicRef::Id(id) => {
            context.image.topics.get(id).ok_or_else(|| {
                Refusal::new(Reason::UnknownTopic, format!("no topic has the id {id}"))
            })
        }
    }
}

/// Topics of one request on their way to being commands; each sees the replicas of those before it.
struct Creation<'a> {
    topology: &'a Topology,
    plan: Plan<'a>,
    commands: Vec<(usize, Command)>,
}

impl<'a> Creation<'a> {
    fn new(context: &Context<'a>) -> Result<Self, Refusal> {
        let topology = topology(context.image)?;
        Ok(Self { topology, plan: Plan::new(context, topology), commands: Vec::new() })
    }

    fn topic(
        &mut self,
        context: &mut Context<'_>,
        item: usize,
        new: &NewTopic,
    ) -> Result<CreatedTopic, Refusal> {
        check_name(&new.name)?;
        if context.image.topic(&new.name).is_some() {
            let message = format!("topic {:?} exists already", new.name);
            return Err(Refusal::new(Reason::TopicExists, message));
        }
        self.check_factor(new)?;
        let effective = config::check(self.topology, &new.name, &new.configs)?;
        let partitions = if new.assignments.is_empty() {
            let count = partition_count(new, effective.policy.partitions)?;
            self.plan.place(&effective.policy, count, None)?
        } else {
            self.plan.assign(&effective.policy, manual(new)?)?
        };
        let id = (context.new_topic_id)();
        let created = CreatedTopic {
            name: new.name.as_str().into(),
            id,
            partitions: partitions.len() as i32,
            replication_factor: partitions[0].replicas.len() as i16,
            existed: false,
        };
        let (name, configs) = (created.name.clone(), new.configs.clone());
        let commands = commands_of(Topic { id, name, configs, partitions });
        self.commands.extend(commands.into_iter().map(|command| (item, command)));
        Ok(created)
    }

    /// Any factor that Kafka would take is taken; the policy decides what there will be.
    fn check_factor(&self, new: &NewTopic) -> Result<(), Refusal> {
        let nodes = self.topology.nodes().filter(|n| !self.topology.is_witness(n.id)).count();
        match new.replication_factor {
            None => Ok(()),
            Some(factor) if usize::try_from(factor).is_ok_and(|f| (1..=nodes).contains(&f)) => {
                Ok(())
            }
            Some(factor) => Err(Refusal::new(
                Reason::InvalidReplicationFactor,
                format!(
                    "replication factor {factor}: expected 1 to {nodes}, as many as there are \
                     nodes, or -1; the policy decides how many there will be"
                ),
            )),
        }
    }
}

fn partition_count(new: &NewTopic, default: u32) -> Result<u32, Refusal> {
    let Some(count) = new.partitions else { return Ok(default) };
    let valid = u32::try_from(count).ok().filter(|c| (1..=PARTITIONS_MAX).contains(c));
    valid.ok_or_else(|| {
        let message = format!("{count} partitions: expected 1 to {PARTITIONS_MAX}, or -1");
        Refusal::new(Reason::InvalidPartitions, message)
    })
}

/// Manual assignments, dense from partition 0.
fn manual(new: &NewTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if new.partitions.is_some() || new.replication_factor.is_some() {
        let message = "assignments come with -1 partitions and a replication factor of -1";
        return Err(Refusal::new(Reason::InvalidRequest, message));
    }
    let dense = new.assignments.keys().zip(0..).all(|(partition, i)| *partition == i);
    if !dense || new.assignments.len() > PARTITIONS_MAX as usize {
        let message = format!("assignments of partitions 0, 1, …, at most {PARTITIONS_MAX}");
        return Err(Refusal::new(Reason::InvalidReplicaAssignment, message));
    }
    Ok(new.assignments.values().cloned().collect())
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let problem = if name.is_empty() || name == "." || name == ".." {
        "is not a name"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 249 characters"
    } else if !name.chars().all(legal) {
        "has characters outside a-z, A-Z, 0-9, '.', '_' and '-'"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(NAME_BYTES_MAX + 1).collect();
    Err(Refusal::new(Reason::InvalidTopicName, format!("topic name {shown:?} {problem}")))
}
