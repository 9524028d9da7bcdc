//! A replica that does not lead shows only what its own disk has: else a reader there may get what
//! stands in its place until the write is done, or nothing after a restart.

use super::{Violation, hold, n};
use crate::oracle::{Log, Seen};

const RULE: (&str, &str) = ("a replica shows what its own disk has", "R27");

pub fn check(node: usize, index: u64, shown: &Seen, durable: &Log) -> Result<(), Violation> {
    hold(durable.has(index, shown.term), RULE, || {
        format!(
            "{} shows {shown:?} at {index}; its disk has {:?}",
            n(node),
            durable.entries.get(&index)
        )
    })
}
