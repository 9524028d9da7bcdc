//! Every limit of the transport, with the reasoning for its value and what happens there.

use std::time::Duration;

/// Ordered streams of a replication connection. A lost packet stalls the groups of one stream, so
/// more is better; each costs a task on either side, so not thousands.
pub const REPLICATION_STREAMS: usize = 64;

/// Largest frame header. 10,000 groups' coalesced heartbeats at ~100 bytes are 1 MB.
pub const HEADER_BYTES_MAX: usize = 8 << 20;

/// Largest sum of a frame's payloads, and largest body of a call or its answer. Kafka's default
/// largest batch is 1 MiB; a request of many partitions stays below 64. Beyond it: refused at
/// the sender, connection closed by the receiver.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Payload chunks of one frame. Raft sends at most a few hundred entries in one message.
pub const CHUNKS_MAX: usize = 8192;

/// What a queue of one (peer, lane) holds. At the limit `send` drops.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit {
    pub frames_max: usize,
    pub bytes_max: usize,
}

/// Control: frames are small and a second old is stale; 4,096 are many rounds of a busy host.
pub const CONTROL_QUEUE: QueueLimit = QueueLimit { frames_max: 4096, bytes_max: 16 << 20 };

/// Replication: a second of a 1 Gbit/s link fits (125 MB); Raft's in-flight cap should stop it before.
pub const REPLICATION_QUEUE: QueueLimit = QueueLimit { frames_max: 16_384, bytes_max: 128 << 20 };

/// Calls in flight to one peer and lane. QUIC makes more wait for a stream; beyond this they fail.
pub const CALLS_MAX: usize = 1024;

/// Calls of one connection that a node serves at a time; further ones wait at the caller.
pub const CALLS_SERVED_MAX: u32 = 256;

/// One write to a stream takes at most this much from its queue, so that streams of a
/// connection alternate and little is lost from the accounts when the connection dies.
pub const WRITE_BYTES_MAX: usize = 512 << 10;
pub const WRITE_FRAMES_MAX: usize = 128;

/// Control hears nothing for this long: dropped and redialled. quinn's own probe backoff has no
/// cap in time (after a 60 s cut the slowest request took 109 s), so connections do not wait for it.
pub const CONTROL_SILENCE_MAX: Duration = Duration::from_secs(3);

/// The other lanes: a little longer, since bulk data may queue ahead of an answer.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What the dialler sends when there is nothing else. Two in a row, each sent again after a round trip or two,
/// would have to be lost before [`CONTROL_SILENCE_MAX`] passes.
pub const CONTROL_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The same for the other lanes and [`SILENCE_MAX`]. Most connections are idle ones of these lanes.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A dial takes three round trips until hello is answered. It gets this and eight of the expected ones: enough
/// for losses and a busy machine, and short, since an attempt begun during a cut retransmits ever more slowly,
/// and frames wait for it.
pub const DIAL_MAX: Duration = Duration::from_secs(2);

/// From the first packet of an incoming connection until its hello is answered.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Redials: doubling with jitter between these.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A replication connection without frames for this long is closed. Long, since reopening costs
/// the first produce two round trips.
pub const REPLICATION_IDLE: Duration = Duration::from_secs(600);

/// An RPC or bulk connection without calls for this long is closed.
pub const CALLS_IDLE: Duration = Duration::from_secs(60);

/// Handshakes at a time. A cluster of 100 nodes that restarts dials 99 × 4 lanes; the rest is
/// refused and comes back. Half of it in use: addresses must prove themselves first (QUIC Retry).
pub const HANDSHAKES_MAX: usize = 256;

/// How often certificates are compared with their files.
pub const IDENTITY_POLL: Duration = Duration::from_secs(3);

/// UDP buffers of the socket, each way. With the kernel's default (208 KiB) 4k to 13k packets were
/// lost in 3 s on loopback. With more than this fewer are lost where processors are short (nine nodes on two cores
/// sent 1.2 bytes a byte over the WAN, and 1.05 with 32 MiB), but heartbeats wait in the same socket: there their round
/// trips within a DC grew from 0.3 s to 0.7 s, beyond an election timeout.
pub const UDP_BUFFER_BYTES: usize = 4 << 20;

/// Packets held back by the impairment of one process. Beyond it they are lost, and counted.
pub const IMPAIRED_BYTES_MAX: usize = 256 << 20;

/// How long after a peer fell silent here what others said of it before may still stand: they notice at their
/// next missed heartbeats, and tell.
pub const REACH_FRESH: Duration = Duration::from_millis(500);
