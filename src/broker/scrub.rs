//! Looks for what has rotted in closed segments, and has it made anew (R21).
//!
//! Every closed segment is read once when its replica opens and then once a day, slowly; and at once where a
//! read has met damage. A segment whose end is known by its index has lost no promise: the log's last
//! entry, its term and the vote stand as they were. So the replica stays open; only what is rotten
//! cannot be read, here or by a replica that this one feeds, until it is whole again.
//!
//! Not found here: what rots in the segment that is written, until it is closed or read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::mend::{Error, Mending};
use crate::log::{self, SegmentMeta};
use crate::model::LogIndex;
use crate::replica::View;

/// A pass over everything begins this often.
const PASS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Bytes a second that a pass reads: a terabyte in nine hours, a tenth of a slow disk.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// How often it is asked whether a replica has opened that this pass has not seen, or a read has met
/// damage. Memory only.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs for as long as the node does.
pub(super) async fn watch(mending: Mending) {
    tokio::join!(passes(&mending), suspects(&mending));
}

async fn passes(mending: &Mending) {
    let mut begun = Instant::now();
    let mut done = BTreeSet::new();
    let mut every = look_every();
    loop {
        every.tick().await;
        if begun.elapsed() >= PASS_EVERY {
            (begun, done) = (Instant::now(), BTreeSet::new());
        }
        // Replicas open one after another while a node starts, and later; each has its turn then.
        for view in mending.replicas.views() {
            if !done.insert(view.partition) {
                continue;
            }
            for segment in view.reader().segments().into_iter().filter(|s| s.is_closed) {
                look_at(mending, &view, &segment).await;
                let paced = segment.size_bytes * 1000 / BYTES_PER_SECOND;
                // tidy: the pace is the purpose.
                sleep(Duration::from_millis(paced)).await;
            }
        }
    }
}

fn look_every() -> Interval {
    let mut every = interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// Reads tell of damage in the order in which they meet it.
async fn suspects(mending: &Mending) {
    let mut every = look_every();
    loop {
        every.tick().await;
        for view in mending.replicas.views() {
            let Some(index) = view.reader().take_suspect() else { continue };
            let holds = |s: &SegmentMeta| s.base_index <= index && index <= s.last_index;
            match view.reader().segments().into_iter().find(holds) {
                Some(segment) if segment.is_closed => look_at(mending, &view, &segment).await,
                _ => tracing::error!(
                    node = %mending.node, partition = %view.partition, %index,
                    "a read met damage in the segment that is written"
                ),
            }
        }
    }
}

async fn look_at(mending: &Mending, view: &Arc<View>, segment: &SegmentMeta) {
    let (reader, base) = (view.reader(), segment.base_index);
    let checked = tokio::task::spawn_blocking(move || reader.check(base)).await;
    match checked {
        Ok(Err(error @ log::Error::Corrupt { .. })) => {
            let (node, partition) = (mending.node, view.partition);
            tracing::error!(%node, %partition, %error, "a closed segment has rotted");
            match make_anew(mending, view, base).await {
                Ok(true) => tracing::warn!(
                    %node, %partition, from = %base, to = %segment.last_index,
                    "a rotten segment was replaced by another replica's"
                ),
                Ok(false) => {}
                Err(error) => tracing::error!(%node, %partition, %error, "it was not replaced"),
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(partition = %view.partition, %error, "a segment was not looked at");
        }
        // There, and whole; or gone meanwhile; or the node is stopping.
        Ok(Ok(_)) | Err(_) => {}
    }
}

async fn make_anew(mending: &Mending, view: &Arc<View>, base: LogIndex) -> Result<bool, Error> {
    let at = view.partition;
    let Some((group, others)) = mending.orders.members(at).await else { return Ok(false) };
    let begun = view.reader().mend_segment(base).map_err(log::MendError::Log)?;
    let Some(mut mend) = begun else { return Ok(false) };
    let last = mend.wants().last.expect("a segment's end is known");
    mending.fetch(&mut mend, group, last, &others).await?;
    let spare = tokio::task::spawn_blocking(move || mend.spare()).await;
    let spare = spare.map_err(|_| Error::Stopping)?.map_err(log::MendError::Log)?;
    let swapped = mending.mender.swap(spare).await?;
    if swapped {
        mending.counters.mended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(swapped)
}
