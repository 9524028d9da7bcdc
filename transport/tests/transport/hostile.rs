//! A peer with a good certificate and bad manners: its connection is closed, and nobody else notices.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use isobar_transport::Lane;
use isobar_transport::certs::{ALPN, Authority, Files};
use quinn::Connection;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cluster::{
    CLUSTER, ECHO, Event, Node, PATIENCE, dc, directory, id, issue, number, numbered, start,
};
use crate::log::Log;
use crate::refused::Gullible;

const CONTROL: u8 = 1;
const REPLICATION: u8 = 2;
const RPC: u8 = 3;

/// Nodes 1 and 2 of fra and iad, which are real, and 3 of sin, which is hostile.
struct Scene {
    one: Node,
    two: Node,
    dir: std::path::PathBuf,
    log: Log,
}

async fn scene() -> Scene {
    let log = Log::new();
    let dir = directory();
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let mut one = start(issue(&authority, &dir, 1, "fra"), None).await;
    let mut two = start(issue(&authority, &dir, 2, "iad"), None).await;
    authority.issue(&dir, &dc("sin"), id(3)).unwrap();
    let three = isobar_transport::Peer {
        node: id(3),
        dc: dc("sin"),
        addr: "127.0.0.1:9".to_owned(),
        link: isobar_transport::LinkTuning::local(),
    };
    one.transport.set_peers(vec![two.as_peer(), three.clone()]).unwrap();
    two.transport.set_peers(vec![one.as_peer(), three]).unwrap();
    one.until_event(Event::Up(id(2))).await;
    two.until_event(Event::Up(id(1))).await;
    Scene { one, two, dir, log }
}

impl Scene {
    /// Node 3's connection to node 1, after whatever it said as hello.
    async fn connect(&self, hello: &[u8]) -> (quinn::Endpoint, Connection) {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = self.one.transport.local_addr();
        let connecting = endpoint.connect_with(as_node_3(&self.dir), addr, "isobar").unwrap();
        let connection = connecting.await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(hello).await.unwrap();
        let _ = send.finish();
        // The answer, or that there is none.
        let _ = tokio::time::timeout(PATIENCE, receive.read_to_end(8192)).await.unwrap();
        (endpoint, connection)
    }

    async fn says_on_a_stream_of_frames(self, lane: u8, bytes: &[u8], reason: &str) {
        let (_endpoint, connection) = self.connect(&hello(3, lane)).await;
        let mut send = connection.open_uni().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        send.write_all(bytes).await.unwrap();
        self.throws_out(connection, reason).await;
    }

    async fn throws_out(mut self, connection: Connection, reason: &str) {
        let closed = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
        assert!(closed.to_string().contains(reason), "{closed} lacks {reason:?}");
        self.log.until(&["WARN", "node=1", reason]).await;
        self.still_works().await;
    }

    async fn still_works(&mut self) {
        self.one.transport.send(id(2), Lane::Control, 0, numbered(5)).unwrap();
        assert_eq!(number(&self.two.next_frame().await.2), 5);
        let call = self.two.transport.call(id(1), ECHO, Bytes::from_static(b"x"), PATIENCE);
        assert_eq!(call.await, Ok(Bytes::from_static(b"x")));
    }
}

fn as_node_3(dir: &Path) -> quinn::ClientConfig {
    let files = Files::of_node(dir, id(3));
    let chain = vec![CertificateDer::from_pem_file(files.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A hello as it is on the wire: stream kind, length, protobuf.
fn hello(node: u8, lane: u8) -> Vec<u8> {
    let mut body = vec![8, 1, 16, 1, 26, CLUSTER.len() as u8];
    body.extend(CLUSTER.bytes());
    body.extend([40, node, 48, lane]);
    [&[0, 0, body.len() as u8], &body[..]].concat()
}

/// layout, flags, chunks, header bytes, body bytes, and what follows.
fn frame(flags: u8, chunks: u16, header: u32, body: u32, rest: &[u8]) -> Vec<u8> {
    let (chunks, header, body) = (chunks.to_be_bytes(), header.to_be_bytes(), body.to_be_bytes());
    [&[1, flags], &chunks[..], &header[..], &body[..], rest].concat()
}

const RELAY: u8 = 2;
const REACH: u8 = 4;

fn route(origin: u32, destination: u32) -> Vec<u8> {
    [origin.to_be_bytes(), destination.to_be_bytes()].concat()
}

#[tokio::test]
async fn a_well_behaved_node_3_is_served() {
    let mut scene = scene().await;
    let (_endpoint, connection) = scene.connect(&hello(3, CONTROL)).await;
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    send.write_all(&frame(0, 0, 8, 0, &7u64.to_be_bytes())).await.unwrap();
    let (from, _, frame) = scene.one.next_frame().await;
    assert_eq!((from.node, number(&frame)), (id(3), 7));
}

#[tokio::test]
async fn frames_whose_lengths_exceed_the_limits() {
    let bytes = frame(0, 0, u32::MAX, u32::MAX, &[]);
    scene().await.says_on_a_stream_of_frames(REPLICATION, &bytes, "exceeds the limit").await;
}

#[tokio::test]
async fn frames_of_another_layout() {
    scene().await.says_on_a_stream_of_frames(CONTROL, &[0xff; 64], "unknown frame layout").await;
}

#[tokio::test]
async fn a_frame_that_claims_to_be_compressed() {
    let bytes = frame(1, 1, 0, 4, &[0, 0, 0, 99, 1, 2, 3, 4]);
    scene().await.says_on_a_stream_of_frames(REPLICATION, &bytes, "zstd").await;
}

#[tokio::test]
async fn a_frame_to_pass_on_in_another_nodes_name() {
    let bytes = frame(RELAY, 0, 0, 0, &route(1, 2));
    scene().await.says_on_a_stream_of_frames(CONTROL, &bytes, "origin of a relayed frame").await;
}

#[tokio::test]
async fn a_relayed_frame_outside_of_control() {
    let bytes = frame(RELAY, 0, 0, 0, &route(3, 2));
    scene().await.says_on_a_stream_of_frames(REPLICATION, &bytes, "relay outside of control").await;
}

#[tokio::test]
async fn a_list_of_reached_nodes_that_is_none() {
    let bytes = frame(REACH, 0, 3, 0, &[0, 0, 1]);
    scene().await.says_on_a_stream_of_frames(CONTROL, &bytes, "reach frame").await;
}

#[tokio::test]
async fn a_frame_relayed_from_a_stranger_is_not_delivered() {
    let mut scene = scene().await;
    let (_endpoint, connection) = scene.connect(&hello(3, CONTROL)).await;
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    // From node 77, which is none; from itself by a hop, which is none; and then an honest one.
    for origin in [77, 3] {
        let rest = [&route(origin, 1)[..], &1u64.to_be_bytes()].concat();
        send.write_all(&frame(RELAY, 0, 8, 0, &rest)).await.unwrap();
    }
    send.write_all(&frame(0, 0, 8, 0, &9u64.to_be_bytes())).await.unwrap();
    assert_eq!(number(&scene.one.next_frame().await.2), 9);
}

#[tokio::test]
async fn a_call_to_pass_on_in_another_nodes_name() {
    let scene = scene().await;
    let (_endpoint, connection) = scene.connect(&hello(3, RPC)).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let head = [&[1, 1, 0, 1, 0, 0, 0x10, 0][..], &route(2, 2), &[0; 4]].concat();
    send.write_all(&head).await.unwrap();
    scene.throws_out(connection, "origin of a relayed call").await;
}

#[tokio::test]
async fn a_call_with_a_body_over_the_limit() {
    let scene = scene().await;
    let (_endpoint, connection) = scene.connect(&hello(3, RPC)).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let head = [&[1, 1, 0, 1, 0, 0, 0x10, 0][..], &route(0, 0), &[0xff; 4]].concat();
    send.write_all(&head).await.unwrap();
    scene.throws_out(connection, "call body").await;
}

#[tokio::test]
async fn a_call_on_the_lane_of_frames() {
    let scene = scene().await;
    let (_endpoint, connection) = scene.connect(&hello(3, CONTROL)).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    scene.throws_out(connection, "unknown stream").await;
}

#[tokio::test]
async fn a_hello_that_is_none_or_says_something_else_than_the_certificate() {
    let wrong_version = {
        let mut hello = hello(3, CONTROL);
        (hello[4], hello[6]) = (8, 9);
        hello
    };
    for (hello, reason) in [
        (vec![9; 3], "first stream"),
        (vec![0, 0xff, 0xff], "exceeds the limit"),
        (vec![0, 0, 2, 0xff, 0xff], "protobuf"),
        (hello(2, CONTROL), "its certificate says 3"),
        (hello(3, 9), "asks for lane 9"),
        (wrong_version, "speaks wire versions 8 to 9"),
    ] {
        let mut scene = scene().await;
        let (endpoint, _) = scene.connect(&hello).await;
        scene.log.until(&["WARN", "node=1", "refused a connection", reason]).await;
        endpoint.close(0u32.into(), b"");
        scene.still_works().await;
    }
}

#[tokio::test]
async fn streams_without_a_hello_get_nothing() {
    let mut scene = scene().await;
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = scene.one.transport.local_addr();
    let connection =
        endpoint.connect_with(as_node_3(&scene.dir), addr, "isobar").unwrap().await.unwrap();
    // Not one stream of frames may be opened, and no second call.
    let uni = connection.open_uni();
    let (_first, second) = (connection.open_bi().await.unwrap(), connection.open_bi());
    tokio::select! {
        _ = uni => panic!("a stream of frames before hello"),
        _ = second => panic!("a second stream before hello"),
        () = scene.still_works() => {}
    }
}
