//! Appends to a replica of which the leader does not know where its log ends, once each.
//!
//! raft-rs sends such an append whole again at every answer to a heartbeat, and heartbeats have a connection of their own.
//! On a path that takes seconds for what the replica lacks, copies of the same megabyte would queue up, dozens of them,
//! and what follows would wait for minutes. A connection loses nothing without saying so; the rest that may become of
//! a frame (a full inlet, a replica that is not open yet) is what repetitions are for, each after twice as long as the last.

use std::collections::BTreeMap;

use raft::eraftpb::Message;

use super::raft_log::cost;
use crate::model::ReplicaId;

/// Smaller ones may come again with every heartbeat: they take less than that from any link.
const BYTES_MIN: u64 = 64 << 10;

/// Ticks before the first repetition: half a second, more than most round trips.
const AGAIN_TICKS: u64 = 10;

/// The longest wait: eight seconds.
const AGAIN_TICKS_MAX: u64 = 160;

#[derive(Debug)]
struct Probe {
    /// Term, and term and index before the first entry.
    of: (u64, u64, u64),
    sent_at: u64,
    again_after: u64,
}

#[derive(Debug, Default)]
pub(super) struct Probes(BTreeMap<ReplicaId, Probe>);

impl Probes {
    /// Whether an append to a replica that is being probed is one that is on its way already.
    pub(super) fn is_under_way(&mut self, ticks: u64, append: &Message) -> bool {
        if append.entries.iter().map(|entry| cost(entry) as u64).sum::<u64>() < BYTES_MIN {
            return false;
        }
        let to = ReplicaId(append.to);
        let of = (append.term, append.log_term, append.index);
        let mut again_after = AGAIN_TICKS;
        if let Some(last) = self.0.get(&to).filter(|last| last.of == of) {
            if ticks < last.sent_at + last.again_after {
                return true;
            }
            again_after = (last.again_after * 2).min(AGAIN_TICKS_MAX);
        }
        self.0.insert(to, Probe { of, sent_at: ticks, again_after });
        false
    }

    /// What was on its way may be lost.
    pub(super) fn forget(&mut self, to: ReplicaId) {
        self.0.remove(&to);
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append(index: u64, bytes: usize) -> Message {
        let entry = Entry { index: index + 1, data: vec![0; bytes].into(), ..Entry::default() };
        let mut message = Message { to: 3, term: 7, log_term: 6, index, ..Message::default() };
        message.entries.push(entry);
        message
    }

    #[test]
    fn what_is_under_way_is_repeated_ever_more_seldom() {
        let (mut probes, large) = (Probes::default(), append(40, 1 << 20));
        let sent: Vec<u64> = (0..700).filter(|t| !probes.is_under_way(*t, &large)).collect();
        assert_eq!(sent, [0, 10, 30, 70, 150, 310, 470, 630]);
    }

    #[test]
    fn what_was_lost_or_is_another_one_or_small_leaves_at_once() {
        let (mut probes, large) = (Probes::default(), append(40, 1 << 20));
        assert!(!probes.is_under_way(5, &large) && probes.is_under_way(6, &large));
        assert!(!probes.is_under_way(6, &append(39, 1 << 20)), "the replica has less");
        assert!(!probes.is_under_way(7, &Message { term: 8, ..append(39, 1 << 20) }));
        assert!(!probes.is_under_way(8, &large) && probes.is_under_way(9, &large));
        probes.forget(ReplicaId(3));
        assert!(!probes.is_under_way(9, &large));
        for tick in 9..15 {
            assert!(!probes.is_under_way(tick, &append(50, 1_000)));
        }
    }
}
