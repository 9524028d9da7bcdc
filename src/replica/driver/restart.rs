//! A core from what the disk gave back.

use bytes::Bytes;
use raft::eraftpb::{ConfState, HardState};

use super::spec::Spec;
use crate::log::{self, HighWatermark, Reader, Recovered, ReplicaState};
use crate::model::{LogIndex, Mode, ReplicaId};
use crate::replica::core::control;
use crate::replica::core::producers::Producers;
use crate::replica::core::raft_log::{Restored, Start};
use crate::replica::core::{Position, Restart, start_state};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error("producer snapshot at entry {at}: {source}")]
    Producers { at: LogIndex, source: prost::DecodeError },
}

/// The state of a replica that has never been.
pub fn new_state(spec: &Spec) -> ReplicaState {
    let ids = |voter: bool| {
        spec.members.iter().filter(|(_, m)| m.voter == voter).map(|(id, _)| *id).collect()
    };
    ReplicaState {
        replica: spec.me,
        home_epoch: spec.group.home_epoch,
        promised: spec.group.home_epoch,
        term: spec.group.home_epoch.first_term(),
        placement_generation: spec.placement_generation,
        fork: spec.fork,
        mode: spec.began,
        installing: spec.stands_in,
        conf: log::ConfState {
            voters: ids(true),
            learners: ids(false),
            ..log::ConfState::default()
        },
        ..ReplicaState::default()
    }
}

/// A replica with an empty log.
pub fn fresh(state: &ReplicaState) -> Restart {
    let log = Restored {
        hard_state: hard_state(state, LogIndex::ZERO),
        conf_state: to_raft(&state.conf),
        ..Restored::default()
    };
    let (conf_generation, joins) = (state.placement_generation, state.installing);
    Restart { log, conf_generation, joins, mode: state.mode, ..Restart::default() }
}

/// A replica that was here before. Reads the disk: the entries that are not applied, and the batch
/// headers since the newest producer snapshot.
pub fn recovered(recovered: &Recovered, reader: &Reader) -> Result<Restart, Error> {
    let HighWatermark { index: hw, offset: hw_offset } = recovered.hw;
    let (last, _) = recovered.last;
    let start = Start {
        index: recovered.start.index,
        term: recovered.start.term,
        offset: reader.segments().first().map_or(recovered.next_offset, |s| s.base_offset),
    };
    // Whatever was applied is committed, and so is everything below the watermark.
    let applied = recovered.state.applied.min(hw).max(start.index);
    let recent = entries(reader, applied.next(), last.next())?;
    let applied_end = recent.first().map_or(recovered.next_offset, |e| e.base_offset);
    let producers = producers_at(recovered, reader, applied)?;
    let log = Restored {
        start,
        start_state: start_state_at(start, reader, recovered.state.mode)?,
        epochs: recovered.epochs.iter().map(|e| (e.term, e.index, e.offset)).collect(),
        last,
        applied_end,
        recent,
        applied,
        hard_state: hard_state(&recovered.state, applied.max(hw)),
        conf_state: to_raft(&recovered.state.conf),
    };
    let beyond = recovered.tail.iter().filter(|e| e.index > hw).map(|e| Position {
        index: e.index,
        next_offset: e.next_offset,
        bytes: e.payload_bytes as usize,
    });
    Ok(Restart {
        log,
        producers,
        log_start: recovered.start.offset,
        watermark: (hw, hw_offset),
        beyond: beyond.collect(),
        conf_generation: recovered.state.placement_generation,
        joins: recovered.state.installing,
        mode: recovered.state.mode,
    })
}

/// What a replica that lags behind `start` must be sent: this one may lead before its log start
/// moves again.
fn start_state_at(start: Start, reader: &Reader, mode: Mode) -> Result<Bytes, log::Error> {
    let producers = match reader.producer_snapshot(start.index)? {
        Some((at, bytes)) if at == start.index => bytes,
        _ => Bytes::new(),
    };
    Ok(start_state(start, &producers, mode))
}

/// The producers' state after `applied`: the newest snapshot at or before it, and every batch since.
fn producers_at(
    recovered: &Recovered,
    reader: &Reader,
    applied: LogIndex,
) -> Result<Producers, Error> {
    let snapshot = match &recovered.producer_snapshot {
        Some((at, bytes)) if *at <= applied => Some((*at, bytes.clone())),
        _ => reader.producer_snapshot(applied)?,
    };
    let (mut producers, from) = match snapshot {
        Some((at, bytes)) => {
            let producers = Producers::from_bytes(&bytes);
            (producers.map_err(|source| Error::Producers { at, source })?, at.next())
        }
        None => (Producers::default(), recovered.start.index.next()),
    };
    let mut failed = None;
    reader.headers(from, |meta, header| {
        if meta.index > applied || failed.is_some() {
            return;
        }
        match (meta.kind, header) {
            (log::Kind::Batch, Some(header)) => {
                producers.apply(header, meta.index, meta.append_time_ms);
            }
            (log::Kind::Control(control::EXPIRE_PRODUCERS), _) => {
                match control_at(reader, meta.index) {
                    Ok(before_ms) => producers.expire(before_ms),
                    Err(error) => failed = Some(error),
                }
            }
            _ => {}
        }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(producers),
    }
}

fn control_at(reader: &Reader, index: LogIndex) -> Result<i64, log::Error> {
    let entries = reader.entries(index, index.next(), usize::MAX)?;
    Ok(entries.first().map_or(i64::MIN, control::value))
}

/// Entries read in one go at a restart.
const READ_BYTES: usize = 4 << 20;

/// All entries in `from..to`; a read of the log ends with its segment.
fn entries(
    reader: &Reader,
    mut from: LogIndex,
    to: LogIndex,
) -> Result<Vec<log::Entry>, log::Error> {
    let mut all = Vec::new();
    while from < to {
        let some = reader.entries(from, to, READ_BYTES)?;
        let Some(last) = some.last() else { break };
        from = last.index.next();
        all.extend(some);
    }
    Ok(all)
}

fn hard_state(state: &ReplicaState, commit: LogIndex) -> HardState {
    let mut hard = HardState::default();
    hard.term = state.term.0;
    hard.vote = state.vote.map_or(raft::INVALID_ID, |v| v.0);
    hard.commit = commit.0;
    hard
}

fn raw(ids: &[ReplicaId]) -> Vec<u64> {
    ids.iter().map(|id| id.0).collect()
}

fn ours(ids: &[u64]) -> Vec<ReplicaId> {
    ids.iter().copied().map(ReplicaId).collect()
}

pub fn to_raft(conf: &log::ConfState) -> ConfState {
    let mut raft = ConfState::default();
    raft.voters = raw(&conf.voters);
    raft.learners = raw(&conf.learners);
    raft.voters_outgoing = raw(&conf.voters_outgoing);
    raft.learners_next = raw(&conf.learners_next);
    raft.auto_leave = conf.auto_leave;
    raft
}

pub fn from_raft(raft: &ConfState) -> log::ConfState {
    log::ConfState {
        voters: ours(&raft.voters),
        learners: ours(&raft.learners),
        voters_outgoing: ours(&raft.voters_outgoing),
        learners_next: ours(&raft.learners_next),
        auto_leave: raft.auto_leave,
    }
}
