//! Nodes that come back with an empty disk.

use super::*;
use crate::metadata::command::Placement;
use crate::metadata::request::Admitted;

fn admit(world: &mut World, id: u64, disk: u8, accept_loss: bool) -> Result<Admitted, Refusal> {
    let request = Request::AdmitDisk { node: n(id), disk: [disk; 16], accept_loss };
    match world.ask(request)? {
        Response::Admitted(admitted) => Ok(admitted),
        other => panic!("{other:?}"),
    }
}

fn meta_voters(world: &World) -> Vec<NodeId> {
    world.image.meta.as_ref().unwrap().voters().map(|r| r.node).collect()
}

fn promote(world: &World, at: TopicPartition, node: NodeId) -> Request {
    let now = world.image.partition(at).unwrap();
    Request::PromoteReplica {
        partition: at,
        replica: now.replica_on(node).unwrap().id,
        home_epoch: now.home_epoch,
        placement_generation: now.placement_generation,
    }
}

fn repair_all(world: &mut World) -> Vec<Placement> {
    let mut done = Vec::new();
    loop {
        let repairs = repair(&world.image);
        if repairs.is_empty() {
            return done;
        }
        for placement in repairs {
            world.apply(Command::ReplacePlacement(placement.clone())).unwrap();
            done.push(placement);
        }
    }
}

#[test]
fn a_replaced_disk_learns_the_metadata_under_a_new_id_and_votes_again_when_it_has_it() {
    let mut world = World::new();
    let admitted = admit(&mut world, 4, 0xe4, false).unwrap();
    assert_eq!(admitted.replica, ReplicaId::of_meta(1, n(4)));
    assert_eq!(admitted.placement_generation, 2);
    let here = admitted.replicas.iter().find(|r| r.node == n(4)).unwrap();
    assert_eq!((here.voter, here.disk), (false, Some([0xe4; 16])));
    assert_eq!(meta_voters(&world).len(), 8);

    assert_eq!(admit(&mut world, 4, 0xe4, false).unwrap(), admitted, "asked twice");
    let request = promote(&world, TopicPartition::META, n(4));
    assert_eq!(world.ask(request).unwrap(), Response::Promoted);
    assert_eq!(meta_voters(&world).len(), 9);
    let again = admit(&mut world, 4, 0xf4, false).unwrap();
    assert_eq!(again.replica, ReplicaId::of_meta(2, n(4)), "and replaced once more");
}

#[test]
fn the_disk_that_was_replaced_stays_out() {
    let mut world = World::new();
    world.replace_disk(4, [0xe4; 16]);
    let refused = admit(&mut world, 4, 4, true).unwrap_err();
    assert_eq!(refused.reason, Reason::DiskReplaced);
    let refused = world.ask(Request::RegisterNode(node(4))).unwrap_err();
    assert_eq!(refused.reason, Reason::DiskReplaced);
    assert!(refused.message.contains("was replaced"), "{refused}");
}

#[test]
fn a_second_lost_disk_of_a_home_is_given_up_only_on_the_operators_word() {
    let mut world = World::new();
    world.create(topic("t", 2, &[])).unwrap();
    world.create(topic("far", 1, &[("isobar.home", "iad")])).unwrap();
    admit(&mut world, 1, 0xe1, false).unwrap();
    repair_all(&mut world);
    let before = world.image.clone();
    let refused = admit(&mut world, 2, 0xe2, false).unwrap_err();
    assert_eq!(refused.reason, Reason::MajorityLost);
    assert!(refused.message.contains("t-0, t-1"), "{refused}");
    assert!(!refused.message.contains("far"), "which has its majority in iad: {refused}");
    assert_eq!(world.image, before, "and the old disk may come back");

    admit(&mut world, 2, 0xe2, true).unwrap();
    repair_all(&mut world);
    let far = &world.image.topic("far").unwrap().partitions[0];
    assert_eq!(far.replica_on(n(2)).unwrap().disk, Some([0xe2; 16]), "a learner is repaired");
    let lost = &world.image.topic("t").unwrap().partitions[0];
    assert!(lost.voters().any(|r| r.disk == Some([2; 16])), "left for a failover to judge");
}

#[test]
fn a_home_that_has_its_majority_again_may_lose_the_next_disk() {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    let at = TopicPartition { topic: world.image.topic("t").unwrap().id, partition: 0 };
    for id in [1, 2, 3] {
        admit(&mut world, id, 0xe0 + id as u8, false).unwrap();
        repair_all(&mut world);
        let request = promote(&world, at, n(id));
        world.ask(request).unwrap();
    }
    let disks: Vec<_> = world.image.partition(at).unwrap().voters().map(|r| r.disk).collect();
    assert_eq!(disks, [Some([0xe1; 16]), Some([0xe2; 16]), Some([0xe3; 16])]);
}

/// Five nodes in fra: 1, 2, 3, 10 and 11; three of them have replicas.
fn five_in_fra() -> String {
    let text = text();
    let blocks: Vec<&str> = text.split("[[node]]").collect();
    let like = |id: u16, block: &str| {
        let ports = [(7399, 7500), (9091, 9192), (9639, 9740)];
        let mut block = block.replacen("id = 1", &format!("id = {id}"), 1);
        for (base, other) in ports {
            block = block.replace(&(base + 1).to_string(), &(other + id).to_string());
        }
        block.replace("node-1", &format!("node-{id}"))
    };
    let more = format!("[[node]]{}[[node]]{}", like(10, blocks[1]), like(11, blocks[1]));
    let at = text.find("[[node]]").unwrap();
    format!("{}{more}{}", &text[..at], &text[at..])
}

fn apply(world: &mut World, text: String) {
    let (expected_generation, validate_only) = (None, false);
    world.ask(Request::ApplyTopology { text, expected_generation, validate_only }).unwrap();
}

#[test]
fn a_node_that_left_the_topology_comes_back_only_with_another_disk() {
    let mut world = World::of(&five_in_fra());
    let ten = crate::metadata::image::Node { id: n(10), disk: [10; 16], ..node(1) };
    world.ask(Request::RegisterNode(ten.clone())).unwrap();
    apply(&mut world, text());
    assert!(!world.image.nodes.contains_key(&n(10)));
    assert_eq!(world.image.meta.as_ref().unwrap().replica_on(n(10)), None);
    apply(&mut world, five_in_fra());
    let refused = world.ask(Request::RegisterNode(ten)).unwrap_err();
    assert_eq!(refused.reason, Reason::DiskReplaced);
    let admitted = admit(&mut world, 10, 0xea, false).unwrap();
    assert_eq!(admitted.replica, ReplicaId::of_meta(1, n(10)));
}

#[test]
fn the_next_voter_is_dropped_only_when_the_last_one_votes_again() {
    let mut world = World::of(&five_in_fra().replace("fra = 3", "fra = 5"));
    for id in [10, 11] {
        let fra = crate::metadata::image::Node { id: n(id), disk: [id as u8; 16], ..node(1) };
        world.ask(Request::RegisterNode(fra)).unwrap();
    }
    world.create(topic("t", 1, &[])).unwrap();
    let at = TopicPartition { topic: world.image.topic("t").unwrap().id, partition: 0 };
    admit(&mut world, 1, 0xe1, false).unwrap();
    admit(&mut world, 2, 0xe2, false).unwrap();
    let voters = |world: &World| {
        let mut voters: Vec<_> = world.image.partition(at).unwrap().voters().copied().collect();
        voters.sort_by_key(|r| r.id);
        voters.iter().map(|r| r.node).collect::<Vec<_>>()
    };
    assert_eq!(voters(&world).len(), 5);
    assert_eq!(repair_all(&mut world).len(), 1);
    assert_eq!(voters(&world).len(), 4, "one of the two is dropped, the other waits");
    let waits = [1, 2].map(n).into_iter().find(|id| !voters(&world).contains(id)).unwrap();
    let request = promote(&world, at, waits);
    world.ask(request).unwrap();
    assert_eq!(repair_all(&mut world).len(), 1);
    assert_eq!(voters(&world).len(), 4);
}

#[test]
fn a_founder_that_comes_late_keeps_its_vote_and_a_stranger_with_an_unknown_disk_does_not() {
    let mut world = World::empty(&text());
    let own = crate::metadata::fixture::topology(&text()).into();
    let founders = (1..=6).map(|id| (n(id), [id as u8; 16])).collect();
    for command in first_topology(&world.image.clone(), "", &own, &founders) {
        world.apply(command).unwrap();
    }
    let late = admit(&mut world, 6, 6, false).unwrap();
    assert_eq!(late.replica, ReplicaId::of_meta(0, n(6)));
    assert_eq!(meta_voters(&world).len(), 9, "nothing has changed");
    let unknown = admit(&mut world, 7, 7, false).unwrap();
    assert_eq!(unknown.replica, ReplicaId::of_meta(1, n(7)));
    assert!(!meta_voters(&world).contains(&n(7)), "it may have voted on a disk that was lost");
}

#[test]
fn only_nodes_of_the_topology_are_admitted() {
    let mut world = World::new();
    assert_eq!(admit(&mut world, 10, 0xea, false).unwrap_err().reason, Reason::UnknownNode);
    let mut empty = World::empty(&text());
    empty.image.topology = None;
    assert_eq!(admit(&mut empty, 1, 1, false).unwrap_err().reason, Reason::NotReady);
}
