//! Looks for what has rotted in closed segments, and has it made anew (R21).
//!
//! Every closed segment is read once when its replica opens and then once a day, slowly; and at once where a
//! read has met damage. A segment whose end is known by its index has lost no promise: the log's last
//! entry, its term and the vote stand as they were. So the replica stays open; only what is rotten
//! cannot be read, here or by a replica that this one feeds, until it is whole again. In the segment that is written
//! damage is a promise that may be lost, and closes the replica until it is mended; nobody looks for it there, but reads
//! meet it, and so does the pass once that segment is closed.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::mend::{Mending, Peers, off_the_runtime};
use crate::log::{self, SegmentMeta};
use crate::model::{LogIndex, TopicPartition};
use crate::replica::{self, View};

/// A pass over everything begins this often.
const PASS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Bytes a second that a pass reads: a terabyte in nine hours, a tenth of a slow disk.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// How often it is asked whether a replica has opened that this pass has not seen, or a read has met
/// damage. Memory only.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs for as long as the node does.
pub(super) async fn watch(mending: Mending<impl Peers>, replicas: replica::Handle) {
    tokio::join!(passes(&mending, &replicas), suspects(&mending, &replicas));
}

async fn passes(mending: &Mending<impl Peers>, replicas: &replica::Handle) {
    let mut begun = Instant::now();
    let mut done = BTreeSet::new();
    let mut every = look_every();
    loop {
        every.tick().await;
        if begun.elapsed() >= PASS_EVERY {
            (begun, done) = (Instant::now(), BTreeSet::new());
        }
        // Replicas open one after another while a node starts, and later; each has its turn then.
        for view in replicas.views() {
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
async fn suspects(mending: &Mending<impl Peers>, replicas: &replica::Handle) {
    let mut every = look_every();
    loop {
        every.tick().await;
        for view in replicas.views() {
            look_at_suspect(mending, &view).await;
        }
    }
}

/// Looks where a read has met damage since this was last done.
pub async fn look_at_suspect(mending: &Mending<impl Peers>, view: &View) {
    let Some(index) = view.reader().take_suspect() else { return };
    let holds = |s: &SegmentMeta| s.base_index <= index && index <= s.last_index;
    match view.reader().segments().into_iter().find(holds) {
        Some(segment) if segment.is_closed => look_at(mending, view, &segment).await,
        _ => doubt(mending, view.partition, index).await,
    }
}

/// What is damaged is promised and not there: the replica closes as it would at a start.
async fn doubt(mending: &Mending<impl Peers>, partition: TopicPartition, index: LogIndex) {
    let node = mending.node;
    if partition == TopicPartition::META {
        return tracing::error!(
            %node, %index,
            "a read met damage in the segment of __meta that is written; restart the node: it is mended at a start"
        );
    }
    tracing::error!(
        %node, %partition, %index,
        "a read met damage in the segment that is written; the replica closes until it is mended"
    );
    if let Err(error) = mending.doubt(partition, index).await {
        tracing::error!(%node, %partition, %error, "it was not read again, and stays closed; restart the node");
    }
}

/// Reads a closed segment, and has it made anew if it has rotted.
pub async fn look_at(mending: &Mending<impl Peers>, view: &View, segment: &SegmentMeta) {
    let (reader, base) = (view.reader(), segment.base_index);
    match off_the_runtime(move || reader.check(base)).await {
        Ok(Err(error @ log::Error::Corrupt { .. })) => {
            let (node, partition) = (mending.node, view.partition);
            tracing::error!(%node, %partition, %error, "a closed segment has rotted");
            match mending.replace(view, base).await {
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
