//! Where one home of a partition ends and the next begins, and what two logs have in common (R12,
//! R13, R15).
//!
//! ```text
//!  terms      1.1        1.2      2.1
//!  ours      |----------|------------------|          last entry (term 1.2)
//!  F's       |----------|-----F                       the log that the next home takes over
//!                             ^ the common prefix: up to here both have the same term
//! ```
//!
//! A (term, index) pair names one entry for ever (R2), and a log that has it has everything before it
//! (Raft's log matching, which holds across homes because an epoch begins with a log that is cut at F).
//! So two logs are the same up to the largest index at which their terms are the same, and nothing
//! after it is the same; no entry need be read to know it. What was committed, acknowledged or synced
//! plays no part: only what is there.

use crate::model::{HomeEpoch, LeaderEpoch, LogIndex, Offset, ReplicaId, Term};

use super::ledger::Suffix;
use super::segment::EpochStart;
use super::state::{HighWatermark, LogStart, Position};

/// Where a home epoch begins: the cut F, and which term each entry up to it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The epoch that begins after it.
    pub home_epoch: HomeEpoch,
    /// F: the last entry (index, term) that the epoch takes over, and the offset after it. All zero
    /// where the partition had no entry.
    pub at: Position,
    /// Where each term up to F begins, ascending; of a log that holds F, from its log start on.
    pub epochs: Vec<EpochStart>,
}

/// Why a fork cannot be one. It comes from another node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFork {
    #[error("term {term} from entry {index} on is out of order")]
    Order { term: Term, index: LogIndex },
    #[error("entry {index} is said to have term {said}, and by the epochs it has {found}")]
    Last { index: LogIndex, said: Term, found: Term },
    #[error("term {term} is not of a home before epoch {home_epoch}")]
    Epoch { term: Term, home_epoch: HomeEpoch },
}

/// A sealed log, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub replica: ReplicaId,
    /// The epoch that it was in.
    pub home_epoch: HomeEpoch,
    /// The epoch that it has promised to; nothing older is accepted any more (R10).
    pub promised: HomeEpoch,
    pub last: (LogIndex, Term),
    pub next_offset: Offset,
    pub start: LogStart,
    /// The last checkpoint: what is below it is known to have been acknowledged, and what is above
    /// it may have been.
    pub hw: HighWatermark,
    pub epochs: Vec<EpochStart>,
    /// Not eligible and not counted (R23).
    pub installing: bool,
    /// Its log is damaged before the durable mark, so where it ends is not known here: not counted
    /// (R21). The promise holds all the same.
    pub damaged: bool,
    /// Where the epoch that it was in began.
    pub fork: Option<Position>,
}

/// Where a sealed log ends, after it was cut or extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub last: (LogIndex, Term),
    pub next_offset: Offset,
    /// It ends exactly at F.
    pub holds: bool,
    /// What this log had beyond the common prefix and is in the ledger now; of an earlier call too,
    /// so that one that is repeated says the same.
    pub suffix: Option<Suffix>,
}

/// Term of the entry, by a table of epochs; `None` before the table begins.
fn term_in(epochs: &[EpochStart], index: LogIndex) -> Option<Term> {
    let after = epochs.partition_point(|e| e.index <= index);
    after.checked_sub(1).map(|n| epochs[n].term)
}

impl Fork {
    /// Whether this can be where an epoch begins. For what came from another node.
    pub fn check(&self) -> Result<(), BadFork> {
        for pair in self.epochs.windows(2) {
            // The first two may share their entry: one term up to the log start, another after it.
            if pair[0].term >= pair[1].term || pair[0].index > pair[1].index {
                return Err(BadFork::Order { term: pair[1].term, index: pair[1].index });
            }
        }
        let (at, home_epoch) = (self.at, self.home_epoch);
        // A log without an entry after its start says of the start's term that it begins after it.
        if let Some(beyond) = self.epochs.iter().find(|e| e.index > at.index.next()) {
            return Err(BadFork::Order { term: beyond.term, index: beyond.index });
        }
        let last = self.epochs.last().map_or(Term(0), |e| e.term);
        if last != at.term || self.term_at(at.index) != Some(last) {
            return Err(BadFork::Last { index: at.index, said: at.term, found: last });
        }
        if at.term >= home_epoch.first_term() {
            return Err(BadFork::Epoch { term: at.term, home_epoch });
        }
        Ok(())
    }

    /// The first entry whose term is known here: the last before the log start of the log that
    /// `epochs` is of.
    pub fn start(&self) -> LogIndex {
        self.epochs.first().map_or(self.at.index, |e| e.index.prev())
    }

    /// Term of an entry of the log that ends at F; `None` before its log start and beyond F.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index > self.at.index || index < self.start() {
            return None;
        }
        if index == LogIndex::ZERO {
            return Some(Term(0));
        }
        // The entry before the log start has the first term of the table.
        term_in(&self.epochs, index).or(self.epochs.first().map(|e| e.term))
    }

    /// The offset after the last record of a leader epoch, or of the largest one below it that has records; the log
    /// start where all are younger. `None` for an epoch of the home that begins here, or of a later one: it ends elsewhere.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<Offset> {
        if epoch >= self.home_epoch.first_term().leader_epoch() {
            return None;
        }
        let after = self.epochs.partition_point(|e| e.term.leader_epoch() <= epoch);
        Some(self.epochs.get(after).map_or(self.at.offset, |next| next.offset))
    }

    /// Largest index up to which the log with this start, these epochs and this last entry equals the
    /// log that ends at F; at most the smaller of the two ends, and 0 where they differ from the
    /// first entry on.
    ///
    /// A log that never had an entry is a prefix of any. `None` if the two cannot be compared, or
    /// have nothing in common that is left:
    /// - this log starts beyond F: retention has overtaken the cut;
    /// - this log ends before the other's start: what it has cannot be told from another history;
    /// - both have entries at the same indexes and their terms differ down to the later of the two
    ///   starts.
    ///
    /// In each case everything that this log still has may be divergent, and the replica begins anew
    /// from a log-start snapshot once that is in the ledger.
    pub fn common_prefix(
        &self,
        start: LogStart,
        epochs: &[EpochStart],
        last: (LogIndex, Term),
    ) -> Option<LogIndex> {
        if last.0 == LogIndex::ZERO {
            return Some(LogIndex::ZERO);
        }
        let (least, most) = (start.index.max(self.start()), last.0.min(self.at.index));
        if least > most {
            return None;
        }
        let ours = |index: LogIndex| match index {
            index if index == last.0 => Some(last.1),
            index if index == start.index => Some(start.term),
            index => term_in(epochs, index),
        };
        // Between two beginnings of terms nothing changes, so only the ends of such stretches can be
        // where the logs part.
        let ends = epochs.iter().chain(&self.epochs).map(|e| e.index.prev());
        let mut ends: Vec<LogIndex> =
            ends.chain([least, most]).filter(|end| (least..=most).contains(end)).collect();
        ends.sort_unstable();
        ends.into_iter().rev().find(|end| ours(*end) == self.term_at(*end))
    }

    /// Whether a log that is a prefix of the one that ends at F, and ends so, holds all of it.
    pub(super) fn is_at(&self, last: (LogIndex, Term)) -> bool {
        last == (self.at.index, self.at.term)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epochs(table: &[(u64, u64)]) -> Vec<EpochStart> {
        let epoch = |&(term, index): &(u64, u64)| EpochStart {
            term: Term(term),
            index: LogIndex(index),
            offset: Offset(0),
        };
        table.iter().map(epoch).collect()
    }

    fn fork(index: u64, term: u64, table: &[(u64, u64)]) -> Fork {
        let at = Position { index: LogIndex(index), term: Term(term), offset: Offset(0) };
        Fork { home_epoch: HomeEpoch::new(2).unwrap(), at, epochs: epochs(table) }
    }

    /// Terms stand for their elections alone; `common_prefix` only compares them.
    #[test]
    fn the_common_prefix_is_where_the_terms_part() {
        type Row<'a> = (&'a str, Fork, (u64, u64), &'a [(u64, u64)], (u64, u64), Option<u64>);
        let one = [(1, 1)];
        let two = [(1, 1), (2, 5)];
        let table: &[Row<'_>] = &[
            ("the same log", fork(8, 2, &two), (0, 0), &two, (8, 2), Some(8)),
            ("shorter", fork(8, 2, &two), (0, 0), &two, (6, 2), Some(6)),
            ("shorter, in the term before", fork(8, 2, &two), (0, 0), &one, (3, 1), Some(3)),
            ("longer", fork(8, 2, &two), (0, 0), &two, (12, 2), Some(8)),
            ("longer by an older term", fork(8, 2, &two), (0, 0), &one, (12, 1), Some(4)),
            ("another middle term", fork(8, 3, &[(1, 1), (3, 5)]), (0, 0), &two, (9, 2), Some(4)),
            ("parts at the first", fork(8, 2, &[(2, 1)]), (0, 0), &one, (9, 1), Some(0)),
            (
                "a term that one has longer",
                fork(8, 3, &[(1, 1), (3, 7)]),
                (0, 0),
                &[(1, 1), (2, 4), (4, 6)],
                (9, 4),
                Some(3),
            ),
            ("never had an entry", fork(8, 2, &two), (0, 0), &[], (0, 0), Some(0)),
            ("neither had an entry", fork(0, 0, &[]), (0, 0), &[], (0, 0), Some(0)),
            ("F before the first entry", fork(0, 0, &[]), (0, 0), &one, (9, 1), Some(0)),
            ("empty after its start", fork(8, 2, &two), (4, 1), &[(1, 5)], (4, 1), Some(4)),
            ("empty, its start is F", fork(8, 2, &two), (8, 2), &[(2, 9)], (8, 2), Some(8)),
            ("empty, its start is not F's", fork(8, 2, &two), (6, 1), &[(1, 7)], (6, 1), None),
            ("starts beyond F", fork(8, 2, &two), (9, 2), &[(2, 10)], (20, 2), None),
            ("starts at F", fork(8, 2, &two), (8, 2), &[(2, 9)], (20, 2), Some(8)),
            ("starts at another F", fork(8, 2, &two), (8, 1), &[(1, 9)], (20, 1), None),
            (
                "ends before the other's start",
                fork(8, 2, &[(1, 5), (2, 6)]),
                (0, 0),
                &one,
                (3, 1),
                None,
            ),
            (
                "ends at the other's start",
                fork(8, 2, &[(1, 5), (2, 6)]),
                (0, 0),
                &one,
                (4, 1),
                Some(4),
            ),
            ("differs at the other's start", fork(8, 2, &[(2, 5)]), (0, 0), &one, (7, 1), None),
            (
                "a term that begins right after the start",
                fork(8, 2, &[(1, 5), (2, 5)]),
                (0, 0),
                &one,
                (7, 1),
                Some(4),
            ),
        ];
        for (what, fork, start, table, last, expected) in table {
            fork.check().unwrap();
            let start =
                LogStart { index: LogIndex(start.0), term: Term(start.1), offset: Offset(0) };
            let last = (LogIndex(last.0), Term(last.1));
            let found = fork.common_prefix(start, &epochs(table), last);
            assert_eq!(found, expected.map(LogIndex), "{what}");
        }
    }

    #[test]
    fn an_epoch_of_an_older_home_ends_where_the_next_one_begins_or_at_the_cut() {
        let epochs = [(3, 1, 0), (5, 7, 40), (9, 8, 40)];
        let epochs = epochs.map(|(term, index, offset)| EpochStart {
            term: Term(term),
            index: LogIndex(index),
            offset: Offset(offset),
        });
        let at = Position { index: LogIndex(20), term: Term(9), offset: Offset(100) };
        let fork = Fork { home_epoch: HomeEpoch::new(2).unwrap(), at, epochs: epochs.to_vec() };
        let here = fork.home_epoch.first_term().leader_epoch();
        for (epoch, end) in [(2, 0), (3, 40), (4, 40), (5, 40), (8, 40), (9, 100), (here - 1, 100)]
        {
            assert_eq!(fork.end_of_epoch(epoch), Some(Offset(end)), "{epoch}");
        }
        assert_eq!((fork.end_of_epoch(here), fork.end_of_epoch(here + 7)), (None, None));
    }

    #[test]
    fn what_is_no_fork_is_refused_by_name() {
        let e2 = HomeEpoch::new(2).unwrap();
        let first = e2.first_term().0;
        let table = [
            (fork(8, 2, &[(2, 5), (1, 1)]), "term 1 from entry 1 on is out of order"),
            (fork(8, 2, &[(1, 5), (2, 4)]), "term 2 from entry 4 on is out of order"),
            (fork(8, 2, &[(1, 1)]), "entry 8 is said to have term 2, and by the epochs it has 1"),
            (fork(8, 1, &[(1, 10)]), "term 1 from entry 10 on is out of order"),
            (
                fork(8, 2, &[(1, 1), (2, 9)]),
                "entry 8 is said to have term 2, and by the epochs it has 2",
            ),
            (fork(8, first, &[(first, 1)]), "term 262144 is not of a home before epoch 2"),
        ];
        for (fork, expected) in table {
            assert_eq!(fork.check().unwrap_err().to_string(), expected);
        }
    }

    /// Terms of entries from 1 on, never falling.
    fn log() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(0u64..3, 0..30).prop_map(|steps| {
            let grow = |term: &mut u64, step: u64| {
                *term += step / 2;
                Some(*term)
            };
            steps.into_iter().scan(1, grow).collect()
        })
    }

    /// The table that a log of these terms with the log start `start` has.
    fn table(terms: &[u64], start: usize) -> Vec<EpochStart> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        if start > 0 {
            found.push((terms[start - 1], start as u64 + 1));
        }
        for (n, term) in terms.iter().enumerate().skip(start) {
            if found.last().is_none_or(|last| last.0 != *term) {
                found.push((*term, n as u64 + 1));
            }
        }
        epochs(&found)
    }

    proptest! {
        /// Logs that were one and part somewhere, each with a start of its own. After they part no
        /// term is in both: a term has one leader.
        #[test]
        fn whatever_the_logs_it_is_what_comparing_entry_by_entry_says(
            shared in log(),
            ours in log(),
            theirs in log(),
            starts in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let top = shared.last().copied().unwrap_or(0);
            let own = |tail: &[u64], odd: u64| -> Vec<u64> {
                let tail = tail.iter().map(|t| 2 * (top + t) + odd);
                shared.iter().map(|t| 2 * t).chain(tail).collect()
            };
            let (ours, theirs) = (own(&ours, 0), own(&theirs, 1));
            let (our_start, their_start) =
                (starts.0.index(ours.len() + 1), starts.1.index(theirs.len() + 1));
            let term = |log: &[u64], n: usize| n.checked_sub(1).map_or(0, |n| log[n]);
            let fork = Fork {
                epochs: table(&theirs, their_start),
                ..fork(theirs.len() as u64, term(&theirs, theirs.len()), &[])
            };
            prop_assert_eq!(fork.check(), Ok(()));
            let start = LogStart {
                index: LogIndex(our_start as u64),
                term: Term(term(&ours, our_start)),
                offset: Offset(0),
            };
            let last = (LogIndex(ours.len() as u64), Term(term(&ours, ours.len())));
            let found = fork.common_prefix(start, &table(&ours, our_start), last);
            let both = our_start.max(their_start)..=ours.len().min(theirs.len());
            let same = both.rev().find(|n| term(&ours, *n) == term(&theirs, *n));
            let expected = if ours.is_empty() { Some(0) } else { same };
            prop_assert_eq!(found, expected.map(|n| LogIndex(n as u64)));
        }
    }
}
