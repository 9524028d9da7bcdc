//! The routes over a node of paper: node 1 of the built-in topology, which leads `payments-0`.

mod budget;
mod groups;
mod homes;
mod image;
mod questions;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use isobar_topology::{Replication, Topology, dev};
use isobar_transport::PeerStats;
use isobar_transport::impair::Wan;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::image::image;
use super::server::Shared;
use super::{
    Answer, Counts, Recorder, Server, Silent, Source, api, ask, exposition, metrics, routes,
};
use crate::coordinator::group::{Error, LedBack};
use crate::metadata::image::{Image, Node, Partition, Phase, Replica, Topic};
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{self, Response, TopologyApplied};
use crate::metadata::service;
use crate::model::{
    DcName, HomeEpoch, LogIndex, Mode, NodeId, Offset, ReplicaId, TopicId, TopicPartition,
};
use crate::replica::core::{Budget, Exposure};
use crate::replica::host::{MemberStatus, Status};
use crate::replica::{Leader, Progress, Role};

const TOPIC: TopicId = TopicId([7; 16]);
const AT: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Paper {
    node: NodeId,
    image: Option<Arc<Image>>,
    missing: Vec<String>,
    /// Of its one replica.
    stands: Status,
    leader: NodeId,
    wan: Option<Arc<Wan>>,
    /// Answers for the other nodes; without one they are silent.
    other: Option<Arc<Paper>>,
    /// Believed to be.
    alive: Vec<u32>,
    /// Other nodes are of a release whose answers lack this.
    lacks: &'static str,
    led_back: Vec<LedBack>,
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn dc(name: &str) -> DcName {
    name.parse().unwrap()
}

fn status() -> Status {
    let member = |id: u64, matched| MemberStatus {
        replica: ReplicaId(id),
        node: node(id),
        dc: dc(if id == 4 { "iad" } else { "fra" }),
        voter: id < 4,
        matched: Some(LogIndex(matched)),
    };
    let exposure =
        Exposure { safe: LogIndex(4), age: Duration::from_millis(1500), records: 2, bytes: 200 };
    Status {
        partition: AT,
        replica: ReplicaId(1),
        progress: Progress {
            role: Role::Leader,
            hands_over: false,
            handed_off: false,
            leader_epoch: 131_073,
            log_start: Offset(0),
            high_watermark: Offset(5),
            watermark_known: true,
            log_end: Offset(6),
        },
        term: HomeEpoch::FIRST.first_term(),
        leader: Some(node(1)),
        committed: LogIndex(6),
        applied: LogIndex(6),
        ready_to_lead: true,
        begins_after: LogIndex(0),
        last: LogIndex(7),
        in_sync: vec![node(1), node(2)],
        members: vec![member(1, 7), member(2, 7), member(3, 5), member(4, 4)],
        exposure: BTreeMap::from([(dc("iad"), exposure)]),
        budget: Budget::NONE,
        promise: None,
        mode: Mode::default(),
        at_stake: None,
        last_term: HomeEpoch::FIRST.first_term(),
        staleness: None,
        known_until_ms: None,
        is_quiet: false,
    }
}

fn paper() -> Paper {
    Paper {
        node: node(1),
        image: Some(Arc::new(image())),
        missing: Vec::new(),
        stands: status(),
        leader: node(1),
        wan: None,
        other: None,
        alive: vec![1, 2],
        lacks: "",
        led_back: Vec::new(),
    }
}

impl Source for Paper {
    fn node(&self) -> NodeId {
        self.node
    }

    fn dc(&self) -> DcName {
        dc("fra")
    }

    fn now_ms(&self) -> i64 {
        7_000
    }

    fn image(&self) -> Option<Arc<Image>> {
        self.image.clone()
    }

    fn missing(&self) -> Vec<String> {
        self.missing.clone()
    }

    fn leader(&self, _partition: TopicPartition) -> Option<Leader> {
        let in_sync = vec![node(1), node(2)];
        Some(Leader { node: self.leader, epoch: 131_073, in_sync })
    }

    fn is_alive(&self, node: NodeId) -> bool {
        self.alive.contains(&node.as_u32())
    }

    fn statuses(&self) -> Answer<'_, Vec<Status>> {
        let leads = self.node == self.leader;
        let here = leads.then(|| self.stands.clone());
        Box::pin(async move { here.into_iter().collect() })
    }

    fn log_bytes(&self, _partition: TopicPartition) -> Option<u64> {
        Some(4096)
    }

    fn counts(&self) -> Counts {
        Counts { elections: 3, ..Counts::default() }
    }

    fn peers(&self) -> Vec<PeerStats> {
        Vec::new()
    }

    fn led_back(&self) -> Answer<'_, Result<Vec<LedBack>, Error>> {
        Box::pin(async { Ok(self.led_back.clone()) })
    }

    fn wan(&self) -> Option<Arc<Wan>> {
        self.wan.clone()
    }

    fn submit(
        &self,
        request: request::Request,
        _timeout: Duration,
    ) -> Answer<'_, Result<Response, service::Error>> {
        let request::Request::ApplyTopology { expected_generation, validate_only, .. } = request
        else {
            panic!("the admin port asks for nothing else");
        };
        let answer = match expected_generation {
            Some(3) | None => {
                let generation = if validate_only { 3 } else { 4 };
                Ok(Response::Topology(TopologyApplied { generation, notes: Vec::new() }))
            }
            Some(_) => Err(Refusal::new(Reason::Stale, "plan again").into()),
        };
        Box::pin(async move { answer })
    }

    fn ask(
        &self,
        node: NodeId,
        question: Vec<u8>,
        _timeout: Duration,
    ) -> Answer<'_, Result<Vec<u8>, Silent>> {
        let other = self.other.clone().filter(|other| other.node == node);
        let lacks = self.lacks;
        Box::pin(async move {
            let Some(other) = other else { return Err(Silent { node, why: "unreachable".into() }) };
            let said = String::from_utf8(ask::answer(&*other, &question).await).unwrap();
            assert!(said.contains(lacks), "{said}");
            Ok(said.replacen(lacks, "", 1).into_bytes())
        })
    }
}

async fn call(paper: Paper, peer: IpAddr, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let shared = Shared { source: Arc::new(paper), recorder: Arc::default() };
    let answer = routes::serve(&shared, peer, request).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

async fn get(paper: Paper, path: &str) -> (StatusCode, String) {
    call(paper, LOCAL, Request::get(path).body(Full::default()).unwrap()).await
}

async fn read<T: serde::de::DeserializeOwned>(paper: Paper, path: &str) -> T {
    let (status, body) = get(paper, path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Full::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn a_node_that_has_not_registered_is_healthy_and_not_ready_and_says_why() {
    let starting = || Paper { missing: vec!["not registered".into()], image: None, ..paper() };
    assert_eq!(get(starting(), "/healthz").await.0, StatusCode::OK);
    let (status, body) = get(starting(), "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("not registered"), "{body}");
    assert_eq!(get(starting(), "/v1/cluster").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(starting(), "/metrics").await.0, StatusCode::OK);
    assert_eq!(get(paper(), "/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (status, body) = get(paper(), "/v1/topics/paymentz").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("paymentz") && body.contains("payments"), "{body}");
    for path in ["/v1/topics/payments/partitions/1", "/nothing-here", "/v1/topics/nowhere"] {
        assert_eq!(get(paper(), path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, _) = get(paper(), "/v1/topics/payments/partitions/x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_partition_is_told_by_its_leader_wherever_one_asks() {
    let path = "/v1/topics/payments/partitions/0";
    let here: api::Partition = read(paper(), path).await;
    let there = Paper { node: node(2), other: Some(Arc::new(paper())), ..paper() };
    let there: api::Partition = read(there, path).await;
    assert_eq!(here, there);
    assert_eq!(here.told_by, Some(1));
    assert_eq!((here.high_watermark, here.log_end_offset), (Some(5), Some(6)));
    assert_eq!((here.placement.leader, &*here.placement.isr), (Some(1), &[1, 2][..]));
    let lags: Vec<_> = here.members.iter().map(|m| m.lag_entries.unwrap()).collect();
    assert_eq!(lags, [0, 0, 2, 3]);
    assert_eq!(here.exposure["iad"].records, 2);
}

#[tokio::test]
async fn positions_of_a_silent_leader_are_missing_and_not_made_up() {
    let cut_off = Paper { node: node(2), ..paper() };
    let shown: api::Partition = read(cut_off, "/v1/topics/payments/partitions/0").await;
    assert_eq!((shown.told_by, shown.high_watermark), (None, None));
    assert_eq!(shown.placement.leader, Some(1), "as far as is known");
}

#[tokio::test]
async fn status_counts_what_is_wrong_and_names_who_is_silent() {
    let cluster: api::Cluster = read(paper(), "/v1/cluster").await;
    assert_eq!((cluster.topics, cluster.partitions), (1, 1));
    assert_eq!((cluster.leaderless, cluster.under_replicated), (0, 1));
    assert_eq!((cluster.controller, cluster.topology_generation), (Some(1), 3));
    assert_eq!(cluster.exposure["iad"].seconds, 1.5);
    assert_eq!(cluster.silent, [0; 0]);
    let states: Vec<_> = cluster.nodes.iter().map(|node| node.state).collect();
    assert_eq!(states[0], api::NodeState::Up);
    assert_eq!(states[1], api::NodeState::Unreachable);
    assert_eq!(states[8], api::NodeState::NotRegistered);

    let elsewhere: api::Cluster = read(Paper { node: node(2), ..paper() }, "/v1/cluster").await;
    assert_eq!(elsewhere.silent, [1]);
    assert!(elsewhere.exposure.is_empty());
}

#[tokio::test]
async fn configs_are_described_with_where_they_came_from() {
    let topic: api::Topic = read(paper(), "/v1/topics/payments").await;
    let from = |name: &str| {
        let config = topic.configs.iter().find(|c| c.name == name).unwrap();
        (config.value.clone().unwrap_or_default(), config.source.clone())
    };
    assert_eq!(from("retention.ms"), ("60000".into(), "topic".into()));
    assert_eq!(from("isobar.replication"), ("async".into(), "policy.default".into()));
    assert_eq!(topic.placements[0].replicas, [1, 2, 3, 4]);
    let isr: api::IsrStatus = read(paper(), "/v1/isr").await;
    assert_eq!(isr.partitions[0].missing, [3, 4]);
}

#[tokio::test]
async fn only_a_dev_clusters_wan_is_shaped_and_only_from_the_same_machine() {
    let cut = r#"{"change":"cut","a":"fra","b":"iad","one_way":false}"#;
    let (status, body) = call(paper(), LOCAL, post("/v1/links", cut)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("only a dev cluster's WAN can be shaped"), "{body}");

    let wan = Arc::new(Wan::new(1));
    let dev = || Paper { wan: Some(wan.clone()), ..paper() };
    let far = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let (status, body) = call(dev(), far, post("/v1/links", cut)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("10.0.0.1"), "{body}");
    let form = Request::post("/v1/links").body(Full::from(cut)).unwrap();
    let (status, _) = call(dev(), LOCAL, form).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(!wan.link(&dc("fra"), &dc("iad")).cut);

    let (status, body) = call(dev(), LOCAL, post("/v1/links", cut)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(wan.link(&dc("fra"), &dc("iad")).cut && wan.link(&dc("iad"), &dc("fra")).cut);
}

#[tokio::test]
async fn a_link_keeps_what_is_not_set_and_nonsense_changes_nothing() {
    let wan = Arc::new(Wan::new(1));
    let dev = || Paper { wan: Some(wan.clone()), ..paper() };
    let set = |change: &str| post("/v1/links", change);
    let (status, _) = call(
        dev(),
        LOCAL,
        set(r#"{"change":"set","a":"iad","b":"fra","rtt_seconds":0.02,"rate_bits_per_second":8000}"#),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let loss = r#"{"change":"set","a":"fra","b":"iad","loss":0.01}"#;
    assert_eq!(call(dev(), LOCAL, set(loss)).await.0, StatusCode::OK);
    let now = wan.link(&dc("fra"), &dc("iad"));
    assert_eq!((now.delay, now.loss), (Duration::from_millis(10), 0.01));
    assert_eq!(now.rate_bytes_per_second, Some(1000));
    for bad in [
        r#"{"change":"set","a":"fra","b":"moon","loss":0.5}"#,
        r#"{"change":"set","a":"fra","b":"fra","loss":0.5}"#,
        r#"{"change":"set","a":"fra","b":"iad","loss":2.0}"#,
        r#"{"change":"set","a":"fra","b":"iad","rtt_seconds":-1.0}"#,
        r#"{"change":"explode"}"#,
        "",
    ] {
        let (status, body) = call(dev(), LOCAL, set(bad)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {body}");
    }
    assert_eq!(wan.link(&dc("fra"), &dc("iad")), now);
}

#[tokio::test]
async fn a_topology_is_applied_only_against_the_generation_that_was_planned() {
    let shown: api::Topology = read(paper(), "/v1/topology").await;
    assert_eq!(shown.generation, 3);
    let proposal = |expected_generation, validate_only| {
        let proposal =
            api::TopologyProposal { text: shown.text.clone(), expected_generation, validate_only };
        post("/v1/topology", &serde_json::to_string(&proposal).unwrap())
    };
    let (status, body) = call(paper(), LOCAL, proposal(Some(2), false)).await;
    assert_eq!((status, body.contains("plan again")), (StatusCode::CONFLICT, true));
    let (_, body) = call(paper(), LOCAL, proposal(Some(3), true)).await;
    assert_eq!(serde_json::from_str::<api::TopologyApplied>(&body).unwrap().generation, 3);
    let (_, body) = call(paper(), LOCAL, proposal(Some(3), false)).await;
    assert_eq!(serde_json::from_str::<api::TopologyApplied>(&body).unwrap().generation, 4);
    let large = post("/v1/topology", &"x".repeat(routes::BODY_BYTES_MAX + 1));
    assert_eq!(call(paper(), LOCAL, large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn methods_that_a_route_does_not_take_are_refused() {
    for (method, path) in [(Method::POST, "/v1/topics"), (Method::DELETE, "/v1/links")] {
        let request = Request::builder().method(method).uri(path).body(Full::default()).unwrap();
        assert_eq!(call(paper(), LOCAL, request).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn a_scrape_tells_exposure_by_partition_and_dc() {
    let (_, text) = get(paper(), "/metrics").await;
    for line in [
        "isobar_exposure_seconds{topic=\"payments\",partition=\"0\",dc=\"iad\"} 1.5",
        "isobar_exposure_records{topic=\"payments\",partition=\"0\",dc=\"iad\"} 2",
        "isobar_exposure_bytes{topic=\"payments\",partition=\"0\",dc=\"iad\"} 200",
        "isobar_raft_role{topic=\"payments\",partition=\"0\",role=\"leader\"} 1",
        "isobar_follower_lag_entries{topic=\"payments\",partition=\"0\",node=\"4\",dc=\"iad\"} 3",
        "isobar_replicas{topic=\"payments\",partition=\"0\",dc=\"fra\"} 3",
        "isobar_nearest_replica_seconds{topic=\"payments\",partition=\"0\"} 0",
        "isobar_in_sync_replicas{topic=\"payments\",partition=\"0\"} 2",
        "isobar_log_size_bytes{topic=\"payments\",partition=\"0\"} 4096",
        "isobar_raft_elections_total 3",
        "isobar_ready 1",
        "isobar_wan_impaired 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn garbage_and_endless_headers_end_their_connection_only() {
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = server.local_addr().unwrap();
    let serving = tokio::spawn(server.serve(Arc::new(paper()), Arc::default()));
    let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for garbage in [&[0; 512][..], endless.as_bytes(), b"\x16\x03\x01\x16\x03\x01"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    serving.abort();
}

#[test]
fn what_other_rooms_register_is_rendered_too() {
    let recorder = Recorder::new();
    let target = ::metrics::Metadata::new("tests", ::metrics::Level::INFO, None);
    let registry = recorder.registry();
    registry.register_counter(&"isobar_x_total".into(), &target).increment(2);
    registry.register_histogram(&"isobar_y_seconds".into(), &target).record(0.004);
    let text = recorder.render();
    assert!(text.contains("# TYPE isobar_x_total counter\nisobar_x_total 2\n"), "{text}");
    assert!(text.contains("isobar_y_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
}

#[test]
fn every_metric_has_a_name_of_its_own_that_says_its_kind() {
    let mut names: Vec<_> = metrics::FAMILIES.iter().map(|family| family.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), metrics::FAMILIES.len());
    for family in metrics::FAMILIES {
        let is_counter = family.kind == exposition::Kind::Counter;
        assert_eq!(family.name.ends_with("_total"), is_counter, "{}", family.name);
    }
}
