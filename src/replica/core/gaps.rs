//! Producers whose last records were lost with their home (R16), and how they go on.
//!
//! ```text
//!   old home   … 40 41 │ 42 43 44     acknowledged up to 44, and beyond the cut
//!   new home   … 40 41 │ 45 …         the producer's next is 45, and 42 is due
//! ```
//!
//! To Kafka that is OUT_OF_ORDER_SEQUENCE_NUMBER, which ends librdkafka's producer for good (Java's bumps
//! its epoch, KIP-360), and UNKNOWN_PRODUCER_ID does too once the batch was sent before. The gap
//! is the cut's, no fault of the producer's, so its next batch is taken as it is.
//!
//! Which one is the next? With several requests under way a later one may come first, for the
//! one before it was sent to the old home, or when this leader was not ready yet; taken first it would shut the other one
//! out. So what comes after a gap is refused when it is first offered, with a retriable error: a client then lets
//! all come back that is under way, and offers again from its lowest on. The lowest that was offered, or refused for
//! another reason, is taken when it comes again.
//!
//! The gap need not be before the first batch that comes: 42 may have had no answer and come again, while 43 and 44 were
//! acknowledged. So each gap is taken like this until a producer has as many batches beyond the cut as can be
//! under way at once.
//!
//! A client may have gone back to the old home with it meanwhile, which goes on where it is cut off (R17), and return with
//! what comes after: what has not come again for [`LAPSES_AFTER`] is waited for no longer.
//!
//! Invariant: nothing below a producer's last sequence in the log is taken by this way, so no record
//! comes twice.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::batch::Header;

/// Producers that have a batch offered. When there are more, one of them has to offer again.
const OFFERED_MAX: usize = 10_000;

/// Sequences wrap to 0 after this (KIP-98), so they have 31 bits.
const SEQUENCE_MASK: i32 = i32::MAX;

/// As long as a request may be under way: the clients' `request.timeout.ms`.
const LAPSES_AFTER: Duration = Duration::from_secs(30);

/// The lowest batch that each producer has offered to this leader and has not in its log, by producer id: its
/// epoch and first sequence, and when it was offered last.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    offered: BTreeMap<i64, ((i16, i32), Duration)>,
}

/// Whether `b` comes after `a`, by at most half of all sequences.
pub(super) fn is_after(a: i32, b: i32) -> bool {
    let ahead = b.wrapping_sub(a) & SEQUENCE_MASK;
    ahead > 0 && ahead <= SEQUENCE_MASK / 2
}

impl Gaps {
    /// Whether a batch after a gap is to be taken now: it was offered before, and nothing below it was.
    pub fn offer(&mut self, now: Duration, batch: &Header) -> bool {
        let this = (batch.producer_epoch, batch.base_sequence);
        if self.offered.get(&batch.producer_id).is_some_and(|(lowest, _)| *lowest == this) {
            self.offered.remove(&batch.producer_id);
            return true;
        }
        self.refused(now, batch);
        false
    }

    /// A batch that may come again, and is then the next if nothing below it is known.
    pub fn refused(&mut self, now: Duration, batch: &Header) {
        let this = (batch.producer_epoch, batch.base_sequence);
        let known = self.offered.get(&batch.producer_id).copied();
        let is_lowest = known.is_none_or(|((epoch, sequence), at)| {
            let is_first = epoch == this.0 && !is_after(sequence, this.1);
            let lapsed = now.saturating_sub(at) >= LAPSES_AFTER;
            epoch < this.0 || is_first || epoch == this.0 && lapsed
        });
        if is_lowest {
            if known.is_none() && self.offered.len() == OFFERED_MAX {
                self.offered.pop_first();
            }
            self.offered.insert(batch.producer_id, (this, now));
        }
    }

    /// Nothing below this batch is taken any more.
    pub fn appended(&mut self, batch: &Header) {
        let is_over = |((epoch, sequence), _): &((i16, i32), Duration)| {
            let (of, next) = (batch.producer_epoch, batch.base_sequence);
            *epoch < of || *epoch == of && !is_after(next, *sequence)
        };
        if self.offered.get(&batch.producer_id).is_some_and(is_over) {
            self.offered.remove(&batch.producer_id);
        }
    }

    pub fn clear(&mut self) {
        self.offered.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;

    fn batch(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Header {
        Header {
            base_offset: Offset(0),
            size_bytes: 100,
            leader_epoch: 1,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch,
            base_sequence,
            records: 1,
        }
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn what_does_not_come_again_is_waited_for_no_longer() {
        let mut gaps = Gaps::default();
        assert!(!gaps.offer(NOW, &batch(5, 0, 45)));
        let soon = NOW + LAPSES_AFTER - Duration::from_millis(1);
        assert!(!gaps.offer(soon, &batch(5, 0, 48)) && !gaps.offer(soon, &batch(5, 0, 48)));
        let late = NOW + LAPSES_AFTER;
        assert!(!gaps.offer(late, &batch(5, 0, 50)), "48 may be under way");
        assert!(!gaps.offer(late, &batch(5, 0, 48)));
        assert!(!gaps.offer(late, &batch(5, 0, 50)));
        assert!(gaps.offer(late, &batch(5, 0, 48)));
    }

    #[test]
    fn the_lowest_is_taken_when_it_comes_again() {
        let mut gaps = Gaps::default();
        assert!(!gaps.offer(NOW, &batch(5, 0, 46)), "45 may be under way");
        assert!(!gaps.offer(NOW, &batch(5, 0, 45)));
        assert!(!gaps.offer(NOW, &batch(5, 0, 46)), "45 is to come first");
        assert!(!gaps.offer(NOW, &batch(6, 0, 45)), "another producer's");
        assert!(gaps.offer(NOW, &batch(5, 0, 45)));
    }

    #[test]
    fn what_was_refused_for_another_reason_comes_first() {
        let mut gaps = Gaps::default();
        gaps.refused(NOW, &batch(5, 0, 45));
        assert!(!gaps.offer(NOW, &batch(5, 0, 46)) && !gaps.offer(NOW, &batch(5, 0, 46)));
        gaps.appended(&batch(6, 0, 45));
        gaps.appended(&batch(5, 0, 44));
        assert!(!gaps.offer(NOW, &batch(5, 0, 46)), "45 may still come");
        gaps.appended(&batch(5, 0, 45));
        assert!(!gaps.offer(NOW, &batch(5, 0, 48)));
        assert!(gaps.offer(NOW, &batch(5, 0, 48)));
    }

    #[test]
    fn another_epoch_offers_anew_and_an_older_one_takes_no_place() {
        let mut gaps = Gaps::default();
        assert!(!gaps.offer(NOW, &batch(5, 1, 45)));
        assert!(!gaps.offer(NOW, &batch(5, 0, 45)));
        assert!(!gaps.offer(NOW, &batch(5, 0, 45)), "it is fenced by the newer one");
        assert!(gaps.offer(NOW, &batch(5, 1, 45)));
    }

    #[test]
    fn sequences_wrap() {
        assert!(is_after(i32::MAX, 0) && !is_after(0, i32::MAX));
        assert!(is_after(7, 9) && !is_after(9, 7) && !is_after(7, 7));
        let mut gaps = Gaps::default();
        assert!(!gaps.offer(NOW, &batch(5, 0, 3)));
        assert!(!gaps.offer(NOW, &batch(5, 0, i32::MAX)));
        assert!(!gaps.offer(NOW, &batch(5, 0, 3)));
        assert!(gaps.offer(NOW, &batch(5, 0, i32::MAX)));
    }

    #[test]
    fn the_table_stays_bounded() {
        let mut gaps = Gaps::default();
        for id in 0..OFFERED_MAX as i64 + 5 {
            assert!(!gaps.offer(NOW, &batch(id, 0, 9)));
        }
        assert_eq!(gaps.offered.len(), OFFERED_MAX);
        assert!(!gaps.offer(NOW, &batch(0, 0, 9)), "it offers again");
        assert!(gaps.offer(NOW, &batch(0, 0, 9)));
    }
}
