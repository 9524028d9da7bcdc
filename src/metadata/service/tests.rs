//! The service over a log in memory: several nodes, one log, a leader that can be moved.

mod cluster;

use std::time::Duration;

use self::cluster::Cluster;
use super::*;
use crate::metadata::command::Command;
use crate::metadata::fixture::{n, node, topic};
use crate::metadata::refusal::Reason;
use crate::metadata::replay;
use crate::metadata::request::TopicRef;

/// Long enough for any machine; nothing waits for its end.
const LONG: Duration = Duration::from_secs(20);
/// For what is to run out.
const SHORT: Duration = Duration::from_millis(300);

fn create(name: &str) -> Request {
    Request::CreateTopics { topics: vec![topic(name, 1, &[])], validate_only: false }
}

fn refusals(response: Response) -> Vec<Option<Reason>> {
    match response {
        Response::TopicsCreated(items) => {
            items.into_iter().map(|item| item.err().map(|r| r.reason)).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn until(handle: &Handle, holds: impl FnMut(&Arc<Image>) -> bool) -> Arc<Image> {
    let mut images = handle.watch();
    let image = tokio::time::timeout(LONG, images.wait_for(holds)).await;
    image.expect("in time").expect("the service runs").clone()
}

#[tokio::test]
async fn the_first_leader_names_the_cluster_and_proposes_its_own_topology() {
    let cluster = Cluster::start(3);
    cluster.elect(2);
    for id in 1..=3 {
        let image = until(cluster.handle(id), |image| image.topology.is_some()).await;
        assert_eq!(image.cluster_id.as_deref(), Some("cluster-of-2"));
        assert_eq!(image.topology_generation, 1);
    }
    cluster.elect(3);
    cluster.handle(1).submit(create("t"), LONG).await.unwrap();
    let image = cluster.handle(1).image();
    assert_eq!((image.cluster_id.as_deref(), image.topology_generation), (Some("cluster-of-2"), 1));
}

#[tokio::test]
async fn a_request_from_any_node_is_answered_when_that_node_can_see_it() {
    let cluster = Cluster::start(3);
    cluster.elect(1);
    for id in [3, 1, 2] {
        let name = format!("from-{id}");
        let response = cluster.handle(id).submit(create(&name), LONG).await.unwrap();
        assert_eq!(refusals(response), [None]);
        assert!(cluster.handle(id).image().topic(&name).is_some(), "read your writes on {id}");
    }
}

#[tokio::test]
async fn a_node_that_lags_says_so_when_the_time_is_up() {
    let cluster = Cluster::start(2);
    cluster.elect(1);
    until(cluster.handle(2), |image| image.topology.is_some()).await;
    cluster.freeze(2);
    let answer = cluster.handle(2).submit(create("t"), SHORT).await;
    assert_eq!(answer, Err(Error::Behind));
    until(cluster.handle(1), |image| image.topic("t").is_some()).await;
}

#[tokio::test]
async fn whoever_asks_a_leader_that_is_none_any_more_is_sent_on() {
    let cluster = Cluster::start(3);
    cluster.elect(1);
    until(cluster.handle(3), |image| image.topology.is_some()).await;
    cluster.elect(2);
    cluster.believes(3, 1);
    cluster.handle(3).submit(create("t"), LONG).await.unwrap();
    assert!(cluster.handle(3).image().topic("t").is_some());
}

/// Neither that a name is taken nor that none has it: others may have led meanwhile.
#[tokio::test]
async fn a_leader_that_slept_refuses_nothing_by_what_it_knew() {
    let cluster = Cluster::start(2);
    cluster.elect(1);
    cluster.handle(2).submit(create("old"), LONG).await.unwrap();
    until(cluster.handle(1), |image| image.topic("old").is_some()).await;
    cluster.falls_asleep(1);
    cluster.elect(2);
    let delete =
        |name: &str| Request::DeleteTopics { topics: vec![TopicRef::Name(name.to_owned())] };
    cluster.handle(2).submit(delete("old"), LONG).await.unwrap();
    cluster.handle(2).submit(create("new"), LONG).await.unwrap();
    for asked in [create("old"), delete("new")] {
        let answer = cluster.handle(1).submit(asked, SHORT).await;
        assert_eq!(answer, Err(Error::NoLeader), "nothing was done, and it may be asked again");
    }
}

#[tokio::test]
async fn without_a_leader_a_request_ends_in_time_and_nothing_was_done() {
    let cluster = Cluster::start(1);
    let answer = cluster.handle(1).submit(create("t"), SHORT).await;
    assert_eq!(answer, Err(Error::NoLeader));
    cluster.elect(1);
    cluster.handle(1).submit(create("t"), LONG).await.unwrap();
}

#[tokio::test]
async fn of_many_who_make_the_same_topic_at_once_one_does() {
    let cluster = Cluster::start(3);
    cluster.elect(1);
    let mut asked = tokio::task::JoinSet::new();
    for i in 0..60 {
        let handle = cluster.handle(1 + i % 3).clone();
        asked.spawn(async move { handle.submit(create("t"), LONG).await });
    }
    let mut made = 0;
    while let Some(answer) = asked.join_next().await {
        match refusals(answer.unwrap().unwrap())[..] {
            [None] => made += 1,
            [Some(Reason::TopicExists)] => {}
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again_unless_that_is_the_same() {
    let cluster = Cluster::start(1);
    cluster.elect(1);
    let handle = cluster.handle(1);
    handle.submit(create("t"), LONG).await.unwrap();
    cluster.forget_next_answer();
    let topics = vec![TopicRef::Name("t".to_owned())];
    let answer = handle.submit(Request::DeleteTopics { topics }, LONG).await;
    assert_eq!(answer, Err(Error::Unknown));
    until(handle, |image| image.topic("t").is_none()).await;
    cluster.forget_next_answer();
    let Response::ProducerIds(ids) =
        handle.submit(Request::AllocateProducerIds, LONG).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(ids.first, 1000, "the first block is lost, and nobody has it");
}

#[tokio::test]
async fn a_new_leader_decides_with_everything_applied_that_it_found_in_its_log() {
    let cluster = Cluster::start(2);
    cluster.elect(1);
    until(cluster.handle(2), |image| image.topology.is_some()).await;
    cluster.hold_commits();
    let first = cluster.handle(1).submit(create("t"), SHORT).await;
    assert_eq!(first, Err(Error::Unknown), "appended, and never committed under node 1");
    cluster.elect(2);
    // Only asked, so that no second check at apply can hide a decision that came too early.
    let asked = Request::CreateTopics { topics: vec![topic("t", 1, &[])], validate_only: true };
    let early = cluster.handle(2).submit(asked.clone(), SHORT).await;
    assert_eq!(early, Err(Error::Busy), "it waits for what stands in its log");
    cluster.commit();
    let answer = cluster.handle(2).submit(asked, LONG).await.unwrap();
    assert_eq!(refusals(answer), [Some(Reason::TopicExists)]);
}

#[tokio::test]
async fn a_committed_record_that_nobody_can_read_ends_the_node() {
    let mut cluster = Cluster::start(1);
    cluster.elect(1);
    until(cluster.handle(1), |image| image.topology.is_some()).await;
    let at = cluster.append_raw(b"\x08\x01\x10\x63");
    let fatal = tokio::time::timeout(LONG, cluster.running(1).failed()).await.expect("it ends");
    assert!(
        matches!(&fatal, Fatal::Replay(replay::Error::Command { at: found, .. }) if *found == at),
        "{fatal}"
    );
    assert!(fatal.to_string().contains("upgrade this node"), "{fatal}");
}

#[tokio::test]
async fn the_leader_writes_snapshots_and_log_start_follows() {
    let mut cluster = Cluster::start(1);
    cluster.elect(1);
    until(cluster.handle(1), |image| image.topology.is_some()).await;
    cluster.handle(1).submit(create("t"), LONG).await.unwrap();
    // Refused at apply, each: records all the same.
    let stale = Command::AllocateProducerIds { first: -1, count: 1 };
    cluster.append_many(&stale, replay::SNAPSHOT_RECORDS as usize);
    cluster.log_start_moves().await;
    cluster.add_node(2);
    let image = until(cluster.handle(2), |image| image.topic("t").is_some()).await;
    assert_eq!(*image, *cluster.handle(1).image());
    cluster.handle(2).submit(create("u"), LONG).await.unwrap();
}

#[tokio::test]
async fn a_replaced_disk_is_repaired_without_being_asked() {
    let cluster = Cluster::start(1);
    cluster.elect(1);
    let handle = cluster.handle(1);
    for id in 1..=9 {
        handle.submit(Request::RegisterNode(node(id)), LONG).await.unwrap();
    }
    handle.submit(create("t"), LONG).await.unwrap();
    let admit = Request::AdmitDisk { node: n(6), disk: [0xdd; 16], accept_loss: false };
    handle.submit(admit, LONG).await.unwrap();
    until(handle, |image| {
        let partition = &image.topic("t").unwrap().partitions[0];
        partition.replica_on(n(6)).unwrap().disk == Some([0xdd; 16])
    })
    .await;
}

#[tokio::test]
async fn a_forwarded_request_that_is_garbage_or_a_lie_is_refused_and_no_more() {
    let cluster = Cluster::start(1);
    cluster.elect(1);
    for garbage in [&b""[..], b"\xff\xff\xff", b"\x08\x07", b"\x08\x01\x12\x02\x08\x00"] {
        assert!(cluster.handle(1).serve(n(2), garbage, LONG).await.is_err(), "{garbage:?}");
    }
    let request = Request::RegisterNode(node(3)).encode();
    let reply = cluster.handle(1).serve(n(2), &request, LONG).await.unwrap();
    let Ok(Reply::Refused(refusal)) = Reply::decode(&reply) else { panic!("{reply:?}") };
    assert_eq!(refusal.to_string(), "node 2 tries to register node 3");
}

#[test]
fn a_cluster_id_is_the_base64_that_kafka_writes() {
    assert_eq!(cluster_id([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(cluster_id([0xff; 16]), "_____________________w");
    let bytes: [u8; 16] = std::array::from_fn(|i| i as u8);
    assert_eq!(cluster_id(bytes), "AAECAwQFBgcICQoLDA0ODw");
}
