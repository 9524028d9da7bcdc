//! A home whose lease has run out acknowledges nothing on a topic that fences.

use super::{Violation, hold, n};
use crate::scenario::Partition;

const RULE: (&str, &str) = ("no ack without a lease on a topic that fences", "R17");

pub fn check(node: usize, partition: &Partition, has_lease: bool) -> Result<(), Violation> {
    let ack = partition.policy.ack;
    hold(has_lease || !ack.fence || ack.sync_to > 0, RULE, || {
        format!("{} acknowledges in {} without a lease", n(node), partition.at)
    })
}
