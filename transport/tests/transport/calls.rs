use std::time::{Duration, Instant};

use bytes::Bytes;
use isobar_transport::limits::BODY_BYTES_MAX;
use isobar_transport::{Compression, Lane, LinkTuning, RpcError};

use crate::cluster::{ECHO, NEVER, PATIENCE, REFUSE, WHO, connected, connected_with, id};

#[tokio::test]
async fn a_call_brings_the_answer_or_the_refusal() {
    let nodes = connected(&["fra", "iad"], None).await;
    let call = |method, body: &'static [u8]| {
        nodes[0].transport.call(id(2), method, Bytes::from_static(body), PATIENCE)
    };
    assert_eq!(call(ECHO, b"hello").await, Ok(Bytes::from_static(b"hello")));
    assert_eq!(call(ECHO, b"").await, Ok(Bytes::new()));
    let name = Bytes::from_static(b"spiffe://orders/dc/fra/node/1");
    assert_eq!(call(WHO, b"").await, Ok(name));
    let refused = RpcError::Refused { code: 41, message: "no".to_owned() };
    assert_eq!(call(REFUSE, b"").await, Err(refused));
    assert_eq!(call(99, b"").await, Err(RpcError::UnknownMethod(99)));
}

#[tokio::test]
async fn a_call_without_answer_ends_at_its_deadline() {
    let nodes = connected(&["fra", "fra"], None).await;
    let begin = Instant::now();
    let timeout = Duration::from_millis(150);
    let result = nodes[0].transport.call(id(2), NEVER, Bytes::new(), timeout).await;
    assert_eq!(result, Err(RpcError::Timeout));
    assert!(begin.elapsed() >= timeout);
}

#[tokio::test]
async fn a_call_to_a_stranger_or_with_too_much_is_refused_here() {
    let nodes = connected(&["fra", "fra"], None).await;
    let call = |to, body| nodes[0].transport.call(id(to), ECHO, body, PATIENCE);
    assert_eq!(call(9, Bytes::new()).await, Err(RpcError::UnknownPeer(id(9))));
    let over = BODY_BYTES_MAX + 1;
    let too_large = RpcError::TooLarge { bytes: over, bytes_max: BODY_BYTES_MAX };
    assert_eq!(call(2, Bytes::from(vec![0; over])).await, Err(too_large));
}

#[tokio::test]
async fn large_bodies_travel_on_a_connection_of_their_own() {
    let nodes = connected(&["fra", "fra"], None).await;
    let body = Bytes::from(vec![9; 8 << 20]);
    let answer = nodes[0].transport.bulk(id(2), ECHO, body.clone(), PATIENCE).await;
    assert_eq!(answer, Ok(body));
    let stats = nodes[0].transport.stats();
    let lane = |lane| stats.iter().find(|stats| stats.lane == lane).unwrap();
    assert!(lane(Lane::Bulk).sent_bytes > 8 << 20);
    assert!(lane(Lane::Bulk).received_bytes > 8 << 20);
    assert!(lane(Lane::Control).sent_bytes < 1 << 20);
    assert!(!lane(Lane::Rpc).connected, "opened when used");
}

#[tokio::test]
async fn a_link_with_zstd_brings_bulk_answers_in_fewer_bytes() {
    let wan =
        |_: &_, _: &_| LinkTuning::wan(Duration::from_millis(1), 100_000_000, Compression::Zstd);
    let nodes = connected_with(&["fra", "iad"], None, wan).await;
    let body = Bytes::from("the same words again and again ".repeat(40_000));
    let answer = nodes[0].transport.bulk(id(2), ECHO, body.clone(), PATIENCE).await;
    assert_eq!(answer, Ok(body.clone()));
    let stats = nodes[0].transport.stats();
    let lane = stats.iter().find(|stats| stats.lane == Lane::Bulk).unwrap();
    assert!(lane.received_bytes < body.len() as u64 / 4, "{}", lane.received_bytes);
}

#[tokio::test]
async fn hundreds_of_calls_at_once_are_all_answered() {
    let nodes = connected(&["fra", "fra"], None).await;
    let calls: Vec<_> = (0u32..900)
        .map(|n| {
            let transport = nodes[0].transport.clone();
            let body = Bytes::copy_from_slice(&n.to_be_bytes());
            tokio::spawn(async move {
                (transport.call(id(2), ECHO, body.clone(), PATIENCE).await, body)
            })
        })
        .collect();
    for call in calls {
        let (answer, body) = call.await.unwrap();
        assert_eq!(answer, Ok(body));
    }
}
