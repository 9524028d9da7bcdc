//! A home that has been left acknowledges nothing beyond its cut: under sync by the seal alone, where
//! the cut was proven; on a topic that fences because who was not sealed had no lease any more when the
//! next home began. So there are never two homes that acknowledge.

use isobar::replica::core::Core;

use super::{Violation, hold, n};
use crate::oracle::{Ack, History};
use crate::scenario::Partition;

const SEALED: (&str, &str) = ("a home that was left acknowledges nothing beyond its cut", "I6, G9");
const FENCED: (&str, &str) = ("nobody acknowledges beyond the cut without a lease", "R17, G9");

/// `node` acknowledges beyond where its home was cut.
pub fn check_ack(partition: &Partition, history: &History, ack: &Ack) -> Result<(), Violation> {
    let what = || {
        let next = history.began.iter().find(|began| began.epoch > ack.epoch).map(|b| b.fork.at);
        format!(
            "{} acknowledges up to {} in epoch {}, which was cut at {next:?}",
            n(ack.node),
            ack.end,
            ack.epoch
        )
    };
    hold(!history.is_proven_since(ack.epoch), SEALED, what)?;
    let policy = partition.policy.ack;
    let is_sync = policy.sync_to > 0 && !history.mode_in(ack.epoch).degraded;
    hold(!policy.fence || is_sync, FENCED, what)
}

pub fn check_shown(node: usize, core: &Core, to: u64, end: u64) -> Result<(), Violation> {
    hold(false, SEALED, || {
        let epoch = core.config().group.home_epoch;
        format!("{} shows entry {to} in epoch {epoch}, which ended by proof at {end}", n(node))
    })
}
