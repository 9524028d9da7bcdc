//! Values that are right each by itself and make no sense together, or not in this topology.

use std::collections::BTreeMap;

use super::{Failover, Flush, Key, OnIsolation, OnLag, OnSyncLoss, Partial, Replication, Settings};
use crate::{DcName, Severity, Topology};

/// The DCs as policies see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// DC → (witness, nodes).
    pub dcs: BTreeMap<DcName, (bool, usize)>,
}

impl Shape {
    pub fn of(topology: &Topology) -> Self {
        let dcs = topology
            .dcs()
            .iter()
            .map(|dc| (dc.name.clone(), (dc.witness, topology.nodes_in(&dc.name).count())));
        Self { dcs: dcs.collect() }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .dcs
            .iter()
            .filter(|(_, (witness, _))| !witness)
            .map(|(dc, _)| dc.as_str())
            .collect();
        names.join(", ")
    }
}

/// What does not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub severity: Severity,
    /// The keys that take part, the likeliest mistake first.
    pub keys: &'static [Key],
    pub found: String,
    pub expected: String,
}

impl Conflict {
    /// The key of this layer to blame; `None` when the layer has no part in it, because then the
    /// layer below it has, and says so there.
    pub fn blame(&self, layer: &Partial) -> Option<Key> {
        self.keys.iter().copied().find(|key| layer.says(*key))
    }

    /// Whether it may come from a hole: whether a value that takes part was refused in the layer
    /// that decides it. What does not fit by itself needs no other value to be right.
    pub fn doubtful(&self, layers: &[&Partial]) -> bool {
        let decides =
            |key: Key| layers.iter().find(|layer| layer.says(key) || layer.refused.contains(&key));
        let hole = |key: &Key| decides(*key).is_some_and(|layer| layer.refused.contains(key));
        self.keys.len() > 1 && self.keys.iter().any(hole)
    }
}

pub(crate) fn conflicts(settings: &Settings, shape: &Shape) -> Vec<Conflict> {
    let mut out = Vec::new();
    replicas(settings, shape, &mut out);
    home(settings, shape, &mut out);
    sync(settings, &mut out);
    budget(settings, &mut out);
    failover(settings, shape, &mut out);
    out
}

/// Settings without effect. Only for the layer that says them: an inherited one is no mistake of the
/// heir.
pub(crate) fn idle(settings: &Settings, layer: &Partial) -> Vec<Conflict> {
    let sync = idle_sync_to(settings, layer).into_iter().chain(idle_degrading(settings, layer));
    sync.chain(idle_budget(settings, layer)).collect()
}

fn idle_sync_to(settings: &Settings, layer: &Partial) -> Option<Conflict> {
    let sync_to = layer.sync_to?;
    (settings.replication == Replication::Async).then(|| Conflict {
        severity: Severity::Error,
        keys: &[Key::SyncTo, Key::Replication],
        found: format!("{sync_to} with replication = \"async\", which waits for no remote DC"),
        expected: "replication = \"sync\" beside it, or no sync_to".to_owned(),
    })
}

/// `degrade` of what is async already, or a timeout of what never degrades.
fn idle_degrading(settings: &Settings, layer: &Partial) -> Option<Conflict> {
    const DEGRADE: &[Key] = &[Key::OnSyncLoss, Key::Replication];
    const TIMEOUT: &[Key] = &[Key::SyncTimeout, Key::OnSyncLoss];
    if settings.replication == Replication::Async && layer.on_sync_loss == Some(OnSyncLoss::Degrade)
    {
        let found =
            "\"degrade\" with replication = \"async\", which waits for no remote DC".to_owned();
        let expected = "replication = \"sync\" beside it, or no on_sync_loss".to_owned();
        return Some(error(DEGRADE, found, expected));
    }
    let timeout = layer.sync_timeout?;
    (settings.on_sync_loss == OnSyncLoss::Block).then(|| {
        let found =
            format!("{:?} with on_sync_loss = \"block\"", crate::unit::show_duration(timeout));
        let expected = "on_sync_loss = \"degrade\" beside it, or no sync_timeout".to_owned();
        error(TIMEOUT, found, expected)
    })
}

/// A budget beside `replication = "sync"`, or what to do at one that is not there.
fn idle_budget(settings: &Settings, layer: &Partial) -> Option<Conflict> {
    const KEYS: &[Key] =
        &[Key::MaxLag, Key::MaxLagBytes, Key::MaxLagRecords, Key::OnLag, Key::Replication];
    let said = KEYS[..4].iter().find(|key| layer.says(**key))?;
    if settings.replication != Replication::Async {
        let found = format!(
            "{said} with replication = \"sync\", whose acknowledged records are safe in another DC"
        );
        return Some(error(KEYS, found, format!("replication = \"async\", or no {said}")));
    }
    let on_lag = layer.on_lag.filter(|_| !settings.has_budget())?;
    Some(error(
        &[Key::OnLag, Key::MaxLag, Key::MaxLagBytes, Key::MaxLagRecords],
        format!("{:?} without a budget", on_lag.as_str()),
        "max_lag, max_lag_bytes or max_lag_records beside it, or no on_lag".to_owned(),
    ))
}

fn error(keys: &'static [Key], found: String, expected: String) -> Conflict {
    Conflict { severity: Severity::Error, keys, found, expected }
}

fn replicas(settings: &Settings, shape: &Shape, out: &mut Vec<Conflict>) {
    const KEYS: &[Key] = &[Key::Replicas];
    for (dc, count) in &settings.replicas {
        match shape.dcs.get(dc) {
            None => out.push(error(
                KEYS,
                format!("{dc} = {count}, and there is no DC {dc}"),
                crate::suggest::among(dc.as_str(), shape.dcs.keys().map(DcName::as_str), || {
                    format!("a DC of this file: {}", shape.names())
                }),
            )),
            Some((true, _)) => out.push(error(
                KEYS,
                format!("{dc} = {count}, and {dc} is a witness"),
                format!("replicas only in data DCs ({}): a witness holds no data", shape.names()),
            )),
            Some((false, nodes)) if *count as usize > *nodes => out.push(error(
                KEYS,
                format!("{dc} = {count}, and {dc} has {nodes} node(s)"),
                format!("at most {nodes}: never two replicas of a partition on one node"),
            )),
            Some(_) if count % 2 == 0 => out.push(Conflict {
                severity: Severity::Warning,
                keys: KEYS,
                found: format!("{dc} = {count}, an even number"),
                expected: format!(
                    "{} or {}: a majority of {count} survives the loss of no more than that of {}",
                    count - 1,
                    count + 1,
                    count - 1
                ),
            }),
            Some(_) => {}
        }
    }
}

fn home(settings: &Settings, shape: &Shape, out: &mut Vec<Conflict>) {
    const KEYS: &[Key] = &[Key::Home, Key::Replicas];
    for dc in settings.home.named() {
        if !shape.dcs.contains_key(dc) {
            out.push(error(
                KEYS,
                format!("{dc}, and there is no such DC"),
                crate::suggest::among(dc.as_str(), shape.dcs.keys().map(DcName::as_str), || {
                    format!("a DC of this file: {}", shape.names())
                }),
            ));
        } else if !settings.replicas.contains_key(dc) {
            let with: Vec<&str> = settings.replicas.keys().map(DcName::as_str).collect();
            out.push(error(
                KEYS,
                format!("{dc}, which has no replicas"),
                format!("a DC of `replicas`: {}", with.join(", ")),
            ));
        }
    }
    let homes = settings.homes();
    let voters = homes.iter().filter_map(|dc| settings.replicas.get(dc)).min();
    if let Some(voters) = voters.filter(|voters| settings.min_insync_replicas > **voters) {
        out.push(error(
            &[Key::MinInsyncReplicas, Key::Replicas, Key::Home],
            format!("{} with {voters} replica(s) at home", settings.min_insync_replicas),
            format!("at most {voters}: it counts the voters, which are the replicas at home"),
        ));
    }
}

fn sync(settings: &Settings, out: &mut Vec<Conflict>) {
    let Replication::Sync { to } = settings.replication else { return };
    if settings.flush == Flush::Os {
        out.push(error(
            &[Key::Flush, Key::Replication],
            "flush = \"os\" with replication = \"sync\"".to_owned(),
            "flush = \"quorum\": a sync acknowledgement says that remote DCs have it on disk"
                .to_owned(),
        ));
    }
    let remote = settings.remote_dcs();
    if to as usize > remote {
        let keys = &[Key::SyncTo, Key::Replication, Key::Replicas, Key::Home];
        let expected = match remote {
            0 => "replicas in a second DC, or replication = \"async\"".to_owned(),
            _ => format!("at most {remote}: the DCs with replicas, home not counted"),
        };
        out.push(error(keys, format!("sync_to = {to} with {remote} remote DC(s)"), expected));
    }
}

/// Without another DC nothing is ever safe elsewhere, and a topic would soon take nothing any more.
fn budget(settings: &Settings, out: &mut Vec<Conflict>) {
    if settings.has_budget() && settings.on_lag != OnLag::Continue && settings.remote_dcs() == 0 {
        out.push(error(
            &[
                Key::MaxLag,
                Key::MaxLagBytes,
                Key::MaxLagRecords,
                Key::OnLag,
                Key::Replicas,
                Key::Home,
            ],
            format!("a budget with on_lag = \"{}\" and no remote DC", settings.on_lag),
            "replicas in a second DC, or on_lag = \"continue\"".to_owned(),
        ));
    }
}

/// Nobody moves a home by itself that may go on acknowledging where it is, or that it cannot tell is lost.
fn failover(settings: &Settings, shape: &Shape, out: &mut Vec<Conflict>) {
    if settings.failover != Failover::Automatic {
        return;
    }
    let found = || "failover = \"automatic\"".to_owned();
    if settings.on_isolation == OnIsolation::Continue && settings.replication == Replication::Async
    {
        out.push(error(
            &[Key::Failover, Key::OnIsolation, Key::Replication],
            format!("{} with on_isolation = \"continue\"", found()),
            "on_isolation = \"fence\": a home that is cut off has to stop before another goes on"
                .to_owned(),
        ));
    }
    if settings.remote_dcs() == 0 {
        out.push(error(
            &[Key::Failover, Key::Replicas, Key::Home],
            format!("{} and no remote DC", found()),
            "replicas in a second DC, or failover = \"manual\"".to_owned(),
        ));
    }
    if shape.dcs.len() < 3 {
        out.push(error(
            &[Key::Failover],
            format!("{} in {} DC(s)", found(), shape.dcs.len()),
            "a third DC, or a witness: of two nobody can tell which one is lost".to_owned(),
        ));
    }
}
