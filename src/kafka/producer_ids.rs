//! Producer ids for InitProducerId: taken from `__meta` in blocks (R24), handed out one by one. A node that
//! serves has a whole block in reserve, so that a home which is cut off from `__meta` still takes new
//! producers (as Kafka's brokers fetch theirs ahead, KIP-730).

use std::ops::Range;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use super::context::Metadata;
use super::handlers::METADATA_TIMEOUT;
use crate::metadata::request::{Request, Response};
use crate::metadata::service;

/// Between two tries to fill the reserve.
const RETRY: Duration = Duration::from_secs(1);

/// What is left of this node's blocks.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    /// Held while a block is fetched, so that a storm of new producers asks for one block only.
    block: Mutex<Range<i64>>,
    reserve: std::sync::Mutex<Option<Range<i64>>>,
    taken: Notify,
}

impl ProducerIds {
    /// A producer id that nobody was given before.
    pub async fn next(&self, metadata: &dyn Metadata) -> Result<i64, service::Error> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        let reserve = self.reserve.lock().expect("no panic while held").take();
        *block = match reserve {
            Some(reserve) => {
                self.taken.notify_one();
                reserve
            }
            None => allocate(metadata).await?,
        };
        // A block without ids is a fault of the controller; the client tries again.
        block.next().ok_or(service::Error::NoLeader)
    }

    /// Fills the reserve whenever it was taken, for as long as it is polled.
    pub async fn keep(&self, metadata: &dyn Metadata) {
        loop {
            match allocate(metadata).await {
                Ok(block) => {
                    *self.reserve.lock().expect("no panic while held") = Some(block);
                    self.taken.notified().await;
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

async fn allocate(metadata: &dyn Metadata) -> Result<Range<i64>, service::Error> {
    match metadata.submit(Request::AllocateProducerIds, METADATA_TIMEOUT).await? {
        Response::ProducerIds(ids) => Ok(ids.first..ids.first + i64::from(ids.count)),
        other => panic!("producer ids were asked for, not {other:?}"),
    }
}
