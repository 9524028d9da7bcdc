//! What the tests of the log share: entries, batches, stores, and a directory that goes away.

mod basics;
mod beside;
mod crash;
mod damage;
pub(crate) mod home;
mod home_crash;
mod lifecycle;
mod mend;
mod suffix;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::model::{LogIndex, NodeId, Offset, ReplicaId, Term, TopicId, TopicPartition, batch};

use super::disk::sim::SimDisk;
use super::{
    Committed, ConfState, Config, Entry, Error, Kind, Options, Recovered, ReplicaState, Store,
    Write,
};

/// The first term of the first home.
pub(crate) const TERM: u64 = 1 << 17;

pub(crate) fn partition(n: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition: n }
}

/// A directory of the machine's, removed at the end of the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("isobar-log-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What is left of a failed test's directory is the least of its troubles.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn zigzag(value: i64, out: &mut Vec<u8>) {
    let mut v = ((value << 1) ^ (value >> 63)) as u64;
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// A batch of real records at `base`, one a timestamp, each with `value`.
pub(crate) fn batch_with(base: i64, timestamps: &[i64], value: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for (n, timestamp) in timestamps.iter().enumerate() {
        let mut record = vec![0];
        zigzag(timestamp - timestamps[0], &mut record);
        zigzag(n as i64, &mut record);
        zigzag(-1, &mut record);
        zigzag(value.len() as i64, &mut record);
        record.extend_from_slice(value);
        zigzag(0, &mut record);
        zigzag(record.len() as i64, &mut records);
        records.extend_from_slice(&record);
    }
    let mut b = vec![0; batch::HEADER_BYTES];
    b.extend_from_slice(&records);
    let (count, length) = (timestamps.len() as i32, b.len() as i32 - 12);
    b[0..8].copy_from_slice(&base.to_be_bytes());
    b[8..12].copy_from_slice(&length.to_be_bytes());
    b[12..16].copy_from_slice(&(TERM as i32).to_be_bytes());
    b[16] = 2;
    b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    b[27..35].copy_from_slice(&timestamps[0].to_be_bytes());
    b[35..43].copy_from_slice(&timestamps.iter().max().unwrap().to_be_bytes());
    b[43..57].copy_from_slice(&[0xff; 14]);
    b[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b
}

pub(crate) fn batch_of_records(base: i64, timestamps: &[i64]) -> Vec<u8> {
    batch_with(base, timestamps, b"v")
}

pub(crate) fn entry(index: u64, term: u64, kind: Kind, base: i64, payload: &[u8]) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        kind,
        base_offset: Offset(base),
        append_time_ms: 1_000_000 + index as i64,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// A batch of `records` records, each with `value`; their times are their offsets.
pub(crate) fn batch_entry(index: u64, term: u64, base: i64, records: i64, value: &[u8]) -> Entry {
    let timestamps: Vec<i64> = (base..base + records).collect();
    entry(index, term, Kind::Batch, base, &batch_with(base, &timestamps, value))
}

/// `count` batches of two records each that continue a log.
pub(crate) fn batches(
    last: (LogIndex, Term),
    next: Offset,
    term: u64,
    count: u64,
    value: &[u8],
) -> Vec<Entry> {
    (0..count)
        .map(|n| batch_entry(last.0.0 + 1 + n, term, next.0 + 2 * n as i64, 2, value))
        .collect()
}

pub(crate) fn state() -> ReplicaState {
    ReplicaState {
        replica: ReplicaId(1),
        term: Term(TERM),
        conf: ConfState { voters: vec![ReplicaId(1)], ..ConfState::default() },
        ..ReplicaState::default()
    }
}

pub(crate) fn node() -> NodeId {
    NodeId::new(1).unwrap()
}

/// Reserves of nothing, so that a test's disk may be small, and a journal that is soon replaced.
pub(crate) fn options() -> Options {
    Options {
        produce_reserve_bytes: 0,
        append_reserve_bytes: 0,
        journal_bytes: 2 << 10,
        ..Options::default()
    }
}

pub(crate) fn try_open(disk: &SimDisk) -> Result<(Store, Vec<Recovered>), Error> {
    Store::open(Arc::new(disk.clone()), Path::new("/data"), node(), [7; 16], options())
}

pub(crate) fn open(disk: &SimDisk) -> (Store, Vec<Recovered>) {
    try_open(disk).unwrap()
}

/// A store with one empty partition, 0, with segments of `segment_bytes`.
pub(crate) fn store_with(disk: &SimDisk, segment_bytes: u32) -> Store {
    let (mut store, recovered) = open(disk);
    assert!(recovered.is_empty());
    let config = Config { segment_bytes, ..Config::default() };
    store.create(partition(0), "orders", state(), config).unwrap();
    store
}

pub(crate) fn append(store: &mut Store, entries: Vec<Entry>) -> Committed {
    store.commit(vec![Write { entries, ..Write::to(partition(0)) }]).unwrap()
}

/// Appends `count` batches of two records to partition 0.
pub(crate) fn append_batches(store: &mut Store, count: u64, value: &[u8]) -> Committed {
    let reader = store.reader(partition(0)).unwrap();
    append(store, batches(reader.last(), reader.next_offset(), TERM, count, value))
}

pub(crate) fn all_entries(store: &Store) -> Vec<Entry> {
    let reader = store.reader(partition(0)).unwrap();
    let mut all: Vec<Entry> = Vec::new();
    let (mut from, end) = (reader.start().index.next(), reader.last().0.next());
    while from < end {
        let some = reader.entries(from, end, 1 << 20).unwrap();
        from = some.last().unwrap().index.next();
        all.extend(some);
    }
    all
}

/// Files of partition 0 that end with `suffix`.
pub(crate) fn files(disk: &SimDisk, suffix: &str) -> Vec<PathBuf> {
    let dir = super::store::partition_dir(Path::new("/data"), partition(0));
    let inside =
        |path: &PathBuf| path.starts_with(&dir) && path.to_str().unwrap().ends_with(suffix);
    disk.files().into_iter().filter(inside).collect()
}
