//! Replicas whose logs are damaged: closed until somebody has mended them, so that they neither vote
//! nor acknowledge (R21). Who mends is the broker, which can reach the peers.

use std::collections::BTreeMap;

use super::replicas::Replicas;
use super::spec::{Policy, Spec};
use crate::log::{Reader, Recovered};
use crate::model::{LogIndex, ReplicaId, Term, TopicPartition};
use crate::replica::core::config::Member;

/// A replica that waits to be mended.
#[derive(Debug, Clone)]
pub struct Damaged {
    pub spec: Spec,
    /// The latest term in which it may have promised anything.
    pub term: Term,
    /// Its home has moved on from here, and others have nothing of what its log had beyond.
    pub cut: Option<LogIndex>,
}

impl Replicas {
    pub(super) fn keep_damaged(&mut self, spec: Spec) {
        self.closed.insert(spec.group.partition, spec);
    }

    pub(super) fn damaged(&self) -> Vec<Damaged> {
        let waiting = self.closed.iter().filter_map(|(at, spec)| {
            let state = &self.recovered.get(at)?.state;
            let moved = state.home_epoch < spec.group.home_epoch;
            let cut = spec.fork.filter(|_| moved).map(|fork| fork.index);
            Some(Damaged { spec: spec.clone(), term: state.term, cut })
        });
        waiting.collect()
    }

    /// What a mended log is to be opened as; `None` if the replica has gone meanwhile, or has yet to begin the home
    /// that it was mended for.
    pub(super) fn mended(&mut self, recovered: Recovered, reader: Reader) -> Option<Spec> {
        let spec = self.closed.remove(&recovered.partition)?;
        let is_there = recovered.state.home_epoch == spec.group.home_epoch;
        self.put_back(recovered, reader);
        is_there.then_some(spec)
    }

    /// What the disk has after another look, with what was promised since it looked.
    pub fn put_back(&mut self, mut recovered: Recovered, reader: Reader) {
        let at = recovered.partition;
        if let Some(promised) = self.promised.get(&at) {
            recovered.state.promised = recovered.state.promised.max(*promised);
        }
        self.recovered.insert(at, recovered);
        self.readers.insert(at, reader);
    }

    pub(super) fn policy_of_damaged(&mut self, at: TopicPartition, policy: Policy) {
        if let Some(spec) = self.closed.get_mut(&at) {
            spec.policy = policy;
        }
    }

    pub(super) fn placement_of_damaged(
        &mut self,
        at: TopicPartition,
        members: &BTreeMap<ReplicaId, Member>,
    ) {
        if let Some(spec) = self.closed.get_mut(&at) {
            spec.members = members.clone();
        }
    }
}
