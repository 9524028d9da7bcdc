//! A few nodes with an authority in a directory of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::{DcName, NodeId};
use isobar_transport::certs::{Authority, Identity};
use isobar_transport::impair::Wan;
use isobar_transport::{
    BoxFuture, Config, Error, Frame, Inbound, Lane, LinkTuning, Peer, PeerIdentity, RpcError,
    Transport,
};
use tokio::sync::mpsc;

/// Everything here happens within milliseconds, or a few connection timeouts; this is when a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(15);

pub const CLUSTER: &str = "orders";

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Frame { from: PeerIdentity, lane: Lane, frame: Frame },
    Up(NodeId),
    Down(NodeId),
    Lost(NodeId, Lane),
}

pub struct Node {
    pub id: NodeId,
    pub dc: DcName,
    pub transport: Transport,
    events: mpsc::UnboundedReceiver<Event>,
}

struct Recorder {
    events: mpsc::UnboundedSender<Event>,
}

/// Methods that every node of a test serves.
pub const ECHO: u16 = 1;
pub const NEVER: u16 = 2;
pub const REFUSE: u16 = 3;
pub const WHO: u16 = 4;

impl Inbound for Recorder {
    fn frame(&self, from: &PeerIdentity, lane: Lane, frame: Frame) {
        let _ = self.events.send(Event::Frame { from: from.clone(), lane, frame });
    }

    fn call(
        &self,
        from: PeerIdentity,
        method: u16,
        body: Bytes,
    ) -> BoxFuture<Result<Bytes, RpcError>> {
        Box::pin(async move {
            match method {
                ECHO => Ok(body),
                NEVER => std::future::pending().await,
                REFUSE => Err(RpcError::Refused { code: 41, message: "no".to_owned() }),
                WHO => Ok(from.to_string().into()),
                other => Err(RpcError::UnknownMethod(other)),
            }
        })
    }

    fn peer_up(&self, node: NodeId) {
        let _ = self.events.send(Event::Up(node));
    }

    fn peer_down(&self, node: NodeId) {
        let _ = self.events.send(Event::Down(node));
    }

    fn frames_lost(&self, to: NodeId, lane: Lane) {
        let _ = self.events.send(Event::Lost(to, lane));
    }
}

pub fn id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub fn dc(name: &str) -> DcName {
    name.parse().unwrap()
}

pub fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

pub fn numbered(number: u64) -> Frame {
    Frame::of_header(Bytes::copy_from_slice(&number.to_be_bytes()))
}

pub fn number(frame: &Frame) -> u64 {
    u64::from_be_bytes(frame.header[..].try_into().unwrap())
}

/// A node with this certificate and no peers yet.
pub async fn start(identity: Identity, wan: Option<Arc<Wan>>) -> Node {
    start_at("127.0.0.1:0".parse().unwrap(), identity, wan).await.unwrap()
}

pub async fn start_at(
    bind: SocketAddr,
    identity: Identity,
    wan: Option<Arc<Wan>>,
) -> Result<Node, Error> {
    let name = identity.name().clone();
    let (sender, events) = mpsc::unbounded_channel();
    let config = Config {
        node: name.node,
        dc: name.dc.clone(),
        cluster: name.cluster.to_string(),
        bind,
        peers: Vec::new(),
        identity,
        wan,
    };
    let recorder = Arc::new(Recorder { events: sender });
    let transport = Transport::start(config, recorder).await?;
    Ok(Node { id: name.node, dc: name.dc, transport, events })
}

pub fn issue(authority: &Authority, dir: &Path, node: u64, at: &str) -> Identity {
    let files = authority.issue(dir, &dc(at), id(node)).unwrap();
    Identity::load(files, CLUSTER, &dc(at), id(node)).unwrap()
}

impl Node {
    pub fn as_peer(&self) -> Peer {
        Peer {
            node: self.id,
            dc: self.dc.clone(),
            addr: self.transport.local_addr().to_string(),
            link: LinkTuning::local(),
        }
    }

    pub async fn until<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the transport lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("the event comes")
    }

    pub async fn until_event(&mut self, wanted: Event) {
        self.until(|event| (event == wanted).then_some(())).await;
    }

    pub async fn next_frame(&mut self) -> (PeerIdentity, Lane, Frame) {
        self.until(|event| match event {
            Event::Frame { from, lane, frame } => Some((from, lane, frame)),
            _ => None,
        })
        .await
    }

    /// What has happened so far.
    pub fn happened(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// Nodes 1, 2, … in these DCs; control is up between all of them.
pub async fn connected(dcs: &[&str], wan: Option<Arc<Wan>>) -> Vec<Node> {
    connected_with(dcs, wan, |_, _| LinkTuning::local()).await
}

pub async fn connected_with(
    dcs: &[&str],
    wan: Option<Arc<Wan>>,
    link: impl Fn(&DcName, &DcName) -> LinkTuning,
) -> Vec<Node> {
    let dir = directory();
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let mut nodes = Vec::new();
    for (index, at) in dcs.iter().enumerate() {
        let identity = issue(&authority, &dir, index as u64 + 1, at);
        nodes.push(start(identity, wan.clone()).await);
    }
    introduce(&nodes, link);
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &mut nodes {
        let mut missing: Vec<NodeId> = ids.iter().copied().filter(|id| *id != node.id).collect();
        node.until(|event| {
            if let Event::Up(up) = event {
                missing.retain(|id| *id != up);
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
    nodes
}

/// Makes every node know all others.
pub fn introduce(nodes: &[Node], link: impl Fn(&DcName, &DcName) -> LinkTuning) {
    for node in nodes {
        let others = nodes.iter().filter(|other| other.id != node.id);
        let peers = others.map(|other| Peer { link: link(&node.dc, &other.dc), ..other.as_peer() });
        node.transport.set_peers(peers.collect()).unwrap();
    }
}
