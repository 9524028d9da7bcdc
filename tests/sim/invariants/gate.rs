//! An acknowledgement leaves only when the disks have it that the policy asks for: a majority of the
//! voters, `min.insync.replicas` of them, and on a sync topic a majority of the replicas in each of
//! at least k remote DCs. Counted from what commits have reported, not from what the leader knows.

use super::{Violation, hold, n};
use crate::oracle::{History, Log};
use crate::scenario::{DCS, NODES, NODES_PER_DC, Partition, dc_of};

const RULE: (&str, &str) = ("an ack waits for the disks that its policy asks for", "R4, R5, I1");

/// `node` acknowledges everything below the offset `end`.
pub fn check(
    node: usize,
    partition: &Partition,
    history: &History,
    end: i64,
) -> Result<(), Violation> {
    let Some(index) = history.exposed_by_end.get(&end).copied() else {
        let what =
            || format!("{} acknowledges up to offset {end}, which nobody has shown", n(node));
        return hold(false, RULE, what);
    };
    let term = history.exposed[&index].term;
    let has = |log: &Log| log.has(index, term);
    let mut by_dc = [0; DCS.len()];
    for replica in (0..NODES).filter(|r| has(&history.replicas[*r].durable)) {
        by_dc[dc_of(replica)] += 1;
    }
    let majority = NODES_PER_DC / 2 + 1;
    let voters = by_dc[partition.home];
    let ack = partition.policy.ack;
    hold(voters >= majority.max(ack.min_in_sync), RULE, || {
        format!("{} acknowledges up to offset {end}; {voters} voters have it on disk", n(node))
    })?;
    let remote = (0..DCS.len()).filter(|dc| *dc != partition.home && by_dc[*dc] >= majority);
    let remote = remote.count();
    hold(remote >= ack.sync_to, RULE, || {
        format!(
            "{} acknowledges up to offset {end}; {remote} of {} remote DCs have it",
            n(node),
            ack.sync_to
        )
    })
}
