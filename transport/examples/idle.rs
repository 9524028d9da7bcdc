//! What nine connected nodes in one process cost while nothing happens: CPU and resident memory.
//!
//! `cargo run --release -p isobar-transport --example idle`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use isobar_topology::{DcName, NodeId};
use isobar_transport::certs::{Authority, Identity};
use isobar_transport::impair::{Link, Wan};
use isobar_transport::{
    BoxFuture, Compression, Config, Frame, Inbound, Lane, LinkTuning, Peer, PeerIdentity, RpcError,
    Transport,
};

struct Count {
    bytes: std::sync::atomic::AtomicU64,
}

impl Inbound for Count {
    fn frame(&self, _: &PeerIdentity, _: Lane, frame: Frame) {
        self.bytes.fetch_add(frame.bytes() as u64, std::sync::atomic::Ordering::Relaxed);
    }

    fn call(&self, _: PeerIdentity, _: u16, body: Bytes) -> BoxFuture<Result<Bytes, RpcError>> {
        Box::pin(async move { Ok(body) })
    }

    fn peer_up(&self, _: NodeId) {}

    fn peer_down(&self, node: NodeId) {
        println!("down: {node}");
    }
}

#[tokio::main]
async fn main() {
    let dir = std::env::temp_dir().join(format!("isobar-idle-{}", std::process::id()));
    let authority = Authority::create(&dir, "idle").unwrap();
    let dcs = ["fra", "iad", "sin"].map(|name| name.parse::<DcName>().unwrap());
    let wan = Arc::new(Wan::new(1));
    for (a, b, ms) in [(0, 1, 90), (1, 2, 220), (0, 2, 160)] {
        wan.set(&dcs[a], &dcs[b], Link::of_rtt(Duration::from_millis(ms)));
    }
    let mut nodes = Vec::new();
    let inbound = Arc::new(Count { bytes: 0.into() });
    for n in 1..=9u64 {
        let (node, dc) = (NodeId::new(n).unwrap(), dcs[(n as usize - 1) / 3].clone());
        let files = authority.issue(&dir, &dc, node).unwrap();
        let identity = Identity::load(files, "idle", &dc, node).unwrap();
        let config = Config {
            node,
            dc: dc.clone(),
            cluster: "idle".to_owned(),
            bind: "127.0.0.1:0".parse().unwrap(),
            peers: Vec::new(),
            identity,
            wan: Some(wan.clone()),
        };
        nodes.push((node, dc, Transport::start(config, inbound.clone()).await.unwrap()));
    }
    for (node, dc, transport) in &nodes {
        let others = nodes.iter().filter(|(other, _, _)| other != node);
        let link = |other: &DcName| match other == dc {
            true => LinkTuning::local(),
            false => LinkTuning::wan(Duration::from_millis(160), 125_000_000, Compression::None),
        };
        let peers = others.map(|(node, dc, transport)| Peer {
            node: *node,
            dc: dc.clone(),
            addr: transport.local_addr().to_string(),
            link: link(dc),
        });
        transport.set_peers(peers.collect()).unwrap();
    }
    let all = || nodes.iter().flat_map(|(_, _, transport)| transport.stats());
    while all().filter(|stats| stats.lane == Lane::Control).any(|stats| !stats.connected) {
        // tidy: an example that measures; nothing tells it of connections
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let replication = std::env::args().any(|arg| arg == "--replication");
    if replication {
        for (_, _, transport) in &nodes[..3] {
            for to in transport.stats().iter().filter(|stats| stats.lane == Lane::Control) {
                for key in 0..64 {
                    let frame = Frame::of_header(Bytes::from_static(b"one"));
                    transport.send(to.node, Lane::Replication, key, frame).unwrap();
                }
            }
        }
    }
    for _ in 0..4 {
        let (cpu, begin) = (cpu(), Instant::now());
        // tidy: the idle stretch that is measured
        tokio::time::sleep(Duration::from_secs(3)).await;
        let used = self::cpu() - cpu;
        let percent = used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
        println!("{percent:.2} % of a core, {} MiB resident", resident_mib());
    }
    if let Some(to) =
        std::env::args().find_map(|arg| arg.strip_prefix("--flood=").map(str::to_owned))
    {
        let to = NodeId::new(to.parse().unwrap()).unwrap();
        let payload = vec![Bytes::from(vec![3; 64 << 10])];
        let frame = Frame { payloads: payload, ..Frame::of_header(Bytes::from_static(b"f")) };
        let (cpu, begin) = (cpu(), Instant::now());
        let before = inbound.bytes.load(std::sync::atomic::Ordering::Relaxed);
        let mut key = 0;
        while begin.elapsed() < Duration::from_secs(5) {
            key += 1;
            if nodes[0].2.send(to, Lane::Replication, key, frame.clone()).is_err() {
                // tidy: offers again when the queue was full, as a flood does
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let bytes = inbound.bytes.load(std::sync::atomic::Ordering::Relaxed) - before;
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{:.1} MB/s received, {:.2} cores",
            bytes as f64 / 1e6 / seconds,
            (self::cpu() - cpu).as_secs_f64() / seconds
        );
        for stats in nodes[0].2.stats().iter().filter(|stats| stats.node == to) {
            println!("{stats:?}");
        }
        println!("{:?}", wan.lateness());
    }
    for (_, _, transport) in &nodes {
        transport.shutdown().await;
    }
    let _ = std::fs::remove_dir_all(dir);
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096 / (1 << 20)
}
