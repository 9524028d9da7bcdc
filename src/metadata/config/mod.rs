//! What a topic's configs amount to: checked, resolved against the topology, and described.
//!
//! ```text
//!   Kafka's keys:     table default < topic            (table)
//!   isobar.* keys:    default < policies < topic       (isobar_topology::resolve)
//!                                  │
//!                                  ▼  but for what the partitions were made with: home, replication
//!                              Effective
//! ```

mod describe;
pub mod docs;
pub mod table;

use std::collections::BTreeMap;

use isobar_topology::{Settings, Topology, suggest};

use super::image::{Image, Topic};
use super::refusal::{Reason, Refusal};

pub use describe::{ConfigEntry, ConfigSource, describe};

/// Partitions of `__consumer_offsets`, whatever `policy.internal` says for other topics: a group's
/// coordinator is found by hash over them, so the number is the same for ever and for every node.
/// Kafka's 50 spread the groups of a large cluster over its brokers; ours lead from the nodes of one
/// home DC, for which 16 are plenty, and every partition is a Raft group in every DC.
pub const OFFSETS_PARTITIONS: u32 = 16;

/// Longest value of a config, in bytes. The longest that mean something are lists of DCs.
pub const VALUE_BYTES_MAX: usize = 4096;

/// What holds for a topic: what its replicas and its log go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub policy: Settings,
    /// `None`: for ever.
    pub retention_ms: Option<i64>,
    /// `None`: without bound.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub max_message_bytes: u32,
    /// `message.timestamp.type = LogAppendTime`.
    pub log_append_time: bool,
}

/// Checks a topic's configs, all of them, and says what they amount to for a new topic.
pub fn check(
    topology: &Topology,
    topic: &str,
    configs: &BTreeMap<String, String>,
) -> Result<Effective, Refusal> {
    let mut problems = Vec::new();
    for (key, value) in configs {
        if value.len() > VALUE_BYTES_MAX {
            problems.push(format!(
                "{key}: found {} bytes; expected at most {VALUE_BYTES_MAX}",
                value.len()
            ));
        } else if let Some(config) = table::find(key) {
            if let Err(expected) = config.check(value) {
                problems.push(format!("{key}: found {value:?}; expected {expected}"));
            }
        } else if !is_policy_key(key) {
            problems.push(format!("{key}: found an unknown config; expected {}", similar(key)));
        }
    }
    let resolved = isobar_topology::resolve(topology, topic, configs);
    if let Err(errors) = &resolved {
        problems.extend(errors.iter().map(ToString::to_string));
    }
    match resolved {
        Ok(resolved) if problems.is_empty() => Ok(effective_of(resolved.settings, configs)),
        _ => Err(Refusal::new(Reason::InvalidConfig, problems.join("; "))),
    }
}

/// What holds for a topic that exists. `None` only before there is a topology, and then there is no
/// topic either.
pub fn effective(image: &Image, topic: &Topic) -> Option<Effective> {
    let topology = image.topology.as_ref()?;
    let mut settings = match isobar_topology::resolve(topology, &topic.name, &topic.configs) {
        Ok(resolved) => resolved.settings,
        // The controller applies no topology that a topic's own configs do not fit. Should one
        // stand all the same, the topic is served by its policy alone rather than not at all.
        Err(_) => isobar_topology::policy::policy_of(topology, &topic.name).settings.clone(),
    };
    if let Some(first) = topic.partitions.first() {
        settings.replication = first.replication;
    }
    Some(effective_of(settings, &topic.configs))
}

fn effective_of(policy: Settings, configs: &BTreeMap<String, String>) -> Effective {
    let text = |key: &str| {
        let default = table::find(key).expect("a key of the table").default;
        configs.get(key).map_or(default, |value| value.trim())
    };
    let number = |key: &str| text(key).parse::<i64>().unwrap_or(-1);
    let small = |key: &str| u32::try_from(number(key)).unwrap_or(u32::MAX);
    let retention_ms = number("retention.ms");
    Effective {
        policy,
        retention_ms: (retention_ms >= 0).then_some(retention_ms),
        retention_bytes: u64::try_from(number("retention.bytes")).ok(),
        segment_bytes: small("segment.bytes"),
        segment_ms: number("segment.ms"),
        max_message_bytes: small("max.message.bytes"),
        log_append_time: text("message.timestamp.type") == "LogAppendTime",
    }
}

fn is_policy_key(key: &str) -> bool {
    key.starts_with("isobar.") || isobar_topology::policy::topic_configs().any(|c| c.name == key)
}

fn similar(key: &str) -> String {
    let names = table::TABLE.iter().map(|config| config.name);
    let ours = isobar_topology::policy::topic_configs().map(|config| config.name);
    suggest::among(key, names.chain(ours), || "a topic config of Kafka's or isobar.*".to_owned())
}
