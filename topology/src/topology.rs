//! The topology as a value: what a file says after it was read and found right.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{self, Policy};
use crate::unit::Bandwidth;
use crate::{DcName, NodeId, Problems, Warning};

/// A checked topology. It keeps its source text: the same text always gives the same value, so
/// `__meta` stores the text and its generation, and the comments of the operator survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub(crate) source: Arc<str>,
    pub(crate) generation: Option<u64>,
    pub(crate) cluster: Cluster,
    pub(crate) dcs: Vec<Dc>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) links: BTreeMap<(DcName, DcName), Link>,
    pub(crate) policies: BTreeMap<Arc<str>, Policy>,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Cluster {
    pub name: ClusterName,
    /// The certificate authorities (PEM, several during a rotation) that a peer's certificate must
    /// come from. A relative path is relative to the directory of the topology file.
    pub ca: PathBuf,
    /// The least silence before anybody campaigns, in groups whose voters are near each other.
    #[serde(serialize_with = "crate::unit::serialize_duration")]
    pub election_timeout: Duration,
}

/// `[[dc]]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Dc {
    pub name: DcName,
    /// Votes in `__meta` and holds no data.
    pub witness: bool,
}

/// `[[node]]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Node {
    pub id: NodeId,
    pub dc: DcName,
    /// QUIC, to the other nodes.
    pub peer: Address,
    /// At least one, absolute.
    pub data_dirs: Vec<PathBuf>,
    /// For Kafka clients; at least one, none on a witness.
    pub listeners: Vec<Listener>,
    /// HTTP: admin, metrics, health.
    pub admin: Address,
    /// This node's certificate chain and private key (PEM). Relative as [`Cluster::ca`].
    pub tls: NodeTls,
}

/// `node.tls`
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NodeTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[[node.listener]]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listener {
    pub name: ListenerName,
    #[serde(flatten)]
    pub address: Address,
}

/// Where to listen, and what to tell others.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Address {
    pub bind: SocketAddr,
    pub advertised: HostPort,
}

/// A host name or IP address, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// An IPv6 address is without its brackets.
    pub host: Arc<str>,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for HostPort {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Longest name of a cluster or listener, in bytes: a DNS label.
pub const NAME_BYTES_MAX: usize = 63;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub const EXPECTED: &'static str =
                "1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', starting with a letter";

            pub fn new(text: &str) -> Option<Self> {
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                let fits = text.len() <= NAME_BYTES_MAX
                    && text.starts_with(|c: char| c.is_ascii_alphabetic())
                    && text.chars().all(allowed);
                fits.then(|| Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Part of every node's certificate, so that two clusters never talk to each other by mistake.
    ClusterName
}
name! {
    /// One endpoint for clients; the same name on every node, so that a client that came in by it
    /// is sent to the same kind of address everywhere.
    ListenerName
}

/// `[[link]]`: the WAN path between two DCs, the same both ways.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// In the order of their names.
    pub between: (DcName, DcName),
    #[serde(serialize_with = "crate::unit::serialize_duration")]
    pub rtt: Duration,
    /// What Isobar may use of it; sizes its windows. [`DEFAULT_BANDWIDTH_BITS`] unless given.
    pub bandwidth: Bandwidth,
    pub compression: Compression,
}

/// 1 Gbit/s: what a link has when the file says nothing.
pub const DEFAULT_BANDWIDTH_BITS: u64 = 1_000_000_000;

policy::words! {
    /// What Isobar does to batches that their producer left uncompressed.
    Compression {
        None = "none",
        Zstd = "zstd",
    }
}

impl Topology {
    /// Reads and checks a topology file. Everything that is wrong comes back at once.
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), Problems> {
        crate::read::topology(text)
    }

    /// The text that this was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The generation that `__meta` gave it; `None` for a proposal.
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// In the order of the file, witnesses included.
    pub fn dcs(&self) -> &[Dc] {
        &self.dcs
    }

    pub fn dc(&self, name: &DcName) -> Option<&Dc> {
        self.dcs.iter().find(|dc| dc.name == *name)
    }

    /// In the order of the file.
    pub fn data_dcs(&self) -> impl Iterator<Item = &DcName> {
        self.dcs.iter().filter(|dc| !dc.witness).map(|dc| &dc.name)
    }

    /// All other data DCs, in the order of the file.
    pub fn remote_dcs<'a>(&'a self, home: &'a DcName) -> impl Iterator<Item = &'a DcName> {
        self.data_dcs().filter(move |dc| *dc != home)
    }

    /// In the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// In the order of their ids.
    pub fn nodes_in<'a>(&'a self, dc: &'a DcName) -> impl Iterator<Item = &'a Node> {
        self.nodes.values().filter(move |node| node.dc == *dc)
    }

    pub fn dc_of(&self, id: NodeId) -> Option<&DcName> {
        self.node(id).map(|node| &node.dc)
    }

    pub fn is_witness(&self, id: NodeId) -> bool {
        self.dc_of(id).and_then(|dc| self.dc(dc)).is_some_and(|dc| dc.witness)
    }

    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// In either order; `None` inside a DC, and for names that the topology does not have.
    pub fn link(&self, a: &DcName, b: &DcName) -> Option<&Link> {
        self.links.get(&ordered(a, b))
    }

    /// The declared round trip between two DCs; zero inside one. `None` for unknown names.
    pub fn rtt(&self, a: &DcName, b: &DcName) -> Option<Duration> {
        if a == b {
            return self.dc(a).map(|_| Duration::ZERO);
        }
        self.link(a, b).map(|link| link.rtt)
    }

    /// The timing of a group with these voters.
    pub fn timing(&self, voters: &[NodeId]) -> crate::Timing {
        crate::timing(self.max_rtt(voters), self.cluster.election_timeout)
    }

    /// The longest declared round trip between any two of these nodes: what [`crate::timing()`] of a
    /// group of voters wants. Nodes that the topology does not have are left out.
    pub fn max_rtt(&self, nodes: &[NodeId]) -> Duration {
        let dcs: Vec<&DcName> = nodes.iter().filter_map(|id| self.dc_of(*id)).collect();
        let pairs =
            dcs.iter().enumerate().flat_map(|(i, a)| dcs[i..].iter().map(move |b| (*a, *b)));
        pairs.filter_map(|(a, b)| self.rtt(a, b)).max().unwrap_or_default()
    }

    /// In the order of their names; `default` and `internal` are always there.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name)
    }

    /// Whether a topic with these settings waits for more DCs than Kafka's own topics do: then a
    /// failover can find a consumer's committed offset missing although no record is. Possible only
    /// through topic configs; the file is refused when it says so itself.
    pub fn internal_is_weaker_than(&self, settings: &policy::Settings) -> bool {
        let internal = &self.policies[policy::INTERNAL].settings;
        internal.replication < settings.replication
    }
}

/// For people and their tools; what is stored is the text.
impl serde::Serialize for Topology {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Topology", 6)?;
        out.serialize_field("generation", &self.generation)?;
        out.serialize_field("cluster", &self.cluster)?;
        out.serialize_field("dcs", &self.dcs)?;
        out.serialize_field("nodes", &self.nodes().collect::<Vec<_>>())?;
        out.serialize_field("links", &self.links().collect::<Vec<_>>())?;
        out.serialize_field("policies", &self.policies().collect::<Vec<_>>())?;
        out.end()
    }
}

/// A link has one key, whichever way round it was written.
pub(crate) fn ordered(a: &DcName, b: &DcName) -> (DcName, DcName) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}
