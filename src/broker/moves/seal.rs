//! A replica's promise, given on this node.

use super::{Error, Moves};
use crate::log::Sealed;
use crate::metadata::moves::carrier::{SEAL_WAIT, When};
use crate::model::{HomeEpoch, TopicPartition};
use crate::replica::driver::LetGo;

/// Seals the replica here, at once or when the leader's hand-off is on its disk. By then its leader has been
/// answered: what a core sends leaves before the core is let go.
pub async fn here(
    moves: &Moves,
    at: TopicPartition,
    epoch: HomeEpoch,
    when: When,
) -> Result<(Sealed, LetGo), Error> {
    if when == When::HandedOff {
        let view = moves.replicas.view(at).ok_or(Error::NotHandedOff)?;
        let mut progress = view.watch();
        let handed_off = progress.wait_for(|now| now.handed_off);
        let waited = tokio::time::timeout(SEAL_WAIT, handed_off).await;
        waited.is_ok_and(|seen| seen.is_ok()).then_some(()).ok_or(Error::NotHandedOff)?;
    }
    Ok(moves.mover.seal(at, epoch).await?)
}
