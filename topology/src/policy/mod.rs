//! What a set of topics asks for. Owns the values of a policy, where each came from, how layers of
//! them combine, and which combinations make no sense.
//!
//! ```text
//!   built-in default  <  [policy.default]  <  [policy.NAME] of the pattern  <  topic config isobar.*
//!        Default           Policy(default)        Policy(NAME)                    Topic
//! ```
//!
//! A later layer wins key by key. [`Partial`] is one layer: only what it says. [`Settings`] is the
//! whole: every value there, with a [`Source`] each.

mod conflict;
mod layer;
mod resolve;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use conflict::{Conflict, Shape, conflicts, idle};
pub(crate) use layer::{Fallback, Partial, merge};
pub use resolve::{ConfigError, TopicConfig, is_internal, policy_of, resolve, topic_configs};
pub(crate) use value::Value;

use crate::{DcName, pattern::Pattern};

/// How long a sync topic that may degrade blocks before it does, where nobody says: a client's request
/// times out after so long, and its delivery (Kafka's `delivery.timeout.ms`) only after four times that.
pub const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// The policy of every topic that no pattern names, and the base of all others.
pub const DEFAULT: &str = "default";
/// The policy of Kafka's own topics: those whose name starts with `__`.
pub const INTERNAL: &str = "internal";

/// A key of `[policy.*]`. The table [`crate::options::POLICY`] has its name, default and manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Topics,
    Home,
    Replicas,
    Replication,
    SyncTo,
    Flush,
    MinInsyncReplicas,
    Partitions,
    OnIsolation,
    OnSyncLoss,
    SyncTimeout,
    MaxLag,
    MaxLagBytes,
    MaxLagRecords,
    OnLag,
    Failover,
}

impl Key {
    /// In the order of the manual.
    pub const ALL: &'static [Self] = &[
        Self::Topics,
        Self::Home,
        Self::Replicas,
        Self::Replication,
        Self::SyncTo,
        Self::Flush,
        Self::MinInsyncReplicas,
        Self::Partitions,
        Self::OnIsolation,
        Self::OnSyncLoss,
        Self::SyncTimeout,
        Self::MaxLag,
        Self::MaxLagBytes,
        Self::MaxLagRecords,
        Self::OnLag,
        Self::Failover,
    ];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Home => "home",
            Self::Replicas => "replicas",
            Self::Replication => "replication",
            Self::SyncTo => "sync_to",
            Self::Flush => "flush",
            Self::MinInsyncReplicas => "min_insync_replicas",
            Self::Partitions => "partitions",
            Self::OnIsolation => "on_isolation",
            Self::OnSyncLoss => "on_sync_loss",
            Self::SyncTimeout => "sync_timeout",
            Self::MaxLag => "max_lag",
            Self::MaxLagBytes => "max_lag_bytes",
            Self::MaxLagRecords => "max_lag_records",
            Self::OnLag => "on_lag",
            Self::Failover => "failover",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Where the voters of a partition are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    Dc(DcName),
    /// The first is home; the others say where it should go when that is lost, in this order.
    Preference(Vec<DcName>),
    /// Each partition in its turn in the next of the DCs that have replicas.
    Spread,
}

impl Home {
    /// The DCs that the operator named, most wanted first; empty for [`Home::Spread`].
    pub fn named(&self) -> &[DcName] {
        match self {
            Self::Dc(dc) => std::slice::from_ref(dc),
            Self::Preference(dcs) => dcs,
            Self::Spread => &[],
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spread => f.write_str("spread"),
            named => {
                let names: Vec<&str> = named.named().iter().map(DcName::as_str).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

/// What an acknowledgement with acks=all waits for beyond the home DC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    Async,
    /// Until so many remote DCs have it on disk; at least 1.
    Sync {
        to: u32,
    },
}

impl Replication {
    /// k of the protocol; 0 for async.
    pub fn sync_to(self) -> u32 {
        match self {
            Self::Async => 0,
            Self::Sync { to } => to,
        }
    }
}

impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Async => f.write_str("async"),
            Self::Sync { to } => write!(f, "sync to {to}"),
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// When an entry counts as persisted on a replica.
    Flush {
        /// After fdatasync.
        Quorum = "quorum",
        /// After the write into the page cache: Kafka's way.
        Os = "os",
    }
}

words! {
    /// What an async home does without a valid lease from `__meta` (rule R17).
    OnIsolation {
        /// It stops acknowledging.
        Fence = "fence",
        /// It goes on, and what it acknowledges has no bound until it is back.
        Continue = "continue",
    }
}

words! {
    /// What a sync topic does when fewer than `sync_to` remote DCs are current.
    OnSyncLoss {
        /// It refuses to append.
        Block = "block",
        /// It becomes async after `sync_timeout`, recorded by `__meta` first.
        Degrade = "degrade",
    }
}

words! {
    /// What an async topic does at its exposure budget.
    OnLag {
        /// Producers are slowed before it, and wait at it.
        Throttle = "throttle",
        /// Produce is refused.
        Reject = "reject",
        /// It is only reported.
        Continue = "continue",
    }
}

words! {
    /// Who moves home after a loss.
    Failover {
        Manual = "manual",
        Automatic = "automatic",
    }
}

/// Every value of a policy, after all layers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Settings {
    pub home: Home,
    /// Replicas in each DC that has any; every count is at least 1.
    pub replicas: BTreeMap<DcName, u32>,
    pub replication: Replication,
    pub flush: Flush,
    pub min_insync_replicas: u32,
    /// For topics that are created without a number of partitions.
    pub partitions: u32,
    pub on_isolation: OnIsolation,
    pub on_sync_loss: OnSyncLoss,
    /// Before it degrades.
    #[serde(serialize_with = "show_some_duration")]
    pub sync_timeout: Duration,
    /// Never beside sync, where nothing that is acknowledged is at stake.
    #[serde(serialize_with = "show_duration")]
    pub max_lag: Option<Duration>,
    pub max_lag_bytes: Option<u64>,
    pub max_lag_records: Option<u32>,
    pub on_lag: OnLag,
    pub failover: Failover,
}

fn show_some_duration<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    show_duration(&Some(*duration), serializer)
}

fn show_duration<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&crate::unit::show_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

impl Settings {
    /// The DCs that a partition may have as its home at creation, in the order of rotation.
    pub fn homes(&self) -> Vec<DcName> {
        match self.home.named().first() {
            Some(first) => vec![first.clone()],
            None => self.replicas.keys().cloned().collect(),
        }
    }

    /// n of the protocol: data DCs with replicas, home not counted.
    pub fn remote_dcs(&self) -> usize {
        self.replicas.len().saturating_sub(1)
    }

    /// Whether there is an exposure budget, in time, bytes or records.
    pub fn has_budget(&self) -> bool {
        self.max_lag.is_some() || self.max_lag_bytes.is_some() || self.max_lag_records.is_some()
    }

    /// All replicas of a partition, over all DCs.
    pub fn replication_factor(&self) -> u32 {
        self.replicas.values().sum()
    }

    /// As people write it: `None` where nothing is set and nothing is assumed.
    pub fn value(&self, key: Key) -> Option<String> {
        Some(match key {
            Key::Topics => return None,
            Key::Home => self.home.to_string(),
            Key::Replicas => {
                let each = self.replicas.iter().map(|(dc, count)| format!("{dc}={count}"));
                each.collect::<Vec<_>>().join(",")
            }
            Key::Replication if self.replication == Replication::Async => "async".to_owned(),
            Key::Replication => "sync".to_owned(),
            Key::SyncTo => self.replication.sync_to().to_string(),
            Key::Flush => self.flush.to_string(),
            Key::MinInsyncReplicas => self.min_insync_replicas.to_string(),
            Key::Partitions => self.partitions.to_string(),
            Key::OnIsolation => self.on_isolation.to_string(),
            Key::OnSyncLoss => self.on_sync_loss.to_string(),
            Key::SyncTimeout => crate::unit::show_duration(self.sync_timeout),
            Key::MaxLag => crate::unit::show_duration(self.max_lag?),
            Key::MaxLagBytes => crate::unit::show_bytes(self.max_lag_bytes?),
            Key::MaxLagRecords => self.max_lag_records?.to_string(),
            Key::OnLag => self.on_lag.to_string(),
            Key::Failover => self.failover.to_string(),
        })
    }
}

/// Which layer a value came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Built in.
    Default,
    /// `[policy.NAME]` of the topology.
    Policy(Arc<str>),
    /// The topic's own config.
    Topic,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Policy(name) => write!(f, "policy.{name}"),
            Self::Topic => f.write_str("topic"),
        }
    }
}

/// `[policy.NAME]` of the topology, with everything that it inherits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Policy {
    pub name: Arc<str>,
    /// Empty for `default` and `internal`.
    pub topics: Vec<Pattern>,
    pub settings: Settings,
    /// One for every key of [`Settings`].
    pub sources: BTreeMap<Key, Source>,
    /// What `settings` was merged from, the strongest first: a topic's configs go on top.
    #[serde(skip)]
    pub(crate) layers: Vec<(Source, Partial)>,
    #[serde(skip)]
    pub(crate) fallback: Fallback,
}

/// What holds for one topic, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Effective {
    /// The policy that the topic's name chose.
    pub policy: Arc<str>,
    pub settings: Settings,
    /// One for every key of [`Settings`].
    pub sources: BTreeMap<Key, Source>,
}

impl Effective {
    /// # Panics
    /// For [`Key::Topics`], which only a policy has.
    pub fn source(&self, key: Key) -> &Source {
        self.sources.get(&key).expect("every key of Settings has a source")
    }
}

#[cfg(test)]
mod tests;
