//! Calls for ranges of entries, between nodes: the bulk lane. A call is lost with its node, with its
//! caller, and in a cut; then nothing comes back, after a while.

use isobar::log;
use isobar::replica::core::effect::RangeWanted;

use crate::event::Event;
use crate::scenario::{SECOND, dc_of, node_of};
use crate::world::World;

/// A call at its source, or what came of it.
pub enum Bulk {
    Call(RangeWanted),
    Answer(RangeWanted, Option<Vec<log::Entry>>),
}

impl World {
    pub fn ask_ranges(&mut self, node: usize, wanted: Vec<RangeWanted>) {
        let life = self.nodes[node].life;
        for wanted in wanted {
            *self.faults.entry("ranges").or_default() += 1;
            let source = node_of(wanted.source);
            let there = self.network.delay(dc_of(node), dc_of(source), &mut self.rng);
            self.after(there, Event::Bulk(node, life, Box::new(Bulk::Call(wanted))));
        }
    }

    pub fn take_bulk(&mut self, node: usize, life: u64, bulk: Bulk) {
        match bulk {
            Bulk::Call(wanted) => self.answer_range(node, life, wanted),
            Bulk::Answer(wanted, entries) => {
                if let Some(running) = self.alive(node, life) {
                    running.inbox.ranged.push((wanted, entries));
                    self.round_soon(node);
                }
            }
        }
    }

    /// The call has arrived.
    fn answer_range(&mut self, node: usize, life: u64, wanted: RangeWanted) {
        let source = node_of(wanted.source);
        let is_cut = self.network.is_cut(node, source) || self.network.is_cut(source, node);
        let at = wanted.group.partition;
        let view = self.nodes[source].running.as_ref().filter(|_| !is_cut);
        let view = view.and_then(|running| running.replicas.view(at));
        let range = view.and_then(|view| view.range(wanted.group, wanted.from, wanted.to).ok());
        let entries = range.map(|range| log::parse_range(at, &range).expect("a range of ours"));
        let back = match &entries {
            Some(_) => self.network.delay(dc_of(source), dc_of(node), &mut self.rng),
            None => SECOND,
        };
        let answer = Bulk::Answer(wanted, entries);
        self.after(back, Event::Bulk(node, life, Box::new(answer)));
    }
}
