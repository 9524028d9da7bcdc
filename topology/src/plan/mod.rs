//! What a topology would mean, before it is applied: for each policy where its partitions go, what
//! an acknowledgement costs and what each failure does; and, beside the generation in force, what
//! changes and what is refused.
//!
//! Pure: it knows the declared round trips, and the measured ones that a caller hands in. It does
//! not know the topics that exist; what it says of them holds for each.

mod cost;
mod diff;
mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::timing::{Lease, Timing, lease, timing};
use crate::topology::ordered;
use crate::{DcName, NodeId, Topology, meta};

pub use cost::{Ack, Failure, PolicyPlan, WanCopies};
pub use diff::{Change, Kind};

/// Measured round trips between DCs, in whichever order the names come.
pub type Measured = BTreeMap<(DcName, DcName), Duration>;

/// A measured round trip this many times the declared one is worth a warning: Raft's timing and the
/// windows were derived from the wrong number.
const RTT_FAR_ABOVE: f64 = 1.5;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    pub cluster: String,
    /// Of the topology in force; `None` where there is none yet.
    pub generation: Option<u64>,
    pub meta: MetaPlan,
    pub policies: Vec<PolicyPlan>,
    /// Empty when nothing is in force, or nothing changes.
    pub changes: Vec<Change>,
    /// What somebody should know, and what stops nobody.
    pub warnings: Vec<String>,
}

/// The metadata quorum.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MetaPlan {
    pub voters: BTreeMap<DcName, Vec<NodeId>>,
    pub learners: Vec<NodeId>,
    /// DCs whose loss alone stops it.
    pub indispensable: Vec<DcName>,
    pub max_rtt_ms: u64,
    pub timing: Timing,
    pub lease: Lease,
}

impl Plan {
    /// The changes that cannot be applied.
    pub fn refused(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.refused.is_some())
    }

    /// Whether anything would change.
    pub fn changes_nothing(&self) -> bool {
        self.generation.is_some() && self.changes.is_empty()
    }
}

/// The plan from the declared round trips. `old` is the generation in force.
pub fn render(old: Option<&Topology>, new: &Topology) -> Plan {
    render_measured(old, new, &Measured::new())
}

/// The plan from measured round trips where there are any, and the declared ones elsewhere.
pub fn render_measured(old: Option<&Topology>, new: &Topology, measured: &Measured) -> Plan {
    let paths = Paths { topology: new, measured };
    Plan {
        cluster: new.cluster().name.to_string(),
        generation: old.and_then(Topology::generation),
        meta: meta_plan(new, &paths),
        policies: new.policies().map(|policy| cost::of(policy, &paths)).collect(),
        changes: old.map(|old| diff::between(old, new)).unwrap_or_default(),
        warnings: warnings(new, &paths),
    }
}

fn meta_plan(topology: &Topology, paths: &Paths<'_>) -> MetaPlan {
    let ids = meta::meta_voters(topology);
    let mut voters: BTreeMap<DcName, Vec<NodeId>> = BTreeMap::new();
    for id in &ids {
        let dc = topology.dc_of(*id).expect("voters are nodes of this topology");
        voters.entry(dc.clone()).or_default().push(*id);
    }
    let dcs: Vec<&DcName> = voters.keys().collect();
    let pairs = dcs.iter().flat_map(|a| dcs.iter().map(move |b| (*a, *b)));
    let max_rtt = pairs.map(|(a, b)| paths.rtt(a, b)).max().unwrap_or_default();
    let timing = timing(max_rtt, topology.cluster().election_timeout);
    MetaPlan {
        voters,
        learners: meta::meta_learners(topology),
        indispensable: meta::meta_indispensable_dcs(topology),
        max_rtt_ms: u64::try_from(max_rtt.as_millis()).unwrap_or(u64::MAX),
        timing,
        lease: lease(&timing),
    }
}

fn warnings(topology: &Topology, paths: &Paths<'_>) -> Vec<String> {
    let mut out: Vec<String> =
        topology.policies().filter_map(|policy| cost::tight_budget(policy, paths)).collect();
    for link in topology.links() {
        let (a, b) = (&link.between.0, &link.between.1);
        let Some(measured) = paths.measured(a, b) else { continue };
        if measured.as_secs_f64() > link.rtt.as_secs_f64() * RTT_FAR_ABOVE {
            out.push(format!(
                "link {a}–{b}: measured {} ms, declared {} ms; Raft's timing and the windows follow the declared one",
                measured.as_millis(),
                link.rtt.as_millis()
            ));
        }
    }
    out
}

/// Round trips as the plan sees them.
struct Paths<'a> {
    topology: &'a Topology,
    measured: &'a Measured,
}

impl Paths<'_> {
    fn measured(&self, a: &DcName, b: &DcName) -> Option<Duration> {
        let (a, b) = ordered(a, b);
        let direct = self.measured.get(&(a.clone(), b.clone()));
        direct.or_else(|| self.measured.get(&(b, a))).copied()
    }

    /// A checked topology declares a link for every two DCs.
    fn rtt(&self, a: &DcName, b: &DcName) -> Duration {
        let declared = || self.topology.rtt(a, b).expect("every two DCs have a link");
        if a == b { Duration::ZERO } else { self.measured(a, b).unwrap_or_else(declared) }
    }
}

#[cfg(test)]
mod tests;
