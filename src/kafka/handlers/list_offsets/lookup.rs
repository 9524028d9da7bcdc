//! What a timestamp of ListOffsets asks for, and where that is in a log.

use super::super::super::errors::ToCode;
use super::super::super::wire::ErrorCode;
use super::super::super::wire::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_PENDING_UPLOAD_TIMESTAMP, EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP, MAX_TIMESTAMP,
};
use crate::model::{LeaderEpoch, Offset};
use crate::replica::View;

/// Leader epochs that are looked through for the one at the log start; beyond it the answer names
/// none, which clients may be told.
const EPOCHS_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: LeaderEpoch,
}

impl Found {
    pub const NOTHING: Self = Self { offset: -1, timestamp: -1, leader_epoch: -1 };
}

/// What is known from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    Earliest,
    Latest,
    /// Of tiers that there are none of: no offset, and no error, as in Kafka without them.
    NoTier,
}

/// What may have to be searched for on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// The first record at or after that time.
    At(i64),
    /// The record with the largest timestamp.
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Now(Now),
    Search(Search),
}

impl Target {
    /// What that version means by the timestamp.
    pub fn new(timestamp: i64, version: i16) -> Result<Self, ErrorCode> {
        let since = |min: i16, target| {
            if version >= min { Ok(target) } else { Err(ErrorCode::UnsupportedVersion) }
        };
        match timestamp {
            0.. => Ok(Self::Search(Search::At(timestamp))),
            LATEST_TIMESTAMP => Ok(Self::Now(Now::Latest)),
            EARLIEST_TIMESTAMP => Ok(Self::Now(Now::Earliest)),
            MAX_TIMESTAMP => since(7, Self::Search(Search::Max)),
            EARLIEST_LOCAL_TIMESTAMP => since(8, Self::Now(Now::Earliest)),
            LATEST_TIERED_TIMESTAMP => since(9, Self::Now(Now::NoTier)),
            EARLIEST_PENDING_UPLOAD_TIMESTAMP => since(11, Self::Now(Now::NoTier)),
            _ => Err(ErrorCode::UnsupportedVersion),
        }
    }
}

pub(super) fn now(view: &View, target: Now) -> Found {
    let progress = view.progress();
    match target {
        Now::NoTier => Found::NOTHING,
        Now::Earliest => Found {
            offset: progress.log_start.0,
            timestamp: -1,
            leader_epoch: epoch_at(view, progress.log_start),
        },
        Now::Latest => Found {
            offset: progress.high_watermark.0,
            timestamp: -1,
            leader_epoch: progress.leader_epoch,
        },
    }
}

/// The leader epoch of the record at `offset`, or -1 if there is none.
fn epoch_at(view: &View, offset: Offset) -> LeaderEpoch {
    let mut below = LeaderEpoch::MAX;
    let mut found = -1;
    for _ in 0..EPOCHS_MAX {
        match view.end_of_epoch(below) {
            Some((epoch, end)) if end > offset => {
                found = epoch;
                below = epoch - 1;
            }
            Some(_) | None => return found,
        }
    }
    -1
}

/// May read the disk.
pub(super) fn search(view: &View, target: Search) -> Result<Found, ErrorCode> {
    let at = |timestamp| {
        let found = view.offset_for_timestamp(timestamp).map_err(|error| error.to_code())?;
        Ok(found.map(|(offset, timestamp, leader_epoch)| Found {
            offset: offset.0,
            timestamp,
            leader_epoch,
        }))
    };
    match target {
        Search::At(timestamp) => Ok(at(timestamp)?.unwrap_or(Found::NOTHING)),
        Search::Max => max(at),
    }
}

/// The largest timestamp there is, by halving the range above what was found: whether there is
/// "a record at or after t" is enough to find it, in 64 steps at the most. Of a compressed batch the
/// log names the first record, whatever its own timestamp: so the range is narrowed by what was
/// asked, never by what was answered.
fn max(at: impl Fn(i64) -> Result<Option<Found>, ErrorCode>) -> Result<Found, ErrorCode> {
    let Some(mut best) = at(0)? else { return Ok(Found::NOTHING) };
    let (mut some_at, mut none_from) = (0, i64::MAX);
    while none_from - some_at > 1 {
        let middle = some_at + (none_from - some_at) / 2;
        match at(middle)? {
            Some(found) => {
                best = found;
                some_at = middle;
            }
            None => none_from = middle,
        }
    }
    Ok(Found { timestamp: some_at, ..best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_below_zero_mean_what_their_version_knows() {
        let unsupported = Err(ErrorCode::UnsupportedVersion);
        assert_eq!(Target::new(-1, 1), Ok(Target::Now(Now::Latest)));
        assert_eq!(Target::new(-2, 1), Ok(Target::Now(Now::Earliest)));
        assert_eq!(Target::new(-3, 6), unsupported);
        assert_eq!(Target::new(-3, 7), Ok(Target::Search(Search::Max)));
        assert_eq!(Target::new(-4, 8), Ok(Target::Now(Now::Earliest)));
        assert_eq!(Target::new(-5, 9), Ok(Target::Now(Now::NoTier)));
        assert_eq!(Target::new(-6, 10), unsupported);
        assert_eq!(Target::new(-7, 11), unsupported);
        assert_eq!(Target::new(i64::MIN, 11), unsupported);
        assert_eq!(Target::new(0, 1), Ok(Target::Search(Search::At(0))));
    }

    #[test]
    fn the_largest_timestamp_is_found_wherever_it_is() {
        let logs: [&[i64]; 6] =
            [&[5], &[1, 2, 3], &[9, 1, 1], &[3, 9, 9, 4], &[0], &[i64::MAX - 1, 7]];
        for log in logs {
            let at = |from: i64| {
                let first = log.iter().position(|timestamp| *timestamp >= from);
                Ok(first.map(|offset| Found {
                    offset: offset as i64,
                    timestamp: log[offset],
                    leader_epoch: 1,
                }))
            };
            let largest = log.iter().max().unwrap();
            let first = log.iter().position(|timestamp| timestamp == largest).unwrap();
            let found = max(at).unwrap();
            assert_eq!((found.offset, found.timestamp), (first as i64, *largest), "{log:?}");
        }
        assert_eq!(max(|_| Ok(None)), Ok(Found::NOTHING));
    }

    #[test]
    fn a_compressed_batch_has_its_largest_timestamp_at_its_first_record() {
        // Records 40 to 49 of timestamps 100 to 109: the log knows only the first and the largest.
        let at = |from: i64| {
            let first = Found { offset: 40, timestamp: 100, leader_epoch: 1 };
            Ok((from <= 109).then_some(first))
        };
        assert_eq!(max(at), Ok(Found { offset: 40, timestamp: 109, leader_epoch: 1 }));
    }
}
