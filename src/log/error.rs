//! What can go wrong with a data directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{HomeEpoch, LogIndex, NodeId, Offset, Term, TopicPartition};

use super::disk;
use super::entry::Discontinuity;
use super::fork::BadFork;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },

    #[error("data directory {dir} is in use by {owner}")]
    Locked { dir: PathBuf, owner: String },
    #[error("data directory {dir} belongs to node {found}; this is node {wanted}")]
    OtherNode { dir: PathBuf, found: NodeId, wanted: NodeId },
    #[error("data directory {dir} belongs to cluster {found:?}; this is cluster {wanted:?}")]
    OtherCluster { dir: PathBuf, found: String, wanted: String },
    #[error("{path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("{path} has format version {found}; this binary reads up to {known}")]
    Version { path: PathBuf, found: u16, known: u16 },

    #[error(
        "state journal {path}: the record at byte {position} is damaged, and later ones show that \
         it had been synced; a vote or a promise may be lost, so this disk must not take part: \
         wipe it, and let the node join with a new disk id"
    )]
    JournalCorrupt { path: PathBuf, position: u64 },
    #[error("{dir} holds partitions but no state journal; votes and promises are lost: wipe it")]
    JournalMissing { dir: PathBuf },
    #[error("{dir} holds a log that the state journal does not know")]
    Orphan { dir: PathBuf },

    #[error("no partition {0} here")]
    UnknownPartition(TopicPartition),
    #[error("partition {0} is here already")]
    Exists(TopicPartition),
    #[error("no topic {wanted:?} in {dir}; there are: {there}")]
    UnknownTopic { wanted: String, dir: PathBuf, there: String },

    #[error("offset {offset} is outside {start} to {end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    #[error("entry {index} is before the log start; the first is {first}")]
    Compacted { index: LogIndex, first: LogIndex },
    #[error("entry {index} is not there yet; the last is {last}")]
    Unavailable { index: LogIndex, last: LogIndex },
    #[error("partition {partition}: {path} is damaged at byte {position} (entry {index})")]
    Corrupt { partition: TopicPartition, path: PathBuf, position: u64, index: LogIndex },
    #[error("partition {0} was removed while it was read")]
    Removed(TopicPartition),

    #[error(
        "partition {partition}: asked to promise home epoch {asked}, and has promised {promised} \
         already"
    )]
    Promised { partition: TopicPartition, asked: HomeEpoch, promised: HomeEpoch },
    #[error(
        "partition {partition}: home epoch {asked} is not the one that was promised and has not \
         begun: promised {promised}, in {begun}"
    )]
    NotSealed { partition: TopicPartition, asked: HomeEpoch, promised: HomeEpoch, begun: HomeEpoch },
    #[error(
        "partition {partition}: entries {first} to {last} are damaged; a damaged log is mended \
         before it is cut or goes on in a new home (R21)"
    )]
    Damaged { partition: TopicPartition, first: LogIndex, last: LogIndex },
    #[error("partition {partition}: no fork: {source}")]
    Fork { partition: TopicPartition, source: BadFork },
    #[error(
        "partition {partition}: nothing of entries {start} to {last} is known to be of the log that \
         ends at {fork}: it goes into the ledger whole, and begins anew from a log-start snapshot"
    )]
    NothingInCommon { partition: TopicPartition, start: LogIndex, last: LogIndex, fork: LogIndex },
    #[error(
        "partition {partition}: the log, which ends at entry {last}, was not cut at {fork} for home \
         epoch {home_epoch}"
    )]
    NotCut { partition: TopicPartition, last: LogIndex, fork: LogIndex, home_epoch: HomeEpoch },
    #[error(
        "partition {partition}: entry {index} of term {term} is not of the log that ends at {fork}"
    )]
    NotOfFork { partition: TopicPartition, index: LogIndex, term: Term, fork: LogIndex },
    #[error("partition {partition}: {source}")]
    Discontinuity { partition: TopicPartition, source: Discontinuity },
    #[error(transparent)]
    OutOfSpace(#[from] OutOfSpace),

    #[error("the disk of {dir} failed earlier; nothing more is written (R20)")]
    Poisoned { dir: PathBuf },
}

impl Error {
    /// The disk has no room for what was to be written; nothing else is wrong with it.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => disk::is_out_of_space(source),
            error => matches!(error, Self::OutOfSpace(_)),
        }
    }
}

/// The disk failed, and what reached it is unknown: the process ends, without an acknowledgement
/// and without a retry (R20).
#[derive(Debug, thiserror::Error)]
#[error("data directory {dir}: {source}")]
pub struct Fatal {
    pub dir: PathBuf,
    pub source: Error,
}

/// A write that found no room; it may be tried again (R22).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {partition}: {needed_bytes} bytes to write, {free_bytes} free above the reserve"
)]
pub struct OutOfSpace {
    pub partition: TopicPartition,
    pub needed_bytes: u64,
    pub free_bytes: u64,
}

/// Adds to an I/O error what was done to which file.
pub(super) trait Context<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what, path: path.to_owned(), source })
    }
}
