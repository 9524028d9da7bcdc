//! What would be lost if the home vanished now: acknowledged, and not yet safe in a remote DC.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Core, watermark};
use crate::model::{DcName, LogIndex, Offset};

/// Moves of the watermark remembered. When they are more, neighbours are merged into one that has
/// the older time and the newer position, so that exposure is over- and never understated.
const SAMPLES_MAX: usize = 4096;

/// Of one remote DC, as the leader counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// What a majority of the DC's replicas has on disk.
    pub safe: LogIndex,
    /// Age of the oldest acknowledged record that is not safe there; 0 if all are. It grows with
    /// the clock while a link is dead.
    pub age: Duration,
    pub records: i64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    ticks: u64,
    index: LogIndex,
    next_offset: Offset,
    /// Acknowledged bytes up to here, counted from the leader's election.
    bytes_total: u64,
}

#[derive(Debug, Default)]
pub struct Samples {
    moves: VecDeque<Sample>,
    /// The newest move that every replica has, or where the watermark stood at the election.
    everywhere: Option<Sample>,
    bytes_total: u64,
}

impl Samples {
    /// The watermark of a new leader, before its first move.
    pub fn starting_at(index: LogIndex, next_offset: Offset) -> Self {
        let start = Sample { at: Duration::ZERO, ticks: 0, index, next_offset, bytes_total: 0 };
        Self { everywhere: Some(start), ..Self::default() }
    }

    pub fn acknowledged(
        &mut self,
        at: Duration,
        ticks: u64,
        index: LogIndex,
        next_offset: Offset,
        bytes: usize,
    ) {
        self.bytes_total += bytes as u64;
        let bytes_total = self.bytes_total;
        if self.moves.len() == SAMPLES_MAX {
            self.thin();
        }
        self.moves.push_back(Sample { at, ticks, index, next_offset, bytes_total });
    }

    fn thin(&mut self) {
        let old = std::mem::take(&mut self.moves);
        let mut pairs = old.into_iter();
        while let Some(first) = pairs.next() {
            let second = pairs.next().unwrap_or(first);
            self.moves.push_back(Sample { at: first.at, ticks: first.ticks, ..second });
        }
    }

    /// Every replica has everything up to `index`.
    pub fn forget(&mut self, index: LogIndex) {
        while self.moves.front().is_some_and(|s| s.index <= index) {
            self.everywhere = self.moves.pop_front();
        }
    }

    /// The newest position acknowledged at or before a tick.
    pub fn index_before(&self, ticks: u64) -> LogIndex {
        let after = self.moves.partition_point(|s| s.ticks <= ticks);
        let newest = after.checked_sub(1).and_then(|at| self.moves.get(at));
        newest.or(self.everywhere.as_ref()).map_or(LogIndex::ZERO, |s| s.index)
    }

    pub fn exposure(&self, now: Duration, safe: LogIndex) -> Exposure {
        let after = self.moves.partition_point(|s| s.index <= safe);
        let Some(oldest) = self.moves.get(after) else {
            return Exposure { safe, ..Exposure::default() };
        };
        let newest = self.moves.back().expect("there is an oldest");
        let before = after.checked_sub(1).and_then(|at| self.moves.get(at));
        let before = before.or(self.everywhere.as_ref());
        let (from, bytes) = before.map_or((Offset::ZERO, 0), |s| (s.next_offset, s.bytes_total));
        Exposure {
            safe,
            age: now.saturating_sub(oldest.at),
            records: newest.next_offset.0 - from.0,
            bytes: newest.bytes_total - bytes,
        }
    }
}

impl Core {
    /// R4, per DC that has replicas, the home among them.
    pub fn safe_by_dc(&self) -> BTreeMap<DcName, LogIndex> {
        let mut by_dc: BTreeMap<DcName, Vec<LogIndex>> = BTreeMap::new();
        for (id, member) in &self.config.members {
            by_dc.entry(member.dc.clone()).or_default().push(self.matched_of(*id));
        }
        by_dc.into_iter().map(|(dc, mut matched)| (dc, watermark::majority(&mut matched))).collect()
    }

    /// Per remote DC, on the leader; empty elsewhere.
    pub fn exposures(&self, now: Duration) -> BTreeMap<DcName, Exposure> {
        if !self.is_leader() {
            return BTreeMap::new();
        }
        let remote = self.safe_by_dc().into_iter().filter(|(dc, _)| *dc != self.config.home);
        remote.map(|(dc, safe)| (dc, self.samples.exposure(now, safe))).collect()
    }

    /// Time since this replica last had all that its leader had acknowledged; `None` on the leader,
    /// and until it has once heard of one.
    pub fn staleness(&self, now: Duration) -> Option<Duration> {
        if self.is_leader() { None } else { self.staleness.age(now) }
    }

    /// Remote DCs of which a majority of replicas has been heard of late.
    pub(super) fn current_remote_dcs(&self) -> usize {
        let mut by_dc: BTreeMap<&DcName, (usize, usize)> = BTreeMap::new();
        for (id, member) in self.config.members.iter().filter(|(_, m)| m.dc != self.config.home) {
            let (heard, all) = by_dc.entry(&member.dc).or_default();
            *heard += usize::from(!self.is_silent(*id));
            *all += 1;
        }
        by_dc.values().filter(|(heard, all)| *heard > all / 2).count()
    }

    pub(super) fn voters_heard(&self) -> usize {
        let voters = self.config.members.iter().filter(|(_, m)| m.voter);
        voters.filter(|(id, _)| !self.is_silent(**id)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn three_moves() -> Samples {
        let mut samples = Samples::starting_at(LogIndex::ZERO, Offset::ZERO);
        for n in 1..=3u32 {
            let index = LogIndex(u64::from(n));
            samples.acknowledged(SECOND * n, u64::from(n), index, Offset(i64::from(n) * 10), 100);
        }
        samples
    }

    #[test]
    fn exposure_grows_with_the_clock_while_nothing_moves() {
        let samples = three_moves();
        let one = samples.exposure(SECOND * 10, LogIndex(1));
        assert_eq!((one.age, one.records, one.bytes), (SECOND * 8, 20, 200));
        assert_eq!(samples.exposure(SECOND * 20, LogIndex(1)).age, SECOND * 18);
        assert_eq!(samples.exposure(SECOND * 20, LogIndex(3)).age, Duration::ZERO);
    }

    #[test]
    fn what_every_replica_has_is_forgotten_but_still_counted_from() {
        let mut samples = three_moves();
        samples.forget(LogIndex(2));
        let left = samples.exposure(SECOND * 10, LogIndex(2));
        assert_eq!((left.age, left.records, left.bytes), (SECOND * 7, 10, 100));
        assert_eq!(samples.index_before(2), LogIndex(2));
    }

    #[test]
    fn merged_moves_overstate_and_never_understate() {
        let mut samples = Samples::starting_at(LogIndex::ZERO, Offset::ZERO);
        for n in 1..=(SAMPLES_MAX as u64 + 1) {
            samples.acknowledged(SECOND * n as u32, n, LogIndex(n), Offset(n as i64), 1);
        }
        assert!(samples.moves.len() <= SAMPLES_MAX / 2 + 1);
        let exposed = samples.exposure(SECOND * 5000, LogIndex(1));
        assert!(exposed.age >= SECOND * 4998 && exposed.records >= 4096);
    }
}
