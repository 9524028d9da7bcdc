//! One fetch session: what its client wants, and what it was told last.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Key, Outcome, Wanted};

#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    /// High watermark and log start of the last answer; none yet for a new partition.
    told: Option<(i64, i64)>,
    place: u64,
}

#[derive(Debug)]
pub(super) struct Session {
    pub next_epoch: i32,
    pub by_id: bool,
    pub used_at: Duration,
    // tidy: looked up only; `order` is what is walked
    entries: HashMap<Key, Entry>,
    /// The order in which partitions are read; places only grow.
    order: BTreeMap<u64, Key>,
    next_place: u64,
}

impl Session {
    pub fn new(now: Duration, by_id: bool, wanted: &[Wanted]) -> Self {
        let mut session = Self {
            next_epoch: 1,
            by_id,
            used_at: now,
            entries: HashMap::with_capacity(wanted.len()),
            order: BTreeMap::new(),
            next_place: 0,
        };
        wanted.iter().cloned().for_each(|wanted| session.want(wanted));
        session
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes an incremental request in.
    pub fn go_on(&mut self, now: Duration, wanted: Vec<Wanted>, forgotten: &[Key]) {
        self.used_at = now;
        // Epochs go round to 1: 0 and −1 have meanings of their own.
        self.next_epoch = self.next_epoch.checked_add(1).unwrap_or(1);
        for key in forgotten {
            if let Some(entry) = self.entries.remove(key) {
                self.order.remove(&entry.place);
            }
        }
        wanted.into_iter().for_each(|wanted| self.want(wanted));
    }

    fn want(&mut self, wanted: Wanted) {
        if let Some(entry) = self.entries.get_mut(&wanted.key) {
            entry.wanted = wanted;
            return;
        }
        let key = wanted.key.clone();
        let place = self.place(key.clone());
        self.entries.insert(key, Entry { wanted, told: None, place });
    }

    fn place(&mut self, key: Key) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, key);
        place
    }

    /// All partitions, in the order in which they are to be read.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.order.values().map(|key| self.entries[key].wanted.clone()).collect()
    }

    /// Notes what the client is told of a partition, and says whether it is news to it.
    pub fn answered(&mut self, key: &Key, outcome: Outcome) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return true };
        let Outcome { high_watermark, log_start, has_records, is_notable } = outcome;
        let changed = entry.told != Some((high_watermark, log_start));
        // An error must come again with the next answer even if the positions do not change.
        entry.told = (!is_notable).then_some((high_watermark, log_start));
        if has_records {
            let old = entry.place;
            self.order.remove(&old);
            let place = self.place(key.clone());
            self.entries.get_mut(key).expect("it was just there").place = place;
        }
        changed || has_records || is_notable
    }
}
