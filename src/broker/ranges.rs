//! Committed entries for replicas on other nodes that are far behind: the serving end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use isobar_transport::RpcError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::inbound::Answer;
use crate::log;
use crate::model::{GroupId, LogIndex};
use crate::replica::driver::Counters;
use crate::replica::wire::range::Want;
use crate::replica::{self, RangeError};

/// Ranges that are read or on their way at a time, for all nodes together: 64 MiB at 4 MiB each. More
/// wait, in the order in which they came, until their callers give up. A range counts until its last
/// byte has been handed to the connection.
const SERVED_MAX: usize = 16;

/// Why a call was refused, for the caller's log.
pub(super) mod code {
    pub const MALFORMED: u16 = 1;
    pub const NO_REPLICA: u16 = 2;
    pub const BEHIND: u16 = 3;
    pub const OTHER_EPOCH: u16 = 4;
    pub const LOG: u16 = 5;
    /// The log begins beyond what was asked for.
    pub const DELETED: u16 = 6;
}

/// Keeps its place among those that are served for as long as anyone holds the bytes.
struct Held {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Answers calls for ranges.
pub fn answer(replicas: replica::Handle, counters: Arc<Counters>) -> Answer {
    let places = Arc::new(Semaphore::new(SERVED_MAX));
    Box::new(move |from, body| {
        let (replicas, counters, places) =
            (replicas.clone(), Arc::clone(&counters), Arc::clone(&places));
        Box::pin(async move {
            let wanted = Want::receive(body).map_err(|e| refused(code::MALFORMED, &e))?;
            let place = places.acquire_owned().await.map_err(|_| RpcError::ShutDown)?;
            let read = tokio::task::spawn_blocking(move || read(&replicas, wanted)).await;
            let bytes = read.map_err(|_| RpcError::ShutDown)?.inspect_err(|error| {
                tracing::debug!(%from, partition = %wanted.0.partition, %error, "range refused");
            })?;
            counters.range_bytes_served.fetch_add(bytes.len() as u64, Relaxed);
            Ok(Bytes::from_owner(Held { bytes, _place: place }))
        })
    })
}

fn read(
    replicas: &replica::Handle,
    (group, from, to): (GroupId, LogIndex, LogIndex),
) -> Result<Bytes, RpcError> {
    let at = group.partition;
    let view = replicas.view(at).ok_or_else(|| refused(code::NO_REPLICA, &at))?;
    view.range(group, from, to).map_err(|error| match &error {
        RangeError::Behind { .. } => refused(code::BEHIND, &error),
        RangeError::OtherEpoch { .. } => refused(code::OTHER_EPOCH, &error),
        RangeError::Log(log::Error::Compacted { .. }) => refused(code::DELETED, &error),
        RangeError::Log(_) => refused(code::LOG, &error),
    })
}

fn refused(code: u16, why: &dyn std::fmt::Display) -> RpcError {
    RpcError::Refused { code, message: why.to_string() }
}
