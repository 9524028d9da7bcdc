use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use isobar_transport::impair::{Link, Wan};
use isobar_transport::{Compression, Dropped, Error, Frame, Lane, LinkTuning};

use crate::cluster::{
    CLUSTER, ECHO, Event, PATIENCE, WHO, connected, connected_with, dc, directory, id, issue,
    number, numbered, start, start_at,
};
use crate::log::Log;
use isobar_transport::certs::Authority;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_trip_takes_what_the_wan_says_between_dcs_and_nothing_inside() {
    let wan = Arc::new(Wan::new(1));
    wan.set(&dc("fra"), &dc("iad"), Link::of_rtt(ms(60)));
    let link = |a: &_, b: &_| match a == b {
        true => LinkTuning::local(),
        false => LinkTuning::wan(ms(60), 100_000_000, Compression::None),
    };
    let nodes = connected_with(&["fra", "iad", "fra"], Some(wan.clone()), link).await;
    let best = async |to| {
        let mut best = Duration::MAX;
        // The first opens the connection; then the best of a few, since the machine may be busy.
        for _ in 0..6 {
            let begin = Instant::now();
            nodes[0].transport.call(id(to), ECHO, Bytes::new(), PATIENCE).await.unwrap();
            best = best.min(begin.elapsed());
        }
        best
    };
    let (far, near) = (best(2).await, best(3).await);
    assert!(far >= ms(60) && far < ms(75), "{far:?}");
    assert!(near < ms(30), "{near:?}");
    let stats = nodes[0].transport.stats();
    let rtt = |node| stats.iter().find(|s| s.node == id(node) && s.lane == Lane::Rpc).unwrap().rtt;
    assert!(rtt(2).unwrap() >= ms(60) && rtt(2).unwrap() < ms(120), "{:?}", rtt(2));
    assert!(rtt(3).unwrap() < ms(30), "{:?}", rtt(3));
    assert_eq!(wan.lateness().overflowed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_survive_loss_in_order() {
    let wan = Arc::new(Wan::new(2));
    let link = Link { loss: 0.05, jitter: ms(1), ..Link::of_rtt(ms(10)) };
    wan.set(&dc("fra"), &dc("iad"), link);
    let tuning = |_: &_, _: &_| LinkTuning::wan(ms(10), 10_000_000, Compression::None);
    let mut nodes = connected_with(&["fra", "iad"], Some(wan.clone()), tuning).await;
    for n in 0..300 {
        let frame = Frame { payloads: vec![Bytes::from(vec![1; 2000])], ..numbered(n) };
        nodes[0].transport.send(id(2), Lane::Replication, 5, frame).unwrap();
    }
    for n in 0..300 {
        assert_eq!(number(&nodes[1].next_frame().await.2), n);
    }
    let lost: u64 = wan.show().iter().map(|link| link.counters.lost).sum();
    assert!(lost > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_a_cut_link_control_and_calls_take_one_hop_and_come_back_when_it_heals() {
    let wan = Arc::new(Wan::new(3));
    let mut nodes = connected(&["fra", "iad", "sin"], Some(wan.clone())).await;
    wan.cut(&dc("fra"), &dc("iad"), false);
    nodes[0].until_event(Event::Down(id(2))).await;
    nodes[1].until_event(Event::Down(id(1))).await;
    let stats = nodes[0].transport.stats();
    let control = stats.iter().find(|s| s.node == id(2) && s.lane == Lane::Control).unwrap();
    assert_eq!((control.connected, control.via), (false, Some(id(3))));

    nodes[0].transport.send(id(2), Lane::Control, 0, numbered(1)).unwrap();
    let (from, lane, frame) = nodes[1].next_frame().await;
    assert_eq!(from.to_string(), "spiffe://orders/dc/fra/node/1", "the origin, not the hop");
    assert_eq!((lane, number(&frame)), (Lane::Control, 1));
    let name = nodes[1].transport.call(id(1), WHO, Bytes::new(), PATIENCE).await;
    assert_eq!(name, Ok(Bytes::from_static(b"spiffe://orders/dc/iad/node/2")));
    assert!(nodes[2].happened().iter().all(|event| !matches!(event, Event::Frame { .. })));

    wan.heal(&dc("fra"), &dc("iad"));
    nodes[0].until_event(Event::Up(id(2))).await;
    let stats = nodes[0].transport.stats();
    let control = stats.iter().find(|s| s.node == id(2) && s.lane == Lane::Control).unwrap();
    assert_eq!((control.connected, control.via), (true, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_cut_one_way_is_down_both_ways_and_goes_round() {
    let wan = Arc::new(Wan::new(4));
    let mut nodes = connected(&["fra", "iad", "sin"], Some(wan.clone())).await;
    wan.cut(&dc("fra"), &dc("iad"), true);
    nodes[0].until_event(Event::Down(id(2))).await;
    nodes[1].until_event(Event::Down(id(1))).await;
    nodes[1].transport.send(id(1), Lane::Control, 0, numbered(8)).unwrap();
    let (from, _, frame) = nodes[0].next_frame().await;
    assert_eq!((from.node, number(&frame)), (id(2), 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_drops_its_own_frames_and_delays_nobody_elses() {
    let wan = Arc::new(Wan::new(5));
    let mut nodes = connected(&["fra", "iad", "sin"], Some(wan.clone())).await;
    let frame = Frame { payloads: vec![Bytes::from(vec![0; 1 << 20])], ..numbered(0) };
    wan.cut(&dc("fra"), &dc("iad"), false);
    let mut taken = 0;
    let full = loop {
        match nodes[0].transport.send(id(2), Lane::Replication, taken, frame.clone()) {
            Ok(()) => taken += 1,
            Err(dropped) => break dropped,
        }
    };
    assert_eq!(full, Dropped::QueueFull);
    assert!(taken <= 130, "{taken} MiB are queued");
    for n in 0..100 {
        nodes[0].transport.send(id(3), Lane::Replication, n, numbered(n)).unwrap();
        nodes[0].transport.send(id(3), Lane::Control, n, numbered(n)).unwrap();
    }
    for _ in 0..200 {
        assert_eq!(nodes[2].next_frame().await.0.node, id(1));
    }
    nodes[0].until_event(Event::Lost(id(2), Lane::Replication)).await;
    let stats = nodes[0].transport.stats();
    let lane = |node| stats.iter().find(|s| s.node == id(node) && s.lane == Lane::Replication);
    assert_eq!(lane(2).unwrap().dropped_frames, taken + 1);
    assert_eq!(lane(3).unwrap().dropped_frames, 0);
}

/// Killed and started again at the same address. Its peers' connections lead nowhere, which they would notice
/// after three silent seconds; its hello tells them at once.
#[tokio::test]
async fn a_restarted_peer_is_noticed_by_its_hello() {
    let log = Log::new();
    let (wan, dir) = (Arc::new(Wan::new(6)), directory());
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let mut one = start(issue(&authority, &dir, 1, "fra"), Some(wan.clone())).await;
    let identity = issue(&authority, &dir, 2, "iad");
    let two = start(identity.clone(), Some(wan.clone())).await;
    one.transport.set_peers(vec![two.as_peer()]).unwrap();
    two.transport.set_peers(vec![one.as_peer()]).unwrap();
    one.until_event(Event::Up(id(2))).await;

    // Its goodbye gets lost: a kill.
    wan.cut(&dc("fra"), &dc("iad"), false);
    let addr = two.transport.local_addr();
    two.transport.shutdown().await;
    drop(two);
    let two = loop {
        match start_at(addr, identity.clone(), Some(wan.clone())).await {
            Ok(node) => break node,
            // The old socket is closed once its connections have drained.
            Err(Error::Bind { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    wan.heal(&dc("fra"), &dc("iad"));
    two.transport.set_peers(vec![one.as_peer()]).unwrap();
    one.until_event(Event::Down(id(2))).await;
    one.until_event(Event::Up(id(2))).await;
    log.until(&["node=1 peer=2", "connection lost", "error=closed"]).await;
}
