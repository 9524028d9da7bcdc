//! What goes wrong, when, and how it is mended.

use rand::Rng;

use crate::client::{Asker, Request};
use crate::event::Event;
use crate::invariants::Violation;
use crate::node::Work;
use crate::scenario::{DCS, MILLI, Micros, NODES, NODES_PER_DC, RESERVES, SECOND};
use crate::show;
use crate::world::World;

/// A path that is silent for so long loses its connections.
const BREAKS: Micros = 8 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PowerCut,
    AllPowerCut,
    Kill,
    FailedSync,
    Pause,
    CutDc,
    CutNode,
    Reconnect,
    Lease,
    StepDown,
    SlowDisk,
    FullDisk,
    Rot,
    Delete,
}

/// Comes again, after a pause of `mean` on average.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    kind: Kind,
    mean: Micros,
}

/// The end of a fault.
#[derive(Debug, Clone)]
pub enum Undo {
    Cuts(Vec<(usize, usize)>),
    Lease(usize),
    FullDisk(usize),
}

impl World {
    pub fn plan_faults(&mut self) {
        let faults = self.scenario.faults;
        let deletes = self.scenario.partitions.iter().any(|p| p.deletes).then_some(2 * SECOND);
        for (kind, mean) in [
            (Kind::PowerCut, faults.power_cut),
            (Kind::AllPowerCut, faults.all_power_cut),
            (Kind::Kill, faults.kill),
            (Kind::FailedSync, faults.failed_sync),
            (Kind::Pause, faults.pause),
            (Kind::CutDc, faults.cut_dc),
            (Kind::CutNode, faults.cut_node),
            (Kind::Reconnect, faults.reconnect),
            (Kind::Lease, faults.lease),
            (Kind::StepDown, faults.step_down),
            (Kind::SlowDisk, faults.slow_disk),
            (Kind::FullDisk, faults.full_disk),
            (Kind::Rot, faults.rot),
            (Kind::Delete, deletes),
        ] {
            if let Some(mean) = mean {
                self.plan(Fault { kind, mean });
            }
        }
    }

    fn plan(&mut self, fault: Fault) {
        let pause = self.rng.gen_range(0..2 * fault.mean);
        self.after(pause, Event::Fault(fault));
    }

    pub fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        if self.healed {
            return Ok(());
        }
        self.plan(fault);
        let name = match fault.kind {
            Kind::PowerCut => {
                let node = self.victim();
                self.end_process(node, true, None);
                "power cuts"
            }
            Kind::AllPowerCut => {
                (0..NODES).for_each(|node| self.end_process(node, true, None));
                "power cuts of all"
            }
            Kind::Kill => {
                let node = self.victim();
                self.end_process(node, false, None);
                "kills"
            }
            Kind::FailedSync => {
                let node = self.victim();
                let part = ["journal", ".log", ""][self.rng.gen_range(0..3)];
                self.nodes[node].disk.fail_sync(part);
                "failed syncs"
            }
            Kind::Pause => {
                let node = self.victim();
                let until = self.now + self.span(5 * SECOND);
                self.nodes[node].paused_until = until;
                if let Some(quic) = &mut self.quic {
                    quic.pause(node, until);
                }
                "pauses"
            }
            Kind::CutDc => {
                self.cut_dcs();
                "cuts between DCs"
            }
            Kind::CutNode => {
                self.cut_node();
                "cuts of a node"
            }
            Kind::Reconnect => {
                let (from, to) = (self.rng.gen_range(0..NODES), self.rng.gen_range(0..NODES));
                if from != to {
                    self.network.reconnect(from, to);
                    if let Some(quic) = &mut self.quic {
                        quic.silence(from, to, self.now + BREAKS);
                    }
                    self.touch_link((from, to));
                    self.after(MILLI, Event::Lost { at: from, peer: to });
                    self.after(2 * MILLI, Event::Up { at: from, peer: to });
                }
                "reconnects"
            }
            Kind::Lease => {
                let node = self.victim();
                self.set_lease(node, false);
                let until = self.span(6 * SECOND);
                self.after(until, Event::Undo(Undo::Lease(node)));
                "lapsed leases"
            }
            Kind::StepDown => {
                let node = self.victim();
                self.send_away(node);
                "step-downs"
            }
            Kind::SlowDisk => {
                let node = self.victim();
                self.nodes[node].slow_until = self.now + self.span(8 * SECOND);
                "slow disks"
            }
            Kind::FullDisk => {
                self.fill_disk();
                "full disks"
            }
            Kind::Rot => {
                let node = self.victim();
                self.rot(node);
                return Ok(());
            }
            Kind::Delete => {
                self.delete_records();
                "deletions"
            }
        };
        *self.faults.entry(name).or_default() += 1;
        self.trace.note((self.now, name));
        show::line(self.now, 0, || format!("fault: {name}"));
        Ok(())
    }

    /// Short ones are as likely as long ones.
    fn span(&mut self, max: Micros) -> Micros {
        let fraction: f64 = self.rng.gen_range(0.0..1.0);
        100 * MILLI + (fraction * fraction * max as f64) as Micros
    }

    /// Any node, but more often one that leads.
    fn victim(&mut self) -> usize {
        let leads = |node: &usize| {
            let running = self.nodes[*node].running.as_ref();
            running.is_some_and(|r| r.replicas.host.leads_anything())
        };
        let leaders: Vec<usize> = (0..NODES).filter(leads).collect();
        let home = self.home_of(0) * NODES_PER_DC;
        match self.rng.gen_range(0..4) {
            0 | 1 if !leaders.is_empty() => leaders[self.rng.gen_range(0..leaders.len())],
            2 => home + self.rng.gen_range(0..NODES_PER_DC),
            _ => self.rng.gen_range(0..NODES),
        }
    }

    fn cut_dcs(&mut self) {
        let (a, b) = [(0, 1), (1, 2), (0, 2)][self.rng.gen_range(0..3)];
        let ways = self.rng.gen_range(0..4);
        let of = |dc: usize| dc * NODES_PER_DC..(dc + 1) * NODES_PER_DC;
        let mut pairs = Vec::new();
        for (x, y) in of(a).flat_map(|x| of(b).map(move |y| (x, y))) {
            if ways != 1 {
                pairs.push((x, y));
            }
            if ways != 2 {
                pairs.push((y, x));
            }
        }
        self.cut(pairs);
    }

    /// A node from all others, or from those of its DC, or from some; in, out or both.
    fn cut_node(&mut self) {
        let node = self.victim();
        let (whom, ways) = (self.rng.gen_range(0..3), self.rng.gen_range(0..4));
        let mut pairs = Vec::new();
        for peer in (0..NODES).filter(|peer| *peer != node) {
            let is_near = peer / NODES_PER_DC == node / NODES_PER_DC;
            if whom == 1 && !is_near || whom == 2 && self.rng.gen_bool(0.5) {
                continue;
            }
            if ways != 1 {
                pairs.push((node, peer));
            }
            if ways != 2 {
                pairs.push((peer, node));
            }
        }
        self.cut(pairs);
    }

    fn cut(&mut self, pairs: Vec<(usize, usize)>) {
        let until = self.span(15 * SECOND);
        self.cut_for(pairs, until);
    }

    pub fn cut_for(&mut self, pairs: Vec<(usize, usize)>, until: Micros) {
        show::line(self.now, 0, || format!("cuts for {until} µs, by index: {pairs:?}"));
        for (from, to) in &pairs {
            self.network.cut(self.now, *from, *to);
            if let Some(quic) = &mut self.quic {
                quic.set_cut(*from, *to, true);
            }
            self.touch_link((*from, *to));
        }
        self.after(until, Event::Undo(Undo::Cuts(pairs)));
    }

    /// Whoever leads anything there hands it over.
    pub fn send_away(&mut self, node: usize) {
        self.touch(node);
        self.with(node, |running| running.inbox.step_down = true);
    }

    fn delete_records(&mut self) {
        let n = self.rng.gen_range(0..self.scenario.partitions.len());
        let partition = &self.scenario.partitions[n];
        let at = partition.at;
        let node = self.home_of(n) * NODES_PER_DC + self.rng.gen_range(0..NODES_PER_DC);
        let running = self.nodes[node].running.as_ref();
        let Some(view) = running.and_then(|r| r.replicas.view(at)) else { return };
        let progress = view.progress();
        let (start, end) = (progress.log_start, progress.high_watermark);
        if !partition.deletes || end <= start {
            return;
        }
        let before = start.plus(self.rng.gen_range(0..=(end.0 - start.0)));
        let request = Request {
            asker: Asker::Nobody,
            attempt: 0,
            partition: at,
            batches: Vec::new(),
            acks: isobar::replica::Acks::All,
            timeout: std::time::Duration::from_secs(5),
            delete_before: Some(before),
        };
        self.request(node, request);
    }

    /// Somebody else takes most of a disk: what is left may be more than the reserves, or less than a vote needs.
    fn fill_disk(&mut self) {
        let node = self.victim();
        let left = [0, 1 << 10, RESERVES.1, RESERVES.0, 2 * RESERVES.0][self.rng.gen_range(0..5)];
        let left = left + self.rng.gen_range(0..8 << 10);
        let disk = &self.nodes[node].disk;
        disk.set_capacity(disk.used_bytes() + left);
        self.touch(node);
        let until = self.span(8 * SECOND);
        self.after(until, Event::Undo(Undo::FullDisk(node)));
    }

    fn make_room(&mut self, node: usize) {
        self.nodes[node].disk.set_capacity(u64::MAX);
        self.touch(node);
    }

    fn set_lease(&mut self, node: usize, valid: bool) {
        self.meta.lapsed[node] = !valid;
        if self.scenario.moves.is_none() {
            self.tell_lease(node, valid);
        }
    }

    /// Where a partition's home is, by what `__meta` has decided.
    pub fn home_of(&self, partition: usize) -> usize {
        let placed = self.meta.placed(self.scenario.partitions[partition].at);
        DCS.iter().position(|dc| *dc == placed.home.as_str()).expect("a DC of the scenario")
    }

    pub fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Lease(node) => self.set_lease(node, true),
            Undo::FullDisk(node) => self.make_room(node),
            Undo::Cuts(pairs) => pairs.into_iter().for_each(|pair| self.mend(pair)),
        }
    }

    fn mend(&mut self, (from, to): (usize, usize)) {
        if let Some(quic) = &mut self.quic {
            quic.set_cut(from, to, false);
        }
        let (arrivals, lost) = self.network.heal(self.now, (from, to), &mut self.rng);
        self.will_arrive(arrivals);
        self.touch_link((from, to));
        if lost {
            self.after(MILLI, Event::Lost { at: from, peer: to });
            self.after(2 * MILLI, Event::Up { at: from, peer: to });
        }
    }

    /// The process ends; with `power`, the machine too. It comes back after `back`, or a while.
    pub fn end_process(&mut self, node: usize, power: bool, back: Option<Micros>) {
        let Some(mut running) = self.nodes[node].running.take() else { return };
        self.touch(node);
        self.trace.note((self.now, node, "end", power));
        show::line(self.now, node, || format!("ends, with its machine: {power}"));
        let disk = self.nodes[node].disk.clone();
        // It was cut off before it wrote anything, half-way, or before it could say so.
        match running.committing.take() {
            None => {}
            Some(Work::Commit(writes)) => {
                let new = writes.iter().map(|(write, _)| write);
                let given: Vec<_> = running.writer.waiting().chain(new).cloned().collect();
                self.oracle.interrupted(node, &given);
                match self.rng.gen_range(0..3) {
                    0 => {}
                    1 => {
                        disk.crash_after(self.rng.gen_range(0..12));
                        let _ = running.writer.commit(writes);
                    }
                    _ => {
                        let _ = running.writer.commit(writes);
                    }
                }
            }
            Some(Work::Order(command)) => {
                self.oracle.rewriting(node, &command);
                match self.rng.gen_range(0..3) {
                    0 => {}
                    1 => {
                        disk.crash_after(self.rng.gen_range(0..40));
                        running.writer.obey(*command);
                    }
                    _ => running.writer.obey(*command),
                }
            }
        }
        for request in std::mem::take(&mut running.asked).into_values() {
            if let Asker::Producer(client) = request.asker {
                let delay = self.client_delay(client, node);
                self.after(delay, Event::Respond(client, request.attempt, Err(None)));
            }
        }
        drop(running);
        if let Some(quic) = &mut self.quic {
            quic.stop(node);
        }
        if let Some(groups) = &mut self.groups {
            groups.stop(node);
        }
        if power {
            disk.crash();
        } else {
            disk.kill();
        }
        for peer in (0..NODES).filter(|peer| *peer != node) {
            self.network.reconnect(peer, node);
            self.network.reconnect(node, peer);
            let notices = self.rng.gen_range(MILLI..4 * SECOND);
            self.after(notices, Event::Lost { at: peer, peer: node });
        }
        let back = match back {
            Some(back) => back,
            None if self.healed => 100 * MILLI,
            None => self.span(8 * SECOND),
        };
        self.after(back, Event::Start(node));
    }

    /// The end of all faults.
    pub fn heal(&mut self) {
        self.healed = true;
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                self.mend((from, to));
            }
            self.set_lease(from, true);
            let until = self.nodes[from].paused_until.min(self.now);
            self.nodes[from].paused_until = until;
            if let Some(quic) = &mut self.quic {
                quic.pause(from, until);
            }
            self.nodes[from].slow_until = 0;
            self.make_room(from);
            self.after(SECOND, Event::Start(from));
        }
    }
}
