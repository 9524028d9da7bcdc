//! A group's committed offsets.

use std::collections::BTreeMap;

use super::config::ENTRY_BYTES;
use super::record::OffsetValue;
use super::{CommittedOffset, TopicPartition};

/// What is committed, and what is on its way: a commit counts only once its record is committed
/// in the partition (I12), so nothing here needs undoing when an append is lost.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: BTreeMap<TopicPartition, OffsetValue>,
    /// Appends in flight that write the key.
    in_flight: BTreeMap<TopicPartition, usize>,
}

fn size_bytes(partition: &TopicPartition, value: &OffsetValue) -> usize {
    ENTRY_BYTES + partition.topic.len() + value.metadata.len()
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.in_flight.is_empty()
    }

    pub fn committed(&self) -> impl Iterator<Item = (&TopicPartition, &OffsetValue)> {
        self.committed.iter()
    }

    pub fn committed_for(&self, partition: &TopicPartition) -> Option<&OffsetValue> {
        self.committed.get(partition)
    }

    /// Every key that the log may hold: what a tombstone must cover.
    pub fn keys(&self) -> Vec<TopicPartition> {
        let mut keys: Vec<_> = self.committed.keys().chain(self.in_flight.keys()).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().cloned().collect()
    }

    /// How many `keys` there are.
    pub fn key_count(&self) -> usize {
        let uncommitted = self.in_flight.keys().filter(|k| !self.committed.contains_key(k));
        self.committed.len() + uncommitted.count()
    }

    pub fn is_in_flight(&self, partition: &TopicPartition) -> bool {
        self.in_flight.contains_key(partition)
    }

    pub fn begin(&mut self, partition: &TopicPartition) {
        *self.in_flight.entry(partition.clone()).or_default() += 1;
    }

    pub fn end(&mut self, partition: &TopicPartition) {
        let count = self.in_flight.get_mut(partition).expect("an append that began");
        *count -= 1;
        if *count == 0 {
            self.in_flight.remove(partition);
        }
    }

    /// Returns by how many bytes the state grew, and shrank.
    pub fn commit(&mut self, partition: TopicPartition, value: OffsetValue) -> (usize, usize) {
        let grown = size_bytes(&partition, &value);
        let key = partition.clone();
        let shrunk =
            self.committed.insert(partition, value).map_or(0, |old| size_bytes(&key, &old));
        (grown, shrunk)
    }

    /// Returns by how many bytes the state shrank.
    pub fn remove(&mut self, partition: &TopicPartition) -> usize {
        self.committed.remove(partition).map_or(0, |old| size_bytes(partition, &old))
    }

    pub fn size_bytes(&self) -> usize {
        self.committed.iter().map(|(k, v)| size_bytes(k, v)).sum()
    }
}

impl OffsetValue {
    pub(super) fn as_committed(&self) -> CommittedOffset {
        CommittedOffset {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            commit_timestamp_ms: self.commit_timestamp_ms,
        }
    }
}

/// A committed offset after the check of R25.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clamped {
    pub offset: i64,
    /// To be counted and reported: the records up to the committed offset are gone.
    pub was_clamped: bool,
}

/// R25: an offset that was committed in a leader epoch and lies beyond where that epoch ended is
/// in a part of the log that a failover cut off. A client that knows no epochs would be told
/// OFFSET_OUT_OF_RANGE and jump to `auto.offset.reset`, or skip what the new home wrote there; so
/// it is led back to the epoch's end.
///
/// `epoch_end` is the next offset after the committed epoch's last record in the partition as it
/// is now; `None` where the epoch is still the current one, or where it is unknown (the commit
/// carried none, or the log has no record of it).
pub fn clamp(offset: i64, epoch_end: Option<i64>) -> Clamped {
    match epoch_end {
        Some(end) if offset > end => Clamped { offset: end, was_clamped: true },
        _ => Clamped { offset, was_clamped: false },
    }
}
