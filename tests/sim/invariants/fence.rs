//! A home whose lease has run out acknowledges nothing on a topic that fences: where it waits for the home
//! alone, by policy or because it is degraded.

use super::{Violation, hold, n};
use crate::scenario::Partition;

const RULE: (&str, &str) = ("no ack without a lease on a topic that fences", "R17");

pub fn check(node: usize, partition: &Partition, has_lease: bool) -> Result<(), Violation> {
    let ack = partition.policy.ack;
    hold(has_lease || !ack.fence || ack.sync_to > 0, RULE, || what(node, partition))
}

/// On a sync topic it acknowledges what so many remote DCs have.
pub fn check_degraded(
    node: usize,
    partition: &Partition,
    has_lease: bool,
    remote: usize,
) -> Result<(), Violation> {
    let ack = partition.policy.ack;
    hold(has_lease || !ack.fence || remote >= ack.sync_to, RULE, || what(node, partition))
}

fn what(node: usize, partition: &Partition) -> String {
    format!("{} acknowledges in {} without a lease", n(node), partition.at)
}
