//! Which homes are moved by themselves, and why others are not. Pure: image, nodes that are gone and
//! time in; moves to begin and reasons out.
//!
//! Everybody decides, to show it; only the leader of `__meta` acts, by the same compare-and-set and the same
//! steps as an operator (`moves`). What is safe rests on those: that a node was called gone by mistake costs a
//! pause, never a record of a sync topic.
//!
//! Invariants: a sync topic, or one that ever was, moves only where the survivors can prove that nothing is lost
//! (R11); nobody's word for a loss is made up. A home moves while too few of its voters are left to elect a leader,
//! never because another DC looks better, and never back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isobar_topology::home_move::{LastEntry, Seat, Survey, may_force, survey};
use isobar_topology::policy::{Failover, OnIsolation, is_internal};
use isobar_topology::quorum::majority;
use isobar_topology::{Replication, Topology};

use super::config::{self, Effective};
use super::image::{Image, Partition, Topic};
use super::moves::{Aim, Begin, Kind};
use crate::model::{DcName, NodeId, TopicPartition};

/// How long nodes must be gone without a break before a home is moved for it. Beyond what QUIC takes to
/// give a silent peer up (3 to 5 s), so a link that flaps faster than this moves nothing.
pub const LOST_AFTER: Duration = Duration::from_secs(5);

/// How long after a partition has moved by itself it does not do so again: whatever comes and goes, clients follow it
/// once a minute at most.
pub const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is to be done about homes that are lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub begins: Vec<Begin>,
    pub held: Vec<Held>,
}

/// A lost home that is not moved, although its policy says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub at: TopicPartition,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("no other datacenter has a majority of its replicas that is heard")]
    NoTarget,
    #[error(
        "without {missing} nobody can prove that nothing is lost: bring it back, or say \
         `isobar dc failover {home} --accept-loss`"
    )]
    Unproven { home: DcName, missing: String },
    #[error(
        "it moved by itself {} s ago, and does so once in {} s at most: `isobar dc failover` does it now",
        .ago.as_secs(), AGAIN_AFTER.as_secs()
    )]
    JustMoved { ago: Duration },
}

/// `gone`: nodes that have been gone for [`LOST_AFTER`].
pub fn decide(image: &Image, gone: &BTreeSet<NodeId>, now_ms: i64) -> Decision {
    let mut decision = Decision::default();
    let Some(topology) = image.topology.as_ref().filter(|_| !gone.is_empty()) else {
        return decision;
    };
    for (id, topic) in &image.topics {
        let numbered = (0..).zip(&topic.partitions);
        let mut lost = numbered.filter(|(_, placed)| is_lost(topology, placed, gone)).peekable();
        // Few topics have lost a home, and what their policy is takes longer to find out.
        if lost.peek().is_none() || !moves_by_itself(image, topology, topic) {
            continue;
        }
        for (partition, placed) in lost {
            let at = TopicPartition { topic: *id, partition };
            let lost = Lost { image, topology, topic, placed, gone, now_ms };
            match lost.aim(at) {
                Ok(aim) => {
                    decision.begins.push(Begin { at, home_epoch: placed.home_epoch, aim });
                }
                Err(why) => decision.held.push(Held { at, why }),
            }
        }
    }
    decision
}

/// By its policy; Kafka's own topics do as soon as one other does, for what consumers have committed goes where
/// consumers can go on. But no home that goes on acknowledging when it is cut off.
fn moves_by_itself(image: &Image, topology: &Topology, topic: &Topic) -> bool {
    let Some(Effective { policy, .. }) = config::effective(image, topic) else { return false };
    if !is_internal(&topic.name) {
        return policy.failover == Failover::Automatic;
    }
    let automatic = Failover::Automatic.as_str();
    let by_config = |topic: &Arc<Topic>| {
        topic.configs.get("isobar.failover").is_some_and(|value| value.trim() == automatic)
    };
    let is_any = topology.policies().any(|p| p.settings.failover == Failover::Automatic)
        || image.topics.values().any(by_config);
    is_any
        && (policy.on_isolation == OnIsolation::Fence || policy.replication != Replication::Async)
}

/// Too few voters are left, and no move is under way to a place that can take over: a switchover gives up when its
/// home dies, and would have it go on where it was.
fn is_lost(topology: &Topology, placed: &Partition, gone: &BTreeSet<NodeId>) -> bool {
    let is_moving = || {
        let to = placed.moving().map(|moving| &moving.aim.to);
        to.is_some_and(|to| can_take_over(topology, placed, gone, to))
    };
    !has_voters(placed, gone) && !is_moving()
}

/// Whether a majority of the replicas in a datacenter is heard.
fn can_take_over(
    topology: &Topology,
    placed: &Partition,
    gone: &BTreeSet<NodeId>,
    dc: &DcName,
) -> bool {
    let there = placed.replicas.iter().filter(|r| topology.dc_of(r.node) == Some(dc));
    let (heard, all) = there.fold((0, 0), |(heard, all), replica| {
        (heard + usize::from(!gone.contains(&replica.node)), all + 1)
    });
    all > 0 && heard >= majority(all)
}

fn has_voters(placed: &Partition, gone: &BTreeSet<NodeId>) -> bool {
    let (left, all) = placed.voters().fold((0, 0), |(left, all), voter| {
        (left + usize::from(!gone.contains(&voter.node)), all + 1)
    });
    left >= majority(all)
}

/// A partition that has lost its home.
struct Lost<'a> {
    image: &'a Image,
    topology: &'a Topology,
    topic: &'a Topic,
    placed: &'a Partition,
    gone: &'a BTreeSet<NodeId>,
    now_ms: i64,
}

impl Lost<'_> {
    fn aim(&self, at: TopicPartition) -> Result<Aim, Why> {
        let moved = self.image.moved.iter().rev().find(|moved| moved.at == at && moved.automatic);
        let ago = moved.map(|moved| self.now_ms.saturating_sub(moved.ended_ms));
        let ago = ago.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
        if let Some(ago) = ago.filter(|ago| *ago < AGAIN_AFTER) {
            return Err(Why::JustMoved { ago });
        }
        let to = self.target().ok_or(Why::NoTarget)?;
        let seats: Vec<Seat> = self.seats().collect();
        let survey_of = Survey {
            home: &self.placed.home,
            to: &to,
            sync_to: self.placed.replication.sync_to() as usize,
            ever_sync: self.placed.ever_sync,
            degraded: self.placed.mode.degraded,
            seats: &seats,
        };
        let found = survey(survey_of);
        if !may_force(&survey_of, &found, false) {
            let missing = found.missing.iter().filter(|dc| **dc != self.placed.home);
            let missing: Vec<String> = missing.map(ToString::to_string).collect();
            let home = self.placed.home.clone();
            let missing = if missing.is_empty() { home.to_string() } else { missing.join(" or ") };
            return Err(Why::Unproven { home, missing });
        }
        let began_ms = self.now_ms;
        Ok(Aim { kind: Kind::Failover, to, accept_loss: false, automatic: true, began_ms })
    }

    /// Who is heard will be sealed; what its log holds does not matter for whether it is enough.
    fn seats(&self) -> impl Iterator<Item = Seat> {
        self.placed.replicas.iter().filter_map(|replica| {
            let heard = !self.gone.contains(&replica.node);
            let sealed = heard.then_some(LastEntry { term: 0, index: 0 });
            let dc = self.topology.dc_of(replica.node)?.clone();
            Some(Seat { dc, voter: replica.voter, sealed })
        })
    }

    /// The first of the preference list that can take over, else the nearest to the home.
    fn target(&self) -> Option<DcName> {
        let can_take_over = |dc: &DcName| can_take_over(self.topology, self.placed, self.gone, dc);
        let home = &self.placed.home;
        let preferred =
            config::effective(self.image, self.topic).map(|e| e.policy.home.named().to_vec());
        let mut preferred = preferred.unwrap_or_default();
        let mut nearest: Vec<DcName> = self.topology.data_dcs().cloned().collect();
        nearest.sort_by_key(|dc| self.topology.rtt(home, dc));
        preferred.extend(nearest);
        preferred.into_iter().find(|dc| dc != home && can_take_over(dc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::{World, n, topic};
    use crate::metadata::moves::{Moved, Verdict};
    use crate::metadata::request::Request;

    const AUTOMATIC: (&str, &str) = ("isobar.failover", "automatic");
    const SYNC: (&str, &str) = ("isobar.replication", "sync");

    /// Home fra, nodes 1 to 3; iad has 4 to 6, sin 7 to 9.
    fn world(configs: &[(&str, &str)]) -> World {
        let mut world = World::new();
        world.create(topic("t", 1, configs)).unwrap();
        world
    }

    fn gone(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| n(*id)).collect()
    }

    fn decided(world: &World, gone_ids: &[u64]) -> Decision {
        decide(&world.image, &gone(gone_ids), 100_000)
    }

    fn targets(decision: &Decision) -> Vec<&str> {
        decision.begins.iter().map(|begin| begin.aim.to.as_str()).collect()
    }

    #[test]
    fn only_who_asks_for_it_moves_and_only_when_its_home_cannot_elect() {
        let automatic = world(&[AUTOMATIC]);
        assert_eq!(targets(&decided(&automatic, &[1, 2, 3])), ["iad"]);
        assert_eq!(targets(&decided(&automatic, &[1, 3])), ["iad"], "one of three elects nobody");
        assert_eq!(decided(&automatic, &[1]), Decision::default());
        assert_eq!(decided(&automatic, &[4, 5, 6, 7, 8, 9]), Decision::default());
        assert_eq!(decided(&world(&[]), &[1, 2, 3]), Decision::default());
    }

    #[test]
    fn the_target_is_the_next_of_the_list_or_the_nearest_that_can_take_over() {
        let listed = world(&[AUTOMATIC, ("isobar.home", "fra,sin,iad")]);
        assert_eq!(targets(&decided(&listed, &[1, 2, 3])), ["sin"]);
        assert_eq!(targets(&decided(&listed, &[1, 2, 3, 7, 8])), ["iad"]);
        let nobody = decided(&listed, &[1, 2, 3, 4, 5, 7, 8]);
        assert_eq!((targets(&nobody), &nobody.held[0].why), (vec![], &Why::NoTarget));
    }

    #[test]
    fn a_sync_topic_moves_only_where_the_proof_is_there() {
        let sync = world(&[AUTOMATIC, SYNC]);
        assert_eq!(targets(&decided(&sync, &[1, 2, 3])), ["iad"]);
        // k = 1 of two remote DCs: both are needed (R11).
        let unproven = decided(&sync, &[1, 2, 3, 7, 8]);
        assert_eq!(targets(&unproven), [""; 0]);
        let said = unproven.held[0].why.to_string();
        assert!(said.contains("without sin") && said.contains("failover fra"), "{said}");
    }

    #[test]
    fn it_does_not_happen_twice_in_a_minute_and_never_beside_a_move() {
        let mut world = world(&[AUTOMATIC]);
        let begin = decided(&world, &[1, 2, 3]).begins.remove(0);
        let mut moved = Moved {
            at: begin.at,
            topic: "t".into(),
            kind: Kind::Failover,
            from: "sin".parse().unwrap(),
            to: "fra".parse().unwrap(),
            home_epoch: begin.home_epoch,
            cut: crate::log::Position::default(),
            verdict: Verdict::Lossless,
            accept_loss: false,
            automatic: true,
            began_ms: 0,
            ended_ms: 70_000,
            old_voters: Vec::new(),
            suffixes: Vec::new(),
        };
        world.image.moved.push(moved.clone().into());
        let ago = Duration::from_secs(30);
        assert_eq!(decided(&world, &[1, 2, 3]).held[0].why, Why::JustMoved { ago });
        moved.automatic = false;
        world.image.moved = vec![moved.into()];
        assert_eq!(
            targets(&decided(&world, &[1, 2, 3])),
            ["iad"],
            "an operator's move does not count"
        );
        world.ask(Request::MoveHomes { moves: vec![begin] }).unwrap();
        assert_eq!(decided(&world, &[1, 2, 3]), Decision::default());
        assert_eq!(targets(&decided(&world, &[1, 2, 3, 4, 5])), ["sin"], "its target is lost too");
    }
}
