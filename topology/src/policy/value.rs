//! One value of a policy key, from the TOML or from the text of a topic config, and the refusal
//! that says what would have been right.

use std::collections::BTreeMap;
use std::time::Duration;

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

    fn duration(&self) -> Read<Duration> {
        let text = self.text(unit::DURATION_EXPECTED)?;
        unit::parse_duration(text).map_err(|e| self.refuse(e.expected))
    }

    fn bytes(&self) -> Read<u64> {
        let text = self.text(unit::BYTES_EXPECTED)?;
        unit::parse_bytes(text).map_err(|e| self.refuse(e.expected))
    }

    fn more_than_nothing<T: Default + PartialEq>(&self, read: Read<T>) -> Read<T> {
        match read {
            Ok(nothing) if nothing == T::default() => {
                Err(self.refuse("more than nothing: a topic without any budget takes no record"))
            }
            read => read,
        }
    }
}

const HOME_EXPECTED: &str = "a DC (\"fra\"), a preference list ([\"fra\", \"iad\"]) or \"spread\"";
const REPLICAS_EXPECTED: &str = "replicas for each DC, as in { fra = 3, iad = 3 }";
const TOPICS_EXPECTED: &str = "a list of topic name patterns, as in [\"payments.*\"]";
/// In one DC. More cost a round's fsyncs and copies each, and survive what nobody plans for.
const REPLICAS_PER_DC_MAX: u32 = 7;

/// All DCs that a file may have, but for home.
const REMOTE_DCS_MAX: u32 = crate::read::DCS_MAX as u32 - 1;

/// Reads one value into its place in a layer. What is wrong goes to `refusals`; what is right of a
/// list or table is kept, so that the rest of it is checked in the same go.
pub(crate) fn read(layer: &mut Partial, key: Key, value: &Value<'_>, refusals: &mut Vec<Refusal>) {
    let mut keep = Keep { refusals };
    match key {
        Key::Topics => layer.topics = Some(topics(value, &mut keep)),
        Key::Home => layer.home = keep.right(home(value)),
        Key::Replicas => layer.replicas = Some(replicas(value, &mut keep)),
        Key::Replication => {
            layer.sync = keep.right(value.word(&[("async", false), ("sync", true)]));
        }
        Key::SyncTo => layer.sync_to = keep.right(value.count(REMOTE_DCS_MAX)),
        Key::Flush => layer.flush = keep.right(value.word(Flush::WORDS)),
        Key::MinInsyncReplicas => {
            layer.min_insync_replicas = keep.right(value.count(REPLICAS_PER_DC_MAX));
        }
        Key::Partitions => layer.partitions = keep.right(value.count(placement::PARTITIONS_MAX)),
        Key::OnIsolation => layer.on_isolation = keep.right(value.word(OnIsolation::WORDS)),
        Key::OnSyncLoss => layer.on_sync_loss = keep.right(value.word(OnSyncLoss::WORDS)),
        Key::SyncTimeout => layer.sync_timeout = keep.right(sync_timeout(value)),
        Key::MaxLag => layer.max_lag = keep.right(value.more_than_nothing(value.duration())),
        Key::MaxLagBytes => {
            layer.max_lag_bytes = keep.right(value.more_than_nothing(value.bytes()))
        }
        Key::MaxLagRecords => layer.max_lag_records = keep.right(value.count(u32::MAX)),
        Key::OnLag => layer.on_lag = keep.right(value.word(OnLag::WORDS)),
        Key::Failover => layer.failover = keep.right(value.word(Failover::WORDS)),
    }
}

struct Keep<'a> {
    refusals: &'a mut Vec<Refusal>,
}

impl Keep<'_> {
    fn right<T>(&mut self, read: Read<T>) -> Option<T> {
        read.map_err(|refusal| self.refusals.push(refusal)).ok()
    }

    fn refuse(&mut self, found: impl Into<String>, expected: impl Into<String>) {
        self.refusals.push(Refusal { found: found.into(), expected: expected.into() });
    }
}

fn topics(value: &Value<'_>, keep: &mut Keep<'_>) -> Vec<Pattern> {
    let Value::List(items) = value else {
        keep.right::<()>(Err(value.refuse(TOPICS_EXPECTED)));
        return Vec::new();
    };
    if items.is_empty() {
        keep.refuse("an empty list", TOPICS_EXPECTED);
    }
    items.iter().filter_map(|item| keep.right(topic(item))).collect()
}

fn topic(item: &Value<'_>) -> Read<Pattern> {
    let text = item.text(TOPICS_EXPECTED)?;
    if text.starts_with("__") {
        return Err(item.refuse(
            "a pattern not starting with \"__\": such topics are Kafka's own and follow policy.internal",
        ));
    }
    text.parse().map_err(|_| item.refuse(crate::pattern::EXPECTED))
}

fn dc(value: &Value<'_>, expected: &str) -> Read<DcName> {
    value.text(expected)?.parse().map_err(|_| value.refuse(expected))
}

/// Less than a second is a hiccup of a link, more than an hour is `block`.
fn sync_timeout(value: &Value<'_>) -> Read<Duration> {
    let read = value.duration()?;
    match (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&read) {
        true => Ok(read),
        false => Err(value.refuse("1s to 1h")),
    }
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

fn replicas(value: &Value<'_>, keep: &mut Keep<'_>) -> BTreeMap<DcName, u32> {
    let pairs: Option<Vec<(&str, Value<'_>)>> = match value {
        Value::Table(pairs) => Some(pairs.clone()),
        Value::Config(text) => {
            let pair = |part| str::split_once(part, '=');
            let pairs = text
                .split(',')
                .map(|part| pair(part).map(|(dc, count)| (dc.trim(), Value::Config(count.trim()))));
            pairs.collect()
        }
        _ => None,
    };
    let mut replicas = BTreeMap::new();
    let expected = match value {
        Value::Config(_) => "replicas for each DC, as in fra=3,iad=3",
        _ => REPLICAS_EXPECTED,
    };
    let Some(pairs) = pairs else {
        keep.right::<()>(Err(value.refuse(expected)));
        return replicas;
    };
    if pairs.is_empty() {
        keep.refuse("no DC", expected);
    }
    for (name, count) in &pairs {
        let Some(dc) = keep.right(dc(&Value::Text(name), expected)) else { continue };
        let count = count.count(REPLICAS_PER_DC_MAX).map_err(|refusal| Refusal {
            found: format!("{} for {dc}", refusal.found),
            expected: format!("{} (leave {dc} out for none)", refusal.expected),
        });
        let Some(count) = keep.right(count) else { continue };
        if replicas.insert(dc, count).is_some() {
            keep.refuse(format!("{name} twice"), "each DC once");
        }
    }
    replicas
}
