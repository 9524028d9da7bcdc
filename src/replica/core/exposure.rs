//! What would be lost if the home vanished now: acknowledged, and not yet safe in a remote DC.
//!
//! The same samples count what a leader has accepted, for [`super::budget`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::budget::AtStake;
use super::{Core, Now, watermark};
use crate::model::{DcName, LogIndex, Offset};

/// Moves remembered. When they are more, neighbours are merged into one that has
/// the older time and the newer position, so that exposure is over- and never understated.
const SAMPLES_MAX: usize = 4096;

/// Of one remote DC, as the leader counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// What a majority of the DC's replicas has on disk.
    pub safe: LogIndex,
    /// Age of the oldest acknowledged record that is not safe there; 0 if all are. It grows with
    /// the clock while a link is dead. What a new leader inherited counts from its election, until
    /// the DC has it: how long it had been missing there, nobody has told it.
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
    /// Bytes up to here, counted from the leader's election.
    bytes_total: u64,
}

/// How a position of the log has moved since an election: that of the watermark, or of the log's end.
#[derive(Debug, Default)]
pub struct Samples {
    moves: VecDeque<Sample>,
    /// The newest move that every replica has, or where the position stood at the election.
    everywhere: Option<Sample>,
    bytes_total: u64,
    /// Of the newest move; one that was merged has an older time.
    newest_at: Duration,
}

impl Samples {
    /// A new leader's, before the first move.
    pub fn starting_at(at: Duration, index: LogIndex, next_offset: Offset) -> Self {
        let start = Sample { at, ticks: 0, index, next_offset, bytes_total: 0 };
        Self { everywhere: Some(start), newest_at: at, ..Self::default() }
    }

    pub fn moved(
        &mut self,
        at: Duration,
        ticks: u64,
        index: LogIndex,
        next_offset: Offset,
        bytes: usize,
    ) {
        self.bytes_total += bytes as u64;
        self.newest_at = at;
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

    /// What is counted of it begins after `safe`.
    fn reaches_back_to(&self, safe: LogIndex) -> bool {
        self.everywhere.is_none_or(|start| start.index <= safe)
    }

    /// When the oldest move beyond `safe` was; the election, if that was before.
    pub fn oldest_at(&self, safe: LogIndex) -> Option<Duration> {
        if !self.reaches_back_to(safe) {
            return self.everywhere.map(|start| start.at);
        }
        let after = self.moves.partition_point(|s| s.index <= safe);
        self.moves.get(after).map(|oldest| oldest.at)
    }

    /// Records and bytes beyond `safe`.
    fn count(&self, safe: LogIndex) -> (i64, u64) {
        let after = self.moves.partition_point(|s| s.index <= safe);
        let before = after.checked_sub(1).and_then(|at| self.moves.get(at));
        let before = before.or(self.everywhere.as_ref());
        let (Some(newest), Some(before)) = (self.moves.back(), before) else { return (0, 0) };
        (newest.next_offset.0 - before.next_offset.0, newest.bytes_total - before.bytes_total)
    }

    pub fn exposure(&self, now: Duration, safe: LogIndex) -> Exposure {
        let (records, bytes) = self.count(safe);
        let age = self.oldest_at(safe).map_or(Duration::ZERO, |at| now.saturating_sub(at));
        Exposure { safe, age, records, bytes }
    }

    pub fn beyond(&self, safe: LogIndex) -> AtStake {
        let (records, bytes) = self.count(safe);
        let span = self.oldest_at(safe).map(|at| self.newest_at.saturating_sub(at));
        let span = span.unwrap_or_default();
        AtStake { is_known: self.reaches_back_to(safe), span, records, bytes }
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

    /// Whether this leader's watermark is beyond all that leaders before it have acknowledged: it has shown an entry
    /// of its own term (R6).
    pub fn knows_watermark(&self) -> bool {
        self.is_leader() && self.own_entry.is_some_and(|own| self.watermark >= own)
    }

    /// The leader's Unix time up to which all that it had acknowledged is known to be here.
    pub fn known_until_ms(&self, now: Now) -> Option<i64> {
        if self.knows_watermark() { Some(now.wall_ms) } else { self.staleness.known_until_ms() }
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
        let mut samples = Samples::starting_at(Duration::ZERO, LogIndex::ZERO, Offset::ZERO);
        for n in 1..=3u32 {
            let index = LogIndex(u64::from(n));
            samples.moved(SECOND * n, u64::from(n), index, Offset(i64::from(n) * 10), 100);
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
    fn the_span_of_what_lies_beyond_stands_still_while_nothing_moves() {
        let samples = three_moves();
        let span = |safe| samples.beyond(LogIndex(safe)).span;
        assert_eq!((span(0), span(1), span(2), span(3)), (SECOND * 2, SECOND, span(3), span(3)));
        assert_eq!(span(3), Duration::ZERO);
    }

    #[test]
    fn what_was_there_before_the_election_counts_from_it_and_is_not_known() {
        let mut samples = Samples::starting_at(SECOND * 5, LogIndex(7), Offset(70));
        let inherited = samples.exposure(SECOND * 9, LogIndex(6));
        assert_eq!((inherited.age, inherited.records), (SECOND * 4, 0));
        samples.moved(SECOND * 8, 0, LogIndex(8), Offset(73), 30);
        let at_stake = samples.beyond(LogIndex(6));
        assert!(!at_stake.is_known);
        assert_eq!((at_stake.span, at_stake.records, at_stake.bytes), (SECOND * 3, 3, 30));
        assert!(samples.beyond(LogIndex(7)).is_known);
        assert_eq!(samples.exposure(SECOND * 9, LogIndex(7)).age, SECOND);
        samples.forget(LogIndex(8));
        assert!(!samples.beyond(LogIndex(7)).is_known, "a disk was replaced");
    }

    #[test]
    fn merged_moves_overstate_and_never_understate() {
        let mut samples = Samples::starting_at(Duration::ZERO, LogIndex::ZERO, Offset::ZERO);
        for n in 1..=(SAMPLES_MAX as u64 + 1) {
            samples.moved(SECOND * n as u32, n, LogIndex(n), Offset(n as i64), 1);
        }
        assert!(samples.moves.len() <= SAMPLES_MAX / 2 + 1);
        let exposed = samples.exposure(SECOND * 5000, LogIndex(1));
        assert!(exposed.age >= SECOND * 4998 && exposed.records >= 4096);
    }
}
