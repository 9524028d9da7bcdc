//! `__meta` after its majority was lost: begun anew by one survivor, on an operator's word (R26, ADR 0020).
//!
//! ```text
//!  home epoch e      … ──────F     what the survivor has; others had more, perhaps, and nobody can say
//!  home epoch e + 1          └─ RecoverMeta ─ …    the survivor is the only voter, all others learn
//! ```
//!
//! What was decided and is not in the survivor's log must not be decided again as something else. So what
//! `__meta` hands out once goes on far above what it can have handed out: home epochs, replica ids,
//! producer ids. A move that is under way begins again, for nobody knows whether its cut was chosen.

use std::collections::BTreeSet;
use std::sync::Arc;

use isobar_topology::Replication;
use isobar_topology::policy::OnSyncLoss;

use super::apply::{Outcome, compare, placed};
use super::config;
use super::image::{Image, Partition, Phase, Replica};
use super::moves::wire::{ForkWire, PositionWire};
use super::moves::{FORK_TERMS_MAX, Moving};
use super::refusal::{Reason, Refusal};
use super::wire::{self, Malformed};
use crate::log::{Fork, Position};
use crate::model::{HOME_EPOCH_MAX, HomeEpoch, Mode, NodeId, ReplicaId, TopicId, TopicPartition};

/// Recoveries that the image keeps, the oldest go first. One is a disaster.
const KEPT_MAX: usize = 100;

/// Home epochs that are left out: more than a `__meta` that is cut off decides for one partition before it
/// hears that it is none any more, and 200 recoveries are left.
const EPOCHS_LEFT_OUT: u32 = 64;

/// Replica ids that are left out, of each partition.
const REPLICA_IDS_LEFT_OUT: u64 = 1 << 20;

/// Changes of a mode that are left out: far more than an outage has.
const MODES_LEFT_OUT: u64 = 1 << 20;

/// Producer ids that are left out: two million blocks.
const PRODUCER_IDS_LEFT_OUT: i64 = 1 << 31;

/// Begins `__meta` anew. Nobody proposes it: `isobar meta recover` writes it into the one log that is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recover {
    /// Of `__meta`, the one that is left.
    pub home_epoch: HomeEpoch,
    /// Where the survivor's log ends, and the home epoch that begins there.
    pub fork: Fork,
    /// The survivor: from here on the only voter.
    pub replica: ReplicaId,
    /// Whom the operator has given up.
    pub lost: BTreeSet<NodeId>,
    /// Unix time, for people.
    pub at_ms: i64,
}

/// A recovery that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Of `__meta`, since then.
    pub home_epoch: HomeEpoch,
    /// What came after this in the log of a lost majority is not known.
    pub cut: Position,
    pub node: NodeId,
    pub lost: BTreeSet<NodeId>,
    pub at_ms: i64,
    /// What partitions move to from here on is at least this home epoch.
    pub epochs_from: HomeEpoch,
}

impl Image {
    /// The home epoch after `epoch` that nobody can have been promised, also not by what `__meta` has lost.
    /// `None` where there is none left.
    pub fn epoch_after(&self, epoch: HomeEpoch) -> Option<HomeEpoch> {
        let next = HomeEpoch::new(epoch.as_u32() + 1)?;
        Some(self.recoveries.last().map_or(next, |recovery| next.max(recovery.epochs_from)))
    }
}

pub(super) fn recover(image: &mut Image, recover: Recover) -> Outcome {
    let Recover { home_epoch, fork, replica, lost, at_ms } = recover;
    let begins = fork.home_epoch;
    let meta = placed(image, TopicPartition::META)?;
    compare("home epoch of __meta", home_epoch, meta.home_epoch)?;
    let invalid = |message| Err(Refusal::new(Reason::InvalidReplicaAssignment, message));
    let Some(survivor) = meta.replicas.iter().find(|r| r.id == replica).copied() else {
        return invalid(format!("replica {replica} is none of __meta"));
    };
    if begins <= home_epoch || fork.epochs.len() > FORK_TERMS_MAX {
        return invalid(format!("home epoch {begins} of __meta after {home_epoch}"));
    }
    let cut = fork.at;
    let partition = Arc::make_mut(meta);
    // The first voter is the preferred leader.
    partition.replicas.sort_by_key(|r| r.id != replica);
    for one in &mut partition.replicas {
        *one = Replica { voter: one.id == replica, ..*one };
    }
    partition.home_epoch = begins;
    partition.fork = Some(Arc::new(fork));
    partition.placement_generation += 1;
    partition.next_replica_id.0 += REPLICA_IDS_LEFT_OUT << 32;

    let epochs_from = leave_out(image);
    if image.recoveries.len() == KEPT_MAX {
        image.recoveries.remove(0);
    }
    let node = survivor.node;
    let recovery = Recovery { home_epoch: begins, cut, node, lost, at_ms, epochs_from };
    image.recoveries.push(recovery);
    Ok(())
}

/// Goes on above what can have been handed out; the home epoch from which on partitions move.
fn leave_out(image: &mut Image) -> HomeEpoch {
    let epoch = |p: &Partition| p.moving().map_or(p.home_epoch, |moving| moving.epoch);
    let partitions = || image.topics.values().flat_map(|topic| &topic.partitions);
    let before = image.recoveries.last().map(|recovery| recovery.epochs_from);
    let last = partitions().map(|p| epoch(p)).chain(before).max().unwrap_or(HomeEpoch::FIRST);
    let epochs_from = (last.as_u32() + EPOCHS_LEFT_OUT).min(HOME_EPOCH_MAX);
    let epochs_from = HomeEpoch::new(epochs_from).expect("it is bounded above");
    let may_degrade: BTreeSet<TopicId> = image
        .topics
        .values()
        .filter(|topic| {
            let effective = config::effective(image, topic);
            effective.is_some_and(|e| e.policy.on_sync_loss == OnSyncLoss::Degrade)
        })
        .map(|topic| topic.id)
        .collect();
    for (id, topic) in &mut image.topics {
        for partition in &mut Arc::make_mut(topic).partitions {
            let partition = Arc::make_mut(partition);
            partition.next_replica_id.0 += REPLICA_IDS_LEFT_OUT;
            // Its policy may have been loosened.
            partition.budget = None;
            // It may have been degraded, and a move must not claim what a sync one could.
            if partition.replication != Replication::Async && may_degrade.contains(id) {
                partition.mode = Mode { sid: partition.mode.sid + MODES_LEFT_OUT, degraded: true };
            }
            if let Phase::Sealing(moving) = &partition.phase {
                let aim = moving.aim.clone();
                partition.phase = Phase::Sealing(Moving { aim, epoch: epochs_from, chosen: None });
            }
        }
    }
    image.next_producer_id = image.next_producer_id.saturating_add(PRODUCER_IDS_LEFT_OUT);
    epochs_from
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RecoverWire {
    #[prost(uint32, tag = "1")]
    home_epoch: u32,
    #[prost(message, required, tag = "2")]
    fork: ForkWire,
    #[prost(uint64, tag = "3")]
    replica: u64,
    #[prost(uint32, repeated, tag = "4")]
    lost: Vec<u32>,
    #[prost(int64, tag = "5")]
    at_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RecoveryWire {
    #[prost(uint32, tag = "1")]
    home_epoch: u32,
    #[prost(message, required, tag = "2")]
    cut: PositionWire,
    #[prost(uint32, tag = "3")]
    node: u32,
    #[prost(uint32, repeated, tag = "4")]
    lost: Vec<u32>,
    #[prost(int64, tag = "5")]
    at_ms: i64,
    #[prost(uint32, tag = "6")]
    epochs_from: u32,
}

fn lost_to_wire(lost: &BTreeSet<NodeId>) -> Vec<u32> {
    lost.iter().map(|node| node.as_u32()).collect()
}

fn lost_from_wire(lost: Vec<u32>) -> Result<BTreeSet<NodeId>, Malformed> {
    Ok(wire::all(lost, wire::node_id)?.into_iter().collect())
}

impl From<&Recover> for RecoverWire {
    fn from(recover: &Recover) -> Self {
        Self {
            home_epoch: recover.home_epoch.as_u32(),
            fork: (&recover.fork).into(),
            replica: recover.replica.0,
            lost: lost_to_wire(&recover.lost),
            at_ms: recover.at_ms,
        }
    }
}

impl TryFrom<RecoverWire> for Recover {
    type Error = Malformed;

    fn try_from(wire: RecoverWire) -> Result<Self, Malformed> {
        Ok(Self {
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            fork: wire.fork.try_into()?,
            replica: ReplicaId(wire.replica),
            lost: lost_from_wire(wire.lost)?,
            at_ms: wire.at_ms,
        })
    }
}

impl From<&Recovery> for RecoveryWire {
    fn from(recovery: &Recovery) -> Self {
        Self {
            home_epoch: recovery.home_epoch.as_u32(),
            cut: recovery.cut.into(),
            node: recovery.node.as_u32(),
            lost: lost_to_wire(&recovery.lost),
            at_ms: recovery.at_ms,
            epochs_from: recovery.epochs_from.as_u32(),
        }
    }
}

impl TryFrom<RecoveryWire> for Recovery {
    type Error = Malformed;

    fn try_from(wire: RecoveryWire) -> Result<Self, Malformed> {
        Ok(Self {
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            cut: wire.cut.try_into()?,
            node: wire::node_id(wire.node)?,
            lost: lost_from_wire(wire.lost)?,
            at_ms: wire.at_ms,
            epochs_from: wire::home_epoch(wire.epochs_from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EpochStart;
    use crate::metadata::command::Command;
    use crate::metadata::fixture::{World, moving, n, text_with_sync, topic};
    use crate::metadata::moves::{Aim, Begin, Kind};
    use crate::metadata::request::Request;
    use crate::metadata::snapshot;
    use crate::model::{LogIndex, Offset, Term};

    fn recover_on(world: &World, node: u64) -> Recover {
        let meta = world.image.meta.as_ref().unwrap();
        let term = Term(meta.home_epoch.first_term().0 + 3);
        let at = Position { index: LogIndex(40), term, offset: world.image.next_offset };
        let home_epoch = HomeEpoch::new(meta.home_epoch.as_u32() + 1).unwrap();
        let epochs = vec![EpochStart { term, index: LogIndex(1), offset: Offset(0) }];
        Recover {
            home_epoch: meta.home_epoch,
            fork: Fork { home_epoch, at, epochs },
            replica: meta.replica_on(n(node)).unwrap().id,
            lost: (1..=6).map(n).collect(),
            at_ms: 77,
        }
    }

    fn world() -> (World, TopicPartition) {
        let mut world = World::new();
        world.create(topic("t", 2, &[])).unwrap();
        let at = TopicPartition { topic: world.image.topic("t").unwrap().id, partition: 1 };
        (world, at)
    }

    #[test]
    fn the_survivor_is_the_only_voter_and_all_others_may_learn_again() {
        let (mut world, _) = world();
        let before = Arc::clone(world.image.meta.as_ref().unwrap());
        let recover = recover_on(&world, 8);
        world.apply(Command::RecoverMeta(Box::new(recover.clone()))).unwrap();
        let meta = world.image.meta.clone().unwrap();
        assert_eq!(meta.voters().map(|r| r.node).collect::<Vec<_>>(), [n(8)]);
        assert_eq!(meta.replicas.len(), before.replicas.len());
        assert_eq!(meta.replicas[0].node, n(8), "it is preferred");
        assert_eq!(meta.home_epoch.as_u32(), 2);
        assert_eq!(meta.fork.as_deref(), Some(&recover.fork));
        assert!(meta.placement_generation > before.placement_generation);
        let [kept] = &world.image.recoveries[..] else { panic!() };
        assert_eq!((kept.node, kept.cut, &kept.lost), (n(8), recover.fork.at, &recover.lost));
        // Late, or twice: of the epoch that it left.
        let late = world.apply(Command::RecoverMeta(Box::new(recover))).unwrap_err();
        assert_eq!(late.reason, Reason::Stale);
        let decoded = snapshot::decode(&snapshot::encode(&world.image), world.image.next_offset);
        assert_eq!(decoded.unwrap(), world.image);
    }

    #[test]
    fn what_may_have_been_handed_out_is_not_handed_out_again() {
        let (mut world, at) = world();
        let (ids, producers) =
            (world.image.partition(at).unwrap().next_replica_id, world.image.next_producer_id);
        let mut admitted = world.replace_disk(9, [0xe1; 16]).replica;
        world.apply(Command::RecoverMeta(Box::new(recover_on(&world, 8)))).unwrap();
        assert!(world.image.partition(at).unwrap().next_replica_id.0 >= ids.0 + 1_000_000);
        assert!(world.image.next_producer_id >= producers + 1_000_000_000);
        let lost = admitted.0 >> 32;
        admitted = world.replace_disk(9, [0xe2; 16]).replica;
        assert!(admitted.0 >> 32 > lost + 1_000_000);
        assert_eq!(admitted.meta_node(), Some(n(9)), "an id still names its node");
        let begin = Begin {
            at,
            home_epoch: HomeEpoch::FIRST,
            aim: Aim {
                kind: Kind::Failover,
                to: "sin".parse().unwrap(),
                accept_loss: true,
                automatic: false,
                began_ms: 1,
            },
        };
        world.ask(Request::MoveHomes { moves: vec![begin] }).unwrap();
        let moving = world.image.partition(at).unwrap().moving().unwrap().epoch;
        assert!(moving.as_u32() >= 64, "{moving}");
    }

    #[test]
    fn a_move_under_way_begins_again_under_a_promise_that_nobody_gave() {
        let (mut world, at) = world();
        let partition = &mut Arc::make_mut(world.image.topics.get_mut(&at.topic).unwrap());
        let under_way = Arc::make_mut(&mut partition.partitions[1]);
        under_way.phase = Phase::Sealing(moving("iad"));
        world.apply(Command::RecoverMeta(Box::new(recover_on(&world, 8)))).unwrap();
        let now = world.image.partition(at).unwrap().moving().unwrap();
        let from = world.image.recoveries[0].epochs_from;
        assert_eq!((now.epoch, &now.chosen, now.aim.to.as_str()), (from, &None, "iad"));
        // And a second recovery goes above the first.
        world.apply(Command::RecoverMeta(Box::new(recover_on(&world, 7)))).unwrap();
        assert!(world.image.recoveries[1].epochs_from.as_u32() >= from.as_u32() + 64);
    }

    #[test]
    fn a_topic_that_may_have_been_degraded_is_taken_to_be() {
        let mut world = World::of(&text_with_sync());
        world.create(topic("sync-may", 1, &[("isobar.on.sync.loss", "degrade")])).unwrap();
        world.create(topic("sync-blocks", 1, &[])).unwrap();
        world.create(topic("async", 1, &[])).unwrap();
        world.apply(Command::RecoverMeta(Box::new(recover_on(&world, 8)))).unwrap();
        let mode = |name: &str| world.image.topic(name).unwrap().partitions[0].mode;
        assert!(mode("sync-may").degraded && mode("sync-may").sid > 1_000_000);
        assert!(!mode("sync-blocks").degraded && !mode("async").degraded);
    }

    #[test]
    fn who_is_no_replica_recovers_nothing() {
        let (mut world, _) = world();
        let good = recover_on(&world, 8);
        let nobody = Recover { replica: ReplicaId(99), ..good.clone() };
        let fork = Fork { home_epoch: HomeEpoch::FIRST, ..good.fork.clone() };
        for bad in [nobody, Recover { fork, ..good }] {
            let refused = world.apply(Command::RecoverMeta(Box::new(bad))).unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidReplicaAssignment);
            assert_eq!(world.image.recoveries, []);
        }
    }
}
