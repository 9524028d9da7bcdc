//! The first exchange of a connection, once TLS has said who is there.
//!
//! ```text
//! dialler ─▶ u8 STREAM_HELLO, u16 length, Hello (protobuf)
//!         ◀─ u16 length, Welcome (protobuf)
//! ```

use isobar_topology::NodeId;
use prost::Message;

use super::{Malformed, VERSION_MAX, VERSION_MIN};
use crate::{Lane, PeerIdentity};

/// Names and an id of a few dozen bytes.
pub(crate) const HELLO_BYTES_MAX: usize = 4096;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) version_min: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) version_max: u32,
    #[prost(string, tag = "3")]
    pub(crate) cluster: String,
    /// Absent until the node knows it.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) cluster_id: Option<bytes::Bytes>,
    #[prost(uint32, tag = "5")]
    pub(crate) node: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) lane: u32,
    /// Differs after each start of the node.
    #[prost(fixed64, tag = "7")]
    pub(crate) incarnation: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Welcome {
    /// What both speak; 0 with a refusal.
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(string, optional, tag = "2")]
    pub(crate) refusal: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) cluster_id: Option<bytes::Bytes>,
    #[prost(fixed64, tag = "4")]
    pub(crate) incarnation: u64,
}

/// Why a hello is refused, in words for both logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "speaks wire versions {theirs_min} to {theirs_max}, this node {VERSION_MIN} to {VERSION_MAX}"
    )]
    Version { theirs_min: u32, theirs_max: u32 },
    #[error("is of cluster {theirs:?}, this node of {ours:?}")]
    Cluster { theirs: String, ours: String },
    #[error("has cluster id {theirs}, this node {ours}: they were set up as different clusters")]
    ClusterId { theirs: String, ours: String },
    #[error("says it is node {claimed}, its certificate says {certified}")]
    Node { claimed: u32, certified: NodeId },
    #[error("asks for lane {0}, which is none")]
    Lane(u32),
}

/// Whether the dialler with this certificate may have the lane it asks for.
pub(crate) fn check(
    hello: &Hello,
    certified: &PeerIdentity,
    cluster_id: Option<&[u8]>,
) -> Result<(Lane, u32), Refused> {
    let version = VERSION_MAX.min(hello.version_max);
    if version < VERSION_MIN.max(hello.version_min) {
        let (theirs_min, theirs_max) = (hello.version_min, hello.version_max);
        return Err(Refused::Version { theirs_min, theirs_max });
    }
    // The certificate's cluster is ours, or TLS would have refused it.
    if hello.cluster != *certified.cluster {
        let ours = certified.cluster.to_string();
        return Err(Refused::Cluster { theirs: hello.cluster.clone(), ours });
    }
    if hello.node != certified.node.as_u32() {
        return Err(Refused::Node { claimed: hello.node, certified: certified.node });
    }
    check_cluster_id(hello.cluster_id.as_deref(), cluster_id)?;
    Ok((lane(hello.lane)?, version))
}

/// Ids differ only where both are known.
pub(crate) fn check_cluster_id(theirs: Option<&[u8]>, ours: Option<&[u8]>) -> Result<(), Refused> {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            Err(Refused::ClusterId { theirs: hex(theirs), ours: hex(ours) })
        }
        _ => Ok(()),
    }
}

pub(crate) fn lane_number(lane: Lane) -> u32 {
    match lane {
        Lane::Control => 1,
        Lane::Replication => 2,
        Lane::Rpc => 3,
        Lane::Bulk => 4,
    }
}

fn lane(number: u32) -> Result<Lane, Refused> {
    Lane::ALL.into_iter().find(|lane| lane_number(*lane) == number).ok_or(Refused::Lane(number))
}

pub(crate) fn encode(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u16::try_from(body.len()).expect("a hello of names and an id is far below 64 KiB");
    [&length.to_be_bytes()[..], &body].concat()
}

pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|error| Malformed::Protobuf(error.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            cluster: "orders".to_owned(),
            cluster_id: Some(bytes::Bytes::from_static(b"id")),
            node: 3,
            lane: 2,
            incarnation: 1,
        }
    }

    #[test]
    fn a_hello_is_taken_only_if_all_of_it_agrees() {
        let name: PeerIdentity = "spiffe://orders/dc/fra/node/3".parse().unwrap();
        let ok = Ok((Lane::Replication, VERSION_MAX));
        assert_eq!(check(&hello(), &name, Some(b"id")), ok);
        assert_eq!(check(&hello(), &name, None), ok);
        assert_eq!(check(&Hello { cluster_id: None, ..hello() }, &name, Some(b"id")), ok);
        assert_eq!(check(&Hello { version_max: VERSION_MAX + 5, ..hello() }, &name, None), ok);
        for refused in [
            check(&hello(), &name, Some(b"other")),
            check(&Hello { node: 4, ..hello() }, &name, None),
            check(&Hello { lane: 0, ..hello() }, &name, None),
            check(&Hello { lane: 5, ..hello() }, &name, None),
            check(&Hello { cluster: "stock".to_owned(), ..hello() }, &name, None),
            check(&Hello { version_max: 0, version_min: 0, ..hello() }, &name, None),
            check(&Hello { version_min: VERSION_MAX + 1, version_max: 99, ..hello() }, &name, None),
        ] {
            assert!(refused.is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_hello_reads_back_and_garbage_does_not() {
        let bytes = encode(&hello());
        assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
        assert_eq!(decode::<Hello>(&bytes[2..]), Ok(hello()));
        assert!(decode::<Hello>(b"\xff\xff\xff").is_err());
    }
}
