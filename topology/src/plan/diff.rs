//! What changes from the generation in force to the proposal, and which of it is refused.

use crate::policy::{Key, Policy, Source};
use crate::{Address, Dc, Link, Node, NodeId, Topology, meta, unit};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    pub kind: Kind,
    /// As in `dc sin`, `node 4 peer`, `policy payments sync_to`.
    pub what: String,
    /// Old and new, where it is one value.
    pub detail: String,
    /// What it does to what exists.
    pub note: String,
    /// Why it cannot be applied.
    pub refused: Option<String>,
}

impl Change {
    fn new(kind: Kind, what: String) -> Self {
        Self { kind, what, detail: String::new(), note: String::new(), refused: None }
    }

    fn value(what: String, old: impl ToString, new: impl ToString) -> Self {
        let detail = format!("{} → {}", old.to_string(), new.to_string());
        Self { detail, ..Self::new(Kind::Changed, what) }
    }

    fn note(self, note: &str) -> Self {
        Self { note: note.to_owned(), ..self }
    }

    fn refuse(self, why: &str) -> Self {
        Self { refused: Some(why.to_owned()), ..self }
    }
}

const KEEPS_PLACE: &str = "topics that exist keep their home and replicas";
const NEW_TOPICS: &str = "for topics created from now on; those that exist keep their replicas";
const EXISTING_TOO: &str = "holds for topics that exist, too";
const RESTART: &str = "takes hold when the node restarts";
const RESTARTS: &str = "the node listens there when it restarts; each other one finds it there once it is restarted with this file";
const SWITCHOVER: &str = "for topics created from now on; a changed file never moves a home: that is `isobar dc switchover`";
const SWITCHES: &str = "for topics created from now on; refused while topics that exist follow it, since changing between sync and async is not built yet";
const LEAVES: &str = "removing a DC is not built yet: leave it in the file";
const EMPTY: &str =
    "refused while replicas are placed on it; taking them away comes with a later release";

pub(super) fn between(old: &Topology, new: &Topology) -> Vec<Change> {
    let mut out = Vec::new();
    cluster(old, new, &mut out);
    dcs(old, new, &mut out);
    nodes(old, new, &mut out);
    links(old, new, &mut out);
    policies(old, new, &mut out);
    meta_voters(old, new, &mut out);
    out
}

fn cluster(old: &Topology, new: &Topology, out: &mut Vec<Change>) {
    let (a, b) = (old.cluster(), new.cluster());
    if a.name != b.name {
        let change = Change::value("cluster name".to_owned(), &a.name, &b.name);
        out.push(
            change.refuse("the name is in every certificate and stays for the life of the cluster"),
        );
    }
    if a.ca != b.ca {
        let change = Change::value("cluster tls ca".to_owned(), a.ca.display(), b.ca.display());
        out.push(change.note("takes hold on each node when it restarts"));
    }
    if a.election_timeout != b.election_timeout {
        let shown = |cluster: &crate::Cluster| unit::show_duration(cluster.election_timeout);
        let what = "cluster election_timeout".to_owned();
        out.push(Change::value(what, shown(a), shown(b)).note(RESTART));
    }
}

fn dcs(old: &Topology, new: &Topology, out: &mut Vec<Change>) {
    for dc in new.dcs() {
        let what = format!("dc {}", dc.name);
        match old.dc(&dc.name) {
            None => out.push(Change::new(Kind::Added, what).note(KEEPS_PLACE)),
            Some(Dc { witness, .. }) if *witness != dc.witness => {
                let change = Change::value(format!("{what} witness"), witness, dc.witness);
                out.push(
                    change.refuse("a DC is declared with or without data once; add another DC"),
                );
            }
            Some(_) => {}
        }
    }
    for dc in old.dcs().iter().filter(|dc| new.dc(&dc.name).is_none()) {
        out.push(Change::new(Kind::Removed, format!("dc {}", dc.name)).refuse(LEAVES));
    }
}

fn nodes(old: &Topology, new: &Topology, out: &mut Vec<Change>) {
    for node in new.nodes() {
        match old.node(node.id) {
            None => {
                let what = format!("node {} in {}", node.id, node.dc);
                let note = "holds replicas of topics created from now on, and nothing is moved to it; the others speak with it at once";
                out.push(Change::new(Kind::Added, what).note(note));
            }
            Some(before) => node_changed(before, node, out),
        }
    }
    for node in old.nodes().filter(|node| new.node(node.id).is_none()) {
        let what = format!("node {} in {}", node.id, node.dc);
        out.push(Change::new(Kind::Removed, what).note(EMPTY));
    }
}

fn node_changed(old: &Node, new: &Node, out: &mut Vec<Change>) {
    let what = |part: &str| format!("node {} {part}", new.id);
    if old.dc != new.dc {
        let change = Change::value(what("dc"), &old.dc, &new.dc);
        out.push(change.refuse("a node stays in its DC: give the machine a new id there"));
    }
    let address = |part: &str, old: &Address, new: &Address, note| {
        let show = |a: &Address| format!("{} (advertised {})", a.bind, a.advertised);
        (old != new).then(|| Change::value(what(part), show(old), show(new)).note(note))
    };
    out.extend(address("peer", &old.peer, &new.peer, RESTARTS));
    out.extend(address("admin", &old.admin, &new.admin, RESTART));
    for listener in &new.listeners {
        let part = format!("listener {}", listener.name);
        out.extend(match old.listeners.iter().find(|l| l.name == listener.name) {
            Some(before) => address(&part, &before.address, &listener.address, RESTART),
            None => Some(Change::new(Kind::Added, what(&part)).note(RESTART)),
        });
    }
    for gone in old.listeners.iter().filter(|l| new.listeners.iter().all(|n| n.name != l.name)) {
        let part = format!("listener {}", gone.name);
        out.push(Change::new(Kind::Removed, what(&part)).note(RESTART));
    }
    if old.data_dirs != new.data_dirs {
        let change = Change::value(what("data_dirs"), show(&old.data_dirs), show(&new.data_dirs));
        out.push(change.note("takes hold when the node restarts; replicas in a directory that is left out are missing until it is back"));
    }
    if old.tls != new.tls {
        let show = |node: &Node| format!("{}, {}", node.tls.cert.display(), node.tls.key.display());
        out.push(Change::value(what("tls"), show(old), show(new)).note(RESTART));
    }
}

fn show(dirs: &[std::path::PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn links(old: &Topology, new: &Topology, out: &mut Vec<Change>) {
    for link in new.links() {
        let (a, b) = (&link.between.0, &link.between.1);
        let what = format!("link {a}–{b}");
        let Some(before) = old.link(a, b) else {
            out.push(Change::new(Kind::Added, what));
            continue;
        };
        if before.rtt != link.rtt {
            let show = |link: &Link| unit::show_duration(link.rtt);
            let change = Change::value(format!("{what} rtt"), show(before), show(link));
            out.push(change.note("Raft's timing follows when the nodes restart"));
        }
        let mut word = |part: &str, old: String, new: String| {
            if old != new {
                let note = "takes hold within seconds: connections over the link are made anew";
                out.push(Change::value(format!("{what} {part}"), old, new).note(note));
            }
        };
        word("bandwidth", before.bandwidth.to_string(), link.bandwidth.to_string());
        word("compression", before.compression.to_string(), link.compression.to_string());
    }
    for link in old.links().filter(|l| new.link(&l.between.0, &l.between.1).is_none()) {
        let what = format!("link {}–{}", link.between.0, link.between.1);
        out.push(Change::new(Kind::Removed, what));
    }
}

fn policies(old: &Topology, new: &Topology, out: &mut Vec<Change>) {
    for policy in new.policies() {
        let what = format!("policy {}", policy.name);
        match old.policy(&policy.name) {
            Some(before) => policy_changed(before, policy, out),
            None => {
                let note = format!("topics that match follow it from now on; {KEEPS_PLACE}");
                out.push(Change::new(Kind::Added, what).note(&note));
            }
        }
    }
    for policy in old.policies().filter(|policy| new.policy(&policy.name).is_none()) {
        let note = format!("its topics follow the policy that names them next; {KEEPS_PLACE}");
        out.push(Change::new(Kind::Removed, format!("policy {}", policy.name)).note(&note));
    }
}

fn policy_changed(old: &Policy, new: &Policy, out: &mut Vec<Change>) {
    let what = |key: Key| format!("policy {} {key}", new.name);
    if old.topics != new.topics {
        let show = |policy: &Policy| {
            policy.topics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let note = format!("topics follow the policy that names them now; {KEEPS_PLACE}");
        out.push(Change::value(what(Key::Topics), show(old), show(new)).note(&note));
    }
    for key in Key::ALL.iter().copied().filter(|key| *key != Key::Topics) {
        let (before, after) = (old.settings.value(key), new.settings.value(key));
        if before == after || inherited(old, new, key) {
            continue;
        }
        let none = || "none".to_owned();
        let change =
            Change::value(what(key), before.unwrap_or_else(none), after.unwrap_or_else(none));
        out.push(match key {
            Key::Home => change.note(SWITCHOVER),
            Key::Replication | Key::SyncTo => change.note(SWITCHES),
            Key::Replicas => change.note(NEW_TOPICS),
            Key::Partitions => change.note("for topics created from now on"),
            _ => change.note(EXISTING_TOO),
        });
    }
}

/// Both times from another policy: then it is shown there.
fn inherited(old: &Policy, new: &Policy, key: Key) -> bool {
    let elsewhere = |policy: &Policy| match policy.sources.get(&key) {
        Some(Source::Policy(name)) => *name != policy.name,
        _ => false,
    };
    elsewhere(old) && elsewhere(new)
}

fn meta_voters(old: &Topology, new: &Topology, out: &mut Vec<Change>) {
    let (before, after) = (meta::meta_voters(old), meta::meta_voters(new));
    if before == after {
        return;
    }
    let show = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let change = Change::value("__meta voters".to_owned(), show(&before), show(&after));
    out.push(change.refuse("changing who votes in __meta is not built yet"));
}
