//! One layer of a policy, and how layers combine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::value::{self, Refusal, Value};
use super::{
    Failover, Flush, Home, Key, OnIsolation, OnLag, OnSyncLoss, Replication, SYNC_TIMEOUT,
    Settings, Source,
};
use crate::DcName;
use crate::pattern::Pattern;

/// What one layer says; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partial {
    pub topics: Option<Vec<Pattern>>,
    pub home: Option<Home>,
    pub replicas: Option<BTreeMap<DcName, u32>>,
    pub sync: Option<bool>,
    pub sync_to: Option<u32>,
    pub flush: Option<Flush>,
    pub min_insync_replicas: Option<u32>,
    pub partitions: Option<u32>,
    pub on_isolation: Option<OnIsolation>,
    pub on_sync_loss: Option<OnSyncLoss>,
    pub sync_timeout: Option<Duration>,
    pub max_lag: Option<Duration>,
    pub max_lag_bytes: Option<u64>,
    pub max_lag_records: Option<u32>,
    pub on_lag: Option<OnLag>,
    pub failover: Option<Failover>,
    /// Keys with a value that was refused.
    pub refused: BTreeSet<Key>,
}

impl Partial {
    /// Takes a value, or says what would have been right. What is refused leaves a hole, which is
    /// remembered: nobody gets to use such a layer, and nothing is concluded from the hole.
    pub fn set(&mut self, key: Key, value: &Value<'_>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        value::read(self, key, value, &mut refusals);
        if !refusals.is_empty() {
            self.refused.insert(key);
        }
        refusals
    }

    pub fn says(&self, key: Key) -> bool {
        match key {
            Key::Topics => self.topics.is_some(),
            Key::Home => self.home.is_some(),
            Key::Replicas => self.replicas.is_some(),
            Key::Replication => self.sync.is_some(),
            Key::SyncTo => self.sync_to.is_some(),
            Key::Flush => self.flush.is_some(),
            Key::MinInsyncReplicas => self.min_insync_replicas.is_some(),
            Key::Partitions => self.partitions.is_some(),
            Key::OnIsolation => self.on_isolation.is_some(),
            Key::OnSyncLoss => self.on_sync_loss.is_some(),
            Key::SyncTimeout => self.sync_timeout.is_some(),
            Key::MaxLag => self.max_lag.is_some(),
            Key::MaxLagBytes => self.max_lag_bytes.is_some(),
            Key::MaxLagRecords => self.max_lag_records.is_some(),
            Key::OnLag => self.on_lag.is_some(),
            Key::Failover => self.failover.is_some(),
        }
    }
}

/// What holds where no layer says anything and the topology decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fallback {
    pub home: Home,
    pub replicas: BTreeMap<DcName, u32>,
    pub partitions: u32,
}

/// Combines layers, the strongest first.
pub(crate) fn merge(
    layers: &[(Source, &Partial)],
    fallback: &Fallback,
) -> (Settings, BTreeMap<Key, Source>) {
    let mut pick = Pick { layers, sources: BTreeMap::new() };
    let sync = pick.value(Key::Replication, |l| l.sync).unwrap_or(false);
    let sync_to = pick.value(Key::SyncTo, |l| l.sync_to).unwrap_or(1);
    let settings = Settings {
        home: pick.value(Key::Home, |l| l.home.clone()).unwrap_or_else(|| fallback.home.clone()),
        replicas: pick
            .value(Key::Replicas, |l| l.replicas.clone())
            .unwrap_or_else(|| fallback.replicas.clone()),
        replication: if sync { Replication::Sync { to: sync_to } } else { Replication::Async },
        flush: pick.value(Key::Flush, |l| l.flush).unwrap_or(Flush::Quorum),
        min_insync_replicas: pick
            .value(Key::MinInsyncReplicas, |l| l.min_insync_replicas)
            .unwrap_or(1),
        partitions: pick.value(Key::Partitions, |l| l.partitions).unwrap_or(fallback.partitions),
        on_isolation: pick
            .value(Key::OnIsolation, |l| l.on_isolation)
            .unwrap_or(OnIsolation::Fence),
        on_sync_loss: pick.value(Key::OnSyncLoss, |l| l.on_sync_loss).unwrap_or(OnSyncLoss::Block),
        sync_timeout: pick.value(Key::SyncTimeout, |l| l.sync_timeout).unwrap_or(SYNC_TIMEOUT),
        max_lag: pick.value(Key::MaxLag, |l| l.max_lag).filter(|_| !sync),
        max_lag_bytes: pick.value(Key::MaxLagBytes, |l| l.max_lag_bytes).filter(|_| !sync),
        max_lag_records: pick.value(Key::MaxLagRecords, |l| l.max_lag_records).filter(|_| !sync),
        on_lag: pick.value(Key::OnLag, |l| l.on_lag).unwrap_or(OnLag::Continue),
        failover: pick.value(Key::Failover, |l| l.failover).unwrap_or(Failover::Manual),
    };
    (settings, pick.sources)
}

struct Pick<'a> {
    layers: &'a [(Source, &'a Partial)],
    sources: BTreeMap<Key, Source>,
}

impl Pick<'_> {
    fn value<T>(&mut self, key: Key, of: impl Fn(&Partial) -> Option<T>) -> Option<T> {
        let found = self.layers.iter().find_map(|(source, layer)| Some((source, of(layer)?)));
        let source = found.as_ref().map_or(Source::Default, |(source, _)| (*source).clone());
        self.sources.insert(key, source);
        found.map(|(_, value)| value)
    }
}
