//! An operator, who moves homes: planned, forced, with and without a word on record, two in a row, and
//! back; at times out of the blue, at times because a datacenter is cut off or has lost its power.

use isobar::metadata::moves::{Aim, Begin, Kind};
use isobar::metadata::request::Request;
use rand::Rng;

use crate::event::Event;
use crate::meta::{LOOK, Proposer};
use crate::scenario::{
    DCS, MILLI, Micros, Moves, NODES, NODES_PER_DC, SECOND, dc_name, dc_of, node_of, wall_ms,
};
use crate::wipe::RESCUE;
use crate::world::World;

/// What a carrier says of a move whose target cannot hold the cut.
const ANOTHER_TARGET: &str = "choose another target";

/// What an operator sets out to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Something, and then something else.
    Any,
    /// One thing more right after another.
    Again,
    /// Whatever lost its home with the disks there goes elsewhere, and what cannot end where it was to go.
    Rescue,
    /// Looks for moves to where nobody can hold the cut, and names another datacenter.
    Redirect,
}

/// Between two looks for moves whose target cannot hold the cut.
const REDIRECT: Micros = 20 * SECOND;

impl World {
    /// A target whose logs end before those of all others begin can be given nothing that continues them, and
    /// has no leader that would send it a snapshot. It says so, and people name another datacenter. No other
    /// move that stands still is helped here.
    fn redirect(&mut self) {
        self.after(REDIRECT, Event::Operate(Plan::Redirect));
        for n in 0..self.scenario.partitions.len() {
            let at = self.scenario.partitions[n].at;
            let placed = self.meta.placed(at).clone();
            let Some(moving) = placed.moving() else { continue };
            if self.words_of(n).any(|why| why.contains(ANOTHER_TARGET)) {
                let others: Vec<usize> =
                    (0..DCS.len()).filter(|dc| dc_name(*dc) != moving.aim.to).collect();
                let to = others[self.meta.rng.gen_range(0..others.len())];
                self.force(at, &placed, to, false);
                self.count_move("sent elsewhere");
            }
        }
    }

    /// Why the moves of a partition have not ended, by who carries them.
    fn words_of(&self, partition: usize) -> impl Iterator<Item = &str> {
        let of = self.carriers.values().filter(move |c| c.partition == partition);
        of.filter_map(|c| c.carrier.stuck())
    }

    pub fn plan_moves(&mut self) {
        let Some(Moves { every, shift, .. }) = self.scenario.moves else { return };
        let first = 2 * SECOND + self.meta.rng.gen_range(0..2 * every);
        self.at(first, Event::Operate(Plan::Any));
        self.after(REDIRECT, Event::Operate(Plan::Redirect));
        if self.scenario.faults.rot.is_some() {
            self.after(RESCUE, Event::Operate(Plan::Rescue));
        }
        if let Some(mean) = shift {
            let pause = self.meta.rng.gen_range(0..2 * mean);
            self.after(pause, Event::MetaShift);
        }
        self.after(LOOK, Event::MetaLook);
    }

    /// `__meta` gets another leader, whose predecessor may die.
    pub fn meta_shift(&mut self) {
        let shift = self.scenario.moves.and_then(|moves| moves.shift);
        let Some(mean) = shift.filter(|_| !self.healed) else { return };
        let pause = self.meta.rng.gen_range(0..2 * mean);
        self.after(pause, Event::MetaShift);
        let before = self.meta.leader;
        if self.meta.rng.gen_bool(0.3) {
            self.end_process(before, self.meta.learned[before].is_multiple_of(2), None);
        }
        self.elect_meta();
        *self.faults.entry("leaders of __meta").or_default() += 1;
    }

    pub fn operate(&mut self, plan: Plan) {
        match plan {
            Plan::Rescue => return self.rescue(),
            Plan::Redirect => return self.redirect(),
            Plan::Any | Plan::Again => {}
        }
        let Some(Moves { every, .. }) = self.scenario.moves.filter(|_| !self.healed) else {
            return;
        };
        if plan == Plan::Any {
            let pause = self.meta.rng.gen_range(0..2 * every);
            self.after(pause, Event::Operate(Plan::Any));
        }
        let rng = &mut self.meta.rng;
        let partition = rng.gen_range(0..self.scenario.partitions.len());
        let from = rng.gen_range(0..NODES);
        let (forced, accept_loss, to) = (rng.gen_bool(0.6), rng.gen_bool(0.5), rng.gen_range(0..3));
        let (trouble, again) = (rng.gen_range(0..10), rng.gen_bool(0.3));
        if again {
            let soon = rng.gen_range(0..3 * SECOND);
            self.after(soon, Event::Operate(Plan::Again));
        }
        if forced {
            self.trouble(partition, trouble);
        }
        let at = self.scenario.partitions[partition].at;
        let image = self.meta.image(from);
        let placed = image.partition(at).expect("a partition of the scenario");
        let kind = if forced { Kind::Failover } else { Kind::Switchover };
        let (to, began_ms) = (dc_name(to), wall_ms(self.now));
        let aim = Aim { kind, to, accept_loss, automatic: false, began_ms };
        let begin = Begin { at, home_epoch: placed.home_epoch, aim };
        crate::show::line(self.now, from, || format!("an operator asks for {begin:?}"));
        *self.meta.moves.entry("asked for").or_default() += 1;
        self.propose(from, Request::MoveHomes { moves: vec![begin] }, Proposer::Nobody);
    }

    /// Why a home is moved by force.
    fn trouble(&mut self, partition: usize, kind: u32) {
        let home = self.home_of(partition);
        let here = home * NODES_PER_DC..(home + 1) * NODES_PER_DC;
        let until: Micros = self.meta.rng.gen_range(SECOND..12 * SECOND);
        match kind {
            // The home is alive behind a cut; with one of the others on its side, or alone.
            0..4 => {
                let with = self.meta.rng.gen_range(0..4);
                let there = (0..NODES).filter(|n| dc_of(*n) != home && dc_of(*n) != with);
                let pairs = there.flat_map(|b| here.clone().flat_map(move |a| [(a, b), (b, a)]));
                let pairs = pairs.collect();
                self.cut_for(pairs, until);
                *self.faults.entry("homes cut off").or_default() += 1;
            }
            4 | 5 => {
                for node in here {
                    let back = self.meta.rng.gen_range(100 * MILLI..12 * SECOND);
                    self.end_process(node, kind == 4, Some(back));
                }
                *self.faults.entry("homes lost for a while").or_default() += 1;
            }
            6 if self.scenario.moves.is_some_and(|moves| moves.wipes) => self.wipe(home),
            _ => {}
        }
    }

    /// Moves that have not ended, in words.
    pub fn moves_wait(&self) -> String {
        let mut what = String::new();
        for partition in &self.scenario.partitions {
            let placed = self.meta.placed(partition.at);
            if let Some(moving) = placed.moving() {
                what += &format!("p{} moves: {moving:?}; ", partition.at.partition);
                for carried in self.carriers.values() {
                    what += &format!("{:?} ", carried.carrier.stuck());
                }
            }
            let voters: Vec<_> = placed.voters().map(|r| node_of(r.node) + 1).collect();
            what += &format!("epoch {} voters {voters:?}; ", placed.home_epoch);
        }
        what
    }
}
