//! Follows the committed records of `__meta` and publishes the image after each read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;

use super::log::{FollowError, Log, Position};
use super::{Applied, Fatal};
use crate::metadata::image::Image;
use crate::metadata::refusal::Refusal;
use crate::metadata::replay::Replay;
use crate::metadata::request::TOPICS_MAX;
use crate::model::{Offset, record};

/// Refusals at apply that are kept for the leader to find: one request's worth of commands.
const REFUSED_MAX: usize = 2 * TOPICS_MAX;

/// A read that found the log changed under it is tried again when its position has moved, and at the
/// latest after this.
const READ_RETRY: Duration = Duration::from_millis(50);

pub(super) struct Publish {
    pub image: Arc<ArcSwap<Image>>,
    pub images: watch::Sender<Arc<Image>>,
    pub applied: watch::Sender<Applied>,
}

/// Runs until this node cannot go on.
pub(super) async fn run<L: Log>(log: Arc<L>, publish: Publish) -> Fatal {
    let mut state = State { replay: Replay::new(Offset::ZERO), refused: Arc::default(), publish };
    loop {
        if let Err(fatal) = state.step(&*log).await {
            return fatal;
        }
    }
}

struct State {
    replay: Replay,
    refused: Arc<VecDeque<(Offset, Refusal)>>,
    publish: Publish,
}

impl State {
    /// Applies what can be read now, or waits for more.
    async fn step<L: Log>(&mut self, log: &L) -> Result<(), Fatal> {
        let seen = log.position();
        let Some(Position { log_start, high_watermark, .. }) = seen else {
            log.moved_from(None).await;
            return Ok(());
        };
        if self.replay.next_offset() < log_start {
            // This replica lagged past log start and was given a log-start snapshot: the log goes on
            // with a snapshot of the image.
            self.replay = Replay::new(log_start);
        }
        let next = self.replay.next_offset();
        if next >= high_watermark {
            self.publish();
            log.moved_from(seen).await;
            return Ok(());
        }
        match log.read(next).await {
            Ok(batches) if !batches.is_empty() => {
                batches.iter().try_for_each(|batch| self.take(batch))?;
                self.publish();
            }
            Ok(_) | Err(FollowError::Gone) => {
                let moved = log.moved_from(seen);
                // Either way the position is looked at again.
                let _ = tokio::time::timeout(READ_RETRY, moved).await;
            }
            Err(FollowError::Failed(error)) => return Err(error.into()),
        }
        Ok(())
    }

    fn take(&mut self, batch: &Bytes) -> Result<(), Fatal> {
        for placed in record::parse(batch)? {
            if placed.offset < self.replay.next_offset() {
                continue;
            }
            let outcome = self.replay.step(placed.offset, placed.record.value.as_deref())?;
            if let Err(refusal) = outcome {
                let refused = Arc::make_mut(&mut self.refused);
                refused.push_back((placed.offset, refusal));
                if refused.len() > REFUSED_MAX {
                    refused.pop_front();
                }
            }
        }
        Ok(())
    }

    fn publish(&self) {
        let Some(image) = self.replay.image() else { return };
        let known = self.publish.applied.borrow();
        if known.is_complete && known.image.next_offset == image.next_offset {
            return;
        }
        drop(known);
        let image = Arc::new(image.clone());
        self.publish.image.store(image.clone());
        self.publish.images.send_replace(image.clone());
        self.publish.applied.send_replace(Applied {
            image,
            is_complete: true,
            is_snapshot_due: self.replay.is_snapshot_due(),
            last_snapshot: self.replay.last_snapshot(),
            refused: self.refused.clone(),
        });
    }
}
