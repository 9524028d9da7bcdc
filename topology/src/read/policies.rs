//! `[policy.*]`: the layers that the file says, what they inherit, and `policy.internal`, which is
//! made as strong as the strongest of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeValue;

use super::reader::{Reader, describe, join, policy_value};
use crate::options;
use crate::policy::{
    Conflict, DEFAULT, Fallback, Flush, Home, INTERNAL, Key, Partial, Policy, Replication, Shape,
    Source, conflicts, idle, merge,
};
use crate::topology::ListenerName;
use crate::{DcName, Severity};

/// One `[policy.NAME]` as the file has it.
pub(super) struct Draft {
    name: Arc<str>,
    own: Partial,
}

impl Draft {
    /// How many it has.
    pub fn patterns(&self) -> usize {
        self.own.topics.as_ref().map_or(0, Vec::len)
    }

    fn path(&self) -> String {
        path(&self.name)
    }
}

fn path(name: &str) -> String {
    join("policy", name)
}

/// Replicas in a DC whose number the file leaves open.
const DEFAULT_REPLICAS: usize = 3;
/// Enough to spread group coordinators over the nodes of a home DC, few enough that nine replicas
/// of each are cheap when idle. Kafka's 50 are for clusters where these are all that is spread.
const INTERNAL_PARTITIONS: u32 = 16;

pub(super) fn read<'d>(reader: &mut Reader, value: &'d DeValue<'d>) -> Vec<Draft> {
    let DeValue::Table(table) = value else {
        reader.error("policy", describe(value), "tables, each headed [policy.NAME]");
        return Vec::new();
    };
    let mut drafts = Vec::new();
    for (name, value) in table {
        let name: &str = name.get_ref();
        if ListenerName::new(name).is_none() {
            let expected = format!("a policy's name: {}", ListenerName::EXPECTED);
            reader.error(&path(name), format!("{name:?}"), expected);
        }
        if let Some(own) = read_one(reader, name, value.get_ref()) {
            drafts.push(Draft { name: name.into(), own });
        }
    }
    drafts
}

fn read_one<'d>(reader: &mut Reader, name: &str, value: &'d DeValue<'d>) -> Option<Partial> {
    let section = reader.section(&path(name), value, options::POLICY)?;
    let mut own = Partial::default();
    for key in Key::ALL {
        let Some(value) = section.value(key.name()) else { continue };
        for refusal in own.set(*key, &policy_value(value)) {
            reader.error(&section.key(key.name()), refusal.found, refusal.expected);
        }
    }
    match (name == DEFAULT || name == INTERNAL, section.value(Key::Topics.name())) {
        (true, Some(_)) => {
            let expected = if name == DEFAULT {
                "no patterns: policy.default is for every topic that no other policy names"
            } else {
                "no patterns: policy.internal is for Kafka's own topics, which start with \"__\""
            };
            reader.error(&section.key("topics"), "patterns", expected);
        }
        (false, None) => {
            reader.absent(&section.key("topics"), "patterns of the topics that the policy is for");
        }
        _ => {}
    }
    Some(own)
}

/// Gives every policy its values and reports what does not fit. `None` when there is nothing to fit
/// them into, which has been reported.
pub(super) fn assemble(
    reader: &mut Reader,
    drafts: Vec<Draft>,
    data_dcs: &[DcName],
    shape: &Shape,
) -> Option<BTreeMap<Arc<str>, Policy>> {
    let own = |name: &str| drafts.iter().find(|d| &*d.name == name).map(|d| d.own.clone());
    let (default, internal) = (own(DEFAULT).unwrap_or_default(), own(INTERNAL).unwrap_or_default());
    let fallback = fallback(reader, &default, data_dcs, shape)?;
    let base = (Source::Policy(DEFAULT.into()), default);

    let mut policies = BTreeMap::new();
    let mut base_conflicts = Vec::new();
    let mut sound = Vec::new();
    for draft in std::iter::once(&Draft { name: DEFAULT.into(), own: base.1.clone() })
        .chain(drafts.iter().filter(|d| &*d.name != DEFAULT && &*d.name != INTERNAL))
    {
        let own = (Source::Policy(draft.name.clone()), draft.own.clone());
        let layers = if &*draft.name == DEFAULT { vec![own] } else { vec![own, base.clone()] };
        let policy = policy(&draft.name, layers, fallback.clone());
        let found = report(reader, &policy, shape, &base_conflicts);
        if found.iter().all(|conflict| conflict.severity != Severity::Error) {
            sound.push(policy.name.clone());
        }
        if &*draft.name == DEFAULT {
            base_conflicts = found;
        }
        policies.insert(policy.name.clone(), policy);
    }
    let others = policies.values().filter(|policy| sound.contains(&policy.name));
    let strongest = others.max_by_key(|policy| policy.settings.replication);
    let strongest = strongest.unwrap_or(&policies[DEFAULT]);
    let internal = internal_policy(reader, internal, &base, &fallback, strongest);
    report(reader, &internal, shape, &base_conflicts);
    policies.insert(internal.name.clone(), internal);
    report_ties(reader, &drafts);
    Some(policies)
}

fn policy(name: &Arc<str>, layers: Vec<(Source, Partial)>, fallback: Fallback) -> Policy {
    let borrowed: Vec<_> = layers.iter().map(|(source, layer)| (source.clone(), layer)).collect();
    let (settings, sources) = merge(&borrowed, &fallback);
    let topics = layers[0].1.topics.clone().unwrap_or_default();
    Policy { name: name.clone(), topics, settings, sources, layers, fallback }
}

fn fallback(
    reader: &mut Reader,
    default: &Partial,
    data_dcs: &[DcName],
    shape: &Shape,
) -> Option<Fallback> {
    let first = data_dcs.first()?;
    if default.home.is_none() && data_dcs.len() > 1 && !reader.stands("policy.default.home") {
        let names: Vec<&str> = data_dcs.iter().map(DcName::as_str).collect();
        let expected = format!("home = one of {}, or \"spread\"", names.join(", "));
        reader.absent("policy.default.home", expected);
    }
    let replicas = |dc: &DcName| {
        let nodes = shape.dcs.get(dc).map_or(0, |(_, nodes)| *nodes).min(DEFAULT_REPLICAS);
        let odd = if nodes.is_multiple_of(2) { nodes.saturating_sub(1) } else { nodes };
        (odd > 0).then(|| (dc.clone(), odd as u32))
    };
    let replicas: BTreeMap<DcName, u32> = data_dcs.iter().filter_map(replicas).collect();
    (!replicas.is_empty()).then(|| Fallback {
        home: Home::Dc(first.clone()),
        replicas,
        partitions: 1,
    })
}

fn internal_policy(
    reader: &mut Reader,
    own: Partial,
    base: &(Source, Partial),
    fallback: &Fallback,
    strongest: &Policy,
) -> Policy {
    let k = strongest.settings.replication.sync_to();
    let strength =
        Partial { sync: Some(k > 0), sync_to: (k > 0).then_some(k), ..Partial::default() };
    let fixed = Partial {
        flush: Some(Flush::Quorum),
        partitions: Some(INTERNAL_PARTITIONS),
        ..Partial::default()
    };
    let strength_source = match &strongest.sources[&Key::Replication] {
        Source::Policy(_) => Source::Policy(strongest.name.clone()),
        built_in => built_in.clone(),
    };
    // A budget at its end would keep consumers of every topic from joining and committing, for the
    // sake of offsets whose loss costs them a second look: it counts only where it is asked for here.
    let (base_source, base) = base.clone();
    let unbound =
        Partial { max_lag: None, max_lag_bytes: None, max_lag_records: None, on_lag: None, ..base };
    let layers = vec![
        (Source::Policy(INTERNAL.into()), own),
        (strength_source, strength),
        (Source::Default, fixed),
        (base_source, unbound),
    ];
    let internal = policy(&INTERNAL.into(), layers, fallback.clone());
    let own = &internal.layers[0].1;
    if internal.settings.replication < strongest.settings.replication {
        let key = if own.says(Key::SyncTo) { Key::SyncTo } else { Key::Replication };
        reader.error(
            &join(&path(INTERNAL), key.name()),
            format!("{}, weaker than policy.{}", internal.settings.replication, strongest.name),
            format!(
                "replication = \"sync\", sync_to = {k}: committed offsets must survive what their records survive"
            ),
        );
    }
    if own.flush == Some(Flush::Os) && internal.settings.replication == Replication::Async {
        let expected = "\"quorum\": committed offsets are on disk before they count";
        reader.error("policy.internal.flush", "\"os\"", expected);
    }
    internal
}

/// Reports the conflicts that this policy has a part in, and gives all of them; what it merely
/// inherits is reported where it was said. What nobody said (built-in defaults that do not fit) is
/// reported at the policy.
fn report(
    reader: &mut Reader,
    policy: &Policy,
    shape: &Shape,
    inherited: &[Conflict],
) -> Vec<Conflict> {
    let own = &policy.layers[0].1;
    let mut found = conflicts(&policy.settings, shape);
    found.extend(idle(&policy.settings, own));
    let layers: Vec<&Partial> = policy.layers.iter().map(|(_, layer)| layer).collect();
    found.retain(|conflict| !conflict.doubtful(&layers));
    for conflict in found.iter().filter(|conflict| !inherited.contains(conflict)) {
        let key = match conflict.blame(own) {
            Some(key) => key,
            // A warning about something that the file does not say has no line to look at.
            None if conflict.severity == Severity::Warning => continue,
            None => conflict.keys[0],
        };
        let at = join(&path(&policy.name), key.name());
        reader.report(conflict.severity, &at, &*conflict.found, &*conflict.expected);
    }
    found
}

/// Two patterns that describe a name equally closely leave its policy to chance.
fn report_ties(reader: &mut Reader, drafts: &[Draft]) {
    for (i, one) in drafts.iter().enumerate() {
        for other in &drafts[..i] {
            let pairs = patterns(one).flat_map(|a| patterns(other).map(move |b| (a, b)));
            for (a, b) in pairs.filter(|(a, b)| a.ties_with(b)) {
                let (a, b) = (a.as_str(), b.as_str());
                let found = format!("{a:?}, as specific as {b:?} of {}", other.path());
                let expected =
                    "patterns of which no name matches both, or one with a longer literal prefix";
                reader.error(&join(&one.path(), "topics"), found, expected);
            }
        }
    }
}

fn patterns(draft: &Draft) -> impl Iterator<Item = &crate::pattern::Pattern> {
    draft.own.topics.iter().flatten()
}
