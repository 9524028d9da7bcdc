//! Whatever a leader shows as acknowledged, what of it its home epoch has accepted and no other DC has on a
//! majority of its disks is within the topic's budget: its bytes, and the time between the moments at which
//! the first and the last of it were accepted. What the epoch began with may be in its home alone: the home
//! before had it safe there. Counted from what commits have reported and from when entries first
//! appeared, on the world's one clock; the product's own numbers are not asked.

use std::time::Duration;

use isobar::model::HomeEpoch;
use isobar::replica::core::Budget;

use super::{Violation, hold, n};
use crate::oracle::History;
use crate::scenario::{DCS, NODES, NODES_PER_DC, dc_of};

const RULE: (&str, &str) = ("what is at stake never passes the budget", "design §4, G5");

/// `node` leads in this home epoch, at home in `home`, and shows everything up to `to`.
pub fn check(
    node: usize,
    (epoch, home): (HomeEpoch, usize),
    budget: Budget,
    history: &History,
    to: u64,
) -> Result<(), Violation> {
    if !budget.is_bound() {
        return Ok(());
    }
    let is_elsewhere = |index: u64, term: u64| {
        let has = |replica: &usize| history.replicas[*replica].has_had(index, term);
        let count = |dc| (0..NODES).filter(|r| dc_of(*r) == dc).filter(has).count();
        (0..DCS.len()).any(|dc| dc != home && count(dc) > NODES_PER_DC / 2)
    };
    let began = epoch.first_term().0;
    let newest_first = history.exposed.range(..=to).rev().take_while(|(_, s)| s.term >= began);
    let at_stake = newest_first.take_while(|(index, seen)| !is_elsewhere(**index, seen.term));
    let accepted: Vec<(u64, u64)> = at_stake
        .filter_map(|(index, seen)| history.accepted.get(&(seen.term, *index)).copied())
        .collect();
    let bytes: u64 = accepted.iter().map(|(_, bytes)| bytes).sum();
    let newest = accepted.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let oldest = accepted.iter().map(|(at, _)| *at).min().unwrap_or_default();
    let span = Duration::from_micros(newest - oldest);
    let within =
        budget.lag.is_none_or(|lag| span <= lag) && budget.bytes.is_none_or(|most| bytes <= most);
    hold(within, RULE, || {
        format!(
            "{} shows up to {to}; {span:?} of writes, {bytes} bytes of {} batches, are in no other DC; {budget:?}",
            n(node),
            accepted.len()
        )
    })
}
