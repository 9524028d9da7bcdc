//! The calls of a move: protobuf, with a version in front.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::log::{EpochStart, Fork, Position, Sealed};
use crate::metadata::moves::carrier::{Seal, When};
use crate::metadata::moves::wire::{AtWire, ForkWire, PositionWire};
use crate::model::{DcName, HomeEpoch, NodeId, ReplicaId, TopicPartition};
use crate::replica::driver::LetGo;

const VERSION: u32 = 1;

/// Bytes that are no call or answer of this version.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a message of version {0}, this software knows {VERSION}")]
    Version(u32),
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error("it has no {0}, or an impossible one")]
    Field(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct AskWire {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    at: Option<AtWire>,
    /// The next home epoch.
    #[prost(uint32, tag = "3")]
    epoch: u32,
    /// HOLD: F.
    #[prost(message, optional, tag = "4")]
    fork: Option<ForkWire>,
    /// HOLD: who has it.
    #[prost(uint32, tag = "5")]
    source: u32,
    /// HAND_OFF: the next home.
    #[prost(string, tag = "6")]
    to: String,
    #[prost(uint64, tag = "7")]
    timeout_ms: u64,
    /// RANGE: the first entry, and the one after the last.
    #[prost(uint64, tag = "8")]
    from_index: u64,
    #[prost(uint64, tag = "9")]
    to_index: u64,
    /// SEAL: only once the leader's hand-off is on disk.
    #[prost(bool, tag = "10")]
    handed_off: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SealedWire {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    replica: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<PositionWire>,
    #[prost(message, repeated, tag = "4")]
    epochs: Vec<PositionWire>,
    /// Installing, or damaged: sealed, and not to be counted (R21, R23).
    #[prost(bool, tag = "5")]
    uncounted: bool,
    #[prost(int64, optional, tag = "7")]
    known_until_ms: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeldWire {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bool, tag = "2")]
    holds: bool,
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Seal(When),
    Hold { fork: Arc<Fork>, source: NodeId },
    HandOff { to: DcName, timeout: Duration },
    Range { from: u64, to: u64 },
}

pub fn ask(at: TopicPartition, epoch: HomeEpoch, what: Ask) -> Bytes {
    let mut wire = AskWire {
        version: VERSION,
        at: Some(at.into()),
        epoch: epoch.as_u32(),
        ..AskWire::default()
    };
    match what {
        Ask::Seal(when) => wire.handed_off = when == When::HandedOff,
        Ask::Hold { fork, source } => {
            wire.fork = Some(ForkWire::from(&*fork));
            wire.source = source.as_u32();
        }
        Ask::HandOff { to, timeout } => {
            wire.to = to.as_str().to_owned();
            wire.timeout_ms = timeout.as_millis() as u64;
        }
        Ask::Range { from, to } => (wire.from_index, wire.to_index) = (from, to),
    }
    wire.encode_to_vec().into()
}

/// What was asked, of the kind that the method says.
pub struct Asked {
    pub at: TopicPartition,
    pub epoch: HomeEpoch,
    wire: AskWire,
}

impl Asked {
    pub fn receive(body: Bytes) -> Result<Self, Error> {
        let mut wire = AskWire::decode(body)?;
        version(wire.version)?;
        let at = wire.at.take().ok_or(Error::Field("partition"))?;
        let at = at.try_into().map_err(|_| Error::Field("partition"))?;
        let epoch = HomeEpoch::new(wire.epoch).ok_or(Error::Field("home epoch"))?;
        Ok(Self { at, epoch, wire })
    }

    pub fn when(&self) -> When {
        if self.wire.handed_off { When::HandedOff } else { When::AtOnce }
    }

    pub fn hold(self) -> Result<(Arc<Fork>, NodeId), Error> {
        let fork = self.wire.fork.ok_or(Error::Field("fork"))?;
        let fork = fork.try_into().map_err(|_| Error::Field("fork"))?;
        let source =
            NodeId::new(u64::from(self.wire.source)).map_err(|_| Error::Field("source"))?;
        Ok((Arc::new(fork), source))
    }

    pub fn hand_off(self) -> Result<(DcName, Duration), Error> {
        let to = self.wire.to.parse().map_err(|_| Error::Field("datacenter"))?;
        Ok((to, Duration::from_millis(self.wire.timeout_ms)))
    }

    pub fn range(&self) -> (u64, u64) {
        (self.wire.from_index, self.wire.to_index)
    }
}

fn version(found: u32) -> Result<(), Error> {
    if found == VERSION { Ok(()) } else { Err(Error::Version(found)) }
}

pub fn sealed((sealed, gone): &(Sealed, LetGo)) -> Bytes {
    let seal = Seal::of(sealed, gone.known_until_ms);
    let begins = |e: &EpochStart| Position { index: e.index, term: e.term, offset: e.offset };
    let wire = SealedWire {
        version: VERSION,
        replica: seal.replica.0,
        last: Some(seal.last.into()),
        epochs: seal.epochs.iter().map(|e| begins(e).into()).collect(),
        uncounted: seal.uncounted,
        known_until_ms: seal.known_until_ms,
    };
    wire.encode_to_vec().into()
}

pub fn receive_sealed(body: Bytes) -> Result<Seal, Error> {
    let wire = SealedWire::decode(body)?;
    version(wire.version)?;
    let position =
        |wire: PositionWire| Position::try_from(wire).map_err(|_| Error::Field("position"));
    let begins = |wire| {
        position(wire).map(|p| EpochStart { term: p.term, index: p.index, offset: p.offset })
    };
    Ok(Seal {
        replica: ReplicaId(wire.replica),
        last: position(wire.last.ok_or(Error::Field("last entry"))?)?,
        epochs: wire.epochs.into_iter().map(begins).collect::<Result<_, _>>()?,
        uncounted: wire.uncounted,
        known_until_ms: wire.known_until_ms,
    })
}

pub fn held(holds: bool) -> Bytes {
    HeldWire { version: VERSION, holds }.encode_to_vec().into()
}

pub fn receive_held(body: Bytes) -> Result<bool, Error> {
    let wire = HeldWire::decode(body)?;
    version(wire.version)?;
    Ok(wire.holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{HighWatermark, LogStart};
    use crate::model::{LogIndex, Offset, Term};

    fn position(n: u64) -> Position {
        Position { index: LogIndex(n), term: Term(n + 1), offset: Offset(n as i64) }
    }

    #[test]
    fn what_is_asked_and_what_is_told_arrive_as_they_left() {
        let at = TopicPartition::META;
        let epoch = HomeEpoch::new(7).unwrap();
        let fork = Arc::new(Fork { home_epoch: epoch, at: position(9), epochs: Vec::new() });
        let source = NodeId::new(4).unwrap();
        let asked = |what| Asked::receive(ask(at, epoch, what)).unwrap();
        let hold = asked(Ask::Hold { fork: Arc::clone(&fork), source });
        assert_eq!((hold.at, hold.epoch), (at, epoch));
        assert_eq!(hold.hold().unwrap(), (fork, source));
        let (to, timeout) = ("iad".parse::<DcName>().unwrap(), Duration::from_secs(9));
        let hand_off = asked(Ask::HandOff { to: to.clone(), timeout });
        assert_eq!(hand_off.hand_off().unwrap(), (to, timeout));
        assert_eq!(asked(Ask::Seal(When::HandedOff)).when(), When::HandedOff);
        assert_eq!(asked(Ask::Seal(When::AtOnce)).when(), When::AtOnce);
        assert_eq!(asked(Ask::Range { from: 3, to: 8 }).range(), (3, 8));
        let ours = Sealed {
            replica: ReplicaId(3),
            home_epoch: HomeEpoch::FIRST,
            promised: epoch,
            last: (LogIndex(5), Term(6)),
            next_offset: Offset(7),
            start: LogStart::default(),
            hw: HighWatermark::default(),
            epochs: vec![EpochStart { term: Term(6), index: LogIndex(1), offset: Offset(0) }],
            installing: true,
            damaged: false,
            fork: None,
        };
        let known_until_ms = Some(1500);
        let seal = receive_sealed(sealed(&(ours.clone(), LetGo { known_until_ms }))).unwrap();
        assert_eq!((seal.replica, seal.epochs, seal.uncounted), (ours.replica, ours.epochs, true));
        assert_eq!((seal.last.index, seal.last.offset), (LogIndex(5), Offset(7)));
        assert_eq!(seal.known_until_ms, known_until_ms);
        assert!(receive_held(held(true)).unwrap());
        assert!(Asked::receive(Bytes::from_static(b"garbage")).is_err());
    }
}
