//! From the image to what this node must do: which replicas to make, which to let go, and what to
//! tell those that stay. Pure; called on every change of the image and at the start.
//!
//! Replica identity is (node, disk) (R22): a placement that was made for another disk of this node
//! is none of ours, and whatever stands on this disk under it must not vote. The controller gives
//! the node a new replica id; until then the partition has one replica less here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{self, Effective};
use super::image::{DiskId, Image, Partition, Phase, Topic};
use crate::model::{DcName, HomeEpoch, NodeId, ReplicaId, TopicPartition};

/// What this node has.
#[derive(Debug, Clone)]
pub struct Local<'a> {
    pub node: NodeId,
    pub disk: DiskId,
    pub replicas: &'a BTreeMap<TopicPartition, LocalReplica>,
    /// Whether the image is known to be as new as everything that was committed before this node
    /// started: true once `Request::RegisterNode` was answered. Before that, a topic that the image
    /// lacks may only be one that it does not have *yet*, so nothing is removed.
    pub is_current: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReplica {
    pub id: ReplicaId,
    pub home_epoch: HomeEpoch,
    pub placement_generation: u64,
    /// As last told; `None` after a restart.
    pub effective: Option<Arc<Effective>>,
}

/// One of a partition's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: ReplicaId,
    pub node: NodeId,
    pub dc: DcName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    pub placement_generation: u64,
    /// The first is the preferred leader.
    pub voters: Vec<Member>,
    pub learners: Vec<Member>,
}

/// Everything a replica starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    pub partition: TopicPartition,
    pub topic: Arc<str>,
    pub replica: ReplicaId,
    pub home: DcName,
    pub home_epoch: HomeEpoch,
    pub members: Members,
    pub effective: Arc<Effective>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveReason {
    /// The topic was deleted.
    Deleted,
    /// The partition lives on without this node.
    Unplaced,
    /// What stands here is another replica than the one that is placed here: of an id that was
    /// dropped. The new one is made in its place, from nothing.
    Replaced,
}

/// In the order in which they are to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Remove {
        partition: TopicPartition,
        replica: ReplicaId,
        reason: RemoveReason,
    },
    Create(Box<Create>),
    /// Who the others are has changed: where its leader is here, a change of the Raft configuration
    /// follows.
    UpdatePlacement {
        partition: TopicPartition,
        members: Members,
    },
    UpdatePolicy {
        partition: TopicPartition,
        effective: Arc<Effective>,
    },
}

/// What to do so that this node has what the image says.
pub fn reconcile(image: &Image, local: &Local<'_>) -> Vec<Action> {
    let mut removed = Vec::new();
    let mut rest = Vec::new();
    for (partition, replica) in local.replicas {
        if let Some(reason) = leaves(image, local, *partition, replica) {
            let (partition, replica) = (*partition, replica.id);
            removed.push(Action::Remove { partition, replica, reason });
        }
    }
    for topic in image.topics.values() {
        let mut shared = None;
        for (number, placed) in (0..).zip(&topic.partitions) {
            let at = TopicPartition { topic: topic.id, partition: number };
            let Some(id) = placed_here(placed, local) else { continue };
            let effective = shared.get_or_insert_with(|| effective(image, topic));
            let Some(effective) = effective else { continue };
            match local.replicas.get(&at) {
                Some(known) if known.id == id => {
                    rest.extend(update(image, at, known, placed, effective));
                }
                // Another id stands there and is being removed, or may be only later.
                Some(_) if !local.is_current => {}
                _ => rest.push(create(image, topic, at, id, placed, effective)),
            }
        }
    }
    removed.into_iter().chain(rest).collect()
}

/// The id of the replica that this node's disk is to hold, if any.
fn placed_here(partition: &Partition, local: &Local<'_>) -> Option<ReplicaId> {
    let replica = partition.replica_on(local.node)?;
    (replica.disk == Some(local.disk)).then_some(replica.id)
}

fn leaves(
    image: &Image,
    local: &Local<'_>,
    at: TopicPartition,
    replica: &LocalReplica,
) -> Option<RemoveReason> {
    // The metadata quorum's own replica follows from the topology, not from the image.
    if !local.is_current || at == TopicPartition::META {
        return None;
    }
    let Some(partition) = image.partition(at) else {
        return Some(RemoveReason::Deleted);
    };
    // Its persisted log may be what a failover needs (R10).
    if partition.phase == Phase::Sealing {
        return None;
    }
    match placed_here(partition, local) {
        Some(id) if id == replica.id => None,
        Some(_) => Some(RemoveReason::Replaced),
        None => Some(RemoveReason::Unplaced),
    }
}

fn effective(image: &Image, topic: &Topic) -> Option<Arc<Effective>> {
    config::effective(image, topic).map(Arc::new)
}

fn create(
    image: &Image,
    topic: &Topic,
    at: TopicPartition,
    id: ReplicaId,
    placed: &Partition,
    effective: &Arc<Effective>,
) -> Action {
    Action::Create(Box::new(Create {
        partition: at,
        topic: topic.name.clone(),
        replica: id,
        home: placed.home.clone(),
        home_epoch: placed.home_epoch,
        members: members(image, placed),
        effective: effective.clone(),
    }))
}

fn update(
    image: &Image,
    at: TopicPartition,
    known: &LocalReplica,
    placed: &Partition,
    effective: &Arc<Effective>,
) -> impl Iterator<Item = Action> {
    let moved = known.placement_generation < placed.placement_generation;
    let placement = moved.then(|| {
        let members = members(image, placed);
        Action::UpdatePlacement { partition: at, members }
    });
    let told = known.effective.as_ref().is_some_and(|known| known == effective);
    let policy = (!told).then(|| {
        let effective = effective.clone();
        Action::UpdatePolicy { partition: at, effective }
    });
    placement.into_iter().chain(policy)
}

/// A partition's replicas with where they are.
pub fn members(image: &Image, partition: &Partition) -> Members {
    let dc_of = |node: NodeId| {
        let declared = image.topology.as_ref().and_then(|topology| topology.dc_of(node));
        declared.or_else(|| image.nodes.get(&node).map(|node| &node.dc)).cloned()
    };
    let member = |voter: bool| {
        let replicas = partition.replicas.iter().filter(move |r| r.voter == voter);
        let placed = replicas.filter_map(|r| {
            let dc = dc_of(r.node)?;
            Some(Member { id: r.id, node: r.node, dc })
        });
        placed.collect::<Vec<_>>()
    };
    let placement_generation = partition.placement_generation;
    Members { placement_generation, voters: member(true), learners: member(false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::command::{Command, Placement};
    use crate::metadata::fixture::{World, n, node, topic};
    use crate::metadata::request::{Request, TopicRef};
    use crate::metadata::{controller, request};

    type Replicas = BTreeMap<TopicPartition, LocalReplica>;

    /// A node with its disk, as the world's fixture registers it.
    fn local<'a>(id: u64, replicas: &'a Replicas) -> Local<'a> {
        Local { node: n(id), disk: node(id).disk, replicas, is_current: true }
    }

    /// Does what it is told.
    fn carry_out(replicas: &mut Replicas, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Remove { partition, .. } => {
                    replicas.remove(&partition).expect("what is removed was there");
                }
                Action::Create(create) => {
                    let replica = LocalReplica {
                        id: create.replica,
                        home_epoch: create.home_epoch,
                        placement_generation: create.members.placement_generation,
                        effective: Some(create.effective),
                    };
                    let before = replicas.insert(create.partition, replica);
                    assert_eq!(before, None, "what is created was not there");
                }
                Action::UpdatePlacement { partition, members } => {
                    let replica = replicas.get_mut(&partition).expect("it is there");
                    replica.placement_generation = members.placement_generation;
                }
                Action::UpdatePolicy { partition, effective } => {
                    replicas.get_mut(&partition).expect("it is there").effective = Some(effective);
                }
            }
        }
    }

    fn settle(image: &Image, id: u64, replicas: &mut Replicas) -> Vec<Action> {
        let actions = reconcile(image, &local(id, replicas));
        carry_out(replicas, actions.clone());
        assert_eq!(reconcile(image, &local(id, replicas)), [], "once is enough");
        actions
    }

    fn one_topic() -> (World, TopicPartition) {
        let mut world = World::new();
        world.create(topic("t", 1, &[("retention.ms", "5000")])).unwrap();
        let topic = world.image.topic("t").unwrap().id;
        (world, TopicPartition { topic, partition: 0 })
    }

    /// As it stands, to be changed.
    fn placement(world: &World, partition: TopicPartition) -> Placement {
        let now = world.image.partition(partition).unwrap();
        Placement {
            partition,
            home_epoch: now.home_epoch,
            placement_generation: now.placement_generation,
            replicas: now.replicas.clone(),
            next_replica_id: now.next_replica_id,
        }
    }

    #[test]
    fn a_new_topic_makes_a_replica_on_every_node_that_it_is_placed_on() {
        let (world, at) = one_topic();
        for id in 1..=9 {
            let actions = settle(&world.image, id, &mut Replicas::new());
            let [Action::Create(create)] = &actions[..] else { panic!("{actions:?}") };
            let placed = world.image.partition(at).unwrap();
            assert_eq!(create.replica, placed.replica_on(n(id)).unwrap().id);
            assert_eq!((create.partition, &*create.topic), (at, "t"));
            assert_eq!((create.members.voters.len(), create.members.learners.len()), (3, 6));
            assert!(create.members.voters.iter().all(|m| m.dc == create.home));
            assert!(create.members.learners.iter().all(|m| m.dc != create.home));
            assert_eq!(create.effective.retention_ms, Some(5000));
        }
        let none = Replicas::new();
        let nowhere = Local { node: n(10), ..local(1, &none) };
        assert_eq!(reconcile(&world.image, &nowhere), []);
    }

    #[test]
    fn a_deleted_topic_goes_but_only_from_an_image_that_is_known_to_be_current() {
        let (mut world, at) = one_topic();
        let mut replicas = Replicas::new();
        settle(&world.image, 4, &mut replicas);
        let topics = vec![TopicRef::Name("t".into())];
        world.ask(Request::DeleteTopics { topics }).unwrap();
        let stale = Local { is_current: false, ..local(4, &replicas) };
        assert_eq!(reconcile(&world.image, &stale), []);
        let actions = settle(&world.image, 4, &mut replicas);
        let [Action::Remove { partition, reason, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((*partition, *reason), (at, RemoveReason::Deleted));
    }

    #[test]
    fn the_replica_of_the_metadata_quorum_is_left_alone() {
        let (world, _) = one_topic();
        let meta = LocalReplica {
            id: ReplicaId(1),
            home_epoch: HomeEpoch::FIRST,
            placement_generation: 1,
            effective: None,
        };
        let replicas = Replicas::from([(TopicPartition::META, meta)]);
        let actions = reconcile(&world.image, &local(1, &replicas));
        assert!(matches!(&actions[..], [Action::Create(_)]), "{actions:?}");
    }

    #[test]
    fn changed_configs_reach_a_replica_once() {
        let (mut world, at) = one_topic();
        let mut replicas = Replicas::new();
        settle(&world.image, 7, &mut replicas);
        let op = request::ConfigOp::Set { key: "retention.ms".into(), value: "-1".into() };
        let change = request::ConfigChange::Incremental(vec![op]);
        let topics = vec![request::AlterConfigs { topic: "t".into(), change }];
        world.ask(Request::AlterConfigs { topics, validate_only: false }).unwrap();
        let actions = settle(&world.image, 7, &mut replicas);
        let [Action::UpdatePolicy { partition, effective }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((*partition, effective.retention_ms), (at, None));
        replicas.get_mut(&at).unwrap().effective = None;
        let again = settle(&world.image, 7, &mut replicas);
        assert!(matches!(&again[..], [Action::UpdatePolicy { .. }]), "told after a restart");
    }

    #[test]
    fn a_replaced_disk_makes_nothing_until_it_is_placed_under_a_new_id() {
        let (mut world, at) = one_topic();
        let mut others = Replicas::new();
        settle(&world.image, 1, &mut others);
        let disk = [0xab; 16];
        world.replace_disk(2, disk);
        let empty = Replicas::new();
        let fresh = Local { disk, ..local(2, &empty) };
        assert_eq!(reconcile(&world.image, &fresh), [], "it would vote against what it promised");

        let repairs = controller::repair(&world.image);
        world.apply(Command::ReplacePlacement(repairs[0].clone())).unwrap();
        let actions = reconcile(&world.image, &fresh);
        let [Action::Create(create)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(create.replica, ReplicaId(10));
        assert!(create.members.learners.iter().any(|m| m.id == ReplicaId(10)));

        let actions = settle(&world.image, 1, &mut others);
        let [Action::UpdatePlacement { partition, members }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((*partition, members.placement_generation), (at, 2));
        assert_eq!(members.voters.len(), 2);
    }

    #[test]
    fn what_stands_under_an_id_that_was_dropped_is_emptied_before_the_new_replica_is_made() {
        let (mut world, at) = one_topic();
        let mut replicas = Replicas::new();
        settle(&world.image, 9, &mut replicas);
        let mut placement = placement(&world, at);
        let replica = placement.replicas.iter_mut().find(|r| r.node == n(9)).unwrap();
        replica.id = ReplicaId(10);
        placement.next_replica_id = ReplicaId(11);
        world.apply(Command::ReplacePlacement(placement)).unwrap();
        let stale = Local { is_current: false, ..local(9, &replicas) };
        assert_eq!(reconcile(&world.image, &stale), [], "not before the image is current");
        let actions = settle(&world.image, 9, &mut replicas);
        let [Action::Remove { replica, reason, .. }, Action::Create(create)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((*replica, *reason), (ReplicaId(9), RemoveReason::Replaced));
        assert_eq!((create.partition, create.replica), (at, ReplicaId(10)));
    }

    #[test]
    fn a_replica_that_is_placed_elsewhere_goes_unless_the_home_is_moving() {
        let (mut world, at) = one_topic();
        let mut replicas = Replicas::new();
        settle(&world.image, 9, &mut replicas);
        let mut placement = placement(&world, at);
        placement.replicas.retain(|r| r.node != n(9));
        world.apply(Command::ReplacePlacement(placement)).unwrap();
        let mut moving = world.image.clone();
        let topic = moving.topics.get_mut(&at.topic).unwrap();
        Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]).phase = Phase::Sealing;
        assert_eq!(reconcile(&moving, &local(9, &replicas)), [], "its log may be the one (R10)");
        let actions = settle(&world.image, 9, &mut replicas);
        let [Action::Remove { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(*reason, RemoveReason::Unplaced);
    }
}
