//! Whoever is not the peer that the topology names gets nothing, and harms nobody.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isobar_transport::certs::{ALPN, Authority};
use isobar_transport::{Lane, Peer, RpcError};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::cluster::{
    CLUSTER, ECHO, Event, Node, PATIENCE, connected, dc, directory, id, issue, number, numbered,
    start,
};
use crate::log::Log;

/// Each has tried the other, to the end of an attempt, and neither has heard from the other.
async fn never_connected(one: &mut Node, other: &mut Node) {
    for (a, b) in [(&*one, &*other), (&*other, &*one)] {
        let result = a.transport.call(b.id, ECHO, Bytes::from_static(b"x"), PATIENCE).await;
        assert_eq!(result, Err(RpcError::Unreachable(b.id)));
    }
    let ids = [other.id, one.id];
    for (node, stranger) in [one, other].into_iter().zip(ids) {
        let reached = node.happened().into_iter().any(|event| match event {
            Event::Up(up) => up == stranger,
            Event::Frame { from, .. } => from.node == stranger,
            _ => false,
        });
        assert!(!reached);
    }
}

fn know(node: &Node, others: &[&Node]) {
    node.transport.set_peers(others.iter().map(|other| other.as_peer()).collect()).unwrap();
}

#[tokio::test]
async fn a_node_of_another_authority() {
    let log = Log::new();
    let (ours, theirs) = (directory(), directory());
    let authority = Authority::create(&ours, CLUSTER).unwrap();
    let foreign = Authority::create(&theirs, CLUSTER).unwrap();
    let mut one = start(issue(&authority, &ours, 1, "fra"), None).await;
    let mut two = start(issue(&foreign, &theirs, 2, "fra"), None).await;
    let mut three = start(issue(&authority, &ours, 3, "fra"), None).await;
    know(&one, &[&two, &three]);
    know(&two, &[&one]);
    know(&three, &[&one]);
    never_connected(&mut two, &mut one).await;
    three.until_event(Event::Up(id(1))).await;
    log.until(&["WARN", "node=1 peer=2", "cannot connect", "UnknownIssuer"]).await;
    log.until(&["WARN", "node=1 addr=127.0.0.1:", "refused a connection", "certificate"]).await;
}

#[tokio::test]
async fn a_node_with_another_nodes_certificate() {
    let log = Log::new();
    let dir = directory();
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let mut one = start(issue(&authority, &dir, 1, "fra"), None).await;
    let mut impostor = start(issue(&authority, &dir, 3, "fra"), None).await;
    // Node 1 expects node 2 at the impostor's address, and knows a node 3 elsewhere.
    let two = Peer { node: id(2), ..impostor.as_peer() };
    let three = Peer { addr: "127.0.0.1:9".to_owned(), ..impostor.as_peer() };
    one.transport.set_peers(vec![two, three]).unwrap();
    let result = one.transport.call(id(2), ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(result, Err(RpcError::Unreachable(id(2))));
    // Dialling node 1 the impostor is itself, node 3: it reaches it as that, never as node 2.
    know(&impostor, &[&one]);
    impostor.until_event(Event::Up(id(1))).await;
    impostor.transport.send(id(1), Lane::Control, 0, numbered(1)).unwrap();
    assert_eq!(one.next_frame().await.0.node, id(3));
    let named =
        "dialled spiffe://orders/dc/fra/node/2, which answered as spiffe://orders/dc/fra/node/3";
    log.until(&["WARN", "node=1 peer=2", named]).await;
}

#[tokio::test]
async fn a_node_that_the_topology_does_not_know_or_has_elsewhere() {
    let log = Log::new();
    let dir = directory();
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let mut one = start(issue(&authority, &dir, 1, "fra"), None).await;
    let mut unknown = start(issue(&authority, &dir, 2, "fra"), None).await;
    let mut moved = start(issue(&authority, &dir, 3, "iad"), None).await;
    one.transport.set_peers(vec![Peer { dc: dc("fra"), ..moved.as_peer() }]).unwrap();
    know(&unknown, &[&one]);
    know(&moved, &[&one]);
    let result = unknown.transport.call(id(1), ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(result, Err(RpcError::Unreachable(id(1))));
    never_connected(&mut moved, &mut one).await;
    assert!(!unknown.happened().contains(&Event::Up(id(1))));
    log.until(&["WARN", "node=1", "spiffe://orders/dc/fra/node/2 is not in the topology"]).await;
    let elsewhere = "spiffe://orders/dc/iad/node/3 is in datacenter fra by the topology";
    log.until(&["WARN", "node=1", elsewhere]).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_id_at_once_and_as_soon_as_it_is_known() {
    let log = Log::new();
    let mut nodes = connected(&["fra", "fra"], None).await;
    let [one, two] = &mut nodes[..] else { unreachable!() };
    one.transport.set_cluster_id(Bytes::from_static(b"one"));
    two.transport.set_cluster_id(Bytes::from_static(b"two"));
    one.until_event(Event::Down(id(2))).await;
    two.until_event(Event::Down(id(1))).await;
    log.until(&["WARN", "set up as different clusters", "6f6e65", "74776f"]).await;
    let result = one.transport.call(id(2), ECHO, Bytes::new(), PATIENCE).await;
    assert_eq!(result, Err(RpcError::Unreachable(id(2))));
}

#[tokio::test]
async fn the_same_cluster_id_changes_nothing() {
    let mut nodes = connected(&["fra", "fra"], None).await;
    for node in &nodes {
        node.transport.set_cluster_id(Bytes::from_static(b"one"));
    }
    let answer = nodes[0].transport.call(id(2), ECHO, Bytes::from_static(b"x"), PATIENCE).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"x")));
    assert!(!nodes[0].happened().contains(&Event::Down(id(2))));
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let log = Log::new();
    let mut nodes = connected(&["fra", "fra"], None).await;
    let connection = stranger(&nodes[0], ALPN).await;
    // In TLS 1.3 a client is done before the server has judged its certificate.
    if let Ok(connection) = connection {
        let reason = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
        assert!(reason.to_string().contains("certificate"), "{reason}");
    }
    log.until(&["WARN", "node=1", "refused a connection", "peer sent no certificates"]).await;
    still_works(&mut nodes).await;
}

#[tokio::test]
async fn a_client_of_another_protocol() {
    let mut nodes = connected(&["fra", "fra"], None).await;
    assert!(stranger(&nodes[0], b"h3").await.is_err());
    still_works(&mut nodes).await;
}

#[tokio::test]
async fn garbage_on_the_port() {
    let mut nodes = connected(&["fra", "fra"], None).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u64;
    for length in (0..1500).step_by(3) {
        let packet: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(length)
        .collect();
        let _ = socket.send_to(&packet, nodes[0].transport.local_addr());
    }
    still_works(&mut nodes).await;
}

/// Handshakes that are begun and never finished.
#[tokio::test]
async fn hundreds_of_half_open_handshakes() {
    let mut nodes = connected(&["fra", "fra"], None).await;
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = nodes[0].transport.local_addr();
    for _ in 0..300 {
        // Dropped after its first packet.
        drop(endpoint.connect_with(no_certificate(ALPN), addr, "isobar").unwrap());
    }
    still_works(&mut nodes).await;
}

async fn still_works(nodes: &mut [Node]) {
    let [one, two] = nodes else { panic!("two nodes") };
    for (a, b) in [(&mut *one, &mut *two)] {
        a.transport.send(b.id, Lane::Control, 0, numbered(1)).unwrap();
        assert_eq!(number(&b.next_frame().await.2), 1);
        b.transport.send(a.id, Lane::Control, 0, numbered(2)).unwrap();
        assert_eq!(number(&a.next_frame().await.2), 2);
    }
}

async fn stranger(node: &Node, alpn: &[u8]) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = node.transport.local_addr();
    let connecting = endpoint.connect_with(no_certificate(alpn), addr, "isobar").unwrap();
    tokio::time::timeout(Duration::from_secs(10), connecting).await.unwrap()
}

fn no_certificate(alpn: &[u8]) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

#[derive(Debug)]
pub struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
