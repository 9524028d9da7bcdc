//! Which shard a group belongs to, and whether it is here and ready. Pure: the driver owns the
//! shards themselves.
//!
//! ```text
//!            elected(e)             loaded(e)
//!  absent ─────────────► Loading ─────────────► Active
//!    ▲                      │ load failed(e)      │
//!    │                      ▼                     │
//!    ├─────────────────── Failed                  │
//!    └──────────────── resigned(e) ◄──────────────┘
//! ```
//!
//! A group's coordinator is the leader of its partition of `__consumer_offsets` and nobody else
//! (R25): a learner may lag, and offsets would go backwards. While a shard loads, nothing is
//! answered from it: "no offset" would send consumers to `auto.offset.reset`.

use std::collections::BTreeMap;

use super::group::{Error, Id};
use crate::model::LeaderEpoch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Elected; the partition's records are being read.
    Loading,
    Active,
    /// A record is not what Kafka's schemas allow: what is missing cannot be told, so nothing is
    /// served.
    Failed,
}

/// The coordinators of one node.
#[derive(Debug)]
pub struct Runtime {
    partitions: u32,
    shards: BTreeMap<i32, (LeaderEpoch, State)>,
}

/// Kafka's hash of a group id: Java's `String.hashCode`, over UTF-16 code units.
fn java_hash(s: &str) -> i32 {
    s.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `__consumer_offsets` that a group's records are in, as in Kafka, so that
/// tools which compute it agree.
pub fn partition_for(group: &str, partitions: u32) -> i32 {
    let hash = match java_hash(group) {
        // Kafka's `Utils.abs`.
        i32::MIN => 0,
        hash => hash.unsigned_abs(),
    };
    i32::try_from(hash % partitions).expect("a remainder of 31 bits")
}

impl Runtime {
    /// `partitions` is the partition count of `__consumer_offsets`, which never changes.
    ///
    /// # Panics
    /// On a count outside 1 ..= `i32::MAX`.
    pub fn new(partitions: u32) -> Self {
        assert!((1..=i32::MAX as u32).contains(&partitions), "{partitions} partitions");
        Self { partitions, shards: BTreeMap::new() }
    }

    pub fn partition_for(&self, group: &Id) -> i32 {
        partition_for(group, self.partitions)
    }

    /// `false`: the election is old news.
    pub fn handle_elected(&mut self, partition: i32, epoch: LeaderEpoch) -> bool {
        if self.shards.get(&partition).is_some_and(|(known, _)| *known >= epoch) {
            return false;
        }
        self.shards.insert(partition, (epoch, State::Loading));
        true
    }

    /// `false`: that shard is no longer here.
    pub fn handle_loaded(&mut self, partition: i32, epoch: LeaderEpoch) -> bool {
        self.finish_loading(partition, epoch, State::Active)
    }

    /// `false`: that shard is no longer here.
    pub fn handle_load_failed(&mut self, partition: i32, epoch: LeaderEpoch) -> bool {
        self.finish_loading(partition, epoch, State::Failed)
    }

    fn finish_loading(&mut self, partition: i32, epoch: LeaderEpoch, to: State) -> bool {
        match self.shards.get_mut(&partition) {
            Some((known, state)) if *known == epoch => {
                assert_eq!(*state, State::Loading, "partition {partition} of epoch {epoch}");
                *state = to;
                true
            }
            _ => false,
        }
    }

    /// The replica led in `epoch` and does so no longer. `false`: that shard is no longer here.
    pub fn handle_resigned(&mut self, partition: i32, epoch: LeaderEpoch) -> bool {
        let is_known = self.shards.get(&partition).is_some_and(|(known, _)| *known <= epoch);
        is_known && self.shards.remove(&partition).is_some()
    }

    /// The partition whose shard answers for the group.
    ///
    /// # Errors
    /// `NotCoordinator`, `CoordinatorLoadInProgress`; `CoordinatorNotAvailable` after a failed
    /// load. Clients retry all three.
    pub fn route(&self, group: &Id) -> Result<i32, Error> {
        let partition = self.partition_for(group);
        match self.shards.get(&partition) {
            None => Err(Error::NotCoordinator),
            Some((_, State::Loading)) => Err(Error::CoordinatorLoadInProgress),
            Some((_, State::Failed)) => Err(Error::CoordinatorNotAvailable),
            Some((_, State::Active)) => Ok(partition),
        }
    }

    /// Every partition that is here.
    pub fn shards(&self) -> impl Iterator<Item = (i32, LeaderEpoch, State)> {
        self.shards.iter().map(|(partition, (epoch, state))| (*partition, *epoch, *state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"...".hashCode()` of Java; the last one hashes to `Integer.MIN_VALUE`.
    #[test]
    fn groups_hash_as_in_java() {
        let table = [
            ("", 0),
            ("a", 97),
            ("my-group", -1_906_497_762),
            ("größe", 98_762_257),
            ("polygenelubricants", i32::MIN),
        ];
        for (group, hash) in table {
            assert_eq!(java_hash(group), hash, "{group}");
        }
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("a", 50), 47);
    }

    #[test]
    fn a_group_is_refused_until_its_shard_is_loaded() {
        let mut runtime = Runtime::new(1);
        let group = Id::from("g");
        assert_eq!(runtime.route(&group), Err(Error::NotCoordinator));
        assert!(runtime.handle_elected(0, 7));
        assert_eq!(runtime.route(&group), Err(Error::CoordinatorLoadInProgress));
        assert!(runtime.handle_loaded(0, 7));
        assert_eq!(runtime.route(&group), Ok(0));
        assert!(runtime.handle_resigned(0, 7));
        assert_eq!(runtime.route(&group), Err(Error::NotCoordinator));
    }

    #[test]
    fn news_of_an_older_epoch_changes_nothing() {
        let mut runtime = Runtime::new(1);
        assert!(runtime.handle_elected(0, 7));
        assert!(runtime.handle_elected(0, 8));
        assert!(!runtime.handle_elected(0, 7));
        assert!(!runtime.handle_loaded(0, 7));
        assert!(!runtime.handle_resigned(0, 7));
        assert!(runtime.handle_load_failed(0, 8));
        assert_eq!(runtime.route(&Id::from("g")), Err(Error::CoordinatorNotAvailable));
    }
}
