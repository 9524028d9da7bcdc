//! Moves as protobuf messages.

use std::sync::Arc;

use super::{Activation, Aim, Begin, Choice, Chosen, Kind, Moved, Moving, Report, Suffix, Verdict};
use crate::log::{EpochStart, Fork, Position};
use crate::metadata::budgets::BoundWire;
use crate::metadata::wire::{self, Malformed};
use crate::model::{LogIndex, Offset, ReplicaId, Term, TopicPartition};

#[derive(Clone, PartialEq, prost::Message)]
pub struct AtWire {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(int32, tag = "2")]
    partition: i32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct PositionWire {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(int64, tag = "3")]
    offset: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ForkWire {
    #[prost(uint32, tag = "1")]
    home_epoch: u32,
    #[prost(message, required, tag = "2")]
    at: PositionWire,
    /// Where each term begins.
    #[prost(message, repeated, tag = "3")]
    epochs: Vec<PositionWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MovingWire {
    #[prost(message, required, tag = "1")]
    aim: AimWire,
    #[prost(uint32, tag = "2")]
    epoch: u32,
    #[prost(message, optional, tag = "3")]
    fork: Option<ForkWire>,
    /// With `fork`.
    #[prost(message, optional, tag = "4")]
    verdict: Option<VerdictWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChoiceWire {
    #[prost(message, required, tag = "1")]
    at: AtWire,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    #[prost(message, required, tag = "3")]
    fork: ForkWire,
    #[prost(message, required, tag = "4")]
    verdict: VerdictWire,
    #[prost(bool, tag = "5")]
    by_word: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AimWire {
    /// 1 switchover, 2 failover.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    to: String,
    #[prost(bool, tag = "3")]
    accept_loss: bool,
    #[prost(int64, tag = "4")]
    began_ms: i64,
    #[prost(bool, tag = "5")]
    automatic: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BeginWire {
    #[prost(message, required, tag = "1")]
    at: AtWire,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    #[prost(message, required, tag = "3")]
    aim: AimWire,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ActivationWire {
    #[prost(message, required, tag = "1")]
    at: AtWire,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    #[prost(string, tag = "3")]
    home: String,
    #[prost(uint64, repeated, tag = "4")]
    voters: Vec<u64>,
    #[prost(message, required, tag = "5")]
    fork: ForkWire,
    #[prost(message, required, tag = "6")]
    verdict: VerdictWire,
    #[prost(int64, tag = "7")]
    ended_ms: i64,
    #[prost(bool, tag = "8")]
    by_word: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct VerdictWire {
    /// 1 lossless, 2 unbounded since, 3 at most.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(int64, tag = "2")]
    since_ms: i64,
    #[prost(message, optional, tag = "3")]
    bound: Option<BoundWire>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SuffixWire {
    #[prost(uint64, tag = "1")]
    replica: u64,
    #[prost(uint32, tag = "2")]
    node: u32,
    #[prost(uint64, tag = "3")]
    records: u64,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(message, required, tag = "5")]
    last: PositionWire,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportWire {
    #[prost(message, required, tag = "1")]
    at: AtWire,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    #[prost(message, required, tag = "3")]
    suffix: SuffixWire,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MovedWire {
    #[prost(message, required, tag = "1")]
    at: AtWire,
    #[prost(string, tag = "2")]
    topic: String,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(string, tag = "4")]
    from: String,
    #[prost(string, tag = "5")]
    to: String,
    #[prost(uint32, tag = "6")]
    home_epoch: u32,
    #[prost(message, required, tag = "7")]
    cut: PositionWire,
    #[prost(message, required, tag = "8")]
    verdict: VerdictWire,
    #[prost(bool, tag = "9")]
    accept_loss: bool,
    #[prost(int64, tag = "10")]
    began_ms: i64,
    #[prost(int64, tag = "11")]
    ended_ms: i64,
    #[prost(uint64, repeated, tag = "12")]
    old_voters: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    suffixes: Vec<SuffixWire>,
    #[prost(bool, tag = "14")]
    automatic: bool,
}

impl From<TopicPartition> for AtWire {
    fn from(at: TopicPartition) -> Self {
        Self { topic: at.topic.0.to_vec(), partition: at.partition }
    }
}

impl TryFrom<AtWire> for TopicPartition {
    type Error = Malformed;

    fn try_from(wire: AtWire) -> Result<Self, Malformed> {
        Ok(Self { topic: wire::topic_id(&wire.topic)?, partition: wire.partition })
    }
}

impl From<Position> for PositionWire {
    fn from(at: Position) -> Self {
        Self { index: at.index.0, term: at.term.0, offset: at.offset.0 }
    }
}

impl TryFrom<PositionWire> for Position {
    type Error = Malformed;

    fn try_from(wire: PositionWire) -> Result<Self, Malformed> {
        let term = Some(Term(wire.term)).filter(|term| term.is_valid());
        let term = term.ok_or_else(|| Malformed::new("term", wire.term))?;
        Ok(Self { index: LogIndex(wire.index), term, offset: Offset(wire.offset) })
    }
}

impl From<&Fork> for ForkWire {
    fn from(fork: &Fork) -> Self {
        let begins = |e: &EpochStart| Position { index: e.index, term: e.term, offset: e.offset };
        Self {
            home_epoch: fork.home_epoch.as_u32(),
            at: fork.at.into(),
            epochs: fork.epochs.iter().map(|e| begins(e).into()).collect(),
        }
    }
}

impl TryFrom<ForkWire> for Fork {
    type Error = Malformed;

    fn try_from(wire: ForkWire) -> Result<Self, Malformed> {
        let begins = |wire| {
            let Position { index, term, offset } = Position::try_from(wire)?;
            Ok(EpochStart { term, index, offset })
        };
        Ok(Self {
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            at: wire.at.try_into()?,
            epochs: wire::all(wire.epochs, begins)?,
        })
    }
}

impl From<Kind> for u32 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Switchover => 1,
            Kind::Failover => 2,
        }
    }
}

impl TryFrom<u32> for Kind {
    type Error = Malformed;

    fn try_from(kind: u32) -> Result<Self, Malformed> {
        match kind {
            1 => Ok(Self::Switchover),
            2 => Ok(Self::Failover),
            other => Err(Malformed::new("kind of a move", other)),
        }
    }
}

impl From<&Moving> for MovingWire {
    fn from(moving: &Moving) -> Self {
        let Moving { aim, epoch, chosen } = moving;
        Self {
            aim: aim.into(),
            epoch: epoch.as_u32(),
            fork: chosen.as_ref().map(|chosen| (&*chosen.fork).into()),
            verdict: chosen.as_ref().map(|chosen| chosen.verdict.into()),
        }
    }
}

impl TryFrom<MovingWire> for Moving {
    type Error = Malformed;

    fn try_from(wire: MovingWire) -> Result<Self, Malformed> {
        let chosen = match (wire.fork, wire.verdict) {
            (None, None) => None,
            (Some(fork), Some(verdict)) => {
                Some(Chosen { fork: Arc::new(fork.try_into()?), verdict: verdict.try_into()? })
            }
            (_, verdict) => return Err(Malformed::new("chosen cut", verdict)),
        };
        Ok(Self { aim: wire.aim.try_into()?, epoch: wire::home_epoch(wire.epoch)?, chosen })
    }
}

impl From<&Choice> for ChoiceWire {
    fn from(choice: &Choice) -> Self {
        Self {
            at: choice.at.into(),
            home_epoch: choice.home_epoch.as_u32(),
            fork: (&choice.fork).into(),
            verdict: choice.verdict.into(),
            by_word: choice.by_word,
        }
    }
}

impl TryFrom<ChoiceWire> for Choice {
    type Error = Malformed;

    fn try_from(wire: ChoiceWire) -> Result<Self, Malformed> {
        Ok(Self {
            at: wire.at.try_into()?,
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            fork: wire.fork.try_into()?,
            verdict: wire.verdict.try_into()?,
            by_word: wire.by_word,
        })
    }
}

impl From<&Aim> for AimWire {
    fn from(aim: &Aim) -> Self {
        let Aim { kind, to, accept_loss, automatic, began_ms } = aim;
        Self {
            kind: (*kind).into(),
            to: to.as_str().to_owned(),
            accept_loss: *accept_loss,
            began_ms: *began_ms,
            automatic: *automatic,
        }
    }
}

impl TryFrom<AimWire> for Aim {
    type Error = Malformed;

    fn try_from(wire: AimWire) -> Result<Self, Malformed> {
        Ok(Self {
            kind: wire.kind.try_into()?,
            to: wire::dc_name(&wire.to)?,
            accept_loss: wire.accept_loss,
            automatic: wire.automatic,
            began_ms: wire.began_ms,
        })
    }
}

impl From<&Begin> for BeginWire {
    fn from(begin: &Begin) -> Self {
        let home_epoch = begin.home_epoch.as_u32();
        Self { at: begin.at.into(), home_epoch, aim: (&begin.aim).into() }
    }
}

impl TryFrom<BeginWire> for Begin {
    type Error = Malformed;

    fn try_from(wire: BeginWire) -> Result<Self, Malformed> {
        Ok(Self {
            at: wire.at.try_into()?,
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            aim: wire.aim.try_into()?,
        })
    }
}

impl From<Verdict> for VerdictWire {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Lossless => Self { kind: 1, since_ms: 0, bound: None },
            Verdict::UnboundedSince { ms } => Self { kind: 2, since_ms: ms, bound: None },
            Verdict::AtMost { bound, ms } => {
                Self { kind: 3, since_ms: ms, bound: Some(bound.into()) }
            }
        }
    }
}

impl TryFrom<VerdictWire> for Verdict {
    type Error = Malformed;

    fn try_from(wire: VerdictWire) -> Result<Self, Malformed> {
        match (wire.kind, wire.bound) {
            (1, None) => Ok(Self::Lossless),
            (2, None) => Ok(Self::UnboundedSince { ms: wire.since_ms }),
            (3, Some(bound)) => Ok(Self::AtMost { bound: bound.into(), ms: wire.since_ms }),
            (other, _) => Err(Malformed::new("verdict", other)),
        }
    }
}

impl From<&Activation> for ActivationWire {
    fn from(a: &Activation) -> Self {
        Self {
            at: a.at.into(),
            home_epoch: a.home_epoch.as_u32(),
            home: a.home.as_str().to_owned(),
            voters: a.voters.iter().map(|id| id.0).collect(),
            fork: (&a.fork).into(),
            verdict: a.verdict.into(),
            ended_ms: a.ended_ms,
            by_word: a.by_word,
        }
    }
}

impl TryFrom<ActivationWire> for Activation {
    type Error = Malformed;

    fn try_from(wire: ActivationWire) -> Result<Self, Malformed> {
        Ok(Self {
            at: wire.at.try_into()?,
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            home: wire::dc_name(&wire.home)?,
            voters: wire.voters.into_iter().map(ReplicaId).collect(),
            fork: wire.fork.try_into()?,
            verdict: wire.verdict.try_into()?,
            by_word: wire.by_word,
            ended_ms: wire.ended_ms,
        })
    }
}

impl From<Suffix> for SuffixWire {
    fn from(suffix: Suffix) -> Self {
        let Suffix { replica, node, records, bytes, last } = suffix;
        let (replica, node, last) = (replica.0, node.as_u32(), last.into());
        Self { replica, node, records, bytes, last }
    }
}

impl TryFrom<SuffixWire> for Suffix {
    type Error = Malformed;

    fn try_from(wire: SuffixWire) -> Result<Self, Malformed> {
        Ok(Self {
            replica: ReplicaId(wire.replica),
            node: wire::node_id(wire.node)?,
            records: wire.records,
            bytes: wire.bytes,
            last: wire.last.try_into()?,
        })
    }
}

impl From<&Report> for ReportWire {
    fn from(report: &Report) -> Self {
        let home_epoch = report.home_epoch.as_u32();
        Self { at: report.at.into(), home_epoch, suffix: report.suffix.into() }
    }
}

impl TryFrom<ReportWire> for Report {
    type Error = Malformed;

    fn try_from(wire: ReportWire) -> Result<Self, Malformed> {
        Ok(Self {
            at: wire.at.try_into()?,
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            suffix: wire.suffix.try_into()?,
        })
    }
}

impl From<&Moved> for MovedWire {
    fn from(m: &Moved) -> Self {
        Self {
            at: m.at.into(),
            topic: m.topic.to_string(),
            kind: m.kind.into(),
            from: m.from.as_str().to_owned(),
            to: m.to.as_str().to_owned(),
            home_epoch: m.home_epoch.as_u32(),
            cut: m.cut.into(),
            verdict: m.verdict.into(),
            accept_loss: m.accept_loss,
            began_ms: m.began_ms,
            ended_ms: m.ended_ms,
            old_voters: m.old_voters.iter().map(|id| id.0).collect(),
            suffixes: m.suffixes.iter().copied().map(SuffixWire::from).collect(),
            automatic: m.automatic,
        }
    }
}

impl TryFrom<MovedWire> for Moved {
    type Error = Malformed;

    fn try_from(wire: MovedWire) -> Result<Self, Malformed> {
        Ok(Self {
            at: wire.at.try_into()?,
            topic: Arc::from(wire.topic),
            kind: wire.kind.try_into()?,
            from: wire::dc_name(&wire.from)?,
            to: wire::dc_name(&wire.to)?,
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            cut: wire.cut.try_into()?,
            verdict: wire.verdict.try_into()?,
            accept_loss: wire.accept_loss,
            automatic: wire.automatic,
            began_ms: wire.began_ms,
            ended_ms: wire.ended_ms,
            old_voters: wire.old_voters.into_iter().map(ReplicaId).collect(),
            suffixes: wire::all(wire.suffixes, Suffix::try_from)?,
        })
    }
}
