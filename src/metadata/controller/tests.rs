//! What the controller says, as sentences.

mod disks;

use std::collections::BTreeMap;

use super::*;
use crate::metadata::config::{ConfigSource, describe};
use crate::metadata::fixture::{World, n, node, text, text_with_sync, topic};
use crate::metadata::image::{CONSUMER_OFFSETS, Replica};
use crate::metadata::request::*;
use crate::model::{ReplicaId, TopicPartition};

fn reason(result: Result<(), Refusal>) -> Reason {
    result.unwrap_err().reason
}

fn alter(world: &mut World, topic: &str, ops: Vec<ConfigOp>) -> Result<(), Refusal> {
    let change = ConfigChange::Incremental(ops);
    let topics = vec![AlterConfigs { topic: topic.to_owned(), change }];
    match world.ask(Request::AlterConfigs { topics, validate_only: false })? {
        Response::ConfigsAltered(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

fn set(key: &str, value: &str) -> ConfigOp {
    ConfigOp::Set { key: key.to_owned(), value: value.to_owned() }
}

fn grow(world: &mut World, topic: &str, count: i32) -> Result<(), Refusal> {
    let topics = vec![NewPartitions { topic: topic.to_owned(), count, assignments: None }];
    match world.ask(Request::CreatePartitions { topics, validate_only: false })? {
        Response::PartitionsCreated(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

fn apply_topology(world: &mut World, text: &str) -> Result<TopologyApplied, Refusal> {
    let request = Request::ApplyTopology {
        text: text.to_owned(),
        expected_generation: None,
        validate_only: false,
    };
    match world.ask(request)? {
        Response::Topology(applied) => Ok(applied),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_gets_voters_at_home_and_learners_elsewhere_whatever_factor_was_asked_for() {
    let mut world = World::new();
    let new = NewTopic { replication_factor: Some(3), ..topic("orders", 2, &[]) };
    let request = Request::CreateTopics { topics: vec![new], validate_only: false };
    let Response::TopicsCreated(results) = world.ask(request).unwrap() else { panic!() };
    let created = results[0].as_ref().unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 9));
    let placed = world.image.topic("orders").unwrap();
    for partition in &placed.partitions {
        let voters: Vec<_> = partition.voters().map(|r| r.node).collect();
        assert_eq!(voters.len(), 3);
        assert!(voters.iter().all(|node| node.as_u32() <= 3));
        assert!(partition.replicas.iter().all(|r| r.disk == Some([r.node.as_u32() as u8; 16])));
        assert_eq!(partition.next_replica_id, ReplicaId(10));
    }
    let leaders: BTreeSet<_> = placed.partitions.iter().map(|p| p.replicas[0].node).collect();
    assert_eq!(leaders.len(), 2, "two partitions lead from two nodes");
}

#[test]
fn names_are_kafkas() {
    let mut world = World::new();
    for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
        assert_eq!(reason(world.create(topic(bad, 1, &[]))), Reason::InvalidTopicName, "{bad:?}");
    }
    for good in ["a", "A.b_c-9", "_private", &"x".repeat(249)] {
        world.create(topic(good, 1, &[])).unwrap();
    }
}

#[test]
fn a_name_that_is_taken_or_stands_twice_is_refused_and_the_others_are_made() {
    let mut world = World::new();
    world.create(topic("a", 1, &[])).unwrap();
    let names = ["a", "b", "c", "b"];
    let topics = names.iter().map(|name| topic(name, 1, &[])).collect();
    let request = Request::CreateTopics { topics, validate_only: false };
    let Response::TopicsCreated(results) = world.ask(request).unwrap() else { panic!() };
    let reasons: Vec<_> = results.iter().map(|r| r.as_ref().map_err(|r| r.reason).err()).collect();
    let twice = Some(Reason::InvalidRequest);
    assert_eq!(reasons, [Some(Reason::TopicExists), twice, None, twice]);
    assert!(world.image.topic("c").is_some() && world.image.topic("b").is_none());
}

#[test]
fn a_request_that_only_asks_changes_nothing() {
    let mut world = World::new();
    let before = world.image.clone();
    let topics = vec![topic("a", 1, &[]), topic("b", 0, &[])];
    let request = Request::CreateTopics { topics, validate_only: true };
    let Response::TopicsCreated(results) = world.ask(request).unwrap() else { panic!() };
    assert!(results[0].as_ref().unwrap().id.is_zero());
    assert_eq!(results[1].as_ref().unwrap_err().reason, Reason::InvalidPartitions);
    assert_eq!(world.image, before);
}

#[test]
fn counts_and_factors_outside_their_range_are_refused() {
    let mut world = World::new();
    for count in [0, -2, 10_001, i32::MAX] {
        assert_eq!(reason(world.create(topic("t", count, &[]))), Reason::InvalidPartitions);
    }
    for factor in [0, -2, 10, i16::MAX] {
        let new = NewTopic { replication_factor: Some(factor), ..topic("t", 1, &[]) };
        assert_eq!(reason(world.create(new)), Reason::InvalidReplicationFactor);
    }
}

#[test]
fn a_topic_of_ten_thousand_partitions_comes_in_commands_that_fit() {
    let mut world = World::new();
    world.create(topic("wide", 10_000, &[])).unwrap();
    assert_eq!(world.image.topic("wide").unwrap().partitions.len(), 10_000);
    let largest = world.commands.iter().map(|c| c.encode().len()).max().unwrap();
    assert!(largest < 400 << 10, "{largest} bytes");
    for name in ["x1", "x2", "x3", "x4"] {
        world.create(topic(name, 10_000, &[])).unwrap();
    }
    assert_eq!(reason(world.create(topic("x5", 1, &[]))), Reason::LimitExceeded);
}

#[test]
fn dead_nodes_are_chosen_only_where_there_is_no_choice() {
    let text = text().replace("fra = 3, iad = 3, sin = 3", "fra = 1, iad = 1, sin = 1");
    let mut world = World::of(&text);
    world.live = [1, 3, 5, 7, 8, 9].into_iter().map(n).collect();
    world.create(topic("t", 6, &[])).unwrap();
    let placed = &world.image.topic("t").unwrap().partitions;
    let used: BTreeSet<_> =
        placed.iter().flat_map(|p| &p.replicas).map(|r| r.node.as_u32()).collect();
    assert_eq!(used, BTreeSet::from([1, 3, 5, 7, 8, 9]));
}

#[test]
fn a_manual_assignment_counts_if_it_is_what_the_policy_asks_for() {
    let mut world = World::new();
    let assigned = |brokers: &[i32]| NewTopic {
        name: "manual".to_owned(),
        assignments: BTreeMap::from([(0, brokers.to_vec())]),
        ..NewTopic::default()
    };
    for bad in [&[1, 2, 3][..], &[4, 5, 6, 1, 2, 3, 7, 8, 9], &[1, 1, 2], &[1, 2, 77], &[], &[-1]] {
        let refused = world.create(assigned(bad)).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidReplicaAssignment, "{bad:?}");
    }
    world.create(assigned(&[2, 3, 1, 9, 8, 7, 4, 5, 6])).unwrap();
    let nodes: Vec<_> = world.image.topic("manual").unwrap().partitions[0]
        .voters()
        .map(|r| r.node.as_u32())
        .collect();
    assert_eq!(nodes, [2, 3, 1]);
    let both = NewTopic { partitions: Some(1), name: "m2".to_owned(), ..assigned(&[1]) };
    assert_eq!(reason(world.create(both)), Reason::InvalidRequest);
}

#[test]
fn every_wrong_config_is_named_and_what_would_be_right() {
    let mut world = World::new();
    let refused = world
        .create(topic(
            "t",
            1,
            &[
                ("retention.ms", "soon"),
                ("retention.mss", "1"),
                ("isobar.replication", "both"),
                ("segment.bytes", "12"),
                ("cleanup.policy", "compact"),
            ],
        ))
        .unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidConfig);
    for part in [
        "retention.ms: found \"soon\"; expected a whole number",
        "retention.mss: found an unknown config",
        "isobar.replication",
        "segment.bytes: found \"12\"; expected a whole number from 1048576",
        "compaction is not built yet",
    ] {
        assert!(refused.message.contains(part), "{part}: {}", refused.message);
    }
}

#[test]
fn configs_of_isobar_decide_over_the_policy() {
    let mut world = World::of(&text_with_sync());
    world.create(topic("a", 1, &[("isobar.home", "sin"), ("isobar.replication", "sync")])).unwrap();
    let placed = world.image.topic("a").unwrap().partitions[0].clone();
    assert_eq!((placed.home.as_str(), placed.replication.sync_to()), ("sin", 1));
    assert!(placed.ever_sync);
    world.create(topic("sync-x", 1, &[])).unwrap();
    assert_eq!(world.image.topic("sync-x").unwrap().partitions[0].replication.sync_to(), 1);
}

#[test]
fn what_a_topic_that_exists_cannot_change_yet_is_refused_by_name() {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    for (key, value) in [
        ("isobar.replication", "sync"),
        ("isobar.home", "iad"),
        ("isobar.replicas", "fra=1,iad=1,sin=1"),
    ] {
        let refused = alter(&mut world, "t", vec![set(key, value)]).unwrap_err();
        assert_eq!(refused.reason, Reason::NotBuilt, "{refused}");
        assert!(refused.message.starts_with(key), "{refused}");
    }
    alter(&mut world, "t", vec![set("isobar.home", "fra")]).unwrap();
    alter(&mut world, "t", vec![set("isobar.replication", "async")]).unwrap();
}

#[test]
fn configs_are_altered_incrementally_or_replaced() {
    let mut world = World::new();
    world.create(topic("t", 1, &[("retention.ms", "1000")])).unwrap();
    alter(&mut world, "t", vec![set("max.message.bytes", "2048")]).unwrap();
    let delete = ConfigOp::Delete { key: "retention.ms".to_owned() };
    alter(&mut world, "t", vec![delete]).unwrap();
    let configs = world.image.topic("t").unwrap().configs.clone();
    assert_eq!(configs, BTreeMap::from([("max.message.bytes".into(), "2048".into())]));

    let change = ConfigChange::Replace(BTreeMap::from([("segment.ms".into(), "60000".into())]));
    let topics = vec![AlterConfigs { topic: "t".to_owned(), change }];
    world.ask(Request::AlterConfigs { topics, validate_only: false }).unwrap();
    let configs = world.image.topic("t").unwrap().configs.clone();
    assert_eq!(configs, BTreeMap::from([("segment.ms".into(), "60000".into())]));

    let append = |key: &str, value: &str| ConfigOp::Append { key: key.into(), value: value.into() };
    alter(&mut world, "t", vec![append("cleanup.policy", "delete")]).unwrap();
    let refused = alter(&mut world, "t", vec![append("cleanup.policy", "compact")]).unwrap_err();
    assert!(refused.message.contains("compaction is not built yet"), "{refused}");
    assert_eq!(
        reason(alter(&mut world, "t", vec![append("segment.ms", "1")])),
        Reason::InvalidConfig
    );
    let twice = vec![set("segment.ms", "1"), set("segment.ms", "2")];
    assert_eq!(reason(alter(&mut world, "t", twice)), Reason::InvalidRequest);
    assert_eq!(reason(alter(&mut world, "nope", vec![])), Reason::UnknownTopic);
}

#[test]
fn partitions_only_become_more() {
    let mut world = World::new();
    world.create(topic("t", 2, &[])).unwrap();
    let first = world.image.topic("t").unwrap().partitions[0].clone();
    grow(&mut world, "t", 5).unwrap();
    assert_eq!(world.image.topic("t").unwrap().partitions.len(), 5);
    assert_eq!(world.image.topic("t").unwrap().partitions[0], first);
    for count in [5, 4, 0, -1, 10_001] {
        assert_eq!(reason(grow(&mut world, "t", count)), Reason::InvalidPartitions, "{count}");
    }
    assert_eq!(reason(grow(&mut world, "nope", 5)), Reason::UnknownTopic);
}

#[test]
fn kafkas_own_topics_are_made_by_the_cluster_and_left_alone_by_clients() {
    let mut world = World::new();
    assert_eq!(reason(world.create(topic(CONSUMER_OFFSETS, 1, &[]))), Reason::InvalidTopicName);
    let names = vec![CONSUMER_OFFSETS.to_owned()];
    let ensure = Request::EnsureTopics { names };
    let Response::TopicsCreated(results) = world.ask(ensure.clone()).unwrap() else { panic!() };
    let created = results[0].as_ref().unwrap();
    assert_eq!((created.partitions, created.existed), (16, false));
    let Response::TopicsCreated(results) = world.ask(ensure).unwrap() else { panic!() };
    assert!(results[0].as_ref().unwrap().existed);
    assert_eq!(reason(grow(&mut world, CONSUMER_OFFSETS, 20)), Reason::InternalTopic);
    let topics = vec![TopicRef::Name(CONSUMER_OFFSETS.to_owned())];
    let Response::TopicsDeleted(results) = world.ask(Request::DeleteTopics { topics }).unwrap()
    else {
        panic!()
    };
    assert_eq!(results[0].as_ref().unwrap_err().reason, Reason::InternalTopic);
    let names = vec!["__meta".to_owned(), "new".to_owned(), "new".to_owned()];
    let request = Request::EnsureTopics { names };
    let Response::TopicsCreated(results) = world.ask(request).unwrap() else { panic!() };
    assert_eq!(results[0].as_ref().unwrap_err().reason, Reason::InvalidTopicName);
    assert_eq!(results[1], results[2]);
}

#[test]
fn nobody_makes_or_changes_what_a_ledger_shows() {
    let (mut world, name) = (World::new(), "__suffix.t.2.1f3a9c77");
    let own = Reason::InternalTopic;
    assert_eq!(reason(world.create(topic(name, 1, &[]))), own);
    assert_eq!(reason(grow(&mut world, name, 20)), own);
    assert_eq!(reason(alter(&mut world, name, vec![set("retention.ms", "1")])), own);
    let request = Request::DeleteTopics { topics: vec![TopicRef::Name(name.to_owned())] };
    let Response::TopicsDeleted(deleted) = world.ask(request).unwrap() else { panic!() };
    assert_eq!(deleted[0].as_ref().unwrap_err().reason, own);
    let request = Request::EnsureTopics { names: vec![name.to_owned()] };
    let Response::TopicsCreated(created) = world.ask(request).unwrap() else { panic!() };
    assert_eq!(created[0].as_ref().unwrap_err().reason, own);
}

#[test]
fn a_topic_that_is_deleted_and_made_again_is_another() {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    let first = world.image.topic("t").unwrap().id;
    let by_id = vec![TopicRef::Id(first), TopicRef::Name("t".into()), TopicRef::Name("u".into())];
    let request = Request::DeleteTopics { topics: by_id };
    let Response::TopicsDeleted(results) = world.ask(request).unwrap() else { panic!() };
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().reason, Reason::InvalidRequest);
    assert_eq!(results[2].as_ref().unwrap_err().reason, Reason::UnknownTopic);
    world.create(topic("t", 1, &[])).unwrap();
    assert_ne!(world.image.topic("t").unwrap().id, first);
}

#[test]
fn producer_ids_come_in_blocks_and_never_twice() {
    let mut world = World::new();
    let mut blocks = Vec::new();
    for _ in 0..3 {
        let Response::ProducerIds(ids) = world.ask(Request::AllocateProducerIds).unwrap() else {
            panic!()
        };
        blocks.push((ids.first, ids.count));
    }
    assert_eq!(blocks, [(0, 1000), (1000, 1000), (2000, 1000)]);
}

#[test]
fn only_nodes_of_the_topology_register_each_with_a_disk_of_its_own() {
    let mut world = World::new();
    let strangers = [
        crate::metadata::image::Node { id: n(10), ..node(9) },
        crate::metadata::image::Node { dc: "iad".parse().unwrap(), ..node(1) },
        crate::metadata::image::Node { disk: [2; 16], ..node(1) },
    ];
    for stranger in strangers {
        let refused = world.ask(Request::RegisterNode(stranger)).unwrap_err();
        assert_eq!(refused.reason, Reason::UnknownNode, "{refused}");
    }
    let commands = world.commands.len();
    world.ask(Request::RegisterNode(node(1))).unwrap();
    assert_eq!(world.commands.len(), commands, "nothing new, nothing written");
}

#[test]
fn before_there_is_a_topology_everybody_is_asked_to_come_again() {
    let image = Image::default();
    let live = BTreeSet::new();
    let mut context =
        Context { image: &image, live: &live, new_topic_id: &mut || unreachable!("no topic") };
    let refused = decide(&mut context, Request::RegisterNode(node(1))).unwrap_err();
    assert_eq!(refused.reason, Reason::NotReady);
}

#[test]
fn a_replica_placed_before_its_node_ever_started_gets_the_nodes_disk() {
    let mut world = World::empty(&text());
    world.create(topic("early", 1, &[])).unwrap();
    let disks = |world: &World| {
        let replicas = &world.image.topic("early").unwrap().partitions[0].replicas;
        replicas.iter().filter(|r| r.disk.is_some()).map(|r| r.node).collect::<Vec<_>>()
    };
    assert_eq!(disks(&world), []);
    world.ask(Request::RegisterNode(node(4))).unwrap();
    assert_eq!(disks(&world), [n(4)]);
    assert_eq!(repair(&world.image), []);
}

#[test]
fn a_replaced_disk_gets_a_new_replica_that_learns_before_it_votes() {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    let at = TopicPartition { topic: world.image.topic("t").unwrap().id, partition: 0 };
    let old = *world.image.partition(at).unwrap().replica_on(n(2)).unwrap();
    world.replace_disk(2, [0xee; 16]);

    let repairs = repair(&world.image);
    assert_eq!(repairs.len(), 1);
    world.apply(Command::ReplacePlacement(repairs[0].clone())).unwrap();
    let now = world.image.partition(at).unwrap().clone();
    let new = *now.replica_on(n(2)).unwrap();
    assert_eq!(new, Replica { id: ReplicaId(10), voter: false, disk: Some([0xee; 16]), ..old });
    assert_eq!(now.voters().count(), 2);
    assert_eq!(repair(&world.image), []);

    let promote = |replica, placement_generation| Request::PromoteReplica {
        partition: at,
        replica,
        home_epoch: now.home_epoch,
        placement_generation,
    };
    assert_eq!(world.ask(promote(new.id, 1)).unwrap_err().reason, Reason::Stale);
    let elsewhere = now.replica_on(n(4)).unwrap().id;
    let refused = world.ask(promote(elsewhere, 2)).unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidReplicaAssignment);
    assert_eq!(world.ask(promote(new.id, 2)).unwrap(), Response::Promoted);
    assert_eq!(world.image.partition(at).unwrap().voters().count(), 3);
    assert_eq!(world.ask(promote(new.id, 2)).unwrap(), Response::Promoted, "asked twice");
    assert_eq!(world.ask(promote(old.id, 3)).unwrap_err().reason, Reason::Stale);
}

#[test]
fn voters_are_not_dropped_once_a_majority_of_their_disks_is_gone() {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    for id in [1, 2, 5] {
        world.replace_disk(id, [0xe0 + id as u8; 16]);
    }
    let repairs = repair(&world.image);
    let voters = |p: &crate::metadata::command::Placement| {
        p.replicas.iter().filter(|r| r.voter).map(|r| r.node).collect::<Vec<_>>()
    };
    assert_eq!(voters(&repairs[0]), [n(1), n(2), n(3)], "left for a failover to judge");
    world.apply(Command::ReplacePlacement(repairs[0].clone())).unwrap();
    assert_eq!(repair(&world.image), [], "the learner was repaired, and nothing is tried again");
}

#[test]
fn a_topology_is_applied_only_as_the_next_of_what_was_planned_against() {
    let mut world = World::new();
    let with = |sync: &str| text().replace("compression", sync);
    let same = apply_topology(&mut world, &with("compression")).unwrap();
    assert_eq!((same.generation, same.notes.len()), (1, 0));
    let changed = text().replace("rtt = \"90ms\"", "rtt = \"95ms\"");
    assert_eq!(apply_topology(&mut world, &changed).unwrap().generation, 2);
    assert_eq!(world.image.topology.as_ref().unwrap().generation(), Some(2));
    let request =
        Request::ApplyTopology { text: text(), expected_generation: Some(1), validate_only: false };
    assert_eq!(world.ask(request).unwrap_err().reason, Reason::Stale);
    let refused = apply_topology(&mut world, "version = 1").unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidTopology);
}

#[test]
fn a_topology_that_takes_away_what_is_in_use_is_refused() {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    let renamed = text().replace("name = \"dev\"", "name = \"prod\"");
    let refused = apply_topology(&mut world, &renamed).unwrap_err();
    assert!(refused.message.contains("cluster.name"), "{refused}");
    let sync = text().replace("replication = \"async\"", "replication = \"sync\"");
    let refused = apply_topology(&mut world, &sync).unwrap_err();
    assert_eq!(refused.reason, Reason::NotBuilt);
    assert!(refused.message.contains("sync and async"), "{refused}");
    let moved = text().replace("home = \"fra\"", "home = \"iad\"");
    let applied = apply_topology(&mut world, &moved).unwrap();
    assert!(applied.notes.iter().any(|note| note.contains("stay as they were placed: t")));
    assert_eq!(world.image.topic("t").unwrap().partitions[0].home.as_str(), "fra");
}

#[test]
fn a_command_above_the_oldest_nodes_level_is_not_proposed() {
    let mut world = World::new();
    let old = crate::metadata::image::Node { feature_level: 0, ..node(3) };
    world.apply(Command::RegisterNode(old.into())).unwrap();
    let refused = world.ask(Request::AllocateProducerIds).unwrap_err();
    assert_eq!(refused.reason, Reason::FeatureLevel);
    assert!(refused.message.contains("node 3"), "{refused}");
}

#[test]
fn describe_shows_every_config_with_where_it_comes_from() {
    let mut world = World::new();
    world.create(topic("t", 1, &[("retention.ms", "5000"), ("isobar.flush", "os")])).unwrap();
    let entries = describe(&world.image, world.image.topic("t").unwrap());
    let names: Vec<_> = entries.iter().map(|e| e.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    let of = |name: &str| {
        let entry = entries.iter().find(|e| e.name == name).unwrap_or_else(|| panic!("{name}"));
        (entry.value.as_deref(), entry.source.clone())
    };
    assert_eq!(of("retention.ms"), (Some("5000"), ConfigSource::Topic));
    assert_eq!(of("retention.bytes"), (Some("-1"), ConfigSource::Default));
    assert_eq!(of("isobar.flush"), (Some("os"), ConfigSource::Topic));
    assert_eq!(of("isobar.home"), (Some("fra"), ConfigSource::Policy("default".into())));
    assert_eq!(of("min.insync.replicas"), (Some("1"), ConfigSource::Default));
    let retention = entries.iter().find(|e| e.name == "retention.ms").unwrap();
    assert_eq!(retention.synonyms.len(), 2);
    assert!(entries.iter().any(|e| e.name == "cleanup.policy" && e.is_read_only));
}
