//! What a change of the image means to the world: what the oracle is told, what is counted, and where
//! readers go on.

use std::sync::Arc;

use isobar::metadata::image::{Image, Partition};
use isobar::metadata::moves::{Kind, Moved, Verdict};
use isobar::model::Offset;

use crate::invariants::Violation;
use crate::scenario::{NODES, dc_name, dc_of, node_of};
use crate::show;
use crate::world::World;

/// As the report of a run counts it.
pub const BEGUN: &str = "begun";
pub const ENDED: &str = "ended";

fn name_of(moved: &Moved) -> &'static str {
    match (moved.kind, moved.verdict) {
        (Kind::Switchover, _) => "switchovers",
        (Kind::Failover, _) if moved.from == moved.to => "given up, at home",
        (Kind::Failover, Verdict::Lossless) => "failovers, proven",
        (Kind::Failover, Verdict::AtMost { .. }) => "failovers, at most so much",
        (Kind::Failover, Verdict::UnboundedSince { .. }) => "failovers, not proven",
    }
}

impl World {
    /// One command has been applied.
    pub fn followed(&mut self, before: &Image, after: &Image) -> Result<(), Violation> {
        for n in 0..self.scenario.partitions.len() {
            let at = self.scenario.partitions[n].at;
            let (was, is) = (before.partition(at), after.partition(at));
            if was == is {
                continue;
            }
            self.meta.changed[n] = self.now;
            if let Some(placed) = is {
                self.recorded(n, placed);
            }
            let placed = is.iter().flat_map(|p| &p.replicas).map(|r| (r.id, node_of(r.node)));
            self.oracle.partitions[n].nodes.extend(placed);
            let moving = |p: Option<&Arc<Partition>>| p.is_some_and(|p| p.moving().is_some());
            if !moving(was) && moving(is) {
                self.meta.begun_in[n] = self.meta.term;
                self.count_move(BEGUN);
            }
        }
        match after.moved.last().filter(|_| after.moved.len() > before.moved.len()) {
            Some(moved) => self.has_moved(before, after, moved),
            None => Ok(()),
        }
    }

    pub fn count_move(&mut self, name: &'static str) {
        *self.meta.moves.entry(name).or_default() += 1;
    }

    fn has_moved(&mut self, before: &Image, after: &Image, moved: &Moved) -> Result<(), Violation> {
        show::line(self.now, self.meta.leader, || format!("__meta: {moved:?}"));
        let n = self.partition_of(moved.at);
        let fork = after.partition(moved.at).and_then(|p| p.fork.clone());
        let fork = fork.expect("an epoch after the first has a fork");
        self.count_move(ENDED);
        self.count_move(name_of(moved));
        if self.meta.begun_in[n] != self.meta.term {
            self.count_move("across leaders of __meta");
        }
        let last = before.moved.iter().rfind(|m| m.at == moved.at);
        if moved.kind == Kind::Failover && last.is_some_and(|last| last.kind == Kind::Failover) {
            self.count_move("failovers after a failover");
        }
        if moved.from != moved.to && last.is_some_and(|last| last.from == moved.to) {
            self.count_move("back to the home before");
        }
        let skews = (0..NODES).filter(|node| dc_name(dc_of(*node)) == moved.from);
        let skew_ms = skews.map(|node| self.scenario.skew_ms[node]).max().unwrap_or_default();
        let kept = self.oracle.moved(moved, &fork, skew_ms)?;
        for reader in self.readers.iter_mut().filter(|r| r.partition == n) {
            // As a client does that asks where its epoch ended (KIP-320).
            reader.offset = reader.offset.min(Offset(kept));
        }
        Ok(())
    }
}
