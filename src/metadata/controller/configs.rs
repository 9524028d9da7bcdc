//! AlterConfigs and IncrementalAlterConfigs (KIP-339) of topics.

use std::collections::BTreeMap;

use isobar_topology::{Settings, Topology};

use super::{Context, Decision, bounded, repeated, topology, twice, unknown_topic};
use crate::metadata::command::Command;
use crate::metadata::config::{self, table};
use crate::metadata::image::Topic;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{AlterConfigs, ConfigChange, ConfigOp, Response};

type Configs = BTreeMap<String, String>;

pub fn alter(
    context: &Context<'_>,
    topics: Vec<AlterConfigs>,
    validate_only: bool,
) -> Result<Decision, Refusal> {
    bounded(topics.len())?;
    let topology = topology(context.image)?;
    let repeated = repeated(topics.iter().map(|t| t.topic.as_str()));
    let mut commands = Vec::new();
    let mut results = Vec::new();
    for (item, wanted) in topics.into_iter().enumerate() {
        let altered = if repeated.contains(&wanted.topic) {
            Err(twice(&wanted.topic))
        } else {
            alter_one(context, topology, &wanted)
        };
        results.push(altered.map(|command| {
            commands.extend(command.filter(|_| !validate_only).map(|command| (item, command)));
        }));
    }
    Ok(Decision { commands, response: Response::ConfigsAltered(results) })
}

/// The command, unless everything is as wanted already.
fn alter_one(
    context: &Context<'_>,
    topology: &Topology,
    wanted: &AlterConfigs,
) -> Result<Option<Command>, Refusal> {
    let image = context.image;
    let topic = image.topic(&wanted.topic).ok_or_else(|| unknown_topic(&wanted.topic))?;
    let configs = match &wanted.change {
        ConfigChange::Replace(all) => all.clone(),
        ConfigChange::Incremental(ops) => incremental(&topic.configs, ops)?,
    };
    let next = config::check(topology, &topic.name, &configs)?;
    let now = config::effective(image, topic).expect("there is a topology");
    check_in_place(topology, topic, &now.policy, &next.policy)?;
    let set: Configs = configs
        .iter()
        .filter(|(key, value)| topic.configs.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let delete: Vec<String> =
        topic.configs.keys().filter(|key| !configs.contains_key(*key)).cloned().collect();
    let changes = !set.is_empty() || !delete.is_empty();
    Ok(changes.then_some(Command::AlterTopicConfigs { topic: topic.id, set, delete }))
}

/// What a topic that exists cannot change by its configs yet.
fn check_in_place(
    topology: &Topology,
    topic: &Topic,
    now: &Settings,
    next: &Settings,
) -> Result<(), Refusal> {
    let refused = |key: &str, from: String, to: String, why: &str| {
        let message = format!(
            "{key}: topic {:?} has {from} and would get {to}, which is not built yet: {why}",
            topic.name
        );
        Err(Refusal::new(Reason::NotBuilt, message))
    };
    if now.replication != next.replication {
        return refused(
            "isobar.replication",
            now.replication.to_string(),
            next.replication.to_string(),
            "make another topic, and let its producers move",
        );
    }
    // The policy may have changed since the topic was made, so the configs are compared under
    // today's policy, with and without the change.
    let today = isobar_topology::resolve(topology, &topic.name, &topic.configs);
    let today = today.map_or_else(|_| now.clone(), |effective| effective.settings);
    if today.home != next.home {
        let (from, to) = (today.home.to_string(), next.home.to_string());
        return refused("isobar.home", from, to, "homes move by `isobar dc switchover`");
    }
    if today.replicas != next.replicas {
        let shown = |s: &Settings| s.value(isobar_topology::policy::Key::Replicas);
        let (from, to) = (shown(&today).unwrap_or_default(), shown(next).unwrap_or_default());
        return refused("isobar.replicas", from, to, "replicas stay where they were placed");
    }
    Ok(())
}

fn incremental(current: &Configs, ops: &[ConfigOp]) -> Result<Configs, Refusal> {
    let mut configs = current.clone();
    let key_of = |op: &ConfigOp| match op {
        ConfigOp::Set { key, .. }
        | ConfigOp::Delete { key }
        | ConfigOp::Append { key, .. }
        | ConfigOp::Subtract { key, .. } => key.clone(),
    };
    for (i, op) in ops.iter().enumerate() {
        let key = key_of(op);
        if ops[..i].iter().any(|earlier| key_of(earlier) == key) {
            let message = format!("{key} stands twice in the request");
            return Err(Refusal::new(Reason::InvalidRequest, message));
        }
        match op {
            ConfigOp::Set { key, value } => {
                configs.insert(key.clone(), value.clone());
            }
            ConfigOp::Delete { key } => {
                configs.remove(key);
            }
            ConfigOp::Append { key, value } => {
                let mut list = list(&configs, key)?;
                list.extend(words(value).filter(|w| !list.contains(w)).collect::<Vec<_>>());
                configs.insert(key.clone(), list.join(","));
            }
            ConfigOp::Subtract { key, value } => {
                let mut list = list(&configs, key)?;
                list.retain(|word| !words(value).any(|w| w == *word));
                configs.insert(key.clone(), list.join(","));
            }
        }
    }
    Ok(configs)
}

fn words(value: &str) -> impl Iterator<Item = String> + '_ {
    value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The present value of a config that is a list.
fn list(configs: &Configs, key: &str) -> Result<Vec<String>, Refusal> {
    match table::find(key) {
        Some(config) if config.kind == table::Kind::List => {
            let value = configs.get(key).map_or(config.default, String::as_str);
            Ok(words(value).collect())
        }
        _ => {
            let message = format!("{key}: found an append or subtract; expected a config of lists");
            Err(Refusal::new(Reason::InvalidConfig, message))
        }
    }
}
