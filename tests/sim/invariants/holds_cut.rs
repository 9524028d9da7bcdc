//! Who votes in a home has the whole cut that it began with: it is neither counted nor heard before
//! (R14). The first configuration of a home names who holds it.

use isobar::replica::core::Core;

use super::{Violation, hold, n};
use crate::oracle::History;

const RULE: (&str, &str) = ("who votes in a home holds its cut", "R13, R14");

/// A replica has begun a home.
pub fn check(node: usize, core: &Core, history: &History) -> Result<(), Violation> {
    let epoch = core.config().group.home_epoch;
    let Some(began) = history.began.iter().find(|began| began.epoch == epoch) else {
        return Ok(());
    };
    let votes = core.log().conf_state().voters.contains(&core.config().me.0);
    let at = began.fork.at;
    let log = &history.replicas[node].durable;
    hold(!votes || log.has(at.index.0, at.term.0), RULE, || {
        format!("{} votes in epoch {epoch}, cut at {at:?}; its log ends at {}", n(node), log.last())
    })
}
