//! `__meta` without its majority: one survivor's data directories, of a node that is stopped, made the
//! beginning of the next home epoch (R26, ADR 0020).
//!
//! ```text
//!  promise e + 1 ──▶ begin e + 1 at the log's own end, alone ──▶ write RecoverMeta ──▶ start the node
//!        a crash between two: the node says so and does not start `__meta`; done again it goes on
//! ```
//!
//! What the survivor has written counts, committed or not (R12). It is asked on the disk, since nobody else
//! can say anything: whether it may be done is the operator's decision, which `cli` asks for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;

use super::{bootstrap, disks};
use crate::log::disk::{Disk, OsDisk};
use crate::log::{
    self, ConfState, Entry, Fork, IDENTITY_FILE, Kind, Position, Recovered, ReplicaState, Store,
    Write,
};
use crate::metadata::command::{Command, FEATURE_LEVEL};
use crate::metadata::image::{Image, Node, Partition};
use crate::metadata::recovery::Recover;
use crate::metadata::replay::{self, Replay};
use crate::model::record::{self, Record};
use crate::model::{HomeEpoch, LogIndex, NodeId, Offset, ReplicaId, Term, TopicPartition, batch};

/// Bytes of `__meta` that are read at once.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is no data directory: it has no {IDENTITY_FILE}")]
    NoDirectory(PathBuf),
    #[error(transparent)]
    Disks(#[from] disks::Error),
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Fatal(#[from] log::Fatal),
    #[error(
        "the data directories of node {0} have no replica of __meta: nothing can be recovered from them"
    )]
    NoMeta(NodeId),
    #[error(
        "the log of __meta on node {node} is damaged from entry {first} on: recover from another node"
    )]
    Damaged { node: NodeId, first: LogIndex },
    #[error(
        "the replica of __meta on node {0} was on its way to having what the others have: recover from \
         another node"
    )]
    Behind(NodeId),
    #[error(transparent)]
    Replay(#[from] replay::Error),
    #[error("the log of __meta on node {node} cannot be read: {source}")]
    Record { node: NodeId, source: record::Error },
    #[error("__meta on node {0} knows of no cluster yet: nothing can be recovered from it")]
    NoCluster(NodeId),
    #[error("node {node} has no replica {replica} of __meta by its own image")]
    Unplaced { node: NodeId, replica: ReplicaId },
    #[error(
        "node {node} last started with older software (feature level {level}; {FEATURE_LEVEL} is needed): start it \
         once with this version, or name it as lost"
    )]
    OldSoftware { node: NodeId, level: u32 },
    #[error("__meta has used up its home epochs")]
    NoEpochLeft,
    #[error("the disk of node {0} is full")]
    Full(NodeId),
}

/// What a stopped node has of `__meta`.
pub struct Survivor {
    pub node: NodeId,
    pub cluster_id: Option<String>,
    /// As of everything in the log.
    pub image: Image,
    /// The last entry, and the offset after it.
    pub last: Position,
    /// What is known to have been committed.
    pub committed: LogIndex,
    /// Partitions on these disks that the image does not know.
    pub unknown: Vec<String>,
    /// And those that are in a later home epoch here than the image says.
    pub ahead: Vec<String>,
    meta: Recovered,
    placed: Partition,
    stores: Vec<Store>,
    /// Which of them has `__meta`.
    number: usize,
}

impl Survivor {
    /// Opens the directories as a start of the node would; nobody else can have them open.
    pub fn open(dirs: &[PathBuf], node: NodeId) -> Result<Self, Error> {
        Self::open_on(Arc::new(OsDisk), dirs, node)
    }

    fn open_on(on: Arc<dyn Disk>, dirs: &[PathBuf], node: NodeId) -> Result<Self, Error> {
        let has_owner = |dir: &PathBuf| on.exists(&dir.join(IDENTITY_FILE)).unwrap_or(false);
        if let Some(dir) = dirs.iter().find(|dir| !has_owner(dir)) {
            return Err(Error::NoDirectory(dir.clone()));
        }
        // No directory is made, so no id either.
        let disks::Opened { stores, cluster_id, .. } = disks::open_on(on, dirs, node, || [0; 16])?;
        let (stores, recovered): (Vec<_>, Vec<_>) = stores.into_iter().unzip();
        let all = || (0..).zip(&recovered).flat_map(|(n, all)| all.iter().map(move |r| (n, r)));
        let (number, meta) =
            all().find(|(_, r)| r.partition == TopicPartition::META).ok_or(Error::NoMeta(node))?;
        if let Some(damage) = meta.corruption {
            return Err(Error::Damaged { node, first: damage.first });
        }
        if meta.state.installing {
            return Err(Error::Behind(node));
        }
        let image = image_of(node, &stores[number], meta)?;
        let placed = image.meta.as_deref().cloned().ok_or(Error::NoCluster(node))?;
        let others = || all().map(|(_, r)| r).filter(|r| r.partition != TopicPartition::META);
        let name = |r: &Recovered| format!("{}-{}", r.topic_name, r.partition.partition);
        let unknown = others().filter(|r| image.partition(r.partition).is_none());
        let is_ahead = |r: &&Recovered| {
            image.partition(r.partition).is_some_and(|p| p.home_epoch < r.state.home_epoch)
        };
        let last = Position { index: meta.last.0, term: meta.last.1, offset: meta.next_offset };
        Ok(Self {
            node,
            cluster_id,
            last,
            committed: meta.hw.index.max(meta.state.applied),
            unknown: unknown.map(name).collect(),
            ahead: others().filter(is_ahead).map(name).collect(),
            meta: meta.clone(),
            placed,
            image,
            stores,
            number,
        })
    }

    /// Who votes, as far as this log says.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.placed.voters().map(|replica| replica.node).collect()
    }

    /// The epoch that begins: above all that this replica has heard of, and another one on each node. Who recovers on
    /// two nodes has two clusters, and when they meet the lower one gives way; in one epoch they would mix.
    fn begins(&self) -> Option<HomeEpoch> {
        let ReplicaState { home_epoch, promised, .. } = self.meta.state;
        if is_unfinished(&self.meta) {
            return Some(home_epoch);
        }
        let known = self.placed.home_epoch.max(home_epoch).max(promised);
        let lower = self.placed.replicas.iter().filter(|replica| replica.node < self.node);
        HomeEpoch::new(known.as_u32() + 1 + lower.count() as u32)
    }

    /// Begins the next home epoch of `__meta` with what is here, and this node as its only voter. Durable on
    /// return.
    pub fn recover(mut self, lost: BTreeSet<NodeId>, at_ms: i64) -> Result<HomeEpoch, Error> {
        let (node, left) = (self.node, self.placed.home_epoch);
        let old = |n: &&Arc<Node>| n.feature_level < FEATURE_LEVEL && !lost.contains(&n.id);
        if let Some(old) = self.image.nodes.values().find(old) {
            return Err(Error::OldSoftware { node: old.id, level: old.feature_level });
        }
        let begins = self.begins().ok_or(Error::NoEpochLeft)?;
        let me = self.meta.state.replica;
        if !self.placed.replicas.iter().any(|replica| replica.id == me) {
            return Err(Error::Unplaced { node, replica: me });
        }
        let fork = Fork { home_epoch: begins, at: self.last, epochs: self.meta.epochs.clone() };
        let store = &mut self.stores[self.number];
        store.set_config(TopicPartition::META, bootstrap::log_config())?;
        let state = if is_unfinished(&self.meta) {
            self.meta.state.clone()
        } else {
            begin(store, &self.placed, &self.meta, &fork)?
        };
        let recover = Recover { home_epoch: left, fork, replica: me, lost, at_ms };
        let entry = entry(self.last, begins, &Command::RecoverMeta(Box::new(recover)), at_ms);
        // As if it had led that term: it is the only one that may, and has not.
        let state = ReplicaState { term: entry.term, vote: Some(me), ..state };
        let write =
            Write { entries: vec![entry], state: Some(state), ..Write::to(TopicPartition::META) };
        if !store.commit(vec![write])?.refused.is_empty() {
            return Err(Error::Full(node));
        }
        for store in self.stores {
            store.close()?;
        }
        Ok(begins)
    }
}

/// Leaves the old group for good, and begins the new one alone.
fn begin(
    store: &mut Store,
    placed: &Partition,
    meta: &Recovered,
    fork: &Fork,
) -> Result<ReplicaState, Error> {
    let (at, me) = (TopicPartition::META, meta.state.replica);
    store.seal(at, fork.home_epoch)?;
    store.cut_at(at, fork)?;
    let others = placed.replicas.iter().map(|replica| replica.id).filter(|id| *id != me);
    let state = ReplicaState {
        replica: me,
        home_epoch: fork.home_epoch,
        promised: fork.home_epoch,
        term: fork.home_epoch.first_term(),
        placement_generation: placed.placement_generation + 1,
        fork: Some(fork.at),
        conf: ConfState { voters: vec![me], learners: others.collect(), ..ConfState::default() },
        ..ReplicaState::default()
    };
    Ok(store.begin_epoch(at, state)?.0.state)
}

/// The first entry of the epoch, as its leader would write it.
fn entry(last: Position, begins: HomeEpoch, command: &Command, at_ms: i64) -> Entry {
    let term = Term(begins.first_term().0 + 1);
    let value = Some(command.encode());
    let mut payload = BytesMut::from(&record::build(&[Record { key: None, value }], at_ms)[..]);
    batch::place(&mut payload, last.offset, term.leader_epoch());
    Entry {
        index: last.index.next(),
        term,
        kind: Kind::Batch,
        base_offset: last.offset,
        append_time_ms: at_ms,
        payload: payload.freeze(),
    }
}

/// The image of everything that the log has.
fn image_of(node: NodeId, store: &Store, meta: &Recovered) -> Result<Image, Error> {
    let reader = store.reader(TopicPartition::META)?;
    let mut replay = Replay::new(meta.start.offset);
    while replay.next_offset() < meta.next_offset {
        let before = replay.next_offset();
        for batch in reader.read(before, READ_BYTES, meta.next_offset)? {
            let records = record::parse(&batch).map_err(|source| Error::Record { node, source })?;
            for placed in records {
                if placed.offset >= replay.next_offset() {
                    // Refused or not: it is a part of the image either way.
                    let _refused_or_not =
                        replay.step(placed.offset, placed.record.value.as_deref())?;
                }
            }
        }
        if replay.next_offset() == before {
            let (expected, found) = (before, meta.next_offset);
            return Err(replay::Error::Gap { expected, found }.into());
        }
    }
    replay
        .image()
        .cloned()
        .filter(|image| image.next_offset > Offset::ZERO)
        .ok_or(Error::NoCluster(node))
}

/// Whether a recovery was interrupted here: the epoch has begun with this replica alone, and nothing was
/// written in it. Nobody may write in it before what was decided is written down.
pub(super) fn is_unfinished(meta: &Recovered) -> bool {
    let ReplicaState { home_epoch, replica, conf, .. } = &meta.state;
    *home_epoch > HomeEpoch::FIRST
        && conf.voters == [*replica]
        && meta.last.1 < home_epoch.first_term()
}

#[cfg(test)]
mod tests;
