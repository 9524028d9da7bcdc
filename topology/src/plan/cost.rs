//! What a policy costs: latency of an acknowledgement, copies over the WAN, and what each failure
//! does to writes and to what was acknowledged.

use std::time::Duration;

use super::Paths;
use crate::placement::{Load, PartitionPlacement, place};
use crate::policy::{
    DEFAULT, Failover, Flush, INTERNAL, OnIsolation, OnLag, OnSyncLoss, Policy, Replication,
    Settings,
};
use crate::quorum::{dcs_needed_for_seal, losses_tolerated};
use crate::{DcName, unit};

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PolicyPlan {
    pub name: String,
    pub topics: Vec<String>,
    /// `home`, `replicas`, … as values, in short.
    pub summary: String,
    /// One for each DC that can be home.
    pub acks: Vec<Ack>,
    /// Where the first partition of a first topic would be.
    pub first_partition: PartitionPlacement,
    pub wan: Vec<WanCopies>,
    pub failures: Vec<Failure>,
}

/// What acks=all waits for beyond the home DC.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ack {
    pub home: DcName,
    /// The nearest DCs that complete it; empty for async.
    pub waits_for: Vec<DcName>,
    pub added_ms: u64,
}

/// How often a produced byte crosses a link.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WanCopies {
    pub from: DcName,
    pub to: DcName,
    pub copies: u32,
    /// Before compression, for each byte a second produced.
    pub bytes_a_day_per_byte_a_second: u64,
    /// What the link's declared bandwidth carries of this policy's topics alone, where they are at
    /// home in `from`.
    pub produce_bytes_per_second_max: u64,
}

/// One thing that fails, alone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    pub of: String,
    /// What becomes of writes (RTO).
    pub writes: String,
    /// What becomes of acknowledged records (RPO).
    pub lost: String,
}

pub(super) fn of(policy: &Policy, paths: &Paths<'_>) -> PolicyPlan {
    let mut settings = policy.settings.clone();
    // Kafka's own topics go along with any other that moves by itself.
    if &*policy.name == INTERNAL
        && paths.topology.policies().any(|p| p.settings.failover == Failover::Automatic)
    {
        settings.failover = Failover::Automatic;
    }
    let settings = &settings;
    let topics = match &*policy.name {
        DEFAULT => vec!["every topic that no other policy names".to_owned()],
        INTERNAL => vec!["Kafka's own topics (__*)".to_owned()],
        _ => policy.topics.iter().map(ToString::to_string).collect(),
    };
    let homes = settings.homes();
    PolicyPlan {
        name: policy.name.to_string(),
        topics,
        summary: summary(settings),
        first_partition: first_partition(settings, paths),
        acks: homes.iter().map(|home| ack(settings, home, paths, None)).collect(),
        wan: homes.iter().flat_map(|home| wan(settings, home, paths)).collect(),
        failures: failures(settings, &homes, paths),
    }
}

/// The exposure budget, in words.
fn budget(settings: &Settings) -> Option<String> {
    let lag = settings.max_lag.map(|lag| format!("{} of writes", unit::show_duration(lag)));
    let bytes = settings.max_lag_bytes.map(unit::show_bytes);
    let records = settings.max_lag_records.map(|records| format!("{records} records"));
    let all: Vec<String> = lag.into_iter().chain(bytes).chain(records).collect();
    (!all.is_empty()).then(|| all.join(" or "))
}

/// Round trips that a budget in time must cover: fewer are at stake, or nearly, whenever a producer is
/// at work.
const BUDGET_ROUND_TRIPS_MIN: u32 = 2;

/// A budget that is used up although nothing has failed.
pub(super) fn tight_budget(policy: &Policy, paths: &Paths<'_>) -> Option<String> {
    let settings = &policy.settings;
    let lag = settings.max_lag.filter(|_| settings.on_lag != OnLag::Continue)?;
    let homes = settings.homes();
    let nearest = homes.iter().filter_map(|home| {
        nearest(settings, home, paths).first().map(|(rtt, dc)| (*rtt, home, (*dc).clone()))
    });
    let (rtt, home, dc) = nearest.max()?;
    (lag < rtt * BUDGET_ROUND_TRIPS_MIN).then(|| {
        format!(
            "policy {}: max_lag {} is less than {BUDGET_ROUND_TRIPS_MIN} round trips from {home} to {dc}, the nearest ({} ms each): on_lag = \"{}\" will hold producers back when nothing has failed",
            policy.name,
            unit::show_duration(lag),
            rtt.as_millis(),
            settings.on_lag
        )
    })
}

fn summary(settings: &Settings) -> String {
    let replicas: Vec<String> =
        settings.replicas.iter().map(|(dc, count)| format!("{dc} {count}")).collect();
    let home = match settings.home.named() {
        [] => "home spread, each partition's in its turn in the next DC".to_owned(),
        [one] => format!("home {one}"),
        [first, rest @ ..] => {
            let rest: Vec<&str> = rest.iter().map(DcName::as_str).collect();
            format!("home {first} (then {})", rest.join(", "))
        }
    };
    format!(
        "{home}; replicas {}; {}; flush {}",
        replicas.join(", "),
        settings.replication,
        settings.flush
    )
}

/// The remote DCs of a home, nearest first (by name among equals).
fn nearest<'a>(
    settings: &'a Settings,
    home: &DcName,
    paths: &Paths<'_>,
) -> Vec<(Duration, &'a DcName)> {
    let remote = settings.replicas.keys().filter(|dc| *dc != home);
    let mut remote: Vec<_> = remote.map(|dc| (paths.rtt(home, dc), dc)).collect();
    remote.sort();
    remote
}

/// With one remote DC out of reach, where `without` names it.
fn ack(settings: &Settings, home: &DcName, paths: &Paths<'_>, without: Option<&DcName>) -> Ack {
    let k = settings.replication.sync_to() as usize;
    let near = nearest(settings, home, paths);
    let required: Vec<_> =
        near.into_iter().filter(|(_, dc)| Some(*dc) != without).take(k).collect();
    let added = required.last().map_or(Duration::ZERO, |(rtt, _)| *rtt);
    Ack {
        home: home.clone(),
        waits_for: required.into_iter().map(|(_, dc)| dc.clone()).collect(),
        added_ms: u64::try_from(added.as_millis()).unwrap_or(u64::MAX),
    }
}

fn first_partition(settings: &Settings, paths: &Paths<'_>) -> PartitionPlacement {
    let placed = place(paths.topology, settings, 1, 0, &Load::new());
    placed.expect("a checked policy fits its topology").remove(0)
}

const SECONDS_A_DAY: u64 = 24 * 3600;

/// Until appends go over a relay, each remote replica is sent its own copy.
fn wan(settings: &Settings, home: &DcName, paths: &Paths<'_>) -> Vec<WanCopies> {
    let remote = settings.replicas.iter().filter(|(dc, _)| *dc != home);
    let copies = remote.map(|(dc, copies)| {
        let link = paths.topology.link(home, dc).expect("every two DCs have a link");
        WanCopies {
            from: home.clone(),
            to: dc.clone(),
            copies: *copies,
            bytes_a_day_per_byte_a_second: u64::from(*copies) * SECONDS_A_DAY,
            produce_bytes_per_second_max: link.bandwidth.bytes_per_second() / u64::from(*copies),
        }
    });
    copies.collect()
}

fn failures(settings: &Settings, homes: &[DcName], paths: &Paths<'_>) -> Vec<Failure> {
    let mut out = Vec::new();
    for home in homes {
        nodes_of_home(settings, home, paths, &mut out);
        out.push(home_lost(settings, home));
        for (_, dc) in nearest(settings, home, paths) {
            out.push(remote_lost(settings, home, dc, paths));
        }
    }
    out
}

fn nodes_of_home(settings: &Settings, home: &DcName, paths: &Paths<'_>, out: &mut Vec<Failure>) {
    let voters = settings.replicas[home] as usize;
    let spare = voters.saturating_sub(settings.min_insync_replicas as usize);
    let tolerated = losses_tolerated(voters).min(spare);
    let lost = match settings.flush {
        Flush::Quorum => "none",
        Flush::Os => "none; a power loss of a majority at once loses what was not yet flushed",
    };
    if tolerated > 0 {
        let election = unit::show_duration(paths.topology.timing(&[]).election_max());
        out.push(Failure {
            of: format!("{tolerated} of a partition's {voters} nodes in {home} (home)"),
            writes: format!("go on; where the leader was among them, after an election (at most {election} as a rule)"),
            lost: lost.to_owned(),
        });
    }
    let gone = match (settings.flush, settings.replication) {
        (Flush::Os, _) => lost,
        (Flush::Quorum, Replication::Sync { .. }) => "none",
        (Flush::Quorum, Replication::Async) => {
            "none; with their disks gone for good, what no other node had yet"
        }
    };
    out.push(Failure {
        of: format!("{} of a partition's {voters} nodes in {home} (home)", tolerated + 1),
        writes: "stop, until enough of them are back".to_owned(),
        lost: gone.to_owned(),
    });
}

fn home_lost(settings: &Settings, home: &DcName) -> Failure {
    let stop = match settings.failover {
        Failover::Manual => format!("stop, until it is back or `isobar dc failover {home}`"),
        Failover::Automatic => {
            "stop, until it is back or, after some ten seconds, the home moves by itself".to_owned()
        }
    };
    let (writes, lost) = match settings.replication {
        Replication::Sync { to } => {
            let n = settings.remote_dcs();
            let seal = dcs_needed_for_seal(n, to as usize);
            (
                stop,
                format!(
                    "none: each is on disk in {to} of {n} other DC(s), so any {seal} of them prove it"
                ),
            )
        }
        Replication::Async if settings.remote_dcs() == 0 => (
            "stop, until it is back".to_owned(),
            "everything, if its disks are gone: there is no replica elsewhere".to_owned(),
        ),
        Replication::Async => {
            let isolated = match settings.on_isolation {
                OnIsolation::Fence => "while cut off it acknowledges until its lease runs out",
                OnIsolation::Continue => "while cut off it goes on acknowledging, without bound",
            };
            let bound = match (settings.on_lag, budget(settings)) {
                (_, None) => "which is measured and has no bound without max_lag".to_owned(),
                (OnLag::Continue, Some(budget)) => format!("which is reported beyond {budget}"),
                (OnLag::Throttle | OnLag::Reject, Some(budget)) => {
                    format!("at most {budget} a partition")
                }
            };
            (
                format!("{stop}; {isolated}"),
                format!(
                    "what was acknowledged and not yet safe elsewhere, if its disks are gone: the exposure, {bound}"
                ),
            )
        }
    };
    Failure { of: format!("{home} (home)"), writes, lost }
}

/// Also what a cut link between the two does: appends take no detour.
fn remote_lost(settings: &Settings, home: &DcName, dc: &DcName, paths: &Paths<'_>) -> Failure {
    let k = settings.replication.sync_to() as usize;
    let writes = if k == 0 {
        match budget(settings).filter(|_| settings.on_lag != OnLag::Continue) {
            None => "go on; the exposure grows until it is back".to_owned(),
            Some(_) if settings.remote_dcs() > 1 => {
                "go on within the budget, which counts what no other DC has".to_owned()
            }
            Some(budget) => format!(
                "go on for {budget}, then stop with a retriable error until it is back (on_lag = \"{}\")",
                settings.on_lag
            ),
        }
    } else if settings.remote_dcs() > k {
        let rest = ack(settings, home, paths, Some(dc));
        format!("go on, {} ms per acknowledgement", rest.added_ms)
    } else if settings.on_sync_loss == OnSyncLoss::Degrade {
        format!(
            "stop with a retriable error for {}, then go on without it, on record, until it is back (on_sync_loss = \"degrade\")",
            crate::unit::show_duration(settings.sync_timeout)
        )
    } else {
        "stop with a retriable error, until it is back (on_sync_loss = \"block\")".to_owned()
    };
    Failure {
        of: format!("{dc}, a majority of its replicas, or the link {home}–{dc}"),
        writes,
        lost: "none".to_owned(),
    }
}
