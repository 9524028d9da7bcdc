//! Replicas whose logs are damaged: closed until somebody has mended them, so that they neither vote
//! nor acknowledge (R21). Who mends is the broker, which can reach the peers; here is its way to the
//! disk, past the loop, which must not wait for it.

use std::collections::BTreeMap;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::disk::Command;
use super::orders::Refused;
use super::replicas::Replicas;
use super::spec::{Policy, Spec};
use crate::log::{self, Mend, Reader, Recovered, Spare};
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
        let at = recovered.partition;
        let spec = self.closed.remove(&at)?;
        self.recovered.insert(at, recovered);
        self.readers.insert(at, reader);
        Some(spec)
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

/// The way to the disk thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mender {
    disk: mpsc::Sender<Command>,
}

impl Mender {
    pub(super) fn new(disk: mpsc::Sender<Command>) -> Self {
        Self { disk }
    }

    /// Begins to mend a damaged log; `None` if it is not damaged.
    pub async fn begin(
        &self,
        at: TopicPartition,
        config: log::Config,
    ) -> Result<Option<Mend>, Refused> {
        Ok(self.ask(|reply| Command::Mend(at, config, reply)).await??)
    }

    /// Puts what was gathered in the place of what is damaged.
    pub async fn adopt(&self, mend: Mend) -> Result<(Box<Recovered>, Reader), Refused> {
        Ok(self.ask(|reply| Command::Adopt(Box::new(mend), reply)).await??)
    }

    /// Puts a segment in the place of the rotten one that it was before.
    pub async fn swap(&self, spare: Spare) -> Result<bool, Refused> {
        Ok(self.ask(|reply| Command::Swap(Box::new(spare), reply)).await??)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.disk.send(command(reply)).map_err(|_| Refused::ShuttingDown)?;
        answer.await.map_err(|_| Refused::ShuttingDown)
    }
}
