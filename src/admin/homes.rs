//! Moves of homes: planned, begun, and looked at.
//!
//! A plan asks every node where its replicas stand, and counts as the move itself will: what has answered now
//! will be sealed. What the move finds may be better or worse; its own verdict is the one that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use isobar_topology::home_move::{Found, Seat, Survey, survey};
use isobar_topology::pattern::Pattern;
use isobar_topology::policy::OnIsolation;
use isobar_topology::quorum::majority;
use isobar_topology::{Topology, meta_voters, timing};

use super::api::{self, MoveKind};
use super::ask::{self, Standing};
use super::cluster::{all, image, speaks};
use super::routes::Refusal;
use super::source::Source;
use super::topics::by_name;
use crate::metadata::budgets::{self, Bound};
use crate::metadata::config;
use crate::metadata::image::{Image, Partition, Replica, Topic};
use crate::metadata::moves::{self, Account, Aim, Begin, Kind, Verdict};
use crate::metadata::request::{Request, Response, TOPICS_MAX};
use crate::metadata::service::Error;
use crate::model::{DcName, NodeId, Offset, TopicPartition};

/// As long as a Kafka client waits for an admin request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An election inside a DC at its longest, as the write pause of a move has it at the end. The first leader
/// of a home campaigns at once.
const FIRST_ELECTION: Duration = Duration::from_millis(100);

/// What every node said.
type Standings = BTreeMap<NodeId, Vec<Standing>>;

pub fn show(source: &dyn Source) -> Result<api::Moves, Refusal> {
    let image = image(source)?;
    let mut under_way = Vec::new();
    for topic in by_name(&image) {
        for (partition, placed) in (0..).zip(&topic.partitions) {
            let Some(moving) = placed.moving() else { continue };
            under_way.push(api::MoveUnderWay {
                topic: topic.name.to_string(),
                partition,
                kind: kind(moving.aim.kind),
                from: placed.home.to_string(),
                to: moving.aim.to.to_string(),
                automatic: moving.aim.automatic,
                began_ms: moving.aim.began_ms,
            });
        }
    }
    let ended = image.moved.iter().map(|moved| api::MoveEnded {
        topic: moved.topic.to_string(),
        partition: moved.at.partition,
        kind: kind(moved.kind),
        from: moved.from.to_string(),
        to: moved.to.to_string(),
        home_epoch: moved.home_epoch.as_u32(),
        cut_offset: moved.cut.offset.0,
        verdict: verdict(moved.verdict, Some(moved.cut.offset)),
        accept_loss: moved.accept_loss,
        automatic: moved.automatic,
        began_ms: moved.began_ms,
        ended_ms: moved.ended_ms,
        beyond_records: match moved.account() {
            Account::Nothing => Some(0),
            Account::Open => None,
            Account::Exact { records } => Some(records),
        },
        ledgers: moved.suffixes.iter().filter(|s| s.records > 0).map(|s| s.node.as_u32()).collect(),
        longest: moved.longest().map(|s| s.node.as_u32()).collect(),
        suffix_topic: moved.suffix_topic(),
        brought_back: moved.brought_back(image.moved.iter().map(|m| &**m)).map(|back| {
            api::BroughtBack {
                home_epoch: back.home_epoch.as_u32(),
                first_offset: back.from.0,
                last_offset: back.to.0 - 1,
            }
        }),
    });
    let held = source.held().into_iter().map(|held| api::MoveHeld {
        topic: image.topics.get(&held.at.topic).map(|t| t.name.to_string()).unwrap_or_default(),
        partition: held.at.partition,
        why: held.why.to_string(),
    });
    Ok(api::Moves { under_way, held: held.collect(), ended: ended.collect() })
}

fn kind(kind: Kind) -> MoveKind {
    match kind {
        Kind::Switchover => MoveKind::Switchover,
        Kind::Failover => MoveKind::Failover,
    }
}

/// `cut`: the offset after the last record that is kept, where it is known.
fn verdict(verdict: Verdict, cut: Option<Offset>) -> api::Verdict {
    match verdict {
        Verdict::Lossless => api::Verdict::Lossless,
        Verdict::UnboundedSince { ms } => api::Verdict::UnboundedSince { since_ms: ms },
        Verdict::AtMost { bound: Bound { span, bytes, records }, ms } => api::Verdict::AtMost {
            since_ms: ms,
            records: records.map(u64::from),
            bytes,
            span_ms: span.map(|span| span.as_millis() as u64),
            first_offset: cut.map(|cut| cut.0),
        },
    }
}

pub async fn propose(
    source: &dyn Source,
    proposal: api::MoveProposal,
) -> Result<api::MovePlan, Refusal> {
    let image = image(source)?;
    let topology = image.topology.as_ref().expect("the image has one");
    let dc = parse_dc(topology, "dc", &proposal.dc)?;
    let to = proposal.to.as_deref().map(|to| parse_dc(topology, "to", to)).transpose()?;
    if to.as_ref() == Some(&dc) && proposal.kind != MoveKind::Failover {
        return Err(Refusal::Bad(format!("to: {dc} is where the homes are; name another DC")));
    }
    let pattern = proposal.topics.as_deref().map(str::parse::<Pattern>).transpose();
    let pattern = pattern.map_err(|error| Refusal::Bad(format!("topics: {error}")))?;
    let standings = ask_all(source, topology).await;
    let plan = Plan {
        image: &image,
        topology,
        standings: &standings,
        proposal: &proposal,
        meta: source.leader(TopicPartition::META).and_then(|l| topology.dc_of(l.node).cloned()),
        now_ms: source.now_ms(),
    };
    let mut topics = Vec::new();
    let mut moves = Vec::new();
    for topic in by_name(&image) {
        if pattern.as_ref().is_some_and(|pattern| !pattern.matches(&topic.name)) {
            continue;
        }
        if let Some((row, begins)) = plan.topic(topic, &dc, to.as_ref()) {
            topics.push(row);
            moves.extend(begins);
        }
    }
    let asked: BTreeSet<u32> = topology.nodes().map(|n| n.id.as_u32()).collect();
    let answered: BTreeSet<u32> = standings.keys().map(|n| n.as_u32()).collect();
    let begun = match proposal.plan_only {
        true => 0,
        false => begin(source, moves).await?,
    };
    Ok(api::MovePlan {
        topics,
        silent: asked.difference(&answered).copied().collect(),
        answered: answered.into_iter().collect(),
        begun,
    })
}

fn parse_dc(topology: &Topology, key: &str, name: &str) -> Result<DcName, Refusal> {
    let known = topology.data_dcs().find(|dc| dc.as_str() == name).cloned();
    known.ok_or_else(|| {
        let names = topology.data_dcs().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Refusal::Bad(format!("{key}: found {name:?}; expected a datacenter with data: {names}"))
    })
}

async fn ask_all(source: &dyn Source, topology: &Topology) -> Standings {
    // Time counts when a home is gone.
    let speak = topology.nodes().filter(|node| speaks(source, node.id));
    let asked = speak.map(|node| async { (node.id, ask::standings(source, node.id).await.ok()) });
    let told = all(asked).await;
    told.into_iter().filter_map(|(node, standings)| Some((node, standings?))).collect()
}

async fn begin(source: &dyn Source, mut moves: Vec<Begin>) -> Result<usize, Refusal> {
    let mut begun = 0;
    while !moves.is_empty() {
        let rest = moves.split_off(moves.len().min(TOPICS_MAX));
        let request = Request::MoveHomes { moves: std::mem::replace(&mut moves, rest) };
        match source.submit(request, TIMEOUT).await {
            Ok(Response::MovesBegun(results)) => {
                begun += results.iter().filter(|result| result.is_ok()).count();
            }
            Ok(other) => panic!("homes were to be moved, and {other:?} came back"),
            Err(Error::Refused(refusal)) => return Err(Refusal::Conflict(refusal.message)),
            Err(error) => {
                return Err(Refusal::NotReady(format!(
                    "{error}; `isobar dc status` shows what has begun, and it may be asked again"
                )));
            }
        }
    }
    Ok(begun)
}

/// What one proposal is planned from.
struct Plan<'a> {
    image: &'a Image,
    topology: &'a Topology,
    standings: &'a Standings,
    proposal: &'a api::MoveProposal,
    /// Where the leader of `__meta` is, which every step is asked from.
    meta: Option<DcName>,
    now_ms: i64,
}

impl Plan<'_> {
    /// `None` for a topic that has nothing to move.
    fn topic(
        &self,
        topic: &Topic,
        dc: &DcName,
        to: Option<&DcName>,
    ) -> Option<(api::MoveOfTopic, Vec<Begin>)> {
        let numbered = (0..).zip(&topic.partitions);
        let moved: Vec<(TopicPartition, &Partition)> = numbered
            .map(|(partition, placed)| (TopicPartition { topic: topic.id, partition }, &**placed))
            .filter(|(_, placed)| self.concerns(topic, placed, dc))
            .collect();
        let (_, first) = *moved.first()?;
        let target = match self.proposal.kind {
            MoveKind::Failback => Some(dc.clone()),
            _ => to.cloned().or_else(|| self.nearest(first, dc)),
        };
        let mut row = api::MoveOfTopic {
            topic: topic.name.to_string(),
            replication: super::topics::replication(first),
            partitions: moved.len(),
            from: first.home.to_string(),
            to: target.as_ref().map(ToString::to_string).unwrap_or_default(),
            verdict: api::Verdict::Lossless,
            write_pause_seconds: 0.0,
            refused: None,
        };
        let Some(target) = target else {
            row.refused = Some("no other datacenter has a majority that answers".into());
            row.verdict = api::Verdict::Undecided;
            return Some((row, Vec::new()));
        };
        let mut begins = Vec::new();
        for (at, placed) in moved {
            let found = self.survey(at, placed, &target);
            row.verdict = worse(row.verdict, self.verdict(at, placed, &found));
            // Who is sealed already says no more where it stands; the move itself will find out.
            if placed.moving().is_none() {
                let refuses = || self.refuses(placed, &target, &found);
                let cannot = || self.cannot_fetch(at, placed, &target, &found);
                row.refused = row.refused.or_else(refuses).or_else(cannot);
            }
            begins.push(Begin { at, home_epoch: placed.home_epoch, aim: self.aim(&target) });
        }
        row.write_pause_seconds = self.pause(topic, first, &target, row.verdict).as_secs_f64();
        if row.refused.is_some() {
            begins.clear();
        }
        Some((row, begins))
    }

    fn concerns(&self, topic: &Topic, placed: &Partition, dc: &DcName) -> bool {
        match self.proposal.kind {
            MoveKind::Failback => {
                let policy = config::effective(self.image, topic);
                placed.home != *dc && policy.is_some_and(|e| e.policy.homes().contains(dc))
            }
            MoveKind::Switchover | MoveKind::Failover => placed.home == *dc,
        }
    }

    fn aim(&self, to: &DcName) -> Aim {
        let kind = match self.proposal.kind {
            MoveKind::Switchover | MoveKind::Failback => Kind::Switchover,
            MoveKind::Failover => Kind::Failover,
        };
        let (to, accept_loss) = (to.clone(), self.proposal.accept_loss);
        Aim { kind, to, accept_loss, automatic: false, began_ms: self.now_ms }
    }

    /// The DC nearest to the home of which a majority of replicas answers.
    fn nearest(&self, placed: &Partition, home: &DcName) -> Option<DcName> {
        let dcs = placed.replicas.iter().filter_map(|r| self.topology.dc_of(r.node));
        let others: BTreeSet<&DcName> = dcs.filter(|dc| *dc != home).collect();
        let mut able: Vec<&DcName> =
            others.into_iter().filter(|dc| self.majority_answers(placed, dc)).collect();
        able.sort_by_key(|dc| self.topology.rtt(home, dc));
        able.first().map(|dc| (*dc).clone())
    }

    fn majority_answers(&self, placed: &Partition, dc: &DcName) -> bool {
        let there = placed.replicas.iter().filter(|r| self.topology.dc_of(r.node) == Some(dc));
        let (answered, all) = there.fold((0, 0), |(answered, all), r| {
            (answered + usize::from(self.standings.contains_key(&r.node)), all + 1)
        });
        all > 0 && answered > all / 2
    }

    fn standing(&self, at: TopicPartition, node: NodeId) -> Option<&Standing> {
        self.standings.get(&node)?.iter().find(|s| s.is_of(at))
    }

    fn survey(&self, at: TopicPartition, placed: &Partition, to: &DcName) -> Found {
        let seats: Vec<Seat> = placed
            .replicas
            .iter()
            .filter_map(|replica| {
                let standing = self.standing(at, replica.node);
                let sealed = standing.map(Standing::last);
                let dc = self.topology.dc_of(replica.node)?.clone();
                Some(Seat { dc, voter: replica.voter, sealed })
            })
            .collect();
        survey(Survey {
            home: &placed.home,
            to,
            sync_to: placed.replication.sync_to() as usize,
            ever_sync: placed.ever_sync,
            degraded: placed.mode.degraded,
            seats: &seats,
        })
        .with_beginning(|cut| placed.is_beginning_in(cut))
    }

    /// Who has the log that the cut would be chosen from.
    fn longest(
        &self,
        at: TopicPartition,
        placed: &Partition,
        found: &Found,
    ) -> Option<(NodeId, &Standing)> {
        let counted = placed
            .replicas
            .iter()
            .filter(|r| self.topology.dc_of(r.node).is_some_and(|dc| found.sealed.contains(dc)));
        let mut told = counted.filter_map(|r| Some((r.node, self.standing(at, r.node)?)));
        told.find(|(_, standing)| found.cut == Some(standing.last()))
    }

    fn verdict(&self, at: TopicPartition, placed: &Partition, found: &Found) -> api::Verdict {
        if found.proven {
            return api::Verdict::Lossless;
        }
        if found.sealed.is_empty() {
            return api::Verdict::Undecided;
        }
        // As the move will: of those that the cut is chosen from. Others may have more than it.
        let known = placed.replicas.iter().filter_map(|r| {
            let counts = found.sealed.contains(self.topology.dc_of(r.node)?);
            self.standing(at, r.node)?.known_until_ms.filter(|_| counts)
        });
        let ms = known.max().unwrap_or(0);
        let cut = self.longest(at, placed, found).and_then(|(_, s)| s.log_end).map(Offset);
        let bound = budgets::to_claim(self.image, placed);
        verdict(Verdict::unproven(found, placed, bound, ms), cut)
    }

    fn refuses(&self, placed: &Partition, to: &DcName, found: &Found) -> Option<String> {
        if !found.can_take_over(to) {
            return Some(format!("a majority of the replicas in {to} must answer"));
        }
        match self.proposal.kind {
            MoveKind::Switchover | MoveKind::Failback => {
                let home_answers = found.sealed.contains(&placed.home);
                (!home_answers).then(|| {
                    format!(
                        "a majority of the voters in {} must answer: `isobar dc failover {}` does not \
                         need them",
                        placed.home, placed.home
                    )
                })
            }
            MoveKind::Failover => {
                let needs_word = placed.ever_sync && !found.safe && !self.proposal.accept_loss;
                let missing = found.missing.iter().map(ToString::to_string).collect::<Vec<_>>();
                needs_word.then(|| {
                    format!(
                        "it was sync, and without {} nobody can prove that nothing is lost: wait for \
                         one of them, or give the word with --accept-loss",
                        missing.join(" and ")
                    )
                })
            }
        }
    }

    /// What the move would find once all are sealed. A home that hands off gives the target what it lacks.
    fn cannot_fetch(
        &self,
        at: TopicPartition,
        placed: &Partition,
        to: &DcName,
        found: &Found,
    ) -> Option<String> {
        if self.proposal.kind != MoveKind::Failover {
            return None;
        }
        let told = |r: &Replica| Some((r.node, self.standing(at, r.node)?));
        let (source, longest) = self.longest(at, placed, found)?;
        let begins_after = longest.begins_after?;
        let there = placed.replicas.iter().filter(|r| self.topology.dc_of(r.node) == Some(to));
        let all = there.clone().count();
        let (too_old, able): (Vec<_>, Vec<_>) =
            there.filter_map(told).partition(|(_, s)| s.last_index < begins_after);
        let too_old: Vec<NodeId> = too_old.into_iter().map(|(node, _)| node).collect();
        let is_able = too_old.is_empty() || able.len() >= majority(all);
        (!is_able).then(|| moves::cannot_fetch(to, source, &too_old))
    }

    /// What an operator may expect. Every step is a round trip from the leader of `__meta`; what is forced and
    /// not proven waits for the old home's leases too.
    fn pause(
        &self,
        topic: &Topic,
        placed: &Partition,
        to: &DcName,
        verdict: api::Verdict,
    ) -> Duration {
        let rtt = |a: &DcName, b: &DcName| self.topology.rtt(a, b).unwrap_or_default();
        let meta = self.meta.as_ref().unwrap_or(to);
        let farthest = rtt(meta, &placed.home).max(rtt(meta, to));
        let voters = meta_voters(self.topology);
        let meta_rtt = self.topology.max_rtt(&voters);
        let steps = rtt(&placed.home, to) + farthest * 2 + meta_rtt + FIRST_ELECTION;
        let effective = config::effective(self.image, topic);
        let fences = effective.is_some_and(|e| e.policy.on_isolation == OnIsolation::Fence);
        match verdict {
            api::Verdict::Lossless => steps,
            _ if fences => {
                steps + timing::lease(&self.topology.timing(&voters)).length.mul_f64(1.1)
            }
            _ => steps,
        }
    }
}

fn worse(a: api::Verdict, b: api::Verdict) -> api::Verdict {
    use api::Verdict::{AtMost, Lossless, UnboundedSince, Undecided};
    fn both<T>(a: Option<T>, b: Option<T>, of: impl Fn(T, T) -> T) -> Option<T> {
        a.zip(b).map(|(a, b)| of(a, b))
    }
    match (a, b) {
        (Undecided, _) | (_, Undecided) => Undecided,
        (Lossless, other) | (other, Lossless) => other,
        (AtMost { since_ms: a, .. }, UnboundedSince { since_ms: b })
        | (UnboundedSince { since_ms: a }, AtMost { since_ms: b, .. })
        | (UnboundedSince { since_ms: a }, UnboundedSince { since_ms: b }) => {
            UnboundedSince { since_ms: a.min(b) }
        }
        (
            AtMost { since_ms: a_ms, records: a, bytes: a_bytes, span_ms: a_span, .. },
            AtMost { since_ms: b_ms, records: b, bytes: b_bytes, span_ms: b_span, .. },
        ) => AtMost {
            since_ms: a_ms.min(b_ms),
            records: both(a, b, u64::saturating_add),
            bytes: both(a_bytes, b_bytes, u64::saturating_add),
            span_ms: both(a_span, b_span, u64::max),
            first_offset: None,
        },
    }
}
