//! A promise is on disk before it is told: a replica that said it is sealed never comes back as one that
//! takes anything of an older home in.

use isobar::model::HomeEpoch;

use super::{Violation, hold, n};

const RULE: (&str, &str) = ("a promise outlives a crash", "R10");

pub fn check_restart(node: usize, told: HomeEpoch, found: HomeEpoch) -> Result<(), Violation> {
    hold(found >= told, RULE, || {
        format!("{} came back with a promise of {found}, and had told of {told}", n(node))
    })
}
