//! What a node's transport needs to know, as plain data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use isobar_topology::{DcName, NodeId};

use crate::certs::Identity;
use crate::impair::Wan;

pub struct Config {
    pub node: NodeId,
    pub dc: DcName,
    /// Name of the cluster; a peer of another name is refused.
    pub cluster: String,
    /// Where to listen, and what to dial from. Port 0 takes a free one, see `Transport::local_addr`.
    pub bind: SocketAddr,
    /// Every other node. Replaced while running by `Transport::set_peers`.
    pub peers: Vec<Peer>,
    pub identity: Identity,
    /// The WAN to put below QUIC: `isobar dev` and tests.
    pub wan: Option<Arc<Wan>>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Peer {
    pub node: NodeId,
    pub dc: DcName,
    /// `host:port`. A name is resolved at each dial.
    pub addr: String,
    pub link: LinkTuning,
}

/// What the topology says about the path to a peer.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkTuning {
    /// Expected round trip.
    pub rtt: Duration,
    /// Bandwidth budget of the path.
    pub bandwidth_bytes_per_second: u64,
    /// Of payloads that the caller marks as compressible.
    pub compression: Compression,
    /// Inside a DC: Cubic and QUIC's default windows. Across: BBR and windows of 1.5 × bandwidth × rtt.
    pub same_dc: bool,
}

impl LinkTuning {
    /// A path inside a DC.
    pub fn local() -> LinkTuning {
        LinkTuning {
            rtt: Duration::from_millis(1),
            bandwidth_bytes_per_second: 1_250_000_000,
            compression: Compression::None,
            same_dc: true,
        }
    }

    /// A path between DCs.
    pub fn wan(
        rtt: Duration,
        bandwidth_bytes_per_second: u64,
        compression: Compression,
    ) -> LinkTuning {
        LinkTuning { rtt, bandwidth_bytes_per_second, compression, same_dc: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    #[default]
    None,
    /// zstd at level 1.
    Zstd,
}
