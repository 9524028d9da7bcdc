//! Who is heard: what the nodes beside a peer say of it counts, here and across the WAN.

use bytes::Bytes;
use isobar_transport::Lane;

use crate::cluster::{Node, PATIENCE, WHO, connected, id, number, numbered};

/// Lets frames of each of `from` pass until `to` sees what is wanted: the word of whom a node reaches travels with
/// its frames, and with nobody else's.
async fn passing(nodes: &mut [Node], from: &[usize], to: usize, wanted: impl Fn(&Node) -> bool) {
    for n in 0..1000 {
        if wanted(&nodes[to]) {
            return;
        }
        let there = nodes[to].id;
        for node in from {
            nodes[*node].transport.send(there, Lane::Control, 0, numbered(n)).unwrap();
        }
        for _ in from {
            assert_eq!(number(&nodes[to].next_frame().await.2), n);
        }
    }
    panic!("not after 1000 frames");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_all_beside_it_miss_is_heard_nowhere_until_it_speaks() {
    let mut nodes = connected(&["fra", "fra", "fra", "iad"], None).await;
    let heard_by = |node: &Node| node.transport.is_heard(id(2));
    passing(&mut nodes, &[0], 3, heard_by).await;
    // What it has to say of its own peers is there: a word that comes late would end its silence.
    let has_told = |node: &Node| {
        node.transport.reports().get(&id(2)).is_some_and(|reached| reached.len() == 3)
    };
    passing(&mut nodes, &[1], 0, has_told).await;
    passing(&mut nodes, &[1], 2, has_told).await;

    nodes[0].transport.suspect(id(2));
    assert!(!heard_by(&nodes[0]), "at once, whatever node 3 had said before");
    assert!(heard_by(&nodes[3]), "one of two still hears it");
    nodes[2].transport.suspect(id(2));
    passing(&mut nodes, &[0, 2], 3, |node| !heard_by(node)).await;
    assert!(nodes[3].transport.is_reachable(id(2)), "its connections are up");

    nodes[1].transport.send(id(1), Lane::Control, 0, numbered(7)).unwrap();
    assert_eq!(number(&nodes[0].next_frame().await.2), 7);
    assert!(heard_by(&nodes[0]));
    passing(&mut nodes, &[0], 3, heard_by).await;
}

/// A node that leads nothing for us sends us no frames: what it answers must do, or it would be told as not
/// reached for ever, and nobody would take a hop through us to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_ends_a_silence() {
    let nodes = connected(&["fra", "fra", "iad"], None).await;
    nodes[0].transport.suspect(id(2));
    assert!(!nodes[0].transport.is_heard(id(2)));
    assert!(nodes[0].transport.call(id(2), WHO, Bytes::new(), PATIENCE).await.is_ok());
    assert!(nodes[0].transport.is_heard(id(2)));
}
