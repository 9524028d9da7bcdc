//! Producer ids for InitProducerId: taken from `__meta` in blocks (R24), handed out one by one.

use tokio::sync::Mutex;

use super::context::Metadata;
use super::handlers::METADATA_TIMEOUT;
use crate::metadata::request::{Request, Response};
use crate::metadata::service;

/// What is left of this node's block.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    /// Held while a block is fetched, so that a storm of new producers asks for one block only.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// A producer id that nobody was given before.
    pub async fn next(&self, metadata: &dyn Metadata) -> Result<i64, service::Error> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        match metadata.submit(Request::AllocateProducerIds, METADATA_TIMEOUT).await? {
            Response::ProducerIds(ids) => {
                *block = ids.first..ids.first + i64::from(ids.count);
                // A block without ids is a fault of the controller; the client tries again.
                block.next().ok_or(service::Error::NoLeader)
            }
            other => panic!("producer ids were asked for, not {other:?}"),
        }
    }
}
