//! From a topic's name and its own configs to what holds for it.

use std::collections::BTreeMap;
use std::iter;

use super::conflict::idle;
use super::{
    Conflict, DEFAULT, Effective, INTERNAL, Key, Partial, Policy, Shape, Source, Value, conflicts,
    merge,
};
use crate::options::{self, Change};
use crate::{Severity, Topology, suggest};

/// The prefix of our topic configs.
const PREFIX: &str = "isobar.";

/// A topic config that is not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{key}: found {found}; expected {expected}")]
pub struct ConfigError {
    pub key: String,
    pub found: String,
    pub expected: String,
}

/// A policy key as a topic config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicConfig {
    /// `isobar.sync.to`; [`Key::MinInsyncReplicas`] is Kafka's own `min.insync.replicas`.
    pub name: &'static str,
    pub key: Key,
    pub doc: &'static str,
    pub change: Change,
}

/// Every topic config that this crate reads, in the order of the manual.
pub fn topic_configs() -> impl Iterator<Item = TopicConfig> {
    options::POLICY.iter().filter_map(|option| {
        let config = option.topic_config?;
        let key = options::policy_key(option.name)?;
        Some(TopicConfig { name: config, key, doc: option.doc, change: option.change })
    })
}

/// Kafka's own topics follow `policy.internal`, whatever the patterns say.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// The policy that a topic's name chooses: the most specific pattern, or `default`.
pub fn policy_of<'a>(topology: &'a Topology, topic: &str) -> &'a Policy {
    if is_internal(topic) {
        return &topology.policies[INTERNAL];
    }
    let matching = topology.policies.values().flat_map(|policy| {
        let hits = policy.topics.iter().filter(|pattern| pattern.matches(topic));
        hits.map(move |pattern| (pattern.specificity(), policy))
    });
    let best = matching.max_by_key(|(specificity, _)| *specificity);
    best.map_or(&topology.policies[DEFAULT], |(_, policy)| policy)
}

/// What holds for a topic with these configs, or everything that is wrong with them.
///
/// Configs that are neither `isobar.*` nor listed by [`topic_configs`] are Kafka's and passed over.
pub fn resolve(
    topology: &Topology,
    topic: &str,
    configs: &BTreeMap<String, String>,
) -> Result<Effective, Vec<ConfigError>> {
    let policy = policy_of(topology, topic);
    let (own, mut errors) = read(configs);
    let (settings, sources) = over(policy, &own);
    let shape = Shape::of(topology);
    let found = conflicts(&settings, &shape).into_iter().chain(idle(&settings, &own));
    let certain = found.filter(|conflict| !conflict.doubtful(&[&own]));
    errors.extend(certain.filter_map(|conflict| blame(&conflict, &own)));
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Effective { policy: policy.name.clone(), settings, sources })
}

fn read(configs: &BTreeMap<String, String>) -> (Partial, Vec<ConfigError>) {
    let mut own = Partial::default();
    let mut errors = Vec::new();
    for (name, text) in configs {
        match topic_configs().find(|config| config.name == name.as_str()) {
            Some(config) => {
                let refusals = own.set(config.key, &Value::Config(text));
                errors.extend(refusals.into_iter().map(|refusal| ConfigError {
                    key: name.clone(),
                    found: refusal.found,
                    expected: refusal.expected,
                }));
            }
            None if name.starts_with(PREFIX) => errors.push(unknown(name)),
            None => {}
        }
    }
    (own, errors)
}

fn unknown(name: &str) -> ConfigError {
    let names = || topic_configs().map(|config| config.name);
    let expected = suggest::among(name, names(), || {
        let all: Vec<&str> = names().collect();
        format!("one of {}", all.join(", "))
    });
    ConfigError { key: name.to_owned(), found: "an unknown config".to_owned(), expected }
}

/// A topic's own layer over those of its policy.
fn over(policy: &Policy, own: &Partial) -> (super::Settings, BTreeMap<Key, Source>) {
    let below = policy.layers.iter().map(|(source, layer)| (source.clone(), layer));
    let layers: Vec<(Source, &Partial)> = iter::once((Source::Topic, own)).chain(below).collect();
    merge(&layers, &policy.fallback)
}

fn blame(conflict: &Conflict, own: &Partial) -> Option<ConfigError> {
    if conflict.severity == Severity::Warning {
        return None;
    }
    let key = conflict.blame(own)?;
    let name = topic_configs().find(|config| config.key == key)?.name.to_owned();
    let (found, expected) = (conflict.found.clone(), conflict.expected.clone());
    Some(ConfigError { key: name, found, expected })
}
