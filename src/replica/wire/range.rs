//! Catching up on the bulk lane: the leader's notice, and the call for a range.
//!
//! ```text
//! control lane   Group { catch_up: after, target, source, terms }     leader to a replica far behind
//! bulk call      Want { group, from, to }  ─▶  frames as in a segment, nothing around them
//! RPC            Ask { group, of }         ─▶  Stands: of one whose disk has lost the end of its log
//! ```

use bytes::Bytes;
use prost::Message as _;

use super::Error;
use crate::model::{GroupId, HomeEpoch, LogIndex, ReplicaId, Term};
use crate::replica::core::Standing;
use crate::replica::core::catch_up::Notice;
use crate::replica::core::effect::RangeWanted;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CatchUp {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    after: u64,
    #[prost(uint64, tag = "3")]
    target: u64,
    #[prost(uint64, tag = "4")]
    source: u64,
    /// Of each term of the range, and where it begins; as many of both.
    #[prost(uint64, repeated, tag = "5")]
    terms: Vec<u64>,
    #[prost(uint64, repeated, tag = "6")]
    begins: Vec<u64>,
}

impl CatchUp {
    pub(super) fn of(notice: &Notice) -> Self {
        Self {
            term: notice.term.0,
            after: notice.after.0,
            target: notice.target.0,
            source: notice.source.0,
            terms: notice.terms.iter().map(|(term, _)| term.0).collect(),
            begins: notice.terms.iter().map(|(_, first)| first.0).collect(),
        }
    }

    pub(super) fn receive(self) -> Notice {
        let terms = self.terms.into_iter().map(Term).zip(self.begins.into_iter().map(LogIndex));
        Notice {
            term: Term(self.term),
            after: LogIndex(self.after),
            target: LogIndex(self.target),
            source: ReplicaId(self.source),
            terms: terms.collect(),
        }
    }
}

/// Of [`Want`]: 1.
const VERSION: u32 = 1;

/// The body of the call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Want {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "bytes", tag = "2")]
    topic: Bytes,
    #[prost(int32, tag = "3")]
    partition: i32,
    #[prost(uint32, tag = "4")]
    home_epoch: u32,
    #[prost(uint64, tag = "5")]
    from: u64,
    /// Exclusive.
    #[prost(uint64, tag = "6")]
    to: u64,
}

impl Want {
    pub fn of(wanted: &RangeWanted) -> Bytes {
        let RangeWanted { group, from, to, .. } = wanted;
        let want = Self {
            version: VERSION,
            topic: Bytes::copy_from_slice(&group.partition.topic.0),
            partition: group.partition.partition,
            home_epoch: group.home_epoch.as_u32(),
            from: from.0,
            to: to.0,
        };
        want.encode_to_vec().into()
    }

    /// The group, the first entry and the one after the last.
    pub fn receive(body: Bytes) -> Result<(GroupId, LogIndex, LogIndex), Error> {
        let want = Self::decode(body)?;
        if want.version != VERSION {
            return Err(Error::Version(want.version));
        }
        let home_epoch =
            HomeEpoch::new(want.home_epoch).ok_or(Error::HomeEpoch(want.home_epoch))?;
        let partition = super::partition(&want.topic, want.partition)?;
        Ok((GroupId { partition, home_epoch }, LogIndex(want.from), LogIndex(want.to)))
    }
}

/// Asks where a replica stands, as another one knows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "bytes", tag = "2")]
    topic: Bytes,
    #[prost(int32, tag = "3")]
    partition: i32,
    #[prost(uint32, tag = "4")]
    home_epoch: u32,
    #[prost(uint64, tag = "5")]
    of: u64,
}

impl Ask {
    pub fn of(group: GroupId, replica: ReplicaId) -> Bytes {
        let ask = Self {
            version: VERSION,
            topic: Bytes::copy_from_slice(&group.partition.topic.0),
            partition: group.partition.partition,
            home_epoch: group.home_epoch.as_u32(),
            of: replica.0,
        };
        ask.encode_to_vec().into()
    }

    pub fn receive(body: Bytes) -> Result<(GroupId, ReplicaId), Error> {
        let ask = Self::decode(body)?;
        if ask.version != VERSION {
            return Err(Error::Version(ask.version));
        }
        let home_epoch = HomeEpoch::new(ask.home_epoch).ok_or(Error::HomeEpoch(ask.home_epoch))?;
        let partition = super::partition(&ask.topic, ask.partition)?;
        Ok((GroupId { partition, home_epoch }, ReplicaId(ask.of)))
    }
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stands {
    #[prost(bool, tag = "1")]
    leads: bool,
    #[prost(uint64, tag = "2")]
    term: u64,
    /// Of nodes that do not tell what is committed: no more than that.
    #[prost(uint64, optional, tag = "3")]
    watermark: Option<u64>,
    #[prost(uint64, tag = "4")]
    matched: u64,
    /// Not in the place of the watermark, which older nodes show to clients at once.
    #[prost(uint64, optional, tag = "5")]
    committed: Option<u64>,
    #[prost(uint64, tag = "6")]
    last: u64,
}

impl Stands {
    pub fn of(standing: &Standing) -> Bytes {
        let Standing { leads, term, committed, matched, last } = *standing;
        let (term, matched, last) = (term.0, matched.0, last.0);
        let committed = committed.map(|index| index.0);
        Self { leads, term, watermark: None, matched, committed, last }.encode_to_vec().into()
    }

    pub fn receive(body: Bytes) -> Result<Standing, Error> {
        let Self { leads, term, watermark, matched, committed, last } = Self::decode(body)?;
        let (matched, last) = (LogIndex(matched), LogIndex(last));
        let committed = committed.or(watermark).map(LogIndex);
        Ok(Standing { leads, term: Term(term), committed, matched, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeId, TopicPartition};

    #[test]
    fn what_is_wanted_and_what_is_told_arrive_as_they_left() {
        let group = GroupId { partition: TopicPartition::META, home_epoch: HomeEpoch::FIRST };
        let (from, to) = (LogIndex(7), LogIndex(99));
        let wanted = RangeWanted { source: NodeId::new(1).unwrap(), group, from, to };
        assert_eq!(Want::receive(Want::of(&wanted)).unwrap(), (group, from, to));
        let notice = Notice {
            term: Term(5),
            after: from,
            target: to,
            source: ReplicaId(3),
            terms: vec![(Term(2), from), (Term(5), LogIndex(50))],
        };
        assert_eq!(CatchUp::of(&notice).receive(), notice);
        assert_eq!(Ask::receive(Ask::of(group, ReplicaId(3))).unwrap(), (group, ReplicaId(3)));
        let committed = Some(LogIndex(0));
        let standing =
            Standing { leads: true, term: Term(5), committed, matched: to, last: LogIndex(120) };
        assert_eq!(Stands::receive(Stands::of(&standing)).unwrap(), standing);
        assert!(Want::receive(Bytes::from_static(b"garbage")).is_err());
    }
}
