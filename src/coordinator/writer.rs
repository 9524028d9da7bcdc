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

fn size_bytes(write: &[Record]) -> usize {
    write.iter().map(batch::size_bytes).sum()
}

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
    /// No write is empty.
    queue: VecDeque<(Name, Vec<Record>)>,
    in_flight: VecDeque<InFlight>,
    /// Parts of the write at the queue's front have been submitted.
    is_split: bool,
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
        self.is_draining && self.in_flight.is_empty() && !self.is_split
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
        // Of a write that has begun, the rest goes out in any case.
        while (!self.is_draining || self.is_split) && self.in_flight.len() < IN_FLIGHT_MAX {
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
        if self.is_split || !self.front_fits(HEADER_BYTES) {
            return self.gather_part();
        }
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        let mut bytes = HEADER_BYTES;
        while self.front_fits(bytes) {
            let (name, mut write) = self.queue.pop_front().expect("just seen");
            bytes += size_bytes(&write);
            records.append(&mut write);
            ends.push(name);
        }
        Some((records, ends))
    }

    /// Whether the next write can share a batch of which `bytes` are taken. Snapshots never do, so
    /// that where one begins is where its batch does.
    fn front_fits(&self, bytes: usize) -> bool {
        self.queue.front().is_some_and(|(name, write)| {
            *name != Name::Snapshot && bytes + size_bytes(write) <= BATCH_BYTES_MAX
        })
    }

    /// As much of the next write as fits, and at least one record; it shares no batch, not even
    /// its last, so that no other write is lost with a part of it.
    fn gather_part(&mut self) -> Option<(Vec<Record>, Vec<Name>)> {
        let (name, write) = self.queue.front_mut()?;
        let mut bytes = HEADER_BYTES;
        let fits = |record: &&Record| {
            bytes += batch::size_bytes(record);
            bytes <= BATCH_BYTES_MAX
        };
        let count = write.iter().take_while(fits).count().max(1);
        let records = write.drain(..count).collect();
        let mut ends = Vec::new();
        self.is_split = !write.is_empty();
        if !self.is_split {
            ends.push(*name);
            self.queue.pop_front();
        }
        Some((records, ends))
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

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Mutex;

    use super::super::partition::ReadError;
    use super::*;

    /// Commits all but the batches whose numbers it was told to lose.
    struct Fake {
        lost: Vec<usize>,
        batches: Mutex<Vec<Bytes>>,
    }

    impl Partition for Fake {
        async fn append(&self, batch: Bytes) -> Result<Offset, AppendError> {
            let mut batches = self.batches.lock().unwrap();
            batches.push(batch);
            let number = batches.len() - 1;
            match self.lost.contains(&number) {
                true => Err(AppendError::Unavailable),
                false => Ok(Offset(number as i64)),
            }
        }

        async fn committed(&self) -> Result<Range<Offset>, ReadError> {
            Err(ReadError::Unavailable)
        }

        async fn read(&self, _: Offset, _: usize) -> Result<Vec<Bytes>, ReadError> {
            Err(ReadError::Unavailable)
        }

        async fn advance_log_start(&self, _: Offset) -> Result<(), AppendError> {
            Err(AppendError::Unavailable)
        }
    }

    fn fake(lost: &[usize]) -> Arc<Fake> {
        Arc::new(Fake { lost: lost.to_vec(), batches: Mutex::default() })
    }

    fn records(count: usize, bytes: usize) -> Vec<Record> {
        let record = Record { key: Bytes::from_static(b"k"), value: Some(vec![0; bytes].into()) };
        vec![record; count]
    }

    /// All that comes of what is queued.
    async fn drive(writer: &mut Writer, partition: &Arc<Fake>) -> Vec<Written> {
        let mut all = Vec::new();
        loop {
            writer.submit(partition, 0);
            if writer.is_idle() {
                return all;
            }
            all.push(writer.next().await);
        }
    }

    #[tokio::test]
    async fn small_writes_share_a_batch_and_a_large_one_takes_several() {
        let partition = fake(&[]);
        let mut writer = Writer::default();
        writer.push(AppendId(0), records(1, 10));
        writer.push(AppendId(1), records(2, 10));
        writer.push(AppendId(2), records(25, 100_000));
        writer.push(AppendId(3), records(1, 10));
        let written = drive(&mut writer, &partition).await;
        let ids =
            |ids: &[u64]| Written::Appends(ids.iter().map(|i| AppendId(*i)).collect(), Ok(()));
        assert_eq!(written, [ids(&[0, 1]), ids(&[2]), ids(&[3])]);
        let batches = partition.batches.lock().unwrap();
        let counts: Vec<_> = batches.iter().map(|b| batch::decode(b).unwrap().len()).collect();
        assert_eq!(counts, [3, 10, 10, 5, 1]);
        assert!(batches.iter().all(|b| b.len() <= BATCH_BYTES_MAX));
    }

    #[tokio::test]
    async fn a_large_write_is_lost_when_any_part_of_it_is() {
        for lost in 0..3 {
            let mut writer = Writer::default();
            writer.push(AppendId(0), records(25, 100_000));
            writer.push(AppendId(1), records(1, 10));
            let written = drive(&mut writer, &fake(&[lost])).await;
            let failed = Written::Appends(vec![AppendId(0)], Err(AppendError::Unavailable));
            assert_eq!(written, [failed, Written::Appends(vec![AppendId(1)], Ok(()))], "{lost}");
        }
    }

    #[tokio::test]
    async fn a_snapshot_goes_before_what_is_queued_and_after_what_is_in_flight() {
        let partition = fake(&[]);
        let mut writer = Writer::default();
        writer.handle_loaded(usize::MAX / 2);
        assert!(writer.is_snapshot_due(0));
        writer.push(AppendId(0), records(1, 1));
        writer.submit(&partition, 0);
        writer.drain();
        writer.push(AppendId(1), records(1, 2));
        writer.submit(&partition, 0);
        assert!(!writer.is_drained());
        assert_eq!(writer.next().await, Written::Appends(vec![AppendId(0)], Ok(())));
        assert!(writer.is_drained());
        writer.push_snapshot(records(12, 100_000));
        assert!(!writer.is_snapshot_due(0));
        let written = drive(&mut writer, &partition).await;
        let snapshot = Written::Snapshot(Ok(Offset(1)));
        assert_eq!(written, [snapshot, Written::Appends(vec![AppendId(1)], Ok(()))]);
    }

    #[tokio::test]
    async fn a_snapshot_never_comes_between_the_parts_of_a_write() {
        let partition = fake(&[]);
        let mut writer = Writer::default();
        writer.push(AppendId(0), records(100, 100_000));
        writer.submit(&partition, 0);
        assert_eq!(writer.in_flight.len(), IN_FLIGHT_MAX, "and two parts are queued still");
        writer.drain();
        let written = loop {
            writer.submit(&partition, 0);
            tokio::select! {
                biased;
                written = writer.next() => break written,
                () = std::future::ready(()) => assert!(!writer.is_drained()),
            }
        };
        assert_eq!(written, Written::Appends(vec![AppendId(0)], Ok(())));
        assert!(writer.is_drained());
    }
}
