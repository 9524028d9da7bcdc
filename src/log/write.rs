//! What a group commit is made of, and what comes of it.

use bytes::Bytes;

use crate::model::{LogIndex, TopicPartition};

use super::entry::Entry;
use super::error::OutOfSpace;
use super::state::{HighWatermark, LogStart, ReplicaState};

/// How a partition's files are cut. The same in every DC, as the topic's configuration is; a
/// change of it takes effect with the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// `segment.bytes`: a segment that holds an entry is not written beyond it.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment holds no entries appended further apart.
    pub segment_ms: i64,
}

impl Default for Config {
    /// Kafka's: 1 GiB and seven days.
    fn default() -> Self {
        Self { segment_bytes: 1 << 30, segment_ms: 7 * 24 * 3600 * 1000 }
    }
}

/// What one group commit does to one partition. The parts are applied in the order of the fields.
#[derive(Debug, Clone)]
pub struct Write {
    pub partition: TopicPartition,
    /// Empties the log and starts it here: the log-start snapshot of a replica that lags too far.
    pub reset: Option<LogStart>,
    /// Drops this entry and all after it. Never at or below the HW, but for a replica that is
    /// `installing`, which has lost its standing.
    pub truncate_from: Option<LogIndex>,
    pub entries: Vec<Entry>,
    /// Producer state after the entry of that index, opaque to the log. Made where a segment begins
    /// (`Committed::rolled`), so that recovery reads no further back.
    pub producer_snapshot: Option<(LogIndex, Bytes)>,
    pub state: Option<ReplicaState>,
    /// HW, and with it the durable mark, for the journal; not worth a sync.
    pub checkpoint: Option<HighWatermark>,
    /// Log start, moved by a logged entry (R24); never back.
    pub start: Option<LogStart>,
    /// `flush = "quorum"`: this write's entries, and any before them, are on disk when `commit`
    /// returns. Otherwise they are in the page cache; a write of nothing with `sync` flushes them.
    pub sync: bool,
}

impl Write {
    /// A write that does nothing yet, with `flush = "quorum"`.
    pub fn to(partition: TopicPartition) -> Self {
        Self {
            partition,
            reset: None,
            truncate_from: None,
            entries: Vec::new(),
            producer_snapshot: None,
            state: None,
            checkpoint: None,
            start: None,
            sync: true,
        }
    }
}

/// What a group commit did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Writes that found no room. Their entries, states and checkpoints were not applied, and the
    /// same partition's later writes of this commit were refused with them. Try them again later,
    /// as they are: a truncation or reset of theirs may have happened, and happens again to no harm.
    pub refused: Vec<OutOfSpace>,
    /// Segments that begin with this index were opened: a producer snapshot of the index before it
    /// is worth making.
    pub rolled: Vec<(TopicPartition, LogIndex)>,
    /// Files synced, for the metrics.
    pub files_synced: usize,
    /// Bytes appended to logs, frames included.
    pub bytes_appended: u64,
}

/// Room on the disk, as the last commit saw it (R22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    Ample,
    /// Below the produce reserve: refuse produce, go on replicating.
    RefuseProduce,
    /// Below the replication reserve: every append is refused; what remains is for votes, promises
    /// and renames.
    RefuseAll,
}
