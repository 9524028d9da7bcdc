//! Frames of a unidirectional stream.
//!
//! ```text
//!  0  u8   layout version = 1
//!  1  u8   flags: ZSTD | RELAY | REACH
//!  2  u16  payload chunks (n)
//!  4  u32  header bytes (h)
//!  8  u32  body bytes on the wire (b)
//! 12  u32 origin node, u32 destination node        with RELAY only
//!     n × u32 payload bytes of each chunk, uncompressed
//!     h bytes header
//!     b bytes body: the chunks one after another, as one zstd frame with ZSTD
//! ```
//!
//! Lengths are checked on these bytes, before anything is allocated; memory then grows with what has
//! arrived. A frame is copied once, into an allocation of its own, so that a batch kept for long
//! does not pin the receive buffers it came in.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use isobar_topology::NodeId;

use super::zip::{compress, decompress};
use super::{Malformed, limit, u16_at, u32_at};
use crate::Frame;
use crate::limits::{BODY_BYTES_MAX, CHUNKS_MAX, HEADER_BYTES_MAX};

const LAYOUT: u8 = 1;
const ZSTD: u8 = 1;
const RELAY: u8 = 2;
const REACH: u8 = 4;

const HEAD_BYTES: usize = 12;
const ROUTE_BYTES: usize = 8;

/// A frame with where it is going.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Envelope {
    /// For the node at the other end.
    Direct(Frame),
    /// One hop: from `origin` through a third node to `destination`.
    Relay { origin: NodeId, destination: NodeId, frame: Frame },
    /// The transport's own: the nodes to which the sender has control up.
    Reach(Vec<NodeId>),
}

impl Envelope {
    /// What it counts for against a queue's bound.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Envelope::Direct(frame) | Envelope::Relay { frame, .. } => frame.bytes(),
            Envelope::Reach(nodes) => nodes.len() * 4,
        }
    }
}

/// Whether a receiver would take it.
pub(crate) fn within_limits(frame: &Frame) -> bool {
    frame.header.len() <= HEADER_BYTES_MAX
        && frame.payload_bytes() <= BODY_BYTES_MAX
        && frame.payloads.len() <= CHUNKS_MAX
}

/// Appends the chunks of an encoded envelope, ready for a vectored write. Payloads are not copied,
/// except into zstd where `zstd` is set and it pays.
pub(crate) fn encode(envelope: Envelope, zstd: bool, out: &mut Vec<Bytes>) {
    let (frame, flags, route) = match envelope {
        Envelope::Direct(frame) => (frame, 0, None),
        Envelope::Relay { origin, destination, frame } => {
            (frame, RELAY, Some((origin, destination)))
        }
        Envelope::Reach(nodes) => {
            let mut header = BytesMut::with_capacity(nodes.len() * 4);
            nodes.iter().for_each(|node| header.put_u32(node.as_u32()));
            (Frame::of_header(header.freeze()), REACH, None)
        }
    };
    debug_assert!(within_limits(&frame));
    let plain_bytes = frame.payload_bytes();
    let compressed = match zstd && frame.compressible {
        true => compress(&frame.payloads),
        false => None,
    };
    let body_bytes = compressed.as_ref().map_or(plain_bytes, Bytes::len);
    let mut head = BytesMut::with_capacity(HEAD_BYTES + ROUTE_BYTES + frame.payloads.len() * 4);
    head.put_u8(LAYOUT);
    head.put_u8(flags | if compressed.is_some() { ZSTD } else { 0 });
    head.put_u16(frame.payloads.len() as u16);
    head.put_u32(frame.header.len() as u32);
    head.put_u32(body_bytes as u32);
    if let Some((origin, destination)) = route {
        head.put_u32(origin.as_u32());
        head.put_u32(destination.as_u32());
    }
    frame.payloads.iter().for_each(|chunk| head.put_u32(chunk.len() as u32));
    out.push(head.freeze());
    let body = compressed.map_or(frame.payloads, |body| vec![body]);
    let parts = std::iter::once(frame.header).chain(body);
    out.extend(parts.filter(|part| !part.is_empty()));
}

/// Frames out of a stream's bytes. Pure: `push` what arrived, then `next` until it has no more.
#[derive(Default)]
pub(crate) struct Decoder {
    arrived: VecDeque<Bytes>,
    arrived_bytes: usize,
    head: Option<Head>,
}

/// The fixed part, checked.
#[derive(Clone, Copy)]
struct Head {
    flags: u8,
    chunks: usize,
    header_bytes: usize,
    body_bytes: usize,
}

impl Head {
    fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Head, Malformed> {
        let flags = bytes[1];
        if bytes[0] != LAYOUT {
            return Err(Malformed::Unknown { what: "frame layout", value: bytes[0].into() });
        }
        if flags & !(ZSTD | RELAY | REACH) != 0 || flags & RELAY != 0 && flags & REACH != 0 {
            return Err(Malformed::Unknown { what: "frame flags", value: flags.into() });
        }
        let head = Head {
            flags,
            chunks: u16_at(bytes, 2).into(),
            header_bytes: u32_at(bytes, 4) as usize,
            body_bytes: u32_at(bytes, 8) as usize,
        };
        limit("payload chunks", head.chunks as u64, CHUNKS_MAX as u64)?;
        limit("frame header", head.header_bytes as u64, HEADER_BYTES_MAX as u64)?;
        limit("frame body", head.body_bytes as u64, BODY_BYTES_MAX as u64)?;
        Ok(head)
    }

    fn route_bytes(&self) -> usize {
        if self.flags & RELAY != 0 { ROUTE_BYTES } else { 0 }
    }

    fn rest_bytes(&self) -> usize {
        self.route_bytes() + self.chunks * 4 + self.header_bytes + self.body_bytes
    }
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.arrived_bytes += bytes.len();
            self.arrived.push_back(bytes);
        }
    }

    /// The next whole frame. After an error the stream is of no more use.
    pub(crate) fn next(&mut self) -> Result<Option<Envelope>, Malformed> {
        let head = match self.head {
            Some(head) => head,
            None if self.arrived_bytes < HEAD_BYTES => return Ok(None),
            None => {
                let bytes = self.take(HEAD_BYTES);
                let head = Head::parse(bytes[..].try_into().expect("take gives what it is asked"))?;
                *self.head.insert(head)
            }
        };
        if self.arrived_bytes < head.rest_bytes() {
            return Ok(None);
        }
        self.head = None;
        let rest = self.take(head.rest_bytes());
        envelope(head, rest).map(Some)
    }

    #[cfg(test)]
    fn is_between_frames(&self) -> bool {
        self.head.is_none() && self.arrived_bytes == 0
    }

    /// Exactly `bytes` of what has arrived, in one allocation.
    fn take(&mut self, bytes: usize) -> Bytes {
        let mut taken = BytesMut::with_capacity(bytes);
        while taken.len() < bytes {
            let front = self.arrived.front_mut().expect("the caller has checked arrived_bytes");
            let part = front.len().min(bytes - taken.len());
            taken.extend_from_slice(&front[..part]);
            front.advance(part);
            if front.is_empty() {
                self.arrived.pop_front();
            }
        }
        self.arrived_bytes -= bytes;
        taken.freeze()
    }
}

fn envelope(head: Head, mut rest: Bytes) -> Result<Envelope, Malformed> {
    let route = rest.split_to(head.route_bytes());
    let lengths = rest.split_to(head.chunks * 4);
    let header = rest.split_to(head.header_bytes);
    if head.flags & REACH != 0 {
        let whole = header.chunks_exact(4);
        if !whole.remainder().is_empty() || !rest.is_empty() || head.chunks > 0 {
            return Err(Malformed::Unknown {
                what: "length of a reach frame",
                value: header.len() as u64,
            });
        }
        return Ok(Envelope::Reach(whole.map(|id| node_at(id, 0)).collect::<Result<_, _>>()?));
    }
    let lengths: Vec<usize> =
        lengths.chunks_exact(4).map(|bytes| u32_at(bytes, 0) as usize).collect();
    let plain_bytes: u64 = lengths.iter().map(|bytes| *bytes as u64).sum();
    limit("payload", plain_bytes, BODY_BYTES_MAX as u64)?;
    let compressed = head.flags & ZSTD != 0;
    let mut body = match compressed {
        true => decompress(&rest, plain_bytes as usize)?,
        false => rest,
    };
    if body.len() as u64 != plain_bytes {
        return Err(Malformed::Sum { chunks: plain_bytes, body: body.len() as u64 });
    }
    let payloads = lengths.into_iter().map(|bytes| body.split_to(bytes)).collect();
    // A frame that is sent on to another link is compressed again there.
    let frame = Frame { header, payloads, compressible: compressed };
    if route.is_empty() {
        return Ok(Envelope::Direct(frame));
    }
    let (origin, destination) = (node_at(&route, 0)?, node_at(&route, 4)?);
    Ok(Envelope::Relay { origin, destination, frame })
}

fn node_at(bytes: &[u8], at: usize) -> Result<NodeId, Malformed> {
    let id = u32_at(bytes, at);
    NodeId::new(id.into()).map_err(|_| Malformed::Node(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(envelopes: &[Envelope], zstd: bool) -> Vec<u8> {
        let mut out = Vec::new();
        envelopes.iter().for_each(|envelope| encode(envelope.clone(), zstd, &mut out));
        out.concat()
    }

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let chunk = prop::collection::vec(0u8..4, 0..2000).prop_map(Bytes::from);
        (prop::collection::vec(any::<u8>(), 0..100), prop::collection::vec(chunk, 0..5)).prop_map(
            |(header, payloads)| Frame { header: header.into(), payloads, compressible: false },
        )
    }

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        prop_oneof![
            any_frame().prop_map(Envelope::Direct),
            any_frame().prop_map(|frame| Envelope::Relay {
                origin: node(1),
                destination: node(9),
                frame
            }),
            prop::collection::vec(1u64..100, 0..20)
                .prop_map(|ids| Envelope::Reach(ids.into_iter().map(node).collect())),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(
            envelopes in prop::collection::vec(any_envelope(), 0..5),
            cuts in prop::collection::vec(1usize..1500, 1..50),
        ) {
            let mut bytes = Bytes::from(bytes_of(&envelopes, false));
            let (mut decoder, mut decoded) = (Decoder::default(), Vec::new());
            for cut in cuts.iter().cycle() {
                if bytes.is_empty() {
                    break;
                }
                decoder.push(bytes.split_to((*cut).min(bytes.len())));
                while let Some(envelope) = decoder.next().unwrap() {
                    decoded.push(envelope);
                }
            }
            prop_assert!(decoder.is_between_frames());
            prop_assert_eq!(decoded, envelopes);
        }

        #[test]
        fn garbage_is_an_error_or_an_unfinished_frame_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), layout: bool,
        ) {
            let mut bytes = bytes;
            if layout && bytes.len() > HEAD_BYTES {
                let head = [LAYOUT, bytes[1] & 7, 0, bytes[3] % 8];
                bytes[..4].copy_from_slice(&head);
                bytes[4..7].fill(0);
                bytes[8..11].fill(0);
            }
            let mut decoder = Decoder::default();
            decoder.push(bytes.into());
            while let Ok(Some(_)) = decoder.next() {}
        }
    }

    #[test]
    fn compressible_payloads_shrink_and_read_back() {
        let payloads = vec![Bytes::from(vec![7; 10_000]), Bytes::from(vec![8; 3])];
        let frame = Frame { header: Bytes::from_static(b"h"), payloads, compressible: true };
        let bytes = bytes_of(&[Envelope::Direct(frame.clone())], true);
        assert!(bytes.len() < 200, "{}", bytes.len());
        let mut decoder = Decoder::default();
        decoder.push(bytes.into());
        assert_eq!(decoder.next().unwrap(), Some(Envelope::Direct(frame)));
    }

    #[test]
    fn what_does_not_shrink_travels_as_it_is() {
        let mut state = 1u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(4096)
        .collect();
        let frame =
            Frame { header: Bytes::new(), payloads: vec![random.into()], compressible: true };
        let bytes = bytes_of(&[Envelope::Direct(frame)], true);
        assert_eq!((bytes.len(), bytes[1] & ZSTD), (HEAD_BYTES + 4 + 4096, 0));
    }

    /// (flags, chunks, header bytes, body bytes) that the receiver refuses on the head alone.
    #[test]
    fn lengths_beyond_the_limits_are_refused_before_the_rest_arrives() {
        let at_limit = (0, 0, 0, 0);
        for (refused, (flags, chunks, header, body)) in [
            (false, at_limit),
            (true, (0, CHUNKS_MAX as u16 + 1, 0, 0)),
            (true, (0, 0, HEADER_BYTES_MAX as u32 + 1, 0)),
            (true, (0, 0, 0, BODY_BYTES_MAX as u32 + 1)),
            (true, (0, 0, u32::MAX, u32::MAX)),
            (true, (8, 0, 0, 0)),
            (true, (RELAY | REACH, 0, 0, 0)),
        ] {
            let mut head = BytesMut::new();
            head.put_u8(LAYOUT);
            head.put_u8(flags);
            head.put_u16(chunks);
            head.put_u32(header);
            head.put_u32(body);
            let mut decoder = Decoder::default();
            decoder.push(head.freeze());
            assert_eq!(decoder.next().is_err(), refused, "{flags} {chunks} {header} {body}");
        }
    }

    #[test]
    fn a_decompression_bomb_stops_at_what_its_lengths_promise() {
        let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 1).unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[LAYOUT, ZSTD, 0, 1, 0, 0, 0, 0]);
        bytes.put_u32(bomb.len() as u32);
        bytes.put_u32(1000);
        bytes.put_slice(&bomb);
        let mut decoder = Decoder::default();
        decoder.push(bytes.freeze());
        assert_eq!(decoder.next(), Err(Malformed::Sum { chunks: 1000, body: 1001 }));
    }
}
