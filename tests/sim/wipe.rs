//! A datacenter loses all of its disks, once: its nodes come back with empty ones, are let in under
//! new replica ids (R22), and whoever was at home there goes elsewhere. So does a home, and a failover that stands
//! still, where too many disks have been given up one by one.

use isobar::log::disk::sim::SimDisk;
use isobar::metadata::command::Command;
use isobar::metadata::controller;
use isobar::metadata::image::{Partition, Phase, Replica};
use isobar::metadata::moves::{Aim, Begin, Kind};
use isobar::metadata::request::Request;
use isobar::model::TopicPartition;
use rand::Rng;

use crate::event::Event;
use crate::image::disk_id;
use crate::invariants::Violation;
use crate::meta::Proposer;
use crate::operator::Plan;
use crate::scenario::{
    DCS, MILLI, Micros, NODES, NODES_PER_DC, SECOND, dc_name, node_id, node_of, wall_ms,
};
use crate::world::World;

/// Between two looks of the operator who sees to it, and how long he waits for a move that does not end.
pub const RESCUE: Micros = 3 * SECOND;
const STUCK: Micros = 10 * SECOND;

/// Between two tries of a node to be let in.
const ADMIT: Micros = SECOND;

impl World {
    /// At most once in a run: no policy promises to outlive the disks of two.
    pub fn wipe(&mut self, dc: usize) {
        let disks_lost = self.nodes.iter().any(|node| node.disks_lost > 0);
        if self.wiped.is_some() || disks_lost || !self.is_mended() {
            return;
        }
        self.wiped = Some(dc);
        *self.faults.entry("datacenters wiped").or_default() += 1;
        for node in dc * NODES_PER_DC..(dc + 1) * NODES_PER_DC {
            self.lose_disk(node);
        }
        if self.scenario.faults.rot.is_none() {
            self.after(RESCUE, Event::Operate(Plan::Rescue));
        }
    }

    /// A node comes back with an empty disk.
    pub fn lose_disk(&mut self, node: usize) {
        let back = self.meta.rng.gen_range(100 * MILLI..8 * SECOND);
        self.end_process(node, true, Some(back));
        let place = &mut self.nodes[node];
        place.disks_lost += 1;
        place.disk_id = disk_id(node, place.disks_lost);
        place.disk = SimDisk::new(self.meta.rng.r#gen());
        self.meta.learned[node] = 0;
        self.oracle.wiped(self.now, node);
        self.after(back, Event::Admit(node));
    }

    pub fn admit(&mut self, node: usize) {
        let disk = self.nodes[node].disk_id;
        if self.meta.truth().nodes[&node_id(node)].disk == disk {
            return;
        }
        self.after(ADMIT, Event::Admit(node));
        if self.nodes[node].running.is_some() {
            let request = Request::AdmitDisk { node: node_id(node), disk, accept_loss: true };
            self.propose(node, request, Proposer::Nobody);
        }
    }

    /// As the leader of `__meta` does it: replicas on disks that are gone are replaced.
    pub fn repair(&mut self) -> Result<(), Violation> {
        let is_lost = self.nodes.iter().any(|node| node.disks_lost > 0);
        if !is_lost || !self.reaches_majority(self.meta.leader) {
            return Ok(());
        }
        let placements = controller::repair(self.meta.truth());
        let commands: Vec<_> = placements.into_iter().map(Command::ReplacePlacement).collect();
        if !commands.is_empty() {
            self.apply_all(commands)?;
        }
        Ok(())
    }

    pub fn rescue(&mut self) {
        self.after(RESCUE, Event::Operate(Plan::Rescue));
        for n in 0..self.scenario.partitions.len() {
            let at = self.scenario.partitions[n].at;
            let placed = self.meta.placed(at).clone();
            let waits = self.now > self.meta.changed[n] + STUCK;
            let is_stuck = placed.moving().is_some() && waits;
            let is_lost = placed.phase == Phase::Active
                && (self.has_lost_home(&placed) || waits && self.lacks_a_damaged_vote(n, &placed));
            if is_stuck || is_lost {
                let from = placed.moving().map_or(&placed.home, |moving| &moving.aim.to);
                let without = self.wiped.map_or_else(|| from.clone(), dc_name);
                let others: Vec<usize> =
                    (0..DCS.len()).filter(|dc| dc_name(*dc) != without).collect();
                let to = others[self.meta.rng.gen_range(0..others.len())];
                // Given where a proof has not come.
                let word = is_stuck && self.wiped.is_none();
                self.force(at, &placed, to, word);
            }
        }
    }

    /// Whether a home stands still because one of its voters is damaged.
    fn lacks_a_damaged_vote(&self, n: usize, placed: &Partition) -> bool {
        let leads = |node| {
            self.core(node, n).is_some_and(|core| {
                core.is_leader() && core.config().group.home_epoch == placed.home_epoch
            })
        };
        let rots =
            |replica: &Replica| self.oracle.partitions[n].replicas[node_of(replica.node)].rots;
        placed.voters().any(rots) && !(0..NODES).any(leads)
    }

    /// Whether the disks of a majority of a partition's voters are gone.
    fn has_lost_home(&self, placed: &Partition) -> bool {
        let has = |disk, node: usize| disk == Some(self.nodes[node].disk_id);
        let there = placed.voters().filter(|r| has(r.disk, node_of(r.node))).count();
        there <= placed.voters().count() / 2
    }

    pub fn force(&mut self, at: TopicPartition, placed: &Partition, to: usize, accept_loss: bool) {
        let (to, began_ms) = (dc_name(to), wall_ms(self.now));
        let kind = Kind::Failover;
        let aim = Aim { kind, to, accept_loss, automatic: false, began_ms };
        let begin = Begin { at, home_epoch: placed.home_epoch, aim };
        let from = self.meta.rng.gen_range(0..NODES);
        crate::show::line(self.now, from, || format!("an operator comes to the rescue: {begin:?}"));
        self.propose(from, Request::MoveHomes { moves: vec![begin] }, Proposer::Nobody);
    }
}
