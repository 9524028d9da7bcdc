use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use isobar_transport::limits::{BODY_BYTES_MAX, CHUNKS_MAX};
use isobar_transport::{Compression, Dropped, Frame, Lane, LinkTuning};

use crate::cluster::{Event, connected, connected_with, id, number, numbered};

#[tokio::test]
async fn control_frames_arrive_in_order_under_the_senders_name() {
    let mut nodes = connected(&["fra", "iad"], None).await;
    for n in 0..500 {
        nodes[0].transport.send(id(2), Lane::Control, n, numbered(n)).unwrap();
    }
    for n in 0..500 {
        let (from, lane, frame) = nodes[1].next_frame().await;
        assert_eq!(from.to_string(), "spiffe://orders/dc/fra/node/1");
        assert_eq!((lane, number(&frame)), (Lane::Control, n));
    }
}

#[tokio::test]
async fn replication_frames_of_a_key_arrive_in_order_with_their_payloads() {
    let mut nodes = connected(&["fra", "fra"], None).await;
    let payload =
        |n: u64| vec![Bytes::from(vec![n as u8; 3000]), Bytes::new(), Bytes::from(vec![1; 7])];
    for n in 0..600 {
        let frame = Frame { payloads: payload(n), ..numbered(n) };
        nodes[0].transport.send(id(2), Lane::Replication, n % 100, frame).unwrap();
    }
    let mut last = BTreeMap::new();
    for _ in 0..600 {
        let (_, lane, frame) = nodes[1].next_frame().await;
        let n = number(&frame);
        assert_eq!(lane, Lane::Replication);
        assert_eq!(frame.payloads, payload(n));
        assert!(last.insert(n % 100, n).is_none_or(|before| before < n));
    }
}

#[tokio::test]
async fn a_frame_at_the_limit_passes_and_one_beyond_it_is_refused() {
    let mut nodes = connected(&["fra", "fra"], None).await;
    let whole = Frame { payloads: vec![Bytes::from(vec![5; BODY_BYTES_MAX])], ..numbered(1) };
    let over = Frame { payloads: vec![Bytes::from(vec![5; BODY_BYTES_MAX + 1])], ..numbered(2) };
    let many = Frame { payloads: vec![Bytes::new(); CHUNKS_MAX + 1], ..numbered(3) };
    let send = |frame: &Frame| nodes[0].transport.send(id(2), Lane::Replication, 0, frame.clone());
    assert_eq!(send(&over), Err(Dropped::TooLarge));
    assert_eq!(send(&many), Err(Dropped::TooLarge));
    assert_eq!(send(&whole), Ok(()));
    assert_eq!(nodes[1].next_frame().await.2, whole);
}

#[tokio::test]
async fn a_link_with_zstd_sends_fewer_bytes_than_the_payload() {
    let wan =
        |_: &_, _: &_| LinkTuning::wan(Duration::from_millis(1), 100_000_000, Compression::Zstd);
    let mut nodes = connected_with(&["fra", "iad"], None, wan).await;
    let text = Bytes::from("the same words again and again ".repeat(40_000));
    let frame = Frame { payloads: vec![text.clone(); 4], compressible: true, ..numbered(1) };
    nodes[0].transport.send(id(2), Lane::Replication, 0, frame.clone()).unwrap();
    assert_eq!(nodes[1].next_frame().await.2, frame);
    let stats = nodes[0].transport.stats();
    let lane = stats.iter().find(|stats| stats.lane == Lane::Replication).unwrap();
    assert!(lane.sent_bytes < text.len() as u64 / 10, "{}", lane.sent_bytes);
}

#[tokio::test]
async fn calls_have_lanes_of_their_own_and_strangers_get_nothing() {
    let nodes = connected(&["fra", "fra"], None).await;
    let send = |to, lane| nodes[0].transport.send(id(to), lane, 0, numbered(1));
    assert_eq!(send(2, Lane::Rpc), Err(Dropped::WrongLane(Lane::Rpc)));
    assert_eq!(send(2, Lane::Bulk), Err(Dropped::WrongLane(Lane::Bulk)));
    assert_eq!(send(9, Lane::Control), Err(Dropped::UnknownPeer(id(9))));
}

#[tokio::test]
async fn a_peer_that_shuts_down_is_down_and_comes_back() {
    let mut nodes = connected(&["fra", "fra", "iad"], None).await;
    let gone = nodes.pop().unwrap();
    gone.transport.shutdown().await;
    nodes[0].until_event(Event::Down(id(3))).await;
    nodes[1].until_event(Event::Down(id(3))).await;
    assert_eq!(gone.transport.send(id(1), Lane::Control, 0, numbered(1)), Err(Dropped::ShutDown));
}

#[tokio::test]
async fn a_peer_that_leaves_the_topology_is_disconnected_and_one_that_stays_is_not() {
    let mut nodes = connected(&["fra", "fra", "iad"], None).await;
    nodes[0].happened();
    nodes[0].transport.set_peers(vec![nodes[1].as_peer()]).unwrap();
    nodes[2].until_event(Event::Down(id(1))).await;
    nodes[0].transport.send(id(2), Lane::Control, 0, numbered(7)).unwrap();
    assert_eq!(number(&nodes[1].next_frame().await.2), 7);
    assert_eq!(nodes[0].happened(), [Event::Down(id(3))]);
    assert!(nodes[0].transport.is_up(id(2)));
}
