//! Who carries moves: the product's pure [`Carrier`], driven by every node that leads `__meta` or
//! believes it, as `broker::moves::carry` drives it.

use isobar::metadata::lease::Wait;
use isobar::metadata::moves::carrier::{Attempt, Carrier, Course, Effect};
use isobar::metadata::moves::{Activation, Aim, Begin, Kind};
use isobar::metadata::request::Request;
use isobar::model::{NodeId, ReplicaId};

use crate::calls::{Answer, Answered, Ask, Waiter};
use crate::event::Event;
use crate::meta::{Proposer, duration};
use crate::scenario::{Micros, node_of, wall_ms};
use crate::world::World;

/// One move, carried by one node.
pub struct Carried {
    pub carrier: Carrier,
    node: usize,
    life: u64,
    pub partition: usize,
}

/// What of a carrier `__meta` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Choice(Attempt),
    Activation(Attempt),
}

/// What an answer is for.
#[derive(Debug, Clone, Copy)]
pub enum For {
    HandOff(Attempt),
    Seal { attempt: Attempt, replica: ReplicaId, node: NodeId },
    Hold { attempt: Attempt, replica: ReplicaId },
}

impl World {
    /// Carries every move that a node knows of and nobody carries there, if it leads `__meta`.
    pub fn carry_all(&mut self, node: usize) {
        if self.nodes[node].running.is_none() || !self.meta.believes(self.now, node) {
            return;
        }
        let life = self.nodes[node].life;
        for partition in 0..self.scenario.partitions.len() {
            let is_it = |c: &Carried| (c.node, c.life, c.partition) == (node, life, partition);
            if self.carriers.values().any(is_it) {
                continue;
            }
            let at = self.scenario.partitions[partition].at;
            let Some(mut course) = Course::of(self.meta.image(node), at) else { continue };
            course.fences = self.scenario.partitions[partition].policy.ack.fence;
            let carrier = Carrier::new(duration(self.now), course);
            self.next_carrier += 1;
            let carried = Carried { carrier, node, life, partition };
            self.carriers.insert(self.next_carrier, carried);
            self.trace.note((self.now, node, "carries", partition));
            self.pump_carrier(self.next_carrier);
        }
    }

    /// After a node has heard of something.
    pub fn pump_all(&mut self, node: usize) {
        let of: Vec<u64> =
            self.carriers.iter().filter(|(_, c)| c.node == node).map(|(id, _)| *id).collect();
        of.into_iter().for_each(|id| self.pump_carrier(id));
    }

    /// Carries out what a carrier wants, and lets it go where it is over or another's.
    pub fn pump_carrier(&mut self, id: u64) {
        while let Some(effect) = self.carriers.get_mut(&id).and_then(|c| c.carrier.poll_effect()) {
            self.act(id, effect);
        }
        let Some(carried) = self.carriers.get(&id) else { return };
        let (node, partition) = (carried.node, carried.partition);
        let at = self.scenario.partitions[partition].at;
        let lives = self.nodes[node].running.is_some() && self.nodes[node].life == carried.life;
        let now = Course::of(self.meta.image(node), at);
        let now = now.filter(|now| now.is_same_move(carried.carrier.course()));
        let believes = self.meta.believes(self.now, node);
        let Some(now) = now.filter(|_| lives && !carried.carrier.is_over() && believes) else {
            self.carriers.remove(&id);
            return;
        };
        let Some(carried) = self.carriers.get_mut(&id) else { return };
        carried.carrier.handle_course(now);
        if let Some(timeout) = carried.carrier.poll_timeout() {
            self.at(timeout.as_micros() as Micros, Event::Carry(id));
        }
    }

    pub fn carry(&mut self, id: u64) {
        let now = duration(self.now);
        if let Some(carried) = self.carriers.get_mut(&id) {
            let node = carried.node;
            if self.now < self.nodes[node].paused_until {
                let until = self.nodes[node].paused_until;
                self.at(until, Event::Carry(id));
                return;
            }
            let is_due = carried.carrier.poll_timeout().is_some_and(|timeout| timeout <= now);
            if is_due {
                carried.carrier.handle_timeout(now);
                self.pump_carrier(id);
            }
        }
    }

    fn act(&mut self, id: u64, effect: Effect) {
        let carried = &self.carriers[&id];
        let (from, course) = (carried.node, carried.carrier.course().clone());
        let (at, epoch) = (course.at, course.next);
        self.trace.note((self.now, from, format!("{effect:?}")));
        crate::show::line(self.now, from, || format!("p{} {effect:?}", at.partition));
        match effect {
            Effect::HandOff(of) => {
                let running = self.nodes[from].running.as_ref();
                let leader = running.and_then(|r| r.leaders.of(at)).map(|l| node_of(l.node));
                let waiter = Waiter::Carrier(id, For::HandOff(of));
                let ask = Ask::HandOff(course.aim.to.clone());
                match leader {
                    Some(leader) => self.call((from, leader), at, epoch, ask, waiter),
                    None => self.answer_carrier(id, For::HandOff(of), Err("no leader".into())),
                }
            }
            Effect::Seal { attempt, replica, node, when } => {
                let what = For::Seal { attempt, replica, node };
                let ask = Ask::Seal(when);
                self.call((from, node_of(node)), at, epoch, ask, Waiter::Carrier(id, what));
            }
            Effect::Hold { attempt, replica, node, fork, source } => {
                let what = For::Hold { attempt, replica };
                let ask = Ask::Hold { fork, source };
                self.call((from, node_of(node)), at, epoch, ask, Waiter::Carrier(id, what));
            }
            Effect::Choose(of, choice) => {
                let request = Request::ChooseCuts { choices: vec![*choice] };
                self.propose(from, request, Proposer::Carrier(id, Asked::Choice(of)));
            }
            Effect::Activate(of, activation) => {
                let activation = Activation { ended_ms: wall_ms(self.now), ..*activation };
                let request = Request::ActivateHomes { activations: vec![activation] };
                self.propose(from, request, Proposer::Carrier(id, Asked::Activation(of)));
            }
            Effect::WaitForLeases(of, wait) => {
                self.after(0, Event::Leases(id, of, Box::new(wait)));
            }
            Effect::GiveUp => {
                let to = course.placed.home.clone();
                let aim = Aim { kind: Kind::Failover, to, ..course.aim.clone() };
                let begin = Begin { at, home_epoch: course.placed.home_epoch, aim };
                let request = Request::MoveHomes { moves: vec![begin] };
                *self.meta.moves.entry("switchovers given up").or_default() += 1;
                self.propose(from, request, Proposer::Nobody);
            }
        }
    }

    /// Whether the leases of the old home are over, as who leads `__meta` sees it.
    pub fn leases(&mut self, id: u64, of: Attempt, mut wait: Box<Wait>) {
        let Some(carried) = self.carriers.get(&id) else { return };
        let node = carried.node;
        let now = duration(self.now);
        if self.meta.leader != node {
            let why = Err("it leads __meta no more".to_owned());
            if let Some(carried) = self.carriers.get_mut(&id) {
                carried.carrier.handle_leases_over(now, of, why);
            }
            return self.pump_carrier(id);
        }
        let over_at = self.meta.over_at(&mut wait);
        if over_at > self.now {
            return self.at(over_at, Event::Leases(id, of, wait));
        }
        if let Some(carried) = self.carriers.get_mut(&id) {
            carried.carrier.handle_leases_over(now, of, Ok(()));
        }
        self.pump_carrier(id);
    }

    /// What `__meta` said to a carrier's proposal.
    pub fn meta_answered(&mut self, id: u64, asked: Asked, done: Result<(), String>) {
        let now = duration(self.now);
        let Some(carried) = self.carriers.get_mut(&id) else { return };
        match asked {
            Asked::Choice(of) => carried.carrier.handle_chosen(now, of, done),
            Asked::Activation(of) => carried.carrier.handle_activated(now, of, done),
        }
        let node = carried.node;
        self.pump_carrier(id);
        self.carry_all(node);
    }

    pub fn answer_carrier(&mut self, id: u64, what: For, answer: Answered) {
        let now = duration(self.now);
        let Some(carried) = self.carriers.get_mut(&id) else { return };
        let carrier = &mut carried.carrier;
        match what {
            For::HandOff(of) => carrier.handle_handed_off(now, of, answer.map(|_| ())),
            For::Seal { attempt, replica, node } => {
                let answer = answer.map(|answer| match answer {
                    Answer::Sealed(seal) => *seal,
                    other => panic!("a seal was asked for, and {other:?} came back"),
                });
                carrier.handle_sealed(now, attempt, (replica, node), answer);
            }
            For::Hold { attempt, replica } => {
                let answer = answer.map(|answer| match answer {
                    Answer::Held(holds) => holds,
                    other => panic!("a log was to hold the cut, and {other:?} came back"),
                });
                carrier.handle_held(now, attempt, replica, answer);
            }
        }
        self.pump_carrier(id);
    }
}
