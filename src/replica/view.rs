//! What the rest of the node may see of a replica without asking its loop: positions, and records
//! below the high watermark.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::core::config::RANGE_BYTES_MAX;
use crate::log;
use crate::model::{GroupId, HomeEpoch, LeaderEpoch, LogIndex, Offset, Term, TopicPartition};

/// Bytes of recent batches kept in memory per replica for reads behind the head. A tail of fetches
/// and learners a few round trips behind never touch the disk: 4 MiB is 100 ms at 40 MB/s.
const RECENT_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Learner,
}

/// Where a replica stands. All offsets are exclusive ends ("the next offset"), as Kafka speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub role: Role,
    /// A leader that takes nothing any more, for another is about to lead.
    pub hands_over: bool,
    /// The last entry on disk here is one after which nothing comes in this home (R18).
    pub handed_off: bool,
    /// Of the leader that this replica follows, or its own.
    pub leader_epoch: LeaderEpoch,
    /// First offset that may be read.
    pub log_start: Offset,
    /// What clients may see. Within a home epoch it never goes back.
    pub high_watermark: Offset,
    /// A leader that does not yet know where the high watermark stands answers
    /// OFFSET_NOT_AVAILABLE (KIP-207, R6). Always true on followers and learners.
    pub watermark_known: bool,
    /// The offset after the last record appended here, acknowledged or not.
    pub log_end: Offset,
}

impl Progress {
    /// Whether the replica has won an election between this and `after`.
    pub(super) fn is_won_by(self, after: Self) -> bool {
        let led = |progress: Self| (progress.role == Role::Leader).then_some(progress.leader_epoch);
        led(after).is_some() && led(after) != led(self)
    }
}

/// Whole batches in offset order, zero-copy.
#[derive(Debug, Clone, Default)]
pub struct Records {
    pub batches: Vec<Bytes>,
    pub size_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {wanted} is outside {log_start}..={high_watermark}")]
    OutOfRange { wanted: Offset, log_start: Offset, high_watermark: Offset },
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// Why entries were not given to another node.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    #[error("entry {from} is beyond what is known to be committed here, {committed}")]
    Behind { from: LogIndex, committed: LogIndex },
    #[error("home epoch {wanted} was asked for; the log here is of {here}")]
    OtherEpoch { wanted: HomeEpoch, here: HomeEpoch },
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// Shared between the replica's loop, which writes, and everybody's reads.
#[derive(Debug)]
pub struct View {
    pub partition: TopicPartition,
    progress: watch::Sender<Progress>,
    moved: Notify,
    /// Nothing of the replica will ever be seen here again.
    closed: AtomicBool,
    /// The last entry that is known to be committed at home: it stays, whether it may be seen yet or not.
    committed: AtomicU64,
    /// The home that the log is in, and the entry up to which it was cut for that: all of it is the group's.
    home: Mutex<(HomeEpoch, LogIndex)>,
    recent: Mutex<Recent>,
    epochs: Mutex<Vec<(Term, LogIndex, Offset)>>,
    /// Another one after each move of the home.
    reader: RwLock<log::Reader>,
}

#[derive(Debug, Default)]
struct Recent {
    batches: std::collections::VecDeque<(Offset, Offset, Bytes)>,
    size_bytes: usize,
}

impl View {
    pub fn new(
        partition: TopicPartition,
        progress: Progress,
        epochs: Vec<(Term, LogIndex, Offset)>,
        reader: log::Reader,
    ) -> Self {
        Self {
            partition,
            progress: watch::Sender::new(progress),
            moved: Notify::new(),
            closed: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            home: Mutex::default(),
            recent: Mutex::default(),
            epochs: Mutex::new(epochs),
            reader: RwLock::new(reader),
        }
    }

    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Every change of progress, for those who follow one partition for long.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Returns once the progress differs from `seen`; at once if it already does.
    pub async fn moved_from(&self, seen: Progress) {
        loop {
            let moved = self.moved.notified();
            if self.progress() != seen {
                return;
            }
            moved.await;
        }
    }

    /// Returns once another view is shown of the partition, or none: this one says nothing any more.
    pub async fn closed(&self) {
        loop {
            let moved = self.moved.notified();
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            moved.await;
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    /// Reads whole batches from the one that holds `from`, up to the high watermark, until
    /// `bytes_max` is passed; the first batch comes whole even if it is larger (KIP-74).
    ///
    /// `None` at `from == high watermark`: nothing there yet. May wait for the disk, so call it
    /// where blocking is allowed unless [`View::read_recent`] had an answer.
    pub fn read(&self, from: Offset, bytes_max: usize) -> Result<Option<Records>, ReadError> {
        if let Some(recent) = self.read_recent(from, bytes_max)? {
            return Ok(Some(recent));
        }
        let limit = self.progress().high_watermark;
        if from == limit {
            return Ok(None);
        }
        let batches = self.reader().read(from, bytes_max, limit)?;
        let size_bytes = batches.iter().map(Bytes::len).sum();
        Ok((size_bytes > 0).then_some(Records { batches, size_bytes }))
    }

    /// As [`View::read`], from memory only: `Ok(None)` when nothing is there yet *or* only the
    /// disk has it; the caller tells the two apart by `from == high watermark`.
    pub fn read_recent(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Option<Records>, ReadError> {
        let Progress { log_start, high_watermark, .. } = self.progress();
        if from < log_start || from > high_watermark {
            return Err(ReadError::OutOfRange { wanted: from, log_start, high_watermark });
        }
        let recent = self.recent.lock().expect("no panic while held");
        let first = recent.batches.partition_point(|(_, next, _)| *next <= from);
        if recent.batches.front().is_none_or(|(base, _, _)| *base > from) {
            return Ok(None);
        }
        let mut records = Records::default();
        for (_, next, bytes) in recent.batches.iter().skip(first) {
            let full = !records.batches.is_empty() && records.size_bytes + bytes.len() > bytes_max;
            if full || *next > high_watermark {
                break;
            }
            records.size_bytes += bytes.len();
            records.batches.push(bytes.clone());
        }
        Ok((!records.batches.is_empty()).then_some(records))
    }

    /// Kafka's OffsetForLeaderEpoch: the largest epoch at or below `epoch` that has records here,
    /// and the offset where it ends (below the high watermark). `None` if every record is younger.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let Progress { high_watermark, .. } = self.progress();
        let epochs = self.epochs.lock().expect("no panic while held");
        let after = epochs.partition_point(|(term, ..)| term.leader_epoch() <= epoch);
        let (term, ..) = epochs.get(after.checked_sub(1)?)?;
        let end = epochs.get(after).map_or(high_watermark, |(_, _, first)| *first);
        Some((term.leader_epoch(), end.min(high_watermark)))
    }

    /// Where `epoch` ends for good here: an end at the high watermark is only where this replica stands, and it may lag.
    pub fn settled_end_of_epoch(&self, epoch: LeaderEpoch) -> Option<Offset> {
        let (_, end) = self.end_of_epoch(epoch)?;
        (end < self.progress().high_watermark).then_some(end)
    }

    /// Where the log parted from what a client has read up to `offset`, the last of it in `epoch`, if it did
    /// (KIP-595's field, KIP-320's question).
    pub fn parted_from(&self, epoch: LeaderEpoch, offset: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch < 0 {
            return None;
        }
        let (last, end) = self.end_of_epoch(epoch).unwrap_or((-1, self.progress().log_start));
        (last < epoch || end < offset).then_some((last, end))
    }

    /// The first record at or after `timestamp_ms` below the high watermark: its offset,
    /// timestamp and leader epoch. Reads the disk.
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, ReadError> {
        let limit = self.progress().high_watermark;
        let found = self.reader().offset_for_timestamp(timestamp_ms, limit)?;
        Ok(found.map(|f| (f.offset, f.timestamp, f.term.leader_epoch())))
    }

    /// Bytes of the whole log here, all segments.
    pub fn log_bytes(&self) -> u64 {
        self.reader().segments().iter().map(|segment| segment.size_bytes).sum()
    }

    /// Entries for a replica on another node: frames from entry `from` up to `to` (exclusive), and not
    /// beyond what is committed at home or the cut that the home began with, of about [`RANGE_BYTES_MAX`] together.
    /// Waits for the disk.
    pub fn range(&self, group: GroupId, from: LogIndex, to: LogIndex) -> Result<Bytes, RangeError> {
        let (here, cut) = *self.home.lock().expect("no panic while held");
        if group.home_epoch != here {
            return Err(RangeError::OtherEpoch { wanted: group.home_epoch, here });
        }
        let began_with = cut.min(self.reader().last().0);
        let committed = LogIndex(self.committed.load(Ordering::Relaxed)).max(began_with);
        if from > committed {
            return Err(RangeError::Behind { from, committed });
        }
        Ok(self.reader().range(from, to.min(committed.next()), RANGE_BYTES_MAX)?)
    }

    pub(super) fn set_home(&self, epoch: HomeEpoch, cut: LogIndex) {
        *self.home.lock().expect("no panic while held") = (epoch, cut);
    }

    pub(super) fn set_committed(&self, index: LogIndex) {
        self.committed.store(index.0, Ordering::Relaxed);
    }

    /// For whoever looks for what has rotted.
    pub fn reader(&self) -> log::Reader {
        self.reader.read().expect("no panic while held").clone()
    }

    pub fn publish(&self, progress: Progress) {
        let changed = self.progress.send_if_modified(|p| {
            let changed = *p != progress;
            *p = progress;
            changed
        });
        if changed {
            self.moved.notify_waiters();
        }
    }

    /// Adds an appended batch, in log order; what was there from its base offset on is replaced.
    pub(super) fn push_recent(&self, base: Offset, next: Offset, bytes: Bytes) {
        let mut recent = self.recent.lock().expect("no panic while held");
        recent.cut_from(base);
        recent.size_bytes += bytes.len();
        recent.batches.push_back((base, next, bytes));
        while recent.size_bytes > RECENT_BYTES_MAX && recent.batches.len() > 1 {
            let (_, _, old) = recent.batches.pop_front().expect("more than one");
            recent.size_bytes -= old.len();
        }
    }

    /// The log goes on with something else from there on.
    pub(super) fn cut_recent(&self, base: Offset) {
        self.recent.lock().expect("no panic while held").cut_from(base);
    }

    /// The replica goes on in its next home epoch, with a log that may be shorter than what was shown.
    pub(super) fn begin_anew(
        &self,
        progress: Progress,
        epochs: &[(Term, LogIndex, Offset)],
        reader: log::Reader,
    ) {
        *self.reader.write().expect("no panic while held") = reader;
        *self.recent.lock().expect("no panic while held") = Recent::default();
        self.set_epochs(epochs);
        self.committed.store(0, Ordering::Relaxed);
        self.publish(progress);
    }

    /// Entries of a sealed log, committed or not, for a peer that is to hold F too (R13).
    pub fn sealed_range(&self, from: LogIndex, to: LogIndex) -> Result<Bytes, log::Error> {
        self.reader().range(from, to, RANGE_BYTES_MAX)
    }

    pub(super) fn set_epochs(&self, epochs: &[(Term, LogIndex, Offset)]) {
        *self.epochs.lock().expect("no panic while held") = epochs.to_vec();
    }
}

impl Recent {
    fn cut_from(&mut self, base: Offset) {
        while let Some((b, _, bytes)) = self.batches.back() {
            if *b < base {
                break;
            }
            self.size_bytes -= bytes.len();
            self.batches.pop_back();
        }
    }
}
