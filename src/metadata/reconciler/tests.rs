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
                    promised: create.home_epoch,
                    placement_generation: create.members.placement_generation,
                    recorded: create.recorded,
                    effective: Some(create.effective),
                };
                let before = replicas.insert(create.partition, replica);
                assert_eq!(before, None, "what is created was not there");
            }
            Action::BeginEpoch(create) => {
                let replica = replicas.get_mut(&create.partition).expect("it is there");
                (replica.home_epoch, replica.promised) = (create.home_epoch, create.home_epoch);
                replica.placement_generation = create.members.placement_generation;
                replica.recorded = create.recorded;
                replica.effective = Some(create.effective);
            }
            Action::Seal { partition, epoch } => {
                replicas.get_mut(&partition).expect("it is there").promised = epoch;
            }
            Action::UpdatePlacement { partition, members } => {
                let replica = replicas.get_mut(&partition).expect("it is there");
                replica.placement_generation = members.placement_generation;
            }
            Action::UpdateMode { partition, mode, .. } => {
                replicas.get_mut(&partition).expect("it is there").recorded = mode;
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
fn a_replica_of_an_older_home_begins_the_new_epoch_and_one_of_a_newer_is_left_alone() {
    let (mut world, at) = one_topic();
    let mut replicas = Replicas::new();
    settle(&world.image, 4, &mut replicas);
    let before = world.image.clone();
    let topic = world.image.topics.get_mut(&at.topic).unwrap();
    let moved = Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]);
    (moved.home, moved.home_epoch) = ("iad".parse().unwrap(), HomeEpoch::new(2).unwrap());
    moved.placement_generation += 1;
    let actions = settle(&world.image, 4, &mut replicas);
    let [Action::BeginEpoch(create)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((create.home.as_str(), create.home_epoch.as_u32()), ("iad", 2));
    assert!(!create.stands_in);
    assert_eq!(reconcile(&before, &local(4, &replicas)), [], "the image is read again");
}

#[test]
fn a_replica_whose_home_is_moved_by_force_promises_by_itself() {
    let (mut world, at) = one_topic();
    let mut replicas = Replicas::new();
    settle(&world.image, 7, &mut replicas);
    let topic = world.image.topics.get_mut(&at.topic).unwrap();
    let moved = Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]);
    let mut moving = crate::metadata::fixture::moving("iad");
    moving.aim.kind = Kind::Switchover;
    moved.phase = crate::metadata::image::Phase::Sealing(moving.clone());
    assert_eq!(reconcile(&world.image, &local(7, &replicas)), [], "its leader hands off first");
    let topic = world.image.topics.get_mut(&at.topic).unwrap();
    let moved = Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]);
    moving.aim.kind = Kind::Failover;
    let epoch = moving.epoch;
    moved.phase = crate::metadata::image::Phase::Sealing(moving);
    let actions = settle(&world.image, 7, &mut replicas);
    assert_eq!(actions, [Action::Seal { partition: at, epoch }]);
}

/// Whoever carries the later move asks replicas whose image is older.
#[test]
fn a_replica_that_has_promised_a_later_home_begins_none_before() {
    let (mut world, at) = one_topic();
    let mut replicas = Replicas::new();
    settle(&world.image, 4, &mut replicas);
    let epoch = |n| HomeEpoch::new(n).unwrap();
    replicas.get_mut(&at).unwrap().promised = epoch(3);
    let mut to = |home_epoch, promised: Option<u32>| {
        let topic = world.image.topics.get_mut(&at.topic).unwrap();
        let moved = Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]);
        moved.home_epoch = epoch(home_epoch);
        moved.placement_generation += 1;
        let mut moving = crate::metadata::fixture::moving("iad");
        moved.phase = match promised {
            None => crate::metadata::image::Phase::Active,
            Some(promised) => {
                (moving.aim.kind, moving.epoch) = (Kind::Failover, epoch(promised));
                crate::metadata::image::Phase::Sealing(moving)
            }
        };
        settle(&world.image, 4, &mut replicas)
    };
    assert_eq!(to(2, None), []);
    assert_eq!(to(2, Some(3)), []);
    assert_eq!(to(2, Some(4)), [Action::Seal { partition: at, epoch: epoch(4) }]);
    assert!(matches!(&to(4, None)[..], [Action::BeginEpoch(_)]));
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
    let [Action::Remove { partition, reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((*partition, *reason), (at, RemoveReason::Deleted));
}

#[test]
fn the_replica_of_the_metadata_quorum_is_left_alone() {
    let (world, _) = one_topic();
    let meta = LocalReplica {
        id: ReplicaId(1),
        home_epoch: HomeEpoch::FIRST,
        promised: HomeEpoch::FIRST,
        placement_generation: 1,
        recorded: Mode::default(),
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
    Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]).phase =
        crate::metadata::image::Phase::Sealing(crate::metadata::fixture::moving("iad"));
    assert_eq!(reconcile(&moving, &local(9, &replicas)), [], "its log may be the one (R10)");
    let actions = settle(&world.image, 9, &mut replicas);
    let [Action::Remove { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*reason, RemoveReason::Unplaced);
}
