//! `isobar dev`: the embedded default, three datacenters and a WAN in one process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use isobar_topology::{Topology, dev};
use isobar_transport::impair::{Link, Wan};

use super::{certs, run, telemetry, topology};
use crate::broker::{self, Node};

/// Where the built-in topology's nodes keep their data, unless told otherwise.
const DATA_DIR: &str = "isobar-data";

/// How long the cluster may take to be ready before `dev` says what it waits for.
const READY_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Another topology than the built-in fra, iad, sin with three nodes each
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Node n keeps its data in DIR/node-n
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    data_dir: PathBuf,
    /// Node n listens to Kafka clients on K + n - 1
    #[arg(long, value_name = "K", default_value_t = dev::KAFKA_PORT)]
    kafka_port: u16,
    /// Node n answers HTTP on A + n - 1
    #[arg(long, value_name = "A", default_value_t = dev::ADMIN_PORT)]
    admin_port: u16,
    /// Empty DIR first
    #[arg(long)]
    fresh: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    telemetry::init(Some("warn,isobar=warn,isobar_transport=error"));
    if args.fresh {
        empty(&args.data_dir)?;
    }
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("making {}", args.data_dir.display()))?;
    let data_dir = args.data_dir.canonicalize().context("finding the data directory")?;
    let topology = match &args.topology {
        Some(file) => topology::read(file)?,
        None => built_in(&args, &data_dir)?,
    };
    certs::issue(&topology, &data_dir.join("certs"))?;
    run::block_on(serve(topology, data_dir))
}

/// Empties a directory that an earlier `dev` made, and refuses any other.
fn empty(dir: &std::path::Path) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        anyhow::ensure!(
            name == "certs" || name.starts_with("node-"),
            "--fresh: {} holds {name:?}, which `isobar dev` did not make; empty it by hand",
            dir.display()
        );
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("emptying {}", dir.display()))
}

fn built_in(args: &Args, data_dir: &std::path::Path) -> anyhow::Result<Topology> {
    let spec = dev::Spec {
        kafka_ports: dev::consecutive(args.kafka_port).context("--kafka-port")?,
        admin_ports: dev::consecutive(args.admin_port).context("--admin-port")?,
        peer_ports: free_udp_ports()?,
        data_dir: data_dir.to_str().context("--data-dir: not UTF-8")?,
    };
    let (topology, _) = Topology::parse(&dev::text(&spec))
        .map_err(|problems| anyhow::anyhow!("the built-in topology:\n{problems}"))?;
    Ok(topology)
}

/// Nine ports that nobody has at the moment; found by asking for any.
fn free_udp_ports() -> anyhow::Result<dev::Ports> {
    let mut sockets = Vec::with_capacity(dev::NODES);
    for _ in 0..dev::NODES {
        sockets.push(std::net::UdpSocket::bind("127.0.0.1:0").context("finding UDP ports")?);
    }
    let mut ports = [0; dev::NODES];
    for (port, socket) in ports.iter_mut().zip(&sockets) {
        *port = socket.local_addr()?.port();
    }
    Ok(ports)
}

async fn serve(topology: Topology, data_dir: PathBuf) -> anyhow::Result<()> {
    let topology = Arc::new(topology);
    let wan = Arc::new(Wan::new(rand::random()));
    for link in topology.links() {
        let (a, b) = &link.between;
        wan.set(a, b, Link { delay: link.rtt / 2, ..Link::default() });
    }
    // In order, and before anything starts: a taken port is told of the first node that wants one.
    let mut bound = Vec::new();
    for node in topology.nodes() {
        let config = broker::Config {
            topology: Arc::clone(&topology),
            node: node.id,
            data_dirs: vec![data_dir.join(format!("node-{}", node.id))],
            certs_base: data_dir.clone(),
            wan: Some(Arc::clone(&wan)),
            seed: rand::random(),
            accept_loss: false,
        };
        bound.push(Node::bind(config).await?);
    }
    let mut starting = tokio::task::JoinSet::new();
    for node in bound {
        starting.spawn(Node::start(node));
    }
    let mut nodes = Vec::new();
    while let Some(started) = starting.join_next().await {
        nodes.push(started??);
    }
    nodes.sort_by_key(|node| node.id);
    tokio::select! {
        ready = all_ready(&nodes) => { ready?; say_hello(&topology); }
        stop = run::told_to_stop() => { stop?; return stop_all(nodes).await; }
    }
    run::told_to_stop().await?;
    stop_all(nodes).await
}

async fn all_ready(nodes: &[Node]) -> anyhow::Result<()> {
    for node in nodes {
        let mut state = node.ready();
        let ready = state.wait_for(|ready| *ready);
        if tokio::time::timeout(READY_PATIENCE, ready).await.is_err() {
            eprintln!("waiting for node {}: __meta has no leader that answers yet", node.id);
            node.ready().wait_for(|ready| *ready).await.context("the node ended")?;
        }
    }
    Ok(())
}

async fn stop_all(nodes: Vec<Node>) -> anyhow::Result<()> {
    eprintln!("stopping");
    let mut stopping = tokio::task::JoinSet::new();
    for node in nodes {
        stopping.spawn(node.stop());
    }
    while let Some(stopped) = stopping.join_next().await {
        stopped?;
    }
    Ok(())
}

fn say_hello(topology: &Topology) {
    println!("isobar dev is ready");
    let mut first = None;
    for dc in topology.data_dcs() {
        let servers: Vec<String> = topology
            .nodes_in(dc)
            .filter_map(|node| Some(node.listeners.first()?.address.advertised.to_string()))
            .collect();
        println!("  {dc}: bootstrap.servers={}", servers.join(","));
        first = first.or_else(|| servers.first().cloned());
    }
    let admin = topology.nodes().next().map(|node| node.admin.advertised.to_string());
    let (first, admin) = (first.unwrap_or_default(), admin.unwrap_or_default());
    println!("  admin: http://{admin}");
    println!("try:");
    println!("  echo hello | kcat -P -b {first} -t greetings");
    println!("  kcat -C -b {first} -t greetings -e");
    println!("  isobar link cut fra iad --admin {admin}");
}
