//! Snapshots of the image, as records of `__meta` itself.
//!
//! ```text
//!   … command command │ part 0 of 3 │ part 1 of 3 │ part 2 of 3 │ command command …
//!                      ▲ log start may move here once all three are committed (R24)
//! ```
//!
//! A snapshot is the image as it was before its first part, so whoever starts reading at that part
//! has everything. Who comes from before checks that its own image says the same.
//!
//! Deliberately missing: deltas. An image of 5,000 partitions is about 2 MB.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use isobar_topology::{Problems, Topology};
use prost::Message;

use super::image::{DiskId, Image, Node, Partition, Topic};
use super::modes::Changed;
use super::modes::wire::ChangedWire;
use super::moves::Moved;
use super::moves::wire::MovedWire;
use super::quorum;
use super::recovery::{Recovery, RecoveryWire};
use super::wire::{self, Malformed, NodeWire, PartitionWire, TopicWire};
use crate::model::{NodeId, Offset};

/// Of the snapshot's own message.
const VERSION: u32 = 1;

/// Bytes of the image in one part: small enough that a part beside a few others passes every lane
/// quickly, large enough that the parts of an ordinary image can be counted on one hand.
pub const PART_BYTES_MAX: usize = 512 << 10;

/// More parts than this are not a snapshot: 1 GiB of image is far above what fits a node's memory
/// beside its logs.
pub const PARTS_MAX: u32 = 2048;

/// One record's worth of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Part {
    /// The offset of part 0, which is the offset after the last command in the image.
    #[prost(int64, tag = "1")]
    pub first_offset: i64,
    /// From 0.
    #[prost(uint32, tag = "2")]
    pub part: u32,
    #[prost(uint32, tag = "3")]
    pub parts: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
}

/// Why the parts of a snapshot make no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it is of version {0}, this software knows {VERSION}; upgrade this node")]
    Version(u32),
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("its topology does not check: {0}")]
    Topology(#[from] Problems),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageWire {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, optional, tag = "2")]
    cluster_id: Option<String>,
    #[prost(string, optional, tag = "3")]
    topology: Option<String>,
    #[prost(uint64, tag = "4")]
    topology_generation: u64,
    #[prost(message, repeated, tag = "5")]
    nodes: Vec<NodeWire>,
    #[prost(message, repeated, tag = "6")]
    topics: Vec<TopicWire>,
    #[prost(int64, tag = "7")]
    next_producer_id: i64,
    #[prost(message, optional, tag = "8")]
    meta: Option<PartitionWire>,
    #[prost(message, repeated, tag = "9")]
    retired: Vec<RetiredWire>,
    #[prost(message, repeated, tag = "10")]
    moved: Vec<MovedWire>,
    #[prost(message, repeated, tag = "11")]
    modes: Vec<ChangedWire>,
    #[prost(message, repeated, tag = "12")]
    recoveries: Vec<RecoveryWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetiredWire {
    #[prost(bytes = "vec", tag = "1")]
    disk: Vec<u8>,
    #[prost(uint32, tag = "2")]
    node: u32,
}

/// The image but for its offset. Equal images give equal bytes.
pub fn encode(image: &Image) -> Vec<u8> {
    let wire = ImageWire {
        version: VERSION,
        cluster_id: image.cluster_id.as_ref().map(|id| id.to_string()),
        topology: image.topology.as_ref().map(|t| t.source().to_owned()),
        topology_generation: image.topology_generation,
        nodes: image.nodes.values().map(|n| NodeWire::from(&**n)).collect(),
        topics: image.topics.values().map(|t| TopicWire::from(&**t)).collect(),
        next_producer_id: image.next_producer_id,
        meta: image.meta.as_ref().map(|meta| PartitionWire::from(&**meta)),
        retired: image.retired.iter().map(retired_to_wire).collect(),
        moved: image.moved.iter().map(|m| MovedWire::from(&**m)).collect(),
        modes: image.modes.iter().map(|m| ChangedWire::from(&**m)).collect(),
        recoveries: image.recoveries.iter().map(RecoveryWire::from).collect(),
    };
    wire.encode_to_vec()
}

fn retired_to_wire((disk, node): (&DiskId, &NodeId)) -> RetiredWire {
    RetiredWire { disk: disk.to_vec(), node: node.as_u32() }
}

/// The image of a snapshot that begins at `first_offset`.
pub fn decode(bytes: &[u8], first_offset: Offset) -> Result<Image, Error> {
    let wire = ImageWire::decode(bytes)?;
    if wire.version != VERSION {
        return Err(Error::Version(wire.version));
    }
    let topology = match wire.topology {
        None => None,
        Some(text) => {
            let (topology, _) = Topology::parse(&text)?;
            Some(Arc::new(topology.with_generation(wire.topology_generation)))
        }
    };
    let meta = wire.meta.map(Partition::try_from).transpose()?.map(Arc::new);
    let retired =
        wire::all(wire.retired, |r| Ok((wire::disk_id(&r.disk)?, wire::node_id(r.node)?)))?;
    let nodes = wire::all(wire.nodes, Node::try_from)?;
    let topics = wire::all(wire.topics, Topic::try_from)?;
    let topic_ids: BTreeMap<_, _> = topics.iter().map(|t| (t.name.clone(), t.id)).collect();
    let mut image = Image {
        next_offset: first_offset,
        cluster_id: wire.cluster_id.map(Arc::from),
        topology,
        topology_generation: wire.topology_generation,
        meta,
        retired: retired.into_iter().collect(),
        nodes: nodes.into_iter().map(|n| (n.id, Arc::new(n))).collect(),
        topics: topics.into_iter().map(|t| (t.id, Arc::new(t))).collect(),
        topic_ids,
        next_producer_id: wire.next_producer_id,
        moved: wire::all(wire.moved, |m| Moved::try_from(m).map(Arc::new))?,
        modes: wire::all(wire.modes, |m| Changed::try_from(m).map(Arc::new))?,
        recoveries: wire::all(wire.recoveries, Recovery::try_from)?,
    };
    // Of a release that did not write it: it was as the topology says, on the disks registered.
    if image.meta.is_none() {
        image.meta = image.topology.as_ref().and_then(|t| quorum::founded(t)).map(Arc::new);
        let disks = image.nodes.values().map(|n| (n.id, n.disk)).collect();
        let bound = quorum::bound(&image, &disks);
        if let Some((meta, bound)) = image.meta.as_mut().zip(bound) {
            Arc::make_mut(meta).replicas = bound.replicas;
        }
    }
    Ok(image)
}

/// The image as parts, to be appended in one go at the image's next offset.
pub fn parts(image: &Image) -> Vec<Part> {
    let bytes = Bytes::from(encode(image));
    let count = bytes.len().div_ceil(PART_BYTES_MAX);
    let parts = u32::try_from(count).expect("an image is far below 2^32 parts");
    assert!(parts <= PARTS_MAX, "an image of {} bytes has outgrown its snapshots", bytes.len());
    let part = |part: u32| {
        let from = part as usize * PART_BYTES_MAX;
        let to = bytes.len().min(from + PART_BYTES_MAX);
        Part { first_offset: image.next_offset.0, part, parts, bytes: bytes.slice(from..to) }
    };
    (0..parts).map(part).collect()
}

/// Parts on their way to being a snapshot again.
#[derive(Debug, Clone, Default)]
pub(super) struct Assembly {
    first_offset: Option<Offset>,
    next: u32,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Takes the part at `offset`; the bytes of all once the last is there. A part that does not
    /// continue what is here is dropped with it: a leader's interrupted attempt.
    pub fn add(&mut self, offset: Offset, part: &Part) -> Option<(Offset, Vec<u8>)> {
        let first_offset = Offset(part.first_offset);
        let in_place = part.first_offset.checked_add(i64::from(part.part)) == Some(offset.0);
        if part.part == 0 {
            *self = Self { first_offset: Some(first_offset), ..Self::default() };
        }
        let continues = self.first_offset == Some(first_offset) && self.next == part.part;
        if !in_place || !continues || part.part >= part.parts || part.parts > PARTS_MAX {
            self.clear();
            return None;
        }
        self.bytes.extend_from_slice(&part.bytes);
        self.next += 1;
        if self.next < part.parts {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.clear();
        Some((first_offset, bytes))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether it has a part and waits for more.
    pub fn is_open(&self) -> bool {
        self.first_offset.is_some()
    }
}
