//! How far the log is safe enough to be seen: the gate of a sync policy, and the high watermark.
//!
//! R4: a DC has an entry when a majority of its replicas has it on disk. R5: the high watermark is
//! the largest entry *of the leader's own term* that is committed in the home DC and through the
//! gate, and all before it. The own-term clause is Raft §5.4.2, one level up: without it, three
//! leaders in a row can lose an acknowledged record to a failover (protocol.md 0.2).

use isobar_topology::quorum;

use crate::model::{LogIndex, Term};

/// R4: what a majority of `matched` has on disk. 0 for no replicas.
pub fn majority(matched: &mut [LogIndex]) -> LogIndex {
    if matched.is_empty() { LogIndex::ZERO } else { quorum::dc_safe_index(matched) }
}

/// What at least `count` of `matched` have. 0 if there are fewer; no bound for a count of 0.
pub fn at_least(matched: &mut [LogIndex], count: usize) -> LogIndex {
    match count {
        0 => LogIndex(u64::MAX),
        _ => quorum::gate(matched, count).unwrap_or_default(),
    }
}

/// What a leader says of its watermark to those that follow it (R27).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub term: Term,
    pub index: LogIndex,
    /// The leader's Unix time: nothing beyond `index` had been acknowledged by then to who asked for acks=all. `None`
    /// of a new leader, which does not know yet what those before it have acknowledged (R6).
    pub at_ms: Option<i64>,
}

/// The terms of a leader's watermark at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Committed by a majority of the voters.
    pub committed: LogIndex,
    /// On at least `min.insync.replicas` voters' disks.
    pub min_in_sync: LogIndex,
    /// Through the gate: on k remote DCs. `u64::MAX` for an async policy.
    pub gate: LogIndex,
    /// The first entry of the leader's own term.
    pub own_term: LogIndex,
}

/// The high watermark after `before`; it never goes back.
pub fn advance(before: LogIndex, bounds: Bounds) -> LogIndex {
    let candidate = bounds.committed.min(bounds.min_in_sync).min(bounds.gate);
    if candidate >= bounds.own_term { before.max(candidate) } else { before }
}

/// What a replica that does not lead may show (R27): the leader's watermark, but nothing beyond
/// what an append of that very term has verified, nor beyond what is on its own disk.
pub fn exposed(
    before: LogIndex,
    leaders: LogIndex,
    verified: LogIndex,
    persisted: LogIndex,
) -> LogIndex {
    before.max(leaders.min(verified).min(persisted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(of: &[u64]) -> Vec<LogIndex> {
        of.iter().copied().map(LogIndex).collect()
    }

    #[test]
    fn a_dc_has_what_a_majority_of_its_replicas_has() {
        let tables: [(&[u64], u64); 6] = [
            (&[], 0),
            (&[5], 5),
            (&[9, 1], 1),
            (&[9, 4, 1], 4),
            (&[7, 7, 0], 7),
            (&[1, 2, 3, 4], 2),
        ];
        for (matched, safe) in tables {
            assert_eq!(majority(&mut indexes(matched)), LogIndex(safe), "{matched:?}");
        }
    }

    #[test]
    fn a_gate_of_k_waits_for_the_kth_best_datacenter() {
        assert_eq!(at_least(&mut indexes(&[3, 8]), 1), LogIndex(8));
        assert_eq!(at_least(&mut indexes(&[3, 8]), 2), LogIndex(3));
        assert_eq!(at_least(&mut indexes(&[3, 8]), 3), LogIndex(0));
        assert_eq!(at_least(&mut indexes(&[3, 8]), 0), LogIndex(u64::MAX));
    }

    const OPEN: LogIndex = LogIndex(u64::MAX);

    #[test]
    fn the_watermark_waits_for_an_entry_of_the_leaders_own_term() {
        let bounds = Bounds {
            committed: LogIndex(9),
            min_in_sync: OPEN,
            gate: LogIndex(9),
            own_term: LogIndex(10),
        };
        assert_eq!(advance(LogIndex(5), bounds), LogIndex(5));
        let own = Bounds { committed: LogIndex(10), gate: LogIndex(10), ..bounds };
        assert_eq!(advance(LogIndex(5), own), LogIndex(10));
    }

    #[test]
    fn a_closed_gate_holds_the_watermark_and_a_new_leader_never_takes_it_back() {
        let bounds = Bounds {
            committed: LogIndex(9),
            min_in_sync: OPEN,
            gate: LogIndex(4),
            own_term: LogIndex(2),
        };
        assert_eq!(advance(LogIndex(3), bounds), LogIndex(4));
        assert_eq!(advance(LogIndex(7), bounds), LogIndex(7));
    }

    #[test]
    fn a_late_watermark_exposes_nothing_that_its_term_has_not_verified() {
        assert_eq!(exposed(LogIndex(2), LogIndex(9), LogIndex(4), LogIndex(9)), LogIndex(4));
        assert_eq!(exposed(LogIndex(2), LogIndex(9), LogIndex(9), LogIndex(6)), LogIndex(6));
        assert_eq!(exposed(LogIndex(5), LogIndex(9), LogIndex(0), LogIndex(9)), LogIndex(5));
    }
}
