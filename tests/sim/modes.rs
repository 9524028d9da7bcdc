//! Sync topics that degrade: what leaders ask `__meta` to record, as `broker::modes` does (R7 to R9).

use isobar::metadata::image::Partition;
use isobar::metadata::modes::Change;
use isobar::metadata::request::Request;
use isobar::replica::core::mode::Ask;

use crate::meta::Proposer;
use crate::scenario::{node_id, wall_ms};
use crate::show;
use crate::world::World;

/// As the report of a run counts them.
pub const DEGRADED: &str = "degraded";
pub const RESTORED: &str = "sync again";

impl World {
    pub fn ask_modes(&mut self, node: usize, asks: Vec<Ask>) {
        if asks.is_empty() {
            return;
        }
        let at_ms = wall_ms(self.now) + self.scenario.skew_ms[node];
        let change = |ask: Ask| {
            show::line(self.now, node, || format!("asks for {ask:?}"));
            let Ask { partition: at, home_epoch, expected, mode } = ask;
            Change { at, home_epoch, expected, mode, node: node_id(node), at_ms }
        };
        let changes = asks.into_iter().map(change).collect();
        self.propose(node, Request::ChangeModes { changes }, Proposer::Nobody);
    }

    /// What `__meta` has on record of a partition from now on.
    pub fn recorded(&mut self, partition: usize, placed: &Partition) {
        let modes = &mut self.oracle.partitions[partition].modes;
        let before = modes.last_key_value().map(|(_, mode)| *mode).unwrap_or_default();
        modes.insert(placed.home_epoch, placed.mode);
        match (before.degraded, placed.mode.degraded) {
            (false, true) => self.count_move(DEGRADED),
            (true, false) => self.count_move(RESTORED),
            _ => {}
        }
    }

    /// Whether `__meta` has every topic as sync as its policy is.
    pub fn all_is_sync(&self) -> bool {
        self.scenario.partitions.iter().all(|p| !self.meta.placed(p.at).mode.degraded)
    }
}
