//! What two nodes say to each other, byte by byte. Integers are big endian.
//!
//! ```text
//! connection   ALPN isobar/1; the dialler opens the first bidirectional stream: hello (hello.rs)
//! control, replication
//!   unidirectional stream   u8 stream index, then frames (frame.rs)
//! rpc, bulk
//!   bidirectional stream    one request, one answer (call.rs)
//! ```
//!
//! Hello carries the span of wire versions that the dialler speaks; the highest common one is used
//! from then on. The first byte of a bidirectional stream says what it is ([`STREAM_HELLO`], [`STREAM_CALL`]),
//! since a dialler repeats its hello on a live connection when it learns the cluster's id.

pub(crate) mod call;
pub(crate) mod frame;
pub(crate) mod hello;
mod zip;

/// Wire versions that this build speaks.
pub(crate) const VERSION_MIN: u32 = 1;
pub(crate) const VERSION_MAX: u32 = 1;

pub(crate) const STREAM_HELLO: u8 = 0;
pub(crate) const STREAM_CALL: u8 = 1;

/// Codes of closed connections, shown in the other side's log.
pub(crate) mod close {
    use quinn::VarInt;

    pub(crate) const SHUT_DOWN: VarInt = VarInt::from_u32(0);
    pub(crate) const IDLE: VarInt = VarInt::from_u32(1);
    /// The same peer has opened a newer connection for the lane.
    pub(crate) const SUPERSEDED: VarInt = VarInt::from_u32(2);
    pub(crate) const REFUSED: VarInt = VarInt::from_u32(3);
    pub(crate) const MALFORMED: VarInt = VarInt::from_u32(4);
    /// The peer has been started again; what this connection led to is gone.
    pub(crate) const RESTARTED: VarInt = VarInt::from_u32(6);
    /// The topology no longer has the peer, or has it elsewhere.
    pub(crate) const PEER_CHANGED: VarInt = VarInt::from_u32(5);
}

/// What is wrong with bytes from a peer. The connection that brought them is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("{what} of {value} exceeds the limit of {max}")]
    TooLarge { what: &'static str, value: u64, max: u64 },
    #[error("unknown {what} {value}")]
    Unknown { what: &'static str, value: u64 },
    #[error("payload chunks add up to {chunks} bytes, the body has {body}")]
    Sum { chunks: u64, body: u64 },
    #[error("zstd: {0}")]
    Zstd(String),
    #[error("not a valid protobuf message: {0}")]
    Protobuf(String),
    #[error("node id {0} is none")]
    Node(u32),
}

pub(crate) fn limit(what: &'static str, value: u64, max: u64) -> Result<(), Malformed> {
    if value <= max { Ok(()) } else { Err(Malformed::TooLarge { what, value, max }) }
}

/// Reads of fixed-size heads whose length the caller has checked.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
