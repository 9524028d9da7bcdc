//! A replica's high watermark does not go back while it runs. A restart may take it back to the
//! last checkpoint, which is at most a second old.

use super::{Violation, hold, n};

const RULE: (&str, &str) = ("HW per replica never goes back", "I8, R6");

pub fn check(node: usize, before: u64, now: u64) -> Result<(), Violation> {
    hold(now >= before, RULE, || {
        format!("{} has its watermark at {now}, and had it at {before}", n(node))
    })
}
