//! What nine connected nodes in one process cost while nothing happens (CPU, resident memory), and what one
//! of them can send to another.
//!
//! `cargo run --release -p isobar-transport --example nine_nodes [--flood=NODE]`

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use isobar_topology::{DcName, NodeId};
use isobar_transport::certs::{Authority, Identity};
use isobar_transport::impair::{Link, Wan};
use isobar_transport::{
    BoxFuture, Compression, Config, Frame, Inbound, Lane, LinkTuning, Peer, PeerIdentity, RpcError,
    Transport,
};

const CLUSTER: &str = "nine-nodes";
const DCS: [&str; 3] = ["fra", "iad", "sin"];
/// (from, to, round trip in ms), as `isobar dev` has them.
const LINKS: [(usize, usize, u64); 3] = [(0, 1, 90), (1, 2, 220), (0, 2, 160)];

#[derive(Default)]
struct Count {
    bytes: AtomicU64,
}

impl Inbound for Count {
    fn frame(&self, _: &PeerIdentity, _: Lane, frame: Frame) {
        self.bytes.fetch_add(frame.bytes() as u64, Ordering::Relaxed);
    }

    fn call(&self, _: PeerIdentity, method: u16, _: Bytes) -> BoxFuture<Result<Bytes, RpcError>> {
        Box::pin(async move { Err(RpcError::UnknownMethod(method)) })
    }

    fn peer_up(&self, _: NodeId) {}

    fn peer_down(&self, _: NodeId) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("{CLUSTER}-{}", std::process::id()));
    let count = Arc::new(Count::default());
    let wan = Arc::new(Wan::new(1));
    let nodes = start(&dir, &wan, count.clone()).await?;
    let control = || nodes.iter().flat_map(|(_, _, transport)| transport.stats());
    while control().any(|stats| stats.lane == Lane::Control && !stats.connected) {
        // tidy: an example has no event for "all connected"; it looks again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..4 {
        let (cpu, begin) = (cpu(), Instant::now());
        // tidy: the time over which the idle cost is measured.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let percent = 100.0 * (self::cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
        println!("idle: {percent:.2} % of a core, {} MiB resident", resident_mib());
    }
    for arg in std::env::args() {
        if let Some(to) = arg.strip_prefix("--flood=") {
            flood(&nodes[0].2, NodeId::new(to.parse()?)?, &count).await;
        }
    }
    println!("{:?}", wan.lateness());
    for (_, _, transport) in &nodes {
        transport.shutdown().await;
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

async fn start(
    dir: &Path,
    wan: &Arc<Wan>,
    inbound: Arc<Count>,
) -> Result<Vec<(NodeId, DcName, Transport)>, Box<dyn std::error::Error>> {
    let authority = Authority::create(dir, CLUSTER)?;
    let dcs: Vec<DcName> = DCS.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    for (a, b, ms) in LINKS {
        wan.set(&dcs[a], &dcs[b], Link::of_rtt(Duration::from_millis(ms)));
    }
    let mut nodes = Vec::new();
    for n in 0..9 {
        let (node, dc) = (NodeId::new(n + 1)?, dcs[n as usize / 3].clone());
        let identity = Identity::load(authority.issue(dir, &dc, node)?, CLUSTER, &dc, node)?;
        let config = Config {
            node,
            dc: dc.clone(),
            cluster: CLUSTER.to_owned(),
            bind: "127.0.0.1:0".parse()?,
            peers: Vec::new(),
            identity,
            wan: Some(wan.clone()),
        };
        nodes.push((node, dc, Transport::start(config, inbound.clone()).await?));
    }
    for (node, dc, transport) in &nodes {
        let peer = |(node, other, transport): &(NodeId, DcName, Transport)| Peer {
            node: *node,
            dc: other.clone(),
            addr: transport.local_addr().to_string(),
            link: match other == dc {
                true => LinkTuning::local(),
                false => {
                    LinkTuning::wan(Duration::from_millis(160), 125_000_000, Compression::None)
                }
            },
        };
        transport.set_peers(nodes.iter().filter(|(id, _, _)| id != node).map(peer).collect())?;
    }
    Ok(nodes)
}

/// Five seconds of 64 KiB payloads, as fast as they are taken.
async fn flood(from: &Transport, to: NodeId, count: &Count) {
    let payloads = vec![Bytes::from(vec![3; 64 << 10])];
    let frame = Frame { payloads, ..Frame::default() };
    let (cpu, begin, before) = (cpu(), Instant::now(), count.bytes.load(Ordering::Relaxed));
    let mut key = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        key += 1;
        if from.send(to, Lane::Replication, key, frame.clone()).is_err() {
            // tidy: a flood that found the queue full; there is no event for room in it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let received = (count.bytes.load(Ordering::Relaxed) - before) as f64 / 1e6;
    let cores = (self::cpu() - cpu).as_secs_f64() / seconds;
    println!("flood: {:.1} MB/s received, {cores:.2} cores", received / seconds);
    for stats in from.stats().iter().filter(|s| s.node == to && s.connected) {
        println!("{stats:?}");
    }
}

/// User and system time of this process so far, in ticks of 10 ms (proc(5), fields 14 and 15).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096 / (1 << 20)
}
