//! Frames and calls between nodes: QUIC with mutual TLS, a connection of its own per lane, and a
//! WAN that can be put under it. Knows neither Raft nor Kafka.
//!
//! ```text
//!  broker ── send(to, lane, key, frame) ──▶ queue per (peer, lane) ──▶ ordered streams ──▶ peer
//!         ── call(to, method, body) ───────────────▶ one stream a call ─────────────────▶ peer
//!         ◀─ Inbound::frame / Inbound::call ── readers ◀── accept: certificate, hello ◀── peer
//!                                                       │
//!                                         impair::Wan (development only), below QUIC
//! ```
//!
//! What it holds:
//! - **Identity.** Who a peer is comes from its certificate and is compared with the peers that
//!   the topology names, on both sides, before a byte of payload ([`certs`]).
//! - **Who dials.** Each node dials the peers that it sends to, so that an ordered pair of nodes
//!   has one connection per lane. Control is always up; the other lanes open when first used and
//!   close when idle.
//! - **Order.** Frames of one (peer, lane, key) arrive in order or not at all. A lost connection
//!   loses frames ([`Inbound::frames_lost`]); it never reorders them. The exception is a control
//!   frame that took a hop: it may overtake, or be overtaken by, direct ones.
//! - **Nobody waits for a silent peer.** Queues are bounded in frames and bytes per peer and lane;
//!   a full one drops, and counts.
//! - **A hop round a dead link.** While control to a peer is down, control frames and calls go
//!   through a node of a third DC, which says in its control stream whom it reaches. Never two hops.
//!
//! Deliberately missing: delivery guarantees (the layers above retry), 0-RTT (replayable), connection
//! migration (peers have addresses), streaming of bodies larger than [`limits::BODY_BYTES_MAX`]
//! (segments travel as a series of [`Transport::bulk`] calls), a relay for replication and bulk.

pub mod certs;
mod config;
mod congestion;
mod error;
pub mod impair;
mod inbound;
pub mod limits;
mod node;
mod outbound;
mod peers;
mod relay;
mod rng;
mod socket;
mod traffic;
mod transport;
mod tuning;
mod wire;

pub use certs::PeerIdentity;
pub use config::{Compression, Config, LinkTuning, Peer};
pub use error::{Dropped, Error, RpcError};
pub use inbound::{BoxFuture, Inbound};
pub use transport::{PeerStats, Transport};

use bytes::Bytes;

/// Traffic by intent. Each lane of an ordered pair of nodes has a connection of its own: the streams of
/// one QUIC connection share its congestion and send windows, and stream priority does not help.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Heartbeats, votes, append answers, high watermarks, leases: one ordered stream, always open.
    Control,
    /// Appends: keys hashed onto [`limits::REPLICATION_STREAMS`] ordered streams.
    Replication,
    /// Calls with small bodies.
    Rpc,
    /// Calls with large bodies: segments, snapshots.
    Bulk,
}

impl Lane {
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Replication, Lane::Rpc, Lane::Bulk];

    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Replication => "replication",
            Lane::Rpc => "rpc",
            Lane::Bulk => "bulk",
        }
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What travels on [`Lane::Control`] and [`Lane::Replication`]: a header that the caller encodes, and
/// payload chunks (record batches) that are never parsed here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    pub header: Bytes,
    pub payloads: Vec<Bytes>,
    /// The payloads are not compressed yet, so a link with [`Compression::Zstd`] may do it.
    pub compressible: bool,
}

impl Frame {
    /// A frame without payload.
    pub fn of_header(header: impl Into<Bytes>) -> Frame {
        Frame { header: header.into(), payloads: Vec::new(), compressible: false }
    }

    /// What it counts for against a queue's bound.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.payload_bytes()
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payloads.iter().map(Bytes::len).sum()
    }
}
