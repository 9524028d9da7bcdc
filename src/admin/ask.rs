//! What one node's admin room asks another's, over the RPC lane: what only the other one knows.

use std::time::Duration;

use isobar_topology::home_move::LastEntry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::api::{AtStake, Budget, Exposure, GroupLedBack, Load, Promise};
use super::source::{Silent, Source};
use crate::coordinator::group::LedBack;
use crate::model::{NodeId, TopicId, TopicPartition};
use crate::replica::host::Status;
use crate::replica::{Role, core};

/// How long a person waits for a node that is silent: two of the longest round trips on Earth, and a
/// handshake.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a plan of moves waits: two of the longest round trips on Earth, for who is asked is connected, and
/// when a home is gone the time counts. A node that takes longer is shown as silent.
const PLAN_TIMEOUT: Duration = Duration::from_millis(600);

/// Of questions and answers; fields may be added without another one.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
enum Question {
    Load,
    Positions { topic_id: String, partition: i32 },
    Standings,
    LedBack,
}

/// A replica's positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    pub leads: bool,
    pub leader_epoch: i32,
    pub log_start_offset: i64,
    /// `None`: a leader that does not know it yet.
    pub high_watermark: Option<i64>,
    pub log_end_offset: i64,
    pub term: u64,
    pub commit_index: u64,
    pub last_index: u64,
    /// Node and last index on its disk; on the leader only.
    pub matched: Vec<(u32, u64)>,
    pub exposure: std::collections::BTreeMap<String, Exposure>,
    #[serde(default)]
    pub budget: Option<Budget>,
    #[serde(default)]
    pub at_stake: Option<AtStake>,
    #[serde(default)]
    pub promise: Option<Promise>,
}

/// Where one replica stands, for a plan of moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub topic_id: String,
    pub partition: i32,
    /// Of its last entry.
    pub term: u64,
    pub last_index: u64,
    /// The last entry before its log begins; `None`: of a release that did not tell.
    pub begins_after: Option<u64>,
    /// After its last record; `None` as above.
    pub log_end: Option<i64>,
    /// The leader's Unix time up to which it has all that was acknowledged; `None` where it never had.
    pub known_until_ms: Option<i64>,
}

impl Standing {
    pub fn last(&self) -> LastEntry {
        LastEntry { term: self.term, index: self.last_index }
    }

    pub fn is_of(&self, at: TopicPartition) -> bool {
        self.partition == at.partition && self.topic_id.parse() == Ok(at.topic)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum Said {
    Load {
        load: Load,
    },
    /// `None`: no replica here.
    Positions {
        positions: Option<Box<Positions>>,
    },
    Standings {
        standings: Vec<Standing>,
    },
    LedBack {
        groups: Vec<GroupLedBack>,
    },
    NotUnderstood {
        why: String,
    },
}

/// What `node` carries.
pub async fn load(source: &dyn Source, node: NodeId) -> Result<Load, Silent> {
    match exchange(source, node, Question::Load).await? {
        Said::Load { load } => Ok(load),
        _ => Err(odd(node)),
    }
}

/// Where the replica on `node` stands; `None` if it has none.
pub async fn positions(
    source: &dyn Source,
    node: NodeId,
    at: TopicPartition,
) -> Result<Option<Positions>, Silent> {
    let (topic_id, partition) = (at.topic.to_string(), at.partition);
    match exchange(source, node, Question::Positions { topic_id, partition }).await? {
        Said::Positions { positions } => Ok(positions.map(|p| *p)),
        _ => Err(odd(node)),
    }
}

/// Where every replica on `node` stands.
pub async fn standings(source: &dyn Source, node: NodeId) -> Result<Vec<Standing>, Silent> {
    match exchange(source, node, Question::Standings).await? {
        Said::Standings { standings } => Ok(standings),
        _ => Err(odd(node)),
    }
}

/// The groups coordinated on `node` that are led back (R25).
pub async fn led_back(source: &dyn Source, node: NodeId) -> Result<Vec<GroupLedBack>, Silent> {
    match exchange(source, node, Question::LedBack).await? {
        Said::LedBack { groups } => Ok(groups),
        _ => Err(odd(node)),
    }
}

/// Answers what another node asked. Never fails: what cannot be understood is answered so.
pub async fn answer(source: &dyn Source, question: &[u8]) -> Vec<u8> {
    let said = match decode::<Question>(question) {
        Ok(question) => reply(source, question).await,
        Err(why) => Said::NotUnderstood { why },
    };
    encode(said)
}

async fn exchange(source: &dyn Source, node: NodeId, question: Question) -> Result<Said, Silent> {
    if node == source.node() {
        return Ok(reply(source, question).await);
    }
    let timeout = match question {
        Question::Standings => PLAN_TIMEOUT,
        _ => TIMEOUT,
    };
    let answer = source.ask(node, encode(question), timeout).await?;
    match decode::<Said>(&answer) {
        Ok(Said::NotUnderstood { why }) | Err(why) => Err(Silent { node, why }),
        Ok(said) => Ok(said),
    }
}

async fn reply(source: &dyn Source, question: Question) -> Said {
    match question {
        Question::Load => Said::Load { load: own_load(source).await },
        Question::Standings => {
            let statuses = source.statuses().await;
            Said::Standings { standings: statuses.iter().map(standing_of).collect() }
        }
        Question::LedBack => match source.led_back().await {
            Ok(found) => Said::LedBack { groups: found.into_iter().map(group_led_back).collect() },
            Err(error) => Said::NotUnderstood { why: error.to_string() },
        },
        Question::Positions { topic_id, partition } => match topic_id.parse::<TopicId>() {
            Ok(topic) => {
                let at = TopicPartition { topic, partition };
                let statuses = source.statuses().await;
                let found = statuses.iter().find(|status| status.partition == at);
                Said::Positions { positions: found.map(|status| Box::new(positions_of(status))) }
            }
            Err(error) => Said::NotUnderstood { why: format!("topic id {topic_id:?}: {error}") },
        },
    }
}

fn group_led_back(one: LedBack) -> GroupLedBack {
    GroupLedBack {
        group: one.group.to_string(),
        topic: one.partition.topic.to_string(),
        partition: one.partition.partition,
        leader_epoch: one.committed.leader_epoch,
        committed_offset: one.committed.offset,
        end_offset: one.end,
    }
}

async fn own_load(source: &dyn Source) -> Load {
    let statuses = source.statuses().await;
    let mut load = Load {
        ready: source.missing().is_empty(),
        replicas: 0,
        leads: 0,
        exposure: std::collections::BTreeMap::new(),
    };
    for status in statuses.iter().filter(|s| s.partition != TopicPartition::META) {
        load.replicas += 1;
        load.leads += usize::from(status.progress.role == Role::Leader);
        for (dc, exposure) in exposure_of(status) {
            add(load.exposure.entry(dc).or_default(), exposure);
        }
    }
    load
}

/// The oldest, and sums.
pub(super) fn add(to: &mut Exposure, more: Exposure) {
    to.seconds = to.seconds.max(more.seconds);
    to.records += more.records;
    to.bytes += more.bytes;
}

fn exposure_of(status: &Status) -> impl Iterator<Item = (String, Exposure)> {
    status.exposure.iter().map(|(dc, e)| {
        let exposure =
            Exposure { seconds: e.age.as_secs_f64(), records: e.records, bytes: e.bytes };
        (dc.to_string(), exposure)
    })
}

fn positions_of(status: &Status) -> Positions {
    let progress = status.progress;
    let matched = status.members.iter().filter_map(|m| Some((m.node.as_u32(), m.matched?.0)));
    let (budget, at_stake) = stakes_of(status);
    let leads = progress.role == Role::Leader;
    Positions {
        leads,
        leader_epoch: progress.leader_epoch,
        log_start_offset: progress.log_start.0,
        high_watermark: progress.watermark_known.then_some(progress.high_watermark.0),
        log_end_offset: progress.log_end.0,
        term: status.term.0,
        commit_index: status.committed.0,
        last_index: status.last.0,
        matched: matched.collect(),
        exposure: exposure_of(status).collect(),
        budget,
        at_stake,
        promise: status.promise.filter(|_| leads).map(promise),
    }
}

fn promise(promise: core::Promise) -> Promise {
    match promise {
        core::Promise::Sync => Promise::Sync,
        core::Promise::Degraded => Promise::Degraded,
        core::Promise::Recovering => Promise::Recovering,
    }
}

fn standing_of(status: &Status) -> Standing {
    Standing {
        topic_id: status.partition.topic.to_string(),
        partition: status.partition.partition,
        term: status.last_term.0,
        last_index: status.last.0,
        begins_after: Some(status.begins_after.0),
        log_end: Some(status.progress.log_end.0),
        known_until_ms: status.known_until_ms,
    }
}

/// What may be at stake, and what is; only the leader speaks of them.
pub(super) fn stakes_of(status: &Status) -> (Option<Budget>, Option<AtStake>) {
    let budget = status.budget;
    let at_stake = status.at_stake.map(|at_stake| AtStake {
        known: at_stake.is_known,
        seconds: at_stake.span.as_secs_f64(),
        records: at_stake.records,
        bytes: at_stake.bytes,
        breached: budget.is_passed_by(&at_stake),
    });
    let leads = status.progress.role == Role::Leader;
    let budget = (leads && !budget.is_none()).then(|| Budget {
        seconds: budget.lag.map(|lag| lag.as_secs_f64()),
        bytes: budget.bytes,
        records: budget.records,
        on_lag: budget.on_lag.to_string(),
    });
    (budget, at_stake)
}

fn odd(node: NodeId) -> Silent {
    Silent { node, why: "it answered another question".into() }
}

fn encode(body: impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&Envelope { version: VERSION, body }).expect("plain structs serialize")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let envelope: Envelope<T> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    match envelope.version {
        VERSION => Ok(envelope.body),
        other => Err(format!("version {other}, this software knows {VERSION}")),
    }
}
