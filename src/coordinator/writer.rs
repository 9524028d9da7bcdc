//! From the shard's appends to batches in the partition: several small appends share a batch, a
//! large one takes several, and a few batches are on their way at once, since each waits for a
//! high watermark that may be an ocean away.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use super::batch::{self, BATCH_BYTES_MAX};
use super::group::{AppendError, AppendId, Record};
use super::partition::Partition;
use crate::model::Offset;
use crate::model::batch::HEADER_BYTES;

/// Batches on their way at once. Whatever comes meanwhile gathers into the next batch, so more of
/// them would only be smaller ones.
const IN_FLIGHT_MAX: usize = 8;

/// A snapshot is due when the log holds this many bytes beside what a snapshot would take
/// `SNAPSHOT_FACTOR` times: so what is written for snapshots stays a fraction of what clients
/// write, and a new coordinator loads a small multiple of what it keeps.
const SNAPSHOT_BYTES_MIN: usize = 16 << 20;

/// See `SNAPSHOT_BYTES_MIN`.
const SNAPSHOT_FACTOR: usize = 4;

type Appending = Pin<Box<dyn Future<Output = Result<Offset, AppendError>> + Send>>;

/// What a write was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Appends of the shard, in their order.
    Appends(Vec<AppendId>, Result<(), AppendError>),
    /// A snapshot, which begins at the offset.
    Snapshot(Result<Offset, AppendError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Append(AppendId),
    Snapshot,
}

/// One batch on its way.
struct InFlight {
    appending: Appending,
    result: Option<Result<Offset, AppendError>>,
    /// What is complete with this batch; empty where more batches of the same write follow.
    ends: Vec<Name>,
}

#[derive(Default)]
pub(super) struct Writer {
    queue: VecDeque<(Name, Vec<Record>)>,
    in_flight: VecDeque<InFlight>,
    /// Of the write that the batches at the front are parts of: where it begins, or why it failed.
    part: Option<Result<Offset, AppendError>>,
    /// In the log since its start, as far as this coordinator knows.
    log_bytes: usize,
    /// Nothing more is submitted until what is in flight has ended.
    is_draining: bool,
}

impl Writer {
    pub fn handle_loaded(&mut self, log_bytes: usize) {
        self.log_bytes = log_bytes;
    }

    pub fn push(&mut self, id: AppendId, records: Vec<Record>) {
        self.queue.push_back((Name::Append(id), records));
    }

    /// Whether the log has grown enough to be replaced by a snapshot of `state_bytes`.
    pub fn is_snapshot_due(&self, state_bytes: usize) -> bool {
        self.log_bytes > SNAPSHOT_BYTES_MIN + SNAPSHOT_FACTOR * state_bytes
    }

    /// Nothing is submitted until `push_snapshot`.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// All that was submitted has ended.
    pub fn is_drained(&self) -> bool {
        self.is_draining && self.in_flight.is_empty()
    }

    /// What is committed, as records: goes into the log before all that is queued. Records that
    /// are in no snapshot yet can thus only come after it; that is why the writer drains first.
    ///
    /// # Panics
    /// Where the writer is not drained.
    pub fn push_snapshot(&mut self, records: Vec<Record>) {
        assert!(self.is_drained(), "a snapshot while other writes are in flight");
        self.is_draining = false;
        self.log_bytes = 0;
        if !records.is_empty() {
            self.queue.push_front((Name::Snapshot, records));
        }
    }

    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Sends off what there is.
    pub fn submit<P: Partition>(&mut self, partition: &Arc<P>, unix_ms: i64) {
        while !self.is_draining && self.in_flight.len() < IN_FLIGHT_MAX {
            let Some((records, ends)) = self.gather() else { break };
            let batch: Bytes = batch::encode(&records, unix_ms);
            self.log_bytes += batch.len();
            let partition = Arc::clone(partition);
            let appending = Box::pin(async move { partition.append(batch).await });
            self.in_flight.push_back(InFlight { appending, result: None, ends });
        }
    }

    /// The records of the next batch, and which writes end with it.
    fn gather(&mut self) -> Option<(Vec<Record>, Vec<Name>)> {
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        let mut bytes = HEADER_BYTES;
        while let Some((name, write)) = self.queue.front_mut() {
            let size: usize = write.iter().map(batch::size_bytes).sum();
            let is_whole = bytes + size <= BATCH_BYTES_MAX;
            let is_snapshot = *name == Name::Snapshot;
            if !records.is_empty() && (!is_whole || is_snapshot) {
                break;
            }
            if !is_whole {
                // Alone, and in parts of at least one record.
                let mut fits = |record: &Record| {
                    bytes += batch::size_bytes(record);
                    bytes <= BATCH_BYTES_MAX
                };
                let count = write.iter().take_while(|r| fits(r)).count().max(1);
                records.extend(write.drain(..count));
                if write.is_empty() {
                    ends.push(*name);
                    self.queue.pop_front();
                }
                break;
            }
            bytes += size;
            records.append(write);
            ends.push(*name);
            self.queue.pop_front();
            if is_snapshot {
                // So that a snapshot's offset is that of its batch.
                break;
            }
        }
        (!records.is_empty()).then_some((records, ends))
    }

    /// The next write that ended, in the order of the log. Cancel-safe: what has become of a batch
    /// is kept with it until it is returned.
    pub async fn next(&mut self) -> Written {
        loop {
            let (result, ends) = poll_fn(|cx| {
                // From the front, so that batches are first polled in their order.
                for batch in self.in_flight.iter_mut().filter(|b| b.result.is_none()) {
                    if let Poll::Ready(result) = batch.appending.as_mut().poll(cx) {
                        batch.result = Some(result);
                    }
                }
                match self.in_flight.pop_front_if(|b| b.result.is_some()) {
                    Some(batch) => Poll::Ready((batch.result.expect("just seen"), batch.ends)),
                    None => Poll::Pending,
                }
            })
            .await;
            let first = match (self.part.take(), result) {
                (None, result) => result,
                (Some(Err(error)), _) => Err(error),
                (Some(Ok(_)), Err(error)) => Err(error),
                (Some(Ok(first)), Ok(_)) => Ok(first),
            };
            match ends.first() {
                None => self.part = Some(first),
                Some(Name::Snapshot) => return Written::Snapshot(first),
                Some(Name::Append(_)) => {
                    let id = |name: &Name| match name {
                        Name::Append(id) => *id,
                        Name::Snapshot => unreachable!("a snapshot shares no batch"),
                    };
                    let ids = ends.iter().map(id).collect();
                    return Written::Appends(ids, first.map(|_| ()));
                }
            }
        }
    }
}
