//! The high watermark moves to an entry of the leader's own term only. With one home nothing is
//! lost without this; at a failover three leaders in a row lose an acknowledged record (H3).

use super::{Violation, hold, n};
use crate::oracle::Seen;

const RULE: (&str, &str) = ("HW moves only to an entry of the leader's own term", "R5, H3");

/// A leader has moved the watermark beyond all that was shown before.
pub fn check(node: usize, term: u64, to: u64, entry: Option<&Seen>) -> Result<(), Violation> {
    hold(entry.is_some_and(|seen| seen.term == term), RULE, || {
        format!("{} leads term {term} and shows up to {to}, which is {entry:?}", n(node))
    })
}
