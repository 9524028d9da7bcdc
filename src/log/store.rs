//! One data directory of one node.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{LogIndex, NodeId, Offset, Term, TopicPartition};

use super::disk::Disk;
use super::entry::EntryMeta;
use super::error::{Error, Fatal};
use super::reader::Reader;
use super::segment::EpochStart;
use super::state::{HighWatermark, LogStart, ReplicaState};
use super::view::Corruption;
use super::write::{Committed, Config, Space, Write};

/// How a data directory is used. Node values; nothing here changes what is in the files.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Segments open at once, in all partitions.
    pub files_open_max: usize,
    /// Threads that sync files of one commit side by side. Measured with 32 files: 8 threads 2.5 ms
    /// where one by one takes 6 (`notes/tech.md`).
    pub sync_threads: usize,
    /// Free space below which `space` asks to refuse produce.
    pub produce_reserve_bytes: u64,
    /// Free space below which every append is refused, and votes and promises alone are written.
    pub append_reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            files_open_max: 512,
            sync_threads: 8,
            produce_reserve_bytes: 256 << 20,
            append_reserve_bytes: 64 << 20,
        }
    }
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `None` until the node has joined one.
    pub cluster_id: Option<String>,
    pub node: NodeId,
    /// Random, made with the directory: a replica's identity is (node, disk uuid), so a disk that
    /// was wiped is another replica (R22).
    pub disk_uuid: [u8; 16],
}

/// A partition as a restart found it.
#[derive(Debug, Clone)]
pub struct Recovered {
    pub partition: TopicPartition,
    pub topic_name: String,
    /// `term` at least that of the last entry, `applied` at most its index.
    pub state: ReplicaState,
    pub start: LogStart,
    pub last: (LogIndex, Term),
    pub next_offset: Offset,
    /// The last checkpoint, not beyond `last`.
    pub hw: HighWatermark,
    pub epochs: Vec<EpochStart>,
    /// Entries after `hw`.
    pub tail: Vec<EntryMeta>,
    /// The newest producer snapshot: `Reader::headers` from the entry after it gives the rest.
    pub producer_snapshot: Option<(LogIndex, Bytes)>,
    /// Unsynced bytes after the durable mark that were cut. Expected after a power cut.
    pub torn_bytes: u64,
    /// Damage before the durable mark. The log ends before it until it is truncated or reset.
    pub corruption: Option<Corruption>,
}

#[derive(Debug)]
pub struct Store {}

impl Store {
    pub fn open(
        _disk: Arc<dyn Disk>,
        _dir: &Path,
        _node: NodeId,
        _options: Options,
    ) -> Result<(Self, Vec<Recovered>), Error> {
        unimplemented!()
    }

    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }

    pub fn set_cluster_id(&mut self, _cluster_id: &str) -> Result<(), Error> {
        unimplemented!()
    }

    pub fn create(
        &mut self,
        _partition: TopicPartition,
        _topic_name: &str,
        _state: ReplicaState,
        _config: Config,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    pub fn set_config(&mut self, _partition: TopicPartition, _config: Config) -> Result<(), Error> {
        unimplemented!()
    }

    pub fn commit(&mut self, _writes: Vec<Write>) -> Result<Committed, Fatal> {
        unimplemented!()
    }

    pub fn remove(&mut self, _partition: TopicPartition) -> Result<(), Error> {
        unimplemented!()
    }

    pub fn reader(&self, _partition: TopicPartition) -> Result<Reader, Error> {
        unimplemented!()
    }

    pub fn space(&self) -> Space {
        unimplemented!()
    }

    /// Syncs everything and writes what makes the next start fast.
    pub fn close(&mut self) -> Result<(), Fatal> {
        unimplemented!()
    }
}
