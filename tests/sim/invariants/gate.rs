//! An acknowledgement leaves only when the disks have it that the policy asks for: a majority of the
//! voters, `min.insync.replicas` of them, and on a sync topic a majority of the replicas in each of
//! at least k remote DCs, unless `__meta` has it as degraded by then. Counted from what commits have
//! reported, not from what the leader knows.

use super::{Violation, hold, n};
use crate::oracle::{Conf, History, Replica, Seat};
use crate::scenario::{DCS, NODES, NODES_PER_DC, Partition, dc_of};

const RULE: (&str, &str) = ("an ack waits for the disks that its policy asks for", "R4, R5, I1");
const MODE: (&str, &str) = ("where __meta says sync, sync is enforced", "I7, R7, R8");

/// `node` acknowledges everything below the offset `end`, in this home and with these voters. What is
/// beyond the cut of its home is looked at elsewhere. Returns how many remote DCs have it.
pub fn check(
    node: usize,
    conf: &Conf,
    partition: &Partition,
    history: &History,
    end: i64,
) -> Result<usize, Violation> {
    let Some(index) = history.exposed_by_end.get(&end).copied() else {
        let what =
            || format!("{} acknowledges up to offset {end}, which nobody has shown", n(node));
        return hold(false, RULE, what).map(|()| 0);
    };
    let term = history.exposed[&index].term;
    let has = |replica: &Replica| replica.has_had(index, term);
    let mut by_dc = [0; DCS.len()];
    let Conf { home, voters, placed, .. } = conf;
    // One that has lost its disk does not count by what its successor has caught up with.
    let is_there = |(id, node): &&Seat| {
        let replica = &history.replicas[*node];
        replica.conf.me == *id && has(replica)
    };
    let on_disk = |of: &[Seat]| of.iter().filter(is_there).count();
    for replica in (0..NODES).filter(|r| has(&history.replicas[*r])) {
        by_dc[dc_of(replica)] += 1;
    }
    let majority = NODES_PER_DC / 2 + 1;
    let ack = partition.policy.ack;
    let (of_group, of_placement) = (on_disk(voters), on_disk(placed));
    let is_enough = of_group > voters.len() / 2 && of_placement >= ack.min_in_sync;
    hold(is_enough, RULE, || {
        let of = voters.len();
        format!(
            "{} acknowledges up to offset {end}; {of_group} of {of} voters have it, and {of_placement} of those that are placed",
            n(node)
        )
    })?;
    let remote = (0..DCS.len()).filter(|dc| *dc != *home && by_dc[*dc] >= majority);
    let remote = remote.count();
    let mode = history.mode_in(conf.epoch);
    hold(remote >= ack.sync_to || mode.degraded, MODE, || {
        format!(
            "{} acknowledges up to offset {end}; {remote} of {} remote DCs have it; __meta has {mode}",
            n(node),
            ack.sync_to
        )
    })?;
    Ok(remote)
}
