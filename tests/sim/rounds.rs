//! A node's round, and what comes of it: frames, writes, reads, answers, each looked at on its way.

use isobar::model::{Term, TopicPartition};
use isobar::replica::core::effect::Ticket;
use isobar::replica::driver::disk::Note;
use isobar::replica::driver::replicas::{Outcome, Replicate, lead_frames};
use isobar_transport::Frame;
use rand::Rng;

use crate::aims::Moment;
use crate::client::{Asker, Request};
use crate::clients::ids_of;
use crate::event::Event;
use crate::invariants::{Violation, fence, frame_size, gate};
use crate::network::{Arrival, Lane};
use crate::node::Task;
use crate::oracle::{Ack, Acked};
use crate::quic::{Arrived, Heard};
use crate::scenario::{MILLI, NODES, node_id, node_of};
use crate::show;
use crate::world::World;

impl World {
    pub fn round(&mut self, node: usize, life: u64) -> Result<(), Violation> {
        if self.alive(node, life).is_none() {
            return Ok(());
        }
        if self.is_paused(node, Event::Round(node, life)).is_none() {
            return Ok(());
        }
        let now = self.now;
        self.trace.note((now, node, "round"));
        let Some(running) = self.alive(node, life) else { return Ok(()) };
        running.round_is_due = false;
        let (outcome, up, handed_off) = running.round(node_id(node), now);
        let leads = running.replicas.host.leads();
        for write in &outcome.writes {
            show::write(now, node, write);
            self.oracle.given(now, node, write)?;
        }
        let Some(running) = &self.nodes[node].running else { return Ok(()) };
        let mut is_elected = false;
        for core in running.replicas.host.cores() {
            is_elected |= self.oracle.look(node, core)?;
        }
        if is_elected {
            show::line(now, node, || format!("leads {leads:?}"));
            self.aim(node, Moment::Elected);
        }
        for peer in up {
            for frame in lead_frames(&leads) {
                self.send(node, peer, Lane::Control, frame)?;
            }
        }
        for (call, done) in handed_off {
            self.answer(&call, done);
        }
        self.carry_out(node, outcome)?;
        self.poll_jobs(node);
        Ok(())
    }

    fn carry_out(&mut self, node: usize, outcome: Outcome) -> Result<(), Violation> {
        let Outcome { replication, control, leads, writes, reads, answers, asks, .. } = outcome;
        self.ask_modes(node, asks);
        for Replicate { to, key, frame, .. } in replication {
            self.send(node, node_of(to), Lane::of_key(key), frame)?;
        }
        for (to, frame) in control {
            self.send(node, node_of(to), Lane::Control, frame)?;
        }
        for frame in lead_frames(&leads) {
            for peer in (0..NODES).filter(|peer| *peer != node) {
                self.send(node, peer, Lane::Control, frame.clone())?;
            }
        }
        let life = self.nodes[node].life;
        for (at, wanted, reader) in reads {
            let delay = self.rng.gen_range(100..5 * MILLI);
            self.after(delay, Event::Read(node, life, Box::new((at, wanted, reader))));
        }
        self.ask_ranges(node, outcome.ranges);
        for (ticket, answer) in answers.replies {
            self.trace.note((self.now, node, format!("{answer:?}")));
            let asked = self.asked(node, ticket);
            let Some(request) = asked else { continue };
            if let Ok(produced) = answer {
                self.check_ack(node, &request, produced.next_offset.0)?;
            }
            match request.asker {
                Asker::Nobody => {}
                Asker::Producer(client) => {
                    let delay = self.client_delay(client, node);
                    let response = answer.map_err(Some);
                    self.after(delay, Event::Respond(client, request.attempt, response));
                }
                Asker::Coordinator { write, since } => {
                    show::line(self.now, node, || format!("answers its coordinator: {answer:?}"));
                    if let Ok(produced) = answer {
                        let n = self.partition_of(request.partition);
                        self.oracle.partitions[n].acked.push(Acked {
                            ids: ids_of(&request.batches),
                            epoch: Term(produced.leader_epoch as u64).home_epoch(),
                            base: produced.base_offset.0,
                            invoked: since,
                            acked: self.now,
                            is_promised: true,
                        });
                    }
                    self.groups.iter_mut().for_each(|groups| groups.reply(node, write, answer));
                }
            }
        }
        for (ticket, answer) in answers.deleted {
            self.trace.note((self.now, node, format!("{answer:?}")));
            self.asked(node, ticket);
        }
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        for write in writes {
            let epoch = running.replicas.home_epoch(write.partition);
            running.to_write.extend(epoch.map(|epoch| Task::Write(write, Note::Persist(epoch))));
        }
        self.commit_soon(node);
        Ok(())
    }

    fn asked(&mut self, node: usize, ticket: Ticket) -> Option<Request> {
        self.nodes[node].running.as_mut()?.asked.remove(&ticket)
    }

    fn check_ack(&mut self, node: usize, request: &Request, end: i64) -> Result<(), Violation> {
        let n = self.partition_of(request.partition);
        let running = self.nodes[node].running.as_ref();
        let has_lease = running.is_some_and(|running| running.has_lease);
        fence::check(node, &self.scenario.partitions[n], has_lease)?;
        let waits = request.acks == isobar::replica::Acks::All || self.scenario.is_sync(n);
        if !waits {
            return Ok(());
        }
        let conf = self.oracle.partitions[n].replicas[node].conf.clone();
        let epoch = conf.epoch;
        let history = &self.oracle.partitions[n];
        let term = history.term_ending(node, end);
        if history.is_kept(epoch, end - 1, term) {
            let remote = gate::check(node, &conf, &self.scenario.partitions[n], history, end)?;
            fence::check_degraded(node, &self.scenario.partitions[n], has_lease, remote)?;
        }
        let ack = Ack { node, epoch, end, term, at: self.now, ids: ids_of(&request.batches) };
        self.oracle.acked(&self.scenario.partitions[n], ack)
    }

    pub fn partition_of(&self, at: TopicPartition) -> usize {
        usize::try_from(at.partition).expect("partitions are numbered from 0")
    }

    fn send(&mut self, from: usize, to: usize, lane: Lane, frame: Frame) -> Result<(), Violation> {
        show::frame(self.now, from, to, &frame);
        frame_size::check(from, &frame, self.scenario.append_bytes_max)?;
        if self.oracle.sent(from, &frame)? {
            self.aim(from, Moment::Voted);
        }
        self.trace.note((self.now, from, to, lane, &frame.header));
        if let Some(quic) = &mut self.quic {
            quic.send((from, to), lane, frame);
            return Ok(());
        }
        let arrivals = self.network.send(self.now, (from, to), lane, frame, &mut self.rng);
        self.will_arrive(arrivals);
        Ok(())
    }

    pub fn will_arrive(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            self.at(arrival.at, Event::Frame(arrival));
        }
    }

    /// What a node's transport tells it.
    pub fn hear(&mut self, arrived: Arrived) {
        let Arrived { to, life, from, what } = arrived;
        if self.alive(to, life).is_none() {
            return;
        }
        self.trace.note((self.now, to, from, format!("{what:?}")));
        self.quic_frames += u64::from(matches!(what, Heard::Frame(..)));
        self.with(to, |running| match what {
            Heard::Frame(_, frame) => drop(running.take_frame(from, frame)),
            Heard::Up => running.inbox.up.push(from),
            Heard::Lost => running.inbox.lost.push(from),
        });
    }

    pub fn arrive(&mut self, arrival: Arrival) {
        if !self.network.is_current(&arrival) {
            return;
        }
        let Arrival { from, to, frame, .. } = arrival;
        self.with(to, |running| {
            running.take_frame(from, frame);
        });
    }
}
