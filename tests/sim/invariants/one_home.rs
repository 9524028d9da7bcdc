//! A home begins when `__meta` has decided it and not before, and its terms are its own: so there is one
//! home an epoch, and leader epochs only grow.

use isobar::model::HomeEpoch;
use isobar::replica::core::Core;

use super::{Violation, hold, n};

const RULE: (&str, &str) = ("no home before __meta has decided it", "R2, R13, R14");

/// `newest` is the epoch that `__meta` has decided on.
pub fn check(node: usize, core: &Core, newest: HomeEpoch) -> Result<(), Violation> {
    let (epoch, term) = (core.config().group.home_epoch, core.term());
    hold(epoch <= newest && term.home_epoch() == epoch, RULE, || {
        format!("{} is in epoch {epoch} and term {}; __meta is at {newest}", n(node), term.0)
    })
}
