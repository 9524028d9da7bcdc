//! What a commit reported to be on disk is there after any crash.

use super::{Violation, hold, n};
use crate::oracle::Log;

const RULE: (&str, &str) = ("what a commit reported survives a crash", "R4, R20, R21");

pub fn check(node: usize, reported: &Log, found: &Log) -> Result<(), Violation> {
    for (index, seen) in reported.entries.range(found.start + 1..) {
        let there = found.entries.get(index);
        hold(there == Some(seen), RULE, || {
            format!("{} came back with {there:?} at {index}; {seen:?} was on disk", n(node))
        })?;
    }
    Ok(())
}

/// A replica that the disk does not know at all.
pub fn check_absent(node: usize, reported: &Log) -> Result<(), Violation> {
    hold(reported.entries.is_empty(), RULE, || {
        format!("{} came back without a log that held {} entries", n(node), reported.entries.len())
    })
}
