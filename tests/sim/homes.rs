//! The homes that a partition has had, and what of one the next ones keep: what is before each cut since,
//! and has the term that the log which ends there has (R2, R12).

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar::log::Fork;
use isobar::metadata::moves::Verdict;
use isobar::model::{HomeEpoch, Mode, ReplicaId};

use crate::oracle::{Ack, History, Log, Seen};

/// A home that has begun, where it began, and what was claimed.
#[derive(Debug, Clone)]
pub struct Began {
    pub epoch: HomeEpoch,
    pub fork: Arc<Fork>,
    pub verdict: Verdict,
}

/// The term that the log which ends at the cut has at `index`; `None` before that log begins.
pub fn term_at(fork: &Fork, index: u64) -> Option<u64> {
    let after = fork.epochs.partition_point(|e| e.index.0 <= index);
    after.checked_sub(1).map(|n| fork.epochs[n].term.0)
}

fn term_at_offset(fork: &Fork, offset: i64) -> Option<u64> {
    let after = fork.epochs.partition_point(|e| e.offset.0 <= offset);
    after.checked_sub(1).map(|n| fork.epochs[n].term.0)
}

/// Whether the record at `offset`, of an entry of this term, is before the cut. One whose term is not
/// known has left its log at the front.
pub fn keeps(fork: &Fork, offset: i64, term: Option<u64>) -> bool {
    let there = term_at_offset(fork, offset);
    offset < fork.at.offset.0 && (there.is_none() || term.is_none() || there == term)
}

/// Of what was shown, the last entry that the cut keeps, and the offset after it.
pub fn shown_end(exposed: &BTreeMap<u64, Seen>, fork: &Fork) -> (u64, i64) {
    let (index, offset) = (fork.at.index.0, fork.at.offset.0);
    let other = |(index, seen): &(&u64, &Seen)| {
        term_at(fork, **index).is_some_and(|term| term != seen.term)
    };
    match exposed.range(..=index).find(other) {
        Some((other, seen)) => (other - 1, seen.base.min(offset)),
        None => (index, offset),
    }
}

impl History {
    /// The home that `__meta` has decided on.
    pub fn epoch(&self) -> HomeEpoch {
        self.began.last().map_or(HomeEpoch::FIRST, |began| began.epoch)
    }

    /// How `__meta` last had a home: sync as its policy is, or degraded.
    pub fn mode_in(&self, epoch: HomeEpoch) -> Mode {
        self.modes.get(&epoch).copied().unwrap_or_default()
    }

    fn since(&self, epoch: HomeEpoch) -> impl Iterator<Item = &Began> {
        self.began.iter().filter(move |began| began.epoch > epoch)
    }

    /// Whether all homes after `epoch` keep what it has at `offset`.
    pub fn is_kept(&self, epoch: HomeEpoch, offset: i64, term: Option<u64>) -> bool {
        self.since(epoch).all(|began| keeps(&began.fork, offset, term))
    }

    /// The last entry up to `to` of a log of this home that all homes after it keep.
    pub fn kept_of(&self, epoch: HomeEpoch, log: &Log, to: u64) -> u64 {
        let mut end = to;
        for began in self.since(epoch) {
            end = end.min(began.fork.at.index.0);
            let other = |(index, seen): &(&u64, &Seen)| {
                term_at(&began.fork, **index).is_some_and(|term| term != seen.term)
            };
            if let Some((other, _)) = log.entries.range(..=end).find(other) {
                end = other - 1;
            }
        }
        end
    }

    /// The term of the entry of a node's log that ends before this offset.
    pub fn term_ending(&self, node: usize, end: i64) -> Option<u64> {
        let newest_first = self.replicas[node].given.entries.values().rev();
        let mut batches = newest_first.filter(|seen| seen.is_batch);
        batches.find(|seen| seen.next <= end).filter(|seen| seen.next == end).map(|seen| seen.term)
    }

    /// Whether all homes after an epoch began by proof.
    pub fn is_proven_since(&self, epoch: HomeEpoch) -> bool {
        self.since(epoch).all(|began| began.verdict == Verdict::Lossless)
    }

    /// The smallest offset at which homes after an epoch were cut without a proof.
    pub fn unproven_since(&self, epoch: HomeEpoch) -> Option<i64> {
        let unproven = self.since(epoch).filter(|began| began.verdict != Verdict::Lossless);
        unproven.map(|began| began.fork.at.offset.0).min()
    }

    /// A home that this node's log has not begun with was cut without a proof: what was deleted beyond the cut is not.
    pub fn give_back_log_start(&mut self, node: usize) {
        let epoch = self.replicas[node].conf.epoch;
        let Some(cut) = self.unproven_since(epoch) else { return };
        let replica = &mut self.replicas[node];
        let deleted = self.deleted.entry(epoch).or_default();
        *deleted = (*deleted).max(replica.durable_log_start);
        replica.durable_log_start = replica.durable_log_start.min(cut);
        replica.kept_log_start = Some(replica.durable_log_start);
    }

    /// Whether these nodes' logs begin at the same offset, but for those that kept theirs where a home ended
    /// without a proof.
    pub fn begin_alike(&self, starts: &[(usize, i64)]) -> bool {
        let least = starts.iter().map(|(_, start)| *start).min();
        starts.iter().all(|(node, start)| {
            Some(*start) == least || self.replicas[*node].kept_log_start == Some(*start)
        })
    }

    /// Whether a record was deleted in the home that acknowledged it, and its disks may have lost it so.
    pub fn was_deleted(&self, id: u64, epoch: HomeEpoch) -> bool {
        let Some(start) = self.deleted.get(&epoch) else { return false };
        let of = |ack: &&Ack| ack.epoch == epoch && ack.end <= *start;
        self.acks.iter().filter(of).any(|ack| ack.ids.contains(&id))
    }

    /// Whether who acknowledged a record in a home has lost its disk since.
    pub fn had_wiped(&self, id: u64, epoch: HomeEpoch) -> bool {
        let mut of = self.acks.iter().filter(|ack| ack.epoch == epoch && ack.ids.contains(&id));
        of.any(|ack| self.wiped.get(&ack.node).is_some_and(|at| *at >= ack.at))
    }

    /// Whether a home after `next` began with a record that `next` was cut without: the newest log that it found was
    /// one of the home before.
    pub fn came_back(&self, id: u64, epoch: HomeEpoch, next: HomeEpoch) -> bool {
        let mut of = self.acks.iter().filter(|ack| ack.epoch == epoch && ack.ids.contains(&id));
        let keeps = |fork: &Fork, ack: &Ack| {
            let last = ack.end - 1;
            last < fork.at.offset.0 && ack.term.is_some() && term_at_offset(fork, last) == ack.term
        };
        of.any(|ack| self.since(next).any(|began| keeps(&began.fork, ack)))
    }

    /// Whether a replica's disk was lost.
    pub fn is_gone(&self, id: ReplicaId) -> bool {
        let node = self.nodes[&id];
        self.wiped.contains_key(&node) && self.replicas[node].conf.me != id
    }
}
