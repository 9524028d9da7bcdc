//! Watches that the cluster goes on: where nothing stands in the way, and after all is healed.

use isobar::replica::core::Core;

use crate::client::Producer;
use crate::event::Event;
use crate::invariants::{Violation, progress};
use crate::scenario::{Micros, NODES_PER_DC, SECOND, dc_of, node_of};
use crate::world::World;

impl World {
    /// Something happens to a node: what it does for a while proves nothing.
    pub fn touch(&mut self, node: usize) {
        self.nodes[node].touched = self.now;
    }

    /// Something happens to a connection; only those within a DC carry votes.
    pub fn touch_link(&mut self, (from, to): (usize, usize)) {
        if dc_of(from) == dc_of(to) {
            self.touch(from);
            self.touch(to);
        }
    }

    pub fn watch(&mut self) -> Result<(), Violation> {
        self.after(SECOND, Event::Watch);
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        self.quiet_replicas +=
            running.map(|r| r.replicas.host.quiet_replicas() as u64).sum::<u64>();
        for partition in 0..self.scenario.partitions.len() {
            let at = self.scenario.partitions[partition].at;
            let placed = self.meta.placed(at);
            let (epoch, voters) = (placed.home_epoch, placed.voters().map(|r| node_of(r.node)));
            let voters: Vec<usize> = voters.collect();
            for node in &voters {
                let here = self.meta.image(*node).partition(at).map(|p| p.home_epoch);
                if here != Some(epoch) {
                    // It has not heard yet that it is at home.
                    self.touch(*node);
                }
            }
            if self.led(partition, &voters).is_some() {
                self.led_at[partition] = self.now;
            }
            let term = self.quiet_term(partition, &voters)?;
            let before = std::mem::replace(&mut self.quiet_terms[partition], term);
            if let (Some(before), Some(now)) = (before, term) {
                progress::check_kept(partition, before, now)?;
            }
        }
        Ok(())
    }

    /// The term in which one of them leads.
    fn led(&self, partition: usize, voters: &[usize]) -> Option<u64> {
        let mut cores = voters.iter().filter_map(|node| self.core(*node, partition));
        cores.find(|core| leads(core)).map(|core| core.term().0)
    }

    /// The term in which a partition is led, if all of its voters have been left alone for long.
    fn quiet_term(&self, partition: usize, voters: &[usize]) -> Result<Option<u64>, Violation> {
        let placed = self.meta.placed(self.scenario.partitions[partition].at);
        if placed.moving().is_some() || voters.len() != NODES_PER_DC {
            return Ok(None);
        }
        let touched = voters.iter().map(|node| self.touched(*node)).max();
        let touched = touched.max(Some(self.meta.changed[partition]));
        if touched.is_none_or(|at| self.now < at + progress::QUIET) {
            return Ok(None);
        }
        let runs = |node: usize| self.nodes[node].running.is_some();
        let together = |a: usize, b: usize| {
            let cut = self.network.is_cut(a, b) || self.network.is_cut(b, a);
            runs(a) && runs(b) && !cut
        };
        let [a, b, c] = voters[..] else { unreachable!("three voters") };
        let pairs = [together(a, b), together(b, c), together(a, c)];
        if !pairs.contains(&true) {
            return Ok(None);
        }
        let cores = || voters.iter().filter_map(|node| self.core(*node, partition));
        // A third one may be placed that the group has had no leader to take in yet.
        if cores().any(|core| core.log().conf_state().voters.len() != NODES_PER_DC) {
            return Ok(None);
        }
        let led = self.led(partition, voters);
        let is_whole = !pairs.contains(&false);
        // What gets past a cut by a hop keeps a leader for a while, and may stop doing so at any time.
        let lately = !is_whole && self.now < self.led_at[partition] + progress::QUIET;
        progress::check_led(partition, led.is_some() || lately, || {
            cores().map(|core| format!("{:?} ", (core.term().0, core.progress()))).collect()
        })?;
        Ok(led.filter(|_| is_whole))
    }

    fn touched(&self, node: usize) -> Micros {
        let node = &self.nodes[node];
        node.touched.max(node.paused_until).max(node.slow_until)
    }

    /// One producer a partition that sends its first batch when all is healed.
    pub fn late_producers(&mut self) {
        let first = self.producers.len();
        self.late_from = first;
        for partition in 0..self.scenario.plain() {
            let mut producer = Producer::late(first + partition, partition);
            producer.make_batch(self.now, self.scenario.value_bytes, &mut self.rng);
            self.producers.push(producer);
            self.pump(first + partition);
        }
        self.after(progress::ANSWERED, Event::Answered);
    }

    pub fn check_answered(&self) -> Result<(), Violation> {
        let late = &self.producers[self.late_from..];
        progress::check_answered(late.iter().find_map(Producer::waits))
    }
}

/// Whether it has committed an entry of its own term.
fn leads(core: &Core) -> bool {
    let own = core.log().epochs().last().filter(|(term, ..)| *term == core.term());
    core.is_leader() && own.is_some_and(|(_, index, _)| *index <= core.committed())
}
