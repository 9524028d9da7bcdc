//! What the consumers of one group share.

use std::collections::{BTreeMap, BTreeSet};

use isobar::coordinator::group::{FetchedOffset, Id};
use isobar::model::LeaderEpoch;

use crate::invariants::fenced::Told;

/// One commit that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// In its record, which nothing else shares.
    pub id: u64,
    pub offset: i64,
    /// In which it was acknowledged.
    pub acked: Option<LeaderEpoch>,
}

/// What the group has of one partition.
#[derive(Debug, Default)]
pub struct Track {
    /// Records that it has had, each at its offset; who is a member no longer may read on in a home that is cut off.
    pub had: BTreeSet<(i64, u64)>,
    /// What was deleted before it was read.
    pub passed_over: i64,
    pub commits: Vec<Commit>,
    /// What it was told at the end, and where it would go on.
    pub last: Option<(FetchedOffset, i64)>,
}

#[derive(Debug)]
pub struct Team {
    pub id: Id,
    /// By partition.
    pub tracks: BTreeMap<usize, Track>,
    /// Who was told to be in which generation.
    pub told: Told,
}

impl Team {
    pub fn new(id: Id, partitions: impl IntoIterator<Item = usize>) -> Self {
        let tracks = partitions.into_iter().map(|partition| (partition, Track::default()));
        Self { id, tracks: tracks.collect(), told: Told::default() }
    }

    pub fn track(&mut self, partition: usize) -> &mut Track {
        self.tracks.get_mut(&partition).expect("a partition that the group reads")
    }

    /// What keeps it waiting, in words.
    pub fn waits(&self) -> Option<String> {
        let untold =
            |(partition, track): (&usize, &Track)| track.last.is_none().then_some(*partition);
        let untold: Vec<usize> = self.tracks.iter().filter_map(untold).collect();
        (!untold.is_empty()).then(|| format!("group {} has not been told of {untold:?}; ", self.id))
    }
}
