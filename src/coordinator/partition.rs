//! The seam to the replicated partition under a shard.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;

use super::group::AppendError;
use crate::model::Offset;

/// Why records could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The replica leads no longer: the shard is given up.
    #[error("the replica is not the partition's leader")]
    NotLeader,
    /// Tried again.
    #[error("the records cannot be read now")]
    Unavailable,
}

/// One partition of `__consumer_offsets`, led by this node in one leader epoch. Every method fails
/// with `NotLeader` once that epoch is over; nothing is ever done in a later one.
pub trait Partition: Send + Sync + 'static {
    /// Appends one record batch (v2, base offset and leader epoch still to be filled in) and
    /// returns its base offset once it is at or below the high watermark.
    ///
    /// The driver has several appends in flight. Their order in the log must be the order in
    /// which the futures were first polled. A batch whose append was answered with an error may be
    /// in the log already and commit later, but must not be put there any more: it would come
    /// after newer values of the same keys.
    fn append(&self, batch: Bytes) -> impl Future<Output = Result<Offset, AppendError>> + Send;

    /// What is to be loaded: from log start to the high watermark, once that has reached an entry
    /// of the leader's own term (R5, R6), so that everything ever acknowledged is below it.
    fn committed(&self) -> impl Future<Output = Result<Range<Offset>, ReadError>> + Send;

    /// Whole batches in order, the first being the one that holds `from` (or the next after it),
    /// about `bytes_max` of them and at least one. Empty only where there is none below the high
    /// watermark.
    fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, ReadError>> + Send;

    /// Everything below `offset` is no longer needed: moves log start by a logged entry (R24).
    fn advance_log_start(
        &self,
        offset: Offset,
    ) -> impl Future<Output = Result<(), AppendError>> + Send;
}
