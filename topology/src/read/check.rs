//! What only the whole file can tell: names that exist, numbers that fit, a quorum that survives.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Reader, join};
use super::{At, DCS_MAX, Draft, NODES_MAX, PATTERNS_MAX, POLICIES_MAX, address, policies};
use crate::policy::Shape;
use crate::topology::ListenerName;
use crate::{DcName, Severity, Topology, meta, suggest};

/// Checks the draft and makes it a topology; `None` where holes are left, all of them reported.
pub(super) fn whole(reader: &mut Reader, mut draft: Draft, text: &str) -> Option<Topology> {
    limits(reader, &draft)?;
    dcs(reader, &draft);
    nodes(reader, &draft);
    address::check_overlaps(reader, &draft);
    listener_names(reader, &draft);
    links(reader, &draft);
    let data_dcs: Vec<DcName> =
        named_dcs(&draft).filter(|(_, w)| !w).map(|(dc, _)| dc.clone()).collect();
    let shape = shape(&draft);
    let drafts = std::mem::take(&mut draft.policies);
    let policies = policies::assemble(reader, drafts, &data_dcs, &shape);
    let topology = build(draft, policies?, text)?;
    // Of a file that is refused, the nodes that vote are not known for sure.
    if !reader.has_errors() {
        meta_survives(reader, &topology);
    }
    Some(topology)
}

fn build(
    draft: Draft,
    policies: BTreeMap<std::sync::Arc<str>, crate::Policy>,
    text: &str,
) -> Option<Topology> {
    let dcs = draft.dcs.into_iter().map(|dc| dc.value.finish()).collect::<Option<_>>()?;
    let nodes = draft.nodes.into_iter().map(|node| {
        let node = node.value.finish()?;
        Some((node.id, node))
    });
    let links = draft.links.into_iter().map(|link| {
        let link = link.value.finish()?;
        Some((link.between.clone(), link))
    });
    Some(Topology {
        source: text.into(),
        generation: None,
        cluster: draft.cluster?,
        dcs,
        nodes: nodes.collect::<Option<_>>()?,
        links: links.collect::<Option<_>>()?,
        policies,
    })
}

fn limits(reader: &mut Reader, draft: &Draft) -> Option<()> {
    let patterns = draft.policies.iter().map(policies::Draft::patterns).sum();
    let counts = [
        ("dc", draft.dcs.len(), "DCs", DCS_MAX),
        ("node", draft.nodes.len(), "nodes", NODES_MAX),
        ("policy", draft.policies.len(), "policies", POLICIES_MAX),
        ("policy", patterns, "patterns", PATTERNS_MAX),
    ];
    let mut fits = Some(());
    for (key, found, what, most) in counts {
        if found > most {
            reader.error(key, format!("{found} {what}"), format!("at most {most}"));
            fits = None;
        }
    }
    fits
}

fn named_dcs(draft: &Draft) -> impl Iterator<Item = (&DcName, bool)> {
    draft
        .dcs
        .iter()
        .filter_map(|dc| Some((dc.value.name.as_ref()?, dc.value.witness.unwrap_or(false))))
}

fn shape(draft: &Draft) -> Shape {
    let nodes =
        |dc: &DcName| draft.nodes.iter().filter(|n| n.value.dc.as_ref() == Some(dc)).count();
    let dcs = named_dcs(draft).map(|(dc, witness)| (dc.clone(), (witness, nodes(dc))));
    Shape { dcs: dcs.collect() }
}

fn dcs(reader: &mut Reader, draft: &Draft) {
    let mut seen = BTreeMap::new();
    // A DC or node that could not be read may be the one that seems to be missing.
    let known_nodes = shape(draft);
    let known = |dc: &DcName| known_nodes.dcs.contains_key(dc);
    let all_nodes = draft.nodes.iter().all(|node| node.value.dc.as_ref().is_some_and(known));
    for dc in &draft.dcs {
        let Some(name) = &dc.value.name else { continue };
        if let Some(first) = seen.insert(name, &dc.path) {
            let found = format!("{:?}, which is {first}, too", name.as_str());
            reader.error(&join(&dc.path, "name"), found, "a name of its own");
        } else if all_nodes && known_nodes.dcs[name].1 == 0 {
            let expected = format!("a [[node]] with dc = {:?}", name.as_str());
            reader.error(&join(&dc.path, "name"), format!("{name} without a node"), expected);
        }
    }
    let data = draft.dcs.iter().any(|dc| dc.value.witness != Some(true));
    if !draft.dcs.is_empty() && !data {
        reader.error("dc", "witnesses only", "at least one DC that holds data");
    }
}

fn nodes(reader: &mut Reader, draft: &Draft) {
    let mut seen = BTreeMap::new();
    for node in &draft.nodes {
        if let Some(id) = node.value.id
            && let Some(first) = seen.insert(id, &node.path)
        {
            let found = format!("{id}, which is {first}, too");
            reader.error(&join(&node.path, "id"), found, "an id of its own");
        }
        let Some(dc) = &node.value.dc else { continue };
        let Some(declared) = draft.dcs.iter().find(|d| d.value.name.as_ref() == Some(dc)) else {
            unknown_dc(reader, draft, &join(&node.path, "dc"), dc);
            continue;
        };
        let listeners = join(&node.path, "listener");
        match (declared.value.witness, node.value.listeners.is_empty()) {
            (Some(true), false) => {
                let found = format!("listeners on a node of the witness {dc}");
                reader.error(
                    &listeners,
                    found,
                    "none: a witness holds no data and serves no clients",
                );
            }
            // Listeners of the wrong kind have been reported as that.
            (Some(false), true) if !reader.stands(&listeners) => {
                reader.absent(&listeners, "at least one [[node.listener]], for clients");
            }
            _ => {}
        }
    }
}

fn unknown_dc(reader: &mut Reader, draft: &Draft, key: &str, dc: &DcName) {
    if draft.dcs.iter().any(|dc| dc.value.name.is_none()) {
        return;
    }
    let names = || named_dcs(draft).map(|(dc, _)| dc.as_str());
    let expected = suggest::among(dc.as_str(), names(), || {
        format!("a DC of this file: {}", names().collect::<Vec<_>>().join(", "))
    });
    reader.error(key, format!("{:?}, and there is no such DC", dc.as_str()), expected);
}

/// Within a node each name once; among nodes the same names, or clients of the others lose sight of
/// this one.
fn listener_names(reader: &mut Reader, draft: &Draft) {
    let mut everywhere: BTreeSet<&ListenerName> = BTreeSet::new();
    let complete: Vec<(&At<super::DraftNode>, BTreeSet<&ListenerName>)> = draft
        .nodes
        .iter()
        .filter(|node| !node.value.listeners.is_empty())
        .filter_map(|node| {
            let names: Option<BTreeSet<_>> =
                node.value.listeners.iter().map(|l| l.as_ref().map(|l| &l.name)).collect();
            Some((node, names?))
        })
        .collect();
    for (node, names) in &complete {
        everywhere.extend(names);
        if names.len() < node.value.listeners.len() {
            let found = "two listeners of the same name";
            reader.error(&join(&node.path, "listener"), found, "each name once in a node");
        }
    }
    for (node, names) in &complete {
        for name in everywhere.difference(names) {
            reader.report(
                Severity::Warning,
                &join(&node.path, "listener"),
                format!("no listener {:?}, which other nodes have", name.as_str()),
                "the same names on every node: clients of that listener cannot reach this one",
            );
        }
    }
}

fn links(reader: &mut Reader, draft: &Draft) {
    let mut seen = BTreeMap::new();
    for link in &draft.links {
        let Some(between) = &link.value.between else { continue };
        let key = join(&link.path, "between");
        for dc in [&between.0, &between.1] {
            if !named_dcs(draft).any(|(name, _)| name == dc) {
                unknown_dc(reader, draft, &key, dc);
            }
        }
        if let Some(first) = seen.insert(between, &link.path) {
            let found = format!("{}–{}, which is {first}, too", between.0, between.1);
            reader.error(&key, found, "one link for two DCs");
        }
    }
    if draft.links.iter().any(|link| link.value.between.is_none()) {
        return;
    }
    let names: BTreeSet<&DcName> = named_dcs(draft).map(|(dc, _)| dc).collect();
    for (i, a) in names.iter().enumerate() {
        for b in names.iter().skip(i + 1) {
            if !seen.contains_key(&((*a).clone(), (*b).clone())) {
                let expected = format!("a [[link]] with between = [\"{a}\", \"{b}\"] and its rtt");
                reader.error("link", format!("no link between {a} and {b}"), expected);
            }
        }
    }
}

/// A cluster of several DCs whose `__meta` dies with one of them is a cluster worth a warning.
fn meta_survives(reader: &mut Reader, topology: &Topology) {
    let lost = meta::meta_indispensable_dcs(topology);
    if topology.dcs().len() < 2 || lost.is_empty() {
        return;
    }
    let names: Vec<&str> = lost.iter().map(DcName::as_str).collect();
    let found = format!(
        "{} DCs, of which the loss of {} leaves `__meta` without a majority",
        topology.dcs().len(),
        names.join(" or of ")
    );
    reader.report(
        Severity::Warning,
        "dc",
        found,
        "a third DC, or a witness (witness = true) with one small node, to survive the loss of any one",
    );
}
