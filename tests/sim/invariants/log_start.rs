//! Log start does not go back: not while a replica runs, and after a restart not behind where a
//! commit had put it.

use super::{Violation, hold, n};

const RULE: (&str, &str) = ("log start never goes back", "I11, R24");

pub fn check(node: usize, before: i64, now: i64) -> Result<(), Violation> {
    hold(now >= before, RULE, || {
        format!("{} begins at offset {now}, and began at {before}", n(node))
    })
}

pub fn check_restart(node: usize, durable: i64, found: i64) -> Result<(), Violation> {
    hold(found >= durable, RULE, || {
        format!("{} came back beginning at offset {found}; {durable} was on disk", n(node))
    })
}
