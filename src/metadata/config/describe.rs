//! A topic's configs as DescribeConfigs shows them.

use isobar_topology::Source;
use isobar_topology::options::{self, Change};
use isobar_topology::policy::{Key, policy_of, topic_configs};

use super::table::{Accepts, Kind, TABLE};
use crate::metadata::image::{Image, Topic};

/// Which layer a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic: Kafka's DYNAMIC_TOPIC_CONFIG (1).
    Topic,
    /// `[policy.NAME]` of the topology: to Kafka's tools a STATIC_BROKER_CONFIG (4).
    Policy(String),
    /// Built in: Kafka's DEFAULT_CONFIG (5).
    Default,
}

impl ConfigSource {
    /// Kafka's `ConfigSource` number.
    pub fn number(&self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Policy(_) => 4,
            Self::Default => 5,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    /// `None` where nothing is set and nothing is assumed.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub kind: Kind,
    /// No topic may set it to anything else.
    pub is_read_only: bool,
    pub doc: &'static str,
    /// Every layer that has a value, the one that counts first.
    pub synonyms: Vec<Synonym>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    pub value: String,
    pub source: ConfigSource,
}

/// Every config of a topic, in the order of their names. Empty before there is a topology.
pub fn describe(image: &Image, topic: &Topic) -> Vec<ConfigEntry> {
    let mut entries: Vec<ConfigEntry> = TABLE.iter().map(|c| kafkas(c, topic)).collect();
    entries.extend(ours(image, topic));
    entries.sort_by_key(|entry| entry.name);
    entries
}

fn kafkas(config: &super::table::Config, topic: &Topic) -> ConfigEntry {
    let own = topic.configs.get(config.name);
    let default = Synonym {
        name: config.synonym.unwrap_or(config.name).to_owned(),
        value: config.default.to_owned(),
        source: ConfigSource::Default,
    };
    let topics = own.map(|value| Synonym {
        name: config.name.to_owned(),
        value: value.clone(),
        source: ConfigSource::Topic,
    });
    ConfigEntry {
        name: config.name,
        value: Some(own.cloned().unwrap_or_else(|| config.default.to_owned())),
        source: if own.is_some() { ConfigSource::Topic } else { ConfigSource::Default },
        kind: config.kind,
        is_read_only: matches!(config.accepts, Accepts::DefaultOnly(_)),
        doc: config.doc,
        synonyms: topics.into_iter().chain([default]).collect(),
    }
}

fn ours(image: &Image, topic: &Topic) -> Vec<ConfigEntry> {
    let Some(topology) = &image.topology else { return Vec::new() };
    let policy = policy_of(topology, &topic.name);
    let resolved = isobar_topology::resolve(topology, &topic.name, &topic.configs).ok();
    let (settings, sources) = match &resolved {
        Some(effective) => (&effective.settings, &effective.sources),
        None => (&policy.settings, &policy.sources),
    };
    let entry = |config: isobar_topology::policy::TopicConfig| {
        let source = source(sources.get(&config.key));
        let value = actual(topic, config.key).or_else(|| settings.value(config.key));
        let mut synonyms = Vec::new();
        if let (ConfigSource::Topic, Some(value)) = (&source, &value) {
            let (name, value) = (config.name.to_owned(), value.clone());
            synonyms.push(Synonym { name, value, source: ConfigSource::Topic });
        }
        if let Some(value) = policy.settings.value(config.key) {
            let source = self::source(policy.sources.get(&config.key));
            let name = format!("policy.{}.{}", policy.name, config.key);
            synonyms.push(Synonym { name, value, source });
        }
        ConfigEntry {
            name: config.name,
            value,
            source,
            kind: kind(config.key),
            is_read_only: config.change == Change::AtCreation,
            doc: config.doc,
            synonyms,
        }
    };
    topic_configs().map(entry).collect()
}

/// What the partitions were made with, where the policy may have changed since.
fn actual(topic: &Topic, key: Key) -> Option<String> {
    let first = topic.partitions.first()?;
    match key {
        Key::Replication if first.replication.sync_to() == 0 => Some("async".to_owned()),
        Key::Replication => Some("sync".to_owned()),
        Key::SyncTo => Some(first.replication.sync_to().to_string()),
        Key::Home if topic.partitions.iter().all(|p| p.home == first.home) => {
            Some(first.home.to_string())
        }
        _ => None,
    }
}

fn source(source: Option<&Source>) -> ConfigSource {
    match source {
        Some(Source::Topic) => ConfigSource::Topic,
        Some(Source::Policy(name)) => ConfigSource::Policy(name.to_string()),
        Some(Source::Default) | None => ConfigSource::Default,
    }
}

fn kind(key: Key) -> Kind {
    let option = options::POLICY.iter().find(|option| option.name == key.name());
    match option.map(|option| option.kind) {
        Some(options::Kind::Integer) => Kind::Int,
        Some(options::Kind::Bool) => Kind::Boolean,
        Some(options::Kind::List) => Kind::List,
        _ => Kind::String,
    }
}
