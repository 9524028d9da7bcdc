//! What a replica still owes to the accounts of moves: its word of what it had beyond a cut (R16). The
//! ledger on its disk remembers it over a crash; what was only on its way to `__meta` is gone with the process.

use super::topics::is_beyond;
use super::{Moved, Report, Suffix};
use crate::log::{Manifest, Position};
use crate::metadata::image::Image;
use crate::model::{HomeEpoch, NodeId, ReplicaId, TopicPartition};

/// The moves of which replicas here were voters of the old home, are in the new epoch or a later one by now, and
/// have not told. More than one a replica where it was away during several. `here`: the replica of a partition, and
/// the home epoch that it is in.
pub fn owed(
    image: &Image,
    here: impl Fn(TopicPartition) -> Option<(ReplicaId, HomeEpoch)>,
) -> impl Iterator<Item = (&Moved, ReplicaId)> {
    image.moved.iter().filter_map(move |moved| {
        let (replica, home_epoch) = here(moved.at)?;
        let owes = moved.home_epoch <= home_epoch
            && moved.old_voters.contains(&replica)
            && !moved.suffixes.iter().any(|told| told.replica == replica);
        owes.then_some((&**moved, replica))
    })
}

/// The word of a replica on the move to `home_epoch`, by all that the ledger has of its partition. `sealed`: where
/// its log ended when it was sealed, if that is known still; nothing is claimed for it otherwise, so that the
/// largest log is looked for among the others.
pub fn word(
    image: &Image,
    (at, home_epoch): (TopicPartition, HomeEpoch),
    (replica, node): (ReplicaId, NodeId),
    ledger: &[Manifest],
    sealed: Option<Position>,
) -> Report {
    let of_it = image.moved.iter().filter(|moved| moved.at == at).map(|moved| moved.home_epoch);
    let before = of_it.filter(|epoch| *epoch < home_epoch).max();
    let beyond = ledger.iter().filter(|m| is_beyond(m, replica, (before, home_epoch)));
    let mut suffix =
        Suffix { replica, node, records: 0, bytes: 0, last: sealed.unwrap_or_default() };
    for manifest in beyond {
        suffix.records += manifest.content.records;
        suffix.bytes += manifest.content.bytes;
        let (index, term) = manifest.last;
        if (term, index) > (suffix.last.term, suffix.last.index) {
            suffix.last = Position { index, term, offset: manifest.next_offset };
        }
    }
    Report { at, home_epoch, suffix }
}
