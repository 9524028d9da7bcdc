//! Making a log end exactly at F (R13), with what another node has of it.

use std::sync::Arc;
use std::time::Duration;

use super::wire::{self, Ask};
use super::{Error, Moves};
use crate::broker::inbound::method;
use crate::broker::reconcile::log_config;
use crate::log::Fork;
use crate::model::{LogIndex, NodeId, TopicPartition};

/// For one range, as when catching up.
const RANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the replica on this node hold F, with what `source` has of it. `false` if it gave nothing. Begun again
/// it goes on where it was.
pub async fn here(
    moves: &Moves,
    at: TopicPartition,
    fork: &Arc<Fork>,
    source: NodeId,
) -> Result<bool, Error> {
    let epoch = fork.home_epoch;
    let range = |from: LogIndex, to: LogIndex| async move {
        let body = wire::ask(at, epoch, Ask::Range { from: from.0, to: to.0 });
        Ok(moves.transport.bulk(source, method::SEALED_RANGE, body, RANGE_TIMEOUT).await?)
    };
    let config = log_config(&moves.metadata.image(), at).ok_or(Error::NoTopic)?;
    moves.mover.hold(at, fork, config, range).await
}
