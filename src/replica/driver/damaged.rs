//! Replicas whose logs are damaged: closed until somebody has mended them, so that they neither vote
//! nor acknowledge (R21). Who mends is the broker, which can reach the peers.

use std::collections::BTreeMap;

use super::replicas::Replicas;
use super::spec::{Policy, Spec};
use crate::log::{Reader, Recovered};
use crate::model::{ReplicaId, Term, TopicPartition};
use crate::replica::core::config::Member;

/// A replica that waits to be mended.
#[derive(Debug, Clone)]
pub struct Damaged {
    pub spec: Spec,
    /// The latest term in which it may have promised anything.
    pub term: Term,
}

impl Replicas {
    pub(super) fn keep_damaged(&mut self, spec: Spec) {
        self.closed.insert(spec.group.partition, spec);
    }

    pub(super) fn damaged(&self) -> Vec<Damaged> {
        let term = |at: &TopicPartition| Some(self.recovered.get(at)?.state.term);
        let waiting = self.closed.iter().filter_map(|(at, spec)| Some((spec.clone(), term(at)?)));
        waiting.map(|(spec, term)| Damaged { spec, term }).collect()
    }

    /// What a mended log is to be opened as; `None` if the replica has gone meanwhile.
    pub(super) fn mended(&mut self, recovered: Recovered, reader: Reader) -> Option<Spec> {
        let spec = self.closed.remove(&recovered.partition)?;
        self.put_back(recovered, reader);
        Some(spec)
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
