//! One value of a policy key, from the TOML or from the text of a topic config, and the refusal
//! that says what would have been right.

use std::collections::BTreeMap;

use super::{Flush, Home, Key, Partial};
use crate::pattern::Pattern;
use crate::policy::{Failover, OnIsolation, OnLag, OnSyncLoss};
use crate::{DcName, placement, unit};

/// What was written, before anybody knows whether it is right.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    List(Vec<Value<'a>>),
    Table(Vec<(&'a str, Value<'a>)>),
    /// A kind that no policy key takes, named as people name it.
    Other(&'static str),
    /// A topic config: numbers, lists (`a,b`) and tables (`a=1,b=2`) are text there.
    Config(&'a str),
}

/// A value that is not right. The caller knows where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub found: String,
    pub expected: String,
}

type Read<T> = Result<T, Refusal>;

impl Value<'_> {
    /// As in "found …".
    pub fn describe(&self) -> String {
        match self {
            Value::Text(text) | Value::Config(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Other(kind) => (*kind).to_owned(),
        }
    }

    pub fn refuse(&self, expected: impl Into<String>) -> Refusal {
        Refusal { found: self.describe(), expected: expected.into() }
    }

    fn text(&self, expected: &str) -> Read<&str> {
        match self {
            Value::Text(text) | Value::Config(text) => Ok(text),
            _ => Err(self.refuse(expected)),
        }
    }

    fn count(&self, most: u32) -> Read<u32> {
        let number = match self {
            Value::Integer(number) => Some(*number),
            Value::Config(text) => text.parse().ok(),
            _ => None,
        };
        number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| self.refuse(format!("a whole number from 1 to {most}")))
    }

    fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Read<T> {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = quoted.join(" or ");
        let text = self.text(&expected)?;
        let known = words.iter().find(|(word, _)| *word == text);
        known.map(|(_, value)| *value).ok_or_else(|| self.refuse(expected))
    }

    fn duration(&self) -> Read<std::time::Duration> {
        let text = self.text(unit::DURATION_EXPECTED)?;
        unit::parse_duration(text).map_err(|e| self.refuse(e.expected))
    }

    fn bytes(&self) -> Read<u64> {
        let text = self.text(unit::BYTES_EXPECTED)?;
        unit::parse_bytes(text).map_err(|e| self.refuse(e.expected))
    }
}

/// What comes later, and with what. Said in place of pretending.
pub(crate) fn not_built(with: &str) -> String {
    format!("nothing here yet: this is not built yet and comes with {with}")
}

const BUDGET: &str = "exposure budgets, in the next release";
const HOME_EXPECTED: &str = "a DC (\"fra\"), a preference list ([\"fra\", \"iad\"]) or \"spread\"";
const REPLICAS_EXPECTED: &str = "replicas for each DC, as in { fra = 3, iad = 3 }";
/// In one DC. Votes and appends of a group cost by the square of what anybody has a use for.
const REPLICAS_PER_DC_MAX: u32 = 7;

/// Reads one value into its place in a layer.
pub(crate) fn read(layer: &mut Partial, key: Key, value: &Value<'_>) -> Result<(), Refusal> {
    match key {
        Key::Topics => layer.topics = Some(topics(value)?),
        Key::Home => layer.home = Some(home(value)?),
        Key::Replicas => layer.replicas = Some(replicas(value)?),
        Key::Replication => {
            layer.sync = Some(value.word(&[("async", false), ("sync", true)])?);
        }
        Key::SyncTo => layer.sync_to = Some(value.count(u32::MAX)?),
        Key::Flush => layer.flush = Some(value.word(Flush::WORDS)?),
        Key::MinInsyncReplicas => layer.min_insync_replicas = Some(value.count(u32::MAX)?),
        Key::Partitions => layer.partitions = Some(value.count(placement::PARTITIONS_MAX)?),
        Key::OnIsolation => layer.on_isolation = Some(value.word(OnIsolation::WORDS)?),
        Key::OnSyncLoss => layer.on_sync_loss = Some(value.word(OnSyncLoss::WORDS)?),
        Key::SyncTimeout => layer.sync_timeout = Some(value.duration()?),
        Key::MaxLag => layer.max_lag = Some(value.duration()?),
        Key::MaxLagBytes => layer.max_lag_bytes = Some(value.bytes()?),
        Key::OnLag => layer.on_lag = Some(value.word(OnLag::WORDS)?),
        Key::Failover => layer.failover = Some(value.word(Failover::WORDS)?),
    }
    refuse_unbuilt(layer, key, value)
}

/// The words of the next release are known, so that a file with them gets a straight answer.
fn refuse_unbuilt(layer: &Partial, key: Key, value: &Value<'_>) -> Result<(), Refusal> {
    match key {
        Key::MaxLag | Key::MaxLagBytes | Key::OnLag => Err(value.refuse(not_built(BUDGET))),
        Key::SyncTimeout => Err(value.refuse(not_built("on_sync_loss = \"degrade\", in the next release"))),
        Key::OnSyncLoss if layer.on_sync_loss == Some(OnSyncLoss::Degrade) => Err(value.refuse(
            "\"block\": \"degrade\" is not built yet and comes with exposure budgets, in the next release",
        )),
        Key::Failover if layer.failover == Some(Failover::Automatic) => Err(value.refuse(
            "\"manual\": \"automatic\" is not built yet and comes with moving home, in the next release",
        )),
        _ => Ok(()),
    }
}

fn topics(value: &Value<'_>) -> Read<Vec<Pattern>> {
    const EXPECTED: &str = "a list of topic name patterns, as in [\"payments.*\"]";
    let Value::List(items) = value else { return Err(value.refuse(EXPECTED)) };
    if items.is_empty() {
        return Err(Refusal { found: "an empty list".to_owned(), expected: EXPECTED.to_owned() });
    }
    let pattern = |item: &Value<'_>| {
        let text = item.text(EXPECTED)?;
        let expected = "1 to 249 of a-z, A-Z, 0-9, '.', '_', '-', '*' and '?'";
        if text.starts_with("__") {
            return Err(item.refuse("a pattern not starting with \"__\": such topics are Kafka's own and follow policy.internal"));
        }
        text.parse().map_err(|_| item.refuse(expected))
    };
    items.iter().map(pattern).collect()
}

fn dc(value: &Value<'_>, expected: &str) -> Read<DcName> {
    value.text(expected)?.parse().map_err(|_| value.refuse(expected))
}

fn home(value: &Value<'_>) -> Read<Home> {
    let listed: Vec<Value<'_>> = match value {
        Value::Text("spread") | Value::Config("spread") => return Ok(Home::Spread),
        Value::Text(_) => return Ok(Home::Dc(dc(value, HOME_EXPECTED)?)),
        Value::List(items) => items.clone(),
        Value::Config(text) => text.split(',').map(|part| Value::Config(part.trim())).collect(),
        _ => return Err(value.refuse(HOME_EXPECTED)),
    };
    let mut dcs: Vec<DcName> = Vec::new();
    for item in &listed {
        let dc = dc(item, HOME_EXPECTED)?;
        if dcs.contains(&dc) {
            return Err(item.refuse("each DC once in the preference list"));
        }
        dcs.push(dc);
    }
    match dcs.len() {
        0 => Err(Refusal { found: "an empty list".to_owned(), expected: HOME_EXPECTED.to_owned() }),
        1 => Ok(Home::Dc(dcs.remove(0))),
        _ => Ok(Home::Preference(dcs)),
    }
}

fn replicas(value: &Value<'_>) -> Read<BTreeMap<DcName, u32>> {
    let pairs: Vec<(&str, Value<'_>)> = match value {
        Value::Table(pairs) => pairs.clone(),
        Value::Config(text) => {
            let mut pairs = Vec::new();
            for part in text.split(',') {
                let Some((dc, count)) = part.split_once('=') else {
                    return Err(value.refuse("replicas for each DC, as in fra=3,iad=3"));
                };
                pairs.push((dc.trim(), Value::Config(count.trim())));
            }
            pairs
        }
        _ => return Err(value.refuse(REPLICAS_EXPECTED)),
    };
    if pairs.is_empty() {
        return Err(Refusal { found: "no DC".to_owned(), expected: REPLICAS_EXPECTED.to_owned() });
    }
    let mut replicas = BTreeMap::new();
    for (name, count) in &pairs {
        let dc = dc(&Value::Text(name), REPLICAS_EXPECTED)?;
        let count = count.count(REPLICAS_PER_DC_MAX).map_err(|refusal| Refusal {
            found: format!("{} for {dc}", refusal.found),
            expected: format!("{} (leave {dc} out for none)", refusal.expected),
        })?;
        if replicas.insert(dc, count).is_some() {
            return Err(Refusal {
                found: format!("{name} twice"),
                expected: "each DC once".to_owned(),
            });
        }
    }
    Ok(replicas)
}
