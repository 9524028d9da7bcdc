//! What was shown stays: no replica cuts it off, and whoever leads has it (Raft's leader
//! completeness, §5.4.3, for what clients have seen).

use std::collections::BTreeMap;

use super::{Violation, hold, n};
use crate::oracle::{Log, Seen};

const RULE: (&str, &str) = ("what was exposed stays", "I3, R5; Raft §5.4.3");

pub fn check_cut(node: usize, from: u64, watermark: u64) -> Result<(), Violation> {
    hold(from > watermark, RULE, || {
        format!("{} cuts its log from {from}, and has shown up to {watermark}", n(node))
    })
}

/// A new leader; log matching makes the last entry stand for those before it.
pub fn check_leader(
    node: usize,
    term: u64,
    exposed: &BTreeMap<u64, Seen>,
    log: &Log,
) -> Result<(), Violation> {
    let Some((index, seen)) = exposed.last_key_value() else { return Ok(()) };
    hold(log.has(*index, seen.term), RULE, || {
        let found = log.entries.get(index);
        format!("{} leads term {term} with {found:?} at {index}, where {seen:?} was shown", n(node))
    })
}

/// At the end: the watermark is at or beyond everything that was shown.
pub fn check_end(
    node: usize,
    watermark: u64,
    exposed: &BTreeMap<u64, Seen>,
    log: &Log,
) -> Result<(), Violation> {
    let last = exposed.last_key_value().map_or(0, |(index, _)| *index);
    hold(watermark >= last, RULE, || {
        format!("{} ends with its watermark at {watermark}; {last} was shown", n(node))
    })?;
    for (index, seen) in exposed.range(log.start + 1..) {
        let found = log.entries.get(index);
        hold(found == Some(seen), RULE, || {
            format!("{} ends with {found:?} at {index}, where {seen:?} was shown", n(node))
        })?;
    }
    Ok(())
}
