//! Idempotent producers (KIP-98): what the log says of each, and whether a batch is its next one.
//!
//! The state is a pure function of the applied log, so every replica in every DC has the same one
//! at the same index; nothing expires by a clock, only by a logged entry (R24). What a leader has
//! appended and not applied yet lies in an overlay that goes with its leadership.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::gaps::{Gaps, is_after};
use crate::model::batch::Header;
use crate::model::{LogIndex, Offset};

/// Batches remembered per producer, as in Kafka: a client has at most five requests in flight.
const BATCHES_KEPT: usize = 5;

/// A batch of a producer that is in the log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Batch {
    #[prost(int32, tag = "1")]
    base_sequence: i32,
    #[prost(int32, tag = "2")]
    last_sequence: i32,
    #[prost(int64, tag = "3")]
    base_offset: i64,
    #[prost(int64, tag = "4")]
    next_offset: i64,
    #[prost(uint64, tag = "5")]
    index: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Producer {
    #[prost(int32, tag = "1")]
    epoch: i32,
    /// Newest last.
    #[prost(message, repeated, tag = "2")]
    batches: Vec<Batch>,
    /// Append time of the newest, for expiry by a logged entry.
    #[prost(int64, tag = "3")]
    append_time_ms: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Stored {
    #[prost(btree_map = "int64, message", tag = "1")]
    producers: BTreeMap<i64, Producer>,
    #[prost(bool, tag = "2")]
    expired: bool,
}

#[derive(Debug, Default)]
pub struct Producers {
    applied: BTreeMap<i64, Producer>,
    /// Whether a producer ever expired here.
    expired: bool,
    appended: BTreeMap<i64, Producer>,
    /// Producer ids in `appended` by the index of each batch, oldest first.
    waiting: VecDeque<(LogIndex, i64)>,
    /// Beyond it acknowledged batches may have been lost: [`super::config::Config::lossy_cut`].
    lossy_cut: Option<LogIndex>,
    gaps: Gaps,
}

/// What a leader makes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not idempotent, or the producer's next.
    Append,
    /// Already in the log, at these offsets and this index.
    Duplicate {
        base_offset: Offset,
        next_offset: Offset,
        index: LogIndex,
    },
    /// What is missing before it may have been lost at a cut; see [`Producers::take_after_gap`].
    AfterLoss {
        expected: i32,
        found: i32,
    },
    OutOfOrder {
        expected: i32,
        found: i32,
    },
    StaleEpoch {
        known: i16,
    },
}

impl Producer {
    /// Whether a batch that a client still counts on may have gone at the cut. Of those that were under way
    /// together any may have been acknowledged there, and any be sent again here: the gap need not come first.
    /// When as many have come since as can be under way at once, all of that is over.
    fn may_lack(&self, cut: LogIndex) -> bool {
        self.batches.len() < BATCHES_KEPT || self.batches.iter().any(|b| b.index <= cut.0)
    }
}

/// The sequence after `last`; sequences wrap to 0 (KIP-98).
fn following(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

impl Producers {
    pub fn check(&self, batch: &Header) -> Verdict {
        if !batch.is_idempotent() {
            return Verdict::Append;
        }
        let id = batch.producer_id;
        let Some(producer) = self.appended.get(&id).or_else(|| self.applied.get(&id)) else {
            // Kafka lets a producer of whom nothing is known begin anywhere, since its state may
            // have expired (KIP-360). Then a second batch that overtakes the first one across a
            // leader change goes in before it. We allow it only where something did expire.
            let (expected, found) = (0, batch.base_sequence);
            return match found == 0 || self.expired {
                true => Verdict::Append,
                false if self.lossy_cut.is_some() => Verdict::AfterLoss { expected, found },
                false => Verdict::OutOfOrder { expected, found },
            };
        };
        let newest = producer.batches.last();
        let lost = self.lossy_cut.is_some_and(|cut| producer.may_lack(cut));
        let epoch = i32::from(batch.producer_epoch);
        if epoch < producer.epoch {
            return Verdict::StaleEpoch { known: producer.epoch as i16 };
        }
        if epoch > producer.epoch {
            let expected = 0;
            let found = batch.base_sequence;
            return match found == 0 {
                true => Verdict::Append,
                false if lost => Verdict::AfterLoss { expected, found },
                false => Verdict::OutOfOrder { expected, found },
            };
        }
        let same = |b: &&Batch| {
            b.base_sequence == batch.base_sequence && b.last_sequence == batch.last_sequence()
        };
        if let Some(known) = producer.batches.iter().find(same) {
            return Verdict::Duplicate {
                base_offset: Offset(known.base_offset),
                next_offset: Offset(known.next_offset),
                index: LogIndex(known.index),
            };
        }
        let expected = newest.map_or(0, |b| following(b.last_sequence));
        let found = batch.base_sequence;
        match found == expected {
            true => Verdict::Append,
            false if lost && is_after(expected, found) => Verdict::AfterLoss { expected, found },
            false => Verdict::OutOfOrder { expected, found },
        }
    }

    /// Whether a batch of [`Verdict::AfterLoss`] is the one with which its producer goes on. If not, a
    /// retriable refusal brings it, or one before it, again.
    pub fn take_after_gap(&mut self, now: Duration, batch: &Header) -> bool {
        self.gaps.offer(now, batch)
    }

    /// A batch was not taken, whatever for: it may come again, and nothing that comes after it goes before it.
    pub fn refused(&mut self, now: Duration, batch: &Header) {
        let may_come = |verdict| matches!(verdict, Verdict::Append | Verdict::AfterLoss { .. });
        if self.lossy_cut.is_some() && batch.is_idempotent() && may_come(self.check(batch)) {
            self.gaps.refused(now, batch);
        }
    }

    pub fn set_lossy_cut(&mut self, cut: Option<LogIndex>) {
        self.lossy_cut = cut;
    }

    /// A leader appended a checked and placed batch at `index`.
    pub fn appended(&mut self, batch: &Header, index: LogIndex, append_time_ms: i64) {
        if batch.is_idempotent() {
            self.gaps.appended(batch);
            let id = batch.producer_id;
            let known = self.appended.get(&id).or_else(|| self.applied.get(&id));
            let mut producer = known.cloned().unwrap_or_default();
            producer.add(batch, index, append_time_ms);
            self.appended.insert(id, producer);
            self.waiting.push_back((index, id));
        }
    }

    /// The batch at `index` is committed and applied.
    pub fn apply(&mut self, batch: &Header, index: LogIndex, append_time_ms: i64) {
        if batch.is_idempotent() {
            let producer = self.applied.entry(batch.producer_id).or_default();
            producer.add(batch, index, append_time_ms);
        }
        while self.waiting.front().is_some_and(|(at, _)| *at <= index) {
            let (_, id) = self.waiting.pop_front().expect("there is one");
            if !self.waiting.iter().any(|(_, other)| *other == id) {
                self.appended.remove(&id);
            }
        }
    }

    /// No longer the leader: what was appended may never be committed.
    pub fn forget_appended(&mut self) {
        self.appended.clear();
        self.waiting.clear();
        self.gaps.clear();
    }

    /// Applies a logged expiry: producers whose newest batch was appended before `before_ms`.
    pub fn expire(&mut self, before_ms: i64) {
        let before = self.applied.len();
        self.applied.retain(|_, producer| producer.append_time_ms >= before_ms);
        self.expired |= self.applied.len() < before;
    }

    /// The oldest append time among the producers' newest batches.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.applied.values().map(|p| p.append_time_ms).min()
    }

    pub fn to_bytes(&self) -> Bytes {
        Stored { producers: self.applied.clone(), expired: self.expired }.encode_to_vec().into()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let Stored { producers: applied, expired } = Stored::decode(bytes)?;
        Ok(Self { applied, expired, ..Self::default() })
    }
}

impl Producer {
    fn add(&mut self, batch: &Header, index: LogIndex, append_time_ms: i64) {
        let epoch = i32::from(batch.producer_epoch);
        if epoch != self.epoch {
            self.batches.clear();
        }
        self.epoch = epoch;
        self.append_time_ms = append_time_ms;
        if self.batches.len() == BATCHES_KEPT {
            self.batches.remove(0);
        }
        self.batches.push(Batch {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset.0,
            next_offset: batch.next_offset().0,
            index: index.0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_epoch: i16, base_sequence: i32, records: i32, base_offset: i64) -> Header {
        Header {
            base_offset: Offset(base_offset),
            size_bytes: 100,
            leader_epoch: 1,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 5,
            producer_epoch,
            base_sequence,
            records,
        }
    }

    #[test]
    fn the_next_batch_goes_in_and_a_retry_finds_the_first_copy() {
        let mut producers = Producers::default();
        let first = batch(0, 0, 3, 40);
        assert_eq!(producers.check(&first), Verdict::Append);
        producers.appended(&first, LogIndex(2), 10);
        let copy = Verdict::Duplicate {
            base_offset: Offset(40),
            next_offset: Offset(43),
            index: LogIndex(2),
        };
        assert_eq!(producers.check(&batch(0, 0, 3, 0)), copy);
        producers.apply(&first, LogIndex(2), 10);
        assert_eq!(producers.check(&batch(0, 0, 3, 0)), copy);
        assert_eq!(producers.check(&batch(0, 3, 1, 0)), Verdict::Append);
        assert_eq!(
            producers.check(&batch(0, 4, 1, 0)),
            Verdict::OutOfOrder { expected: 3, found: 4 }
        );
    }

    #[test]
    fn what_a_deposed_leader_appended_is_forgotten() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, 0, 3, 40), LogIndex(2), 10);
        producers.forget_appended();
        assert_eq!(producers.check(&batch(0, 0, 3, 0)), Verdict::Append);
        let overtakes = Verdict::OutOfOrder { expected: 0, found: 3 };
        assert_eq!(producers.check(&batch(0, 3, 1, 0)), overtakes);
    }

    #[test]
    fn an_older_epoch_is_refused_and_a_newer_one_starts_at_zero() {
        let mut producers = Producers::default();
        producers.apply(&batch(4, 7, 1, 0), LogIndex(1), 0);
        assert_eq!(producers.check(&batch(3, 8, 1, 0)), Verdict::StaleEpoch { known: 4 });
        assert_eq!(
            producers.check(&batch(5, 8, 1, 0)),
            Verdict::OutOfOrder { expected: 0, found: 8 }
        );
        assert_eq!(producers.check(&batch(5, 0, 1, 0)), Verdict::Append);
    }

    #[test]
    fn five_batches_are_remembered_and_survive_their_bytes() {
        let mut producers = Producers::default();
        for n in 0..7 {
            producers.apply(&batch(0, n, 1, i64::from(n)), LogIndex(n as u64 + 1), 0);
        }
        let producers = Producers::from_bytes(&producers.to_bytes()).unwrap();
        assert!(matches!(producers.check(&batch(0, 2, 1, 0)), Verdict::Duplicate { .. }));
        assert!(matches!(producers.check(&batch(0, 1, 1, 0)), Verdict::OutOfOrder { .. }));
    }

    #[test]
    fn after_a_lossy_cut_a_producer_goes_on_with_its_next() {
        let mut producers = Producers::default();
        producers.apply(&batch(0, 0, 3, 40), LogIndex(2), 10);
        producers.set_lossy_cut(Some(LogIndex(2)));
        let next = batch(0, 45, 1, 0);
        let lost = Verdict::AfterLoss { expected: 3, found: 45 };
        assert_eq!(producers.check(&next), lost);
        assert!(!producers.take_after_gap(Duration::ZERO, &next), "one before it may be under way");
        assert!(producers.take_after_gap(Duration::ZERO, &next));
        producers.appended(&batch(0, 45, 1, 43), LogIndex(4), 20);
        assert!(matches!(producers.check(&next), Verdict::Duplicate { .. }));
        assert!(matches!(producers.check(&batch(0, 0, 3, 0)), Verdict::Duplicate { .. }));
        assert_eq!(producers.check(&batch(0, 46, 1, 0)), Verdict::Append);
    }

    /// 3 had no answer and is sent again, 4 was acknowledged and lost; so was 6.
    #[test]
    fn a_gap_of_the_cut_may_come_as_long_as_requests_of_before_may_be_sent_again() {
        let mut producers = Producers::default();
        producers.apply(&batch(0, 0, 3, 40), LogIndex(2), 10);
        producers.set_lossy_cut(Some(LogIndex(2)));
        producers.appended(&batch(0, 3, 1, 43), LogIndex(4), 20);
        for (index, lacks) in [(5, 4), (6, 6)] {
            let found = lacks + 1;
            let next = batch(0, found, 1, 0);
            assert_eq!(producers.check(&next), Verdict::AfterLoss { expected: lacks, found });
            producers.appended(&next, LogIndex(index), 20);
        }
        for sequence in [8, 9] {
            producers.appended(&batch(0, sequence, 1, 50), LogIndex(sequence as u64), 20);
        }
        let gap = Verdict::OutOfOrder { expected: 10, found: 11 };
        assert_eq!(producers.check(&batch(0, 11, 1, 0)), gap, "no cut made this one");
    }

    #[test]
    fn a_lossy_cut_excuses_no_rewound_sequence_and_no_producer_that_wrote_after_it() {
        let mut producers = Producers::default();
        for n in 0..7 {
            producers.apply(&batch(0, n, 1, i64::from(n)), LogIndex(n as u64 + 1), 0);
        }
        producers.set_lossy_cut(Some(LogIndex(7)));
        assert!(matches!(producers.check(&batch(0, 1, 1, 0)), Verdict::OutOfOrder { .. }));
        assert!(matches!(producers.check(&batch(1, 5, 1, 0)), Verdict::AfterLoss { .. }));
        producers.set_lossy_cut(Some(LogIndex(3)));
        assert!(matches!(producers.check(&batch(0, 9, 1, 0)), Verdict::AfterLoss { .. }));
        producers.set_lossy_cut(Some(LogIndex(2)));
        assert!(matches!(producers.check(&batch(0, 9, 1, 0)), Verdict::OutOfOrder { .. }));
        let unknown = Header { producer_id: 6, ..batch(0, 9, 1, 0) };
        assert!(matches!(producers.check(&unknown), Verdict::AfterLoss { .. }));
    }

    #[test]
    fn a_logged_expiry_takes_the_idle_and_leaves_the_rest() {
        let mut producers = Producers::default();
        producers.apply(&batch(0, 0, 1, 0), LogIndex(1), 1_000);
        producers.expire(1_000);
        assert_eq!(producers.oldest_ms(), Some(1_000));
        producers.expire(1_001);
        assert_eq!(producers.oldest_ms(), None);
        assert_eq!(producers.check(&batch(0, 9, 1, 0)), Verdict::Append);
    }
}
