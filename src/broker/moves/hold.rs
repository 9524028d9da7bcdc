//! Making a log end exactly at F (R13): cut where it differs, fetched where it is short.

use std::sync::Arc;
use std::time::Duration;

use super::wire::{self, Ask};
use super::{Error, Moves};
use crate::broker::inbound::method;
use crate::log::{self, Fork};
use crate::model::{NodeId, TopicPartition};

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
    let mut cut = moves.mover.cut(at, fork).await?;
    while !cut.holds {
        let (from, to) = (cut.last.0.next().0, fork.at.index.next().0);
        let body = wire::ask(at, fork.home_epoch, Ask::Range { from, to });
        let range = moves.transport.bulk(source, method::SEALED_RANGE, body, RANGE_TIMEOUT).await?;
        let entries = log::parse_range(at, &range)?;
        if entries.is_empty() {
            return Ok(false);
        }
        cut = moves.mover.extend(at, fork, entries).await?;
    }
    Ok(true)
}
