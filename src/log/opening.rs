//! Opening partitions from what the journal and their files say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::model::TopicPartition;

use super::error::{Context, Error};
use super::files::Files;
use super::partition::Partition;
use super::recovery::{self, Trust};
use super::state::{HighWatermark, Kept};
use super::store::{PARTITION_FILE, Recovered, make_partition_dir, partition_dir};
use super::view::Shared;
use super::write::Config;

pub(super) type Opened = (Partition, Recovered);

/// Recovers all partitions, `threads` at a time, in the order of their ids.
pub(super) fn all(
    files: &Arc<Files>,
    dir: &Path,
    states: BTreeMap<TopicPartition, Kept>,
    threads: usize,
) -> Result<Vec<Opened>, Error> {
    let states: Vec<_> = states.into_iter().collect();
    let this =
        |(id, kept): &(TopicPartition, Kept)| one(files, dir, *id, kept.clone(), Trust::Indexes);
    if threads < 2 || states.len() < 2 {
        return states.iter().map(this).collect();
    }
    let share = states.len().div_ceil(threads);
    let shares: Vec<Result<Vec<Opened>, Error>> = std::thread::scope(|scope| {
        let running: Vec<_> = states
            .chunks(share)
            .map(|share| scope.spawn(move || share.iter().map(this).collect()))
            .collect();
        running.into_iter().map(|t| t.join().expect("recovery does not panic")).collect()
    });
    let mut all = Vec::with_capacity(states.len());
    for share in shares {
        all.extend(share?);
    }
    Ok(all)
}

/// Recovers one partition. What was believed and cannot be read after all is not believed again: the log is damaged
/// there, and that keeps one replica closed and not a node from starting.
pub(super) fn one(
    files: &Arc<Files>,
    dir: &Path,
    id: TopicPartition,
    kept: Kept,
    trust: Trust,
) -> Result<Opened, Error> {
    let with = |trust| recovered(files, dir, id, kept.clone(), trust);
    match with(trust) {
        Err(Error::Corrupt { index, .. }) => match with(Trust::AllBut(index)) {
            Err(Error::Corrupt { .. }) => with(Trust::Nothing),
            opened => opened,
        },
        opened => opened,
    }
}

fn recovered(
    files: &Arc<Files>,
    dir: &Path,
    id: TopicPartition,
    mut kept: Kept,
    trust: Trust,
) -> Result<Opened, Error> {
    let dir = partition_dir(dir, id);
    if !files.disk().exists(&dir.join(PARTITION_FILE)).context("look for", &dir)? {
        // The directory is gone; its log is reported as damaged, and can be refetched into this one.
        make_partition_dir(files.disk(), &dir, &kept.topic_name)?;
    }
    let found = recovery::recover(files, &dir, id, &mut kept, trust)?;
    let (last, next_offset) = (found.view.last(), found.view.next_offset());
    let corruption = found.view.corruption;
    let epochs = found.view.epochs.clone();
    let (start, torn_bytes) = (kept.start, found.torn_bytes);
    let shared = Arc::new(Shared::new(id, dir.clone().into(), files.clone(), found.view));
    let durable = if corruption.is_some() { kept.durable } else { last.0 };
    // What a damaged log had is not forgotten: it is to have it again.
    let (whole_hw, whole_applied) = (kept.hw, kept.state.applied);
    if kept.hw.index > last.0 {
        kept.hw = HighWatermark { index: last.0, offset: next_offset };
    }
    kept.state.applied = kept.state.applied.min(last.0);
    if kept.state.term < last.1 {
        // The entries reached the disk and the term did not. Who led it is known to have won
        // without a vote from here: a vote is durable before it is sent.
        (kept.state.term, kept.state.vote) = (last.1, None);
    }
    kept.durable = durable;
    let mut partition = Partition::new(shared, Config::default(), kept, durable);
    let mut tail = Vec::new();
    let after = partition.kept.hw.index.max(start.index).next();
    partition.reader().headers(after, |meta, _| tail.push(*meta))?;
    let found = Recovered {
        partition: id,
        topic_name: partition.kept.topic_name.clone(),
        state: partition.kept.state.clone(),
        start,
        last,
        next_offset,
        hw: partition.kept.hw,
        epochs,
        tail,
        producer_snapshot: partition.reader().producer_snapshot(last.0)?,
        torn_bytes,
        corruption,
    };
    if corruption.is_some() {
        partition.kept.hw = whole_hw;
        partition.kept.state.applied = whole_applied;
    }
    Ok((partition, found))
}
