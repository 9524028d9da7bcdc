//! Deadlines of one shard, each named by what it is for, at most one a name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Id, MemberId};

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Offsets and empty groups are looked through for expiry.
    Expiry,
    /// The join phase of a rebalance ends.
    Join(Id),
    /// Members that have not synced since the join phase are removed.
    Sync(Id),
    /// A member was not heard of for its session timeout.
    Session(Id, MemberId),
    /// A member that was given an id has not joined with it.
    Pending(Id, MemberId),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Duration, Timer)>,
    at: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, timer: Timer, at: Duration) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.due.remove(&(before, timer.clone()));
        }
        self.due.insert((at, timer));
    }

    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.due.remove(&(at, timer));
        }
    }

    pub fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The earliest timer that is due, which is then gone.
    pub fn pop(&mut self, now: Duration) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.due.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.due.len(), self.at.len());
        self.at.len()
    }
}
