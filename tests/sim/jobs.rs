//! A node's part in a move: what the product's [`Mover`](isobar::replica::driver::Mover) does there step by step,
//! between the simulator's loop and its disk.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use isobar::log::{Manifest, Sealed};
use isobar::metadata::moves::carrier::{SEAL_WAIT, Seal, When};
use isobar::metadata::reconciler::Create;
use isobar::model::{HomeEpoch, LogIndex, NodeId, ReplicaId, TopicPartition};
use isobar::replica::core::Core;
use isobar::replica::core::config::Config;
use isobar::replica::driver::Order;
use isobar::replica::driver::disk::Command;
use isobar::replica::host::Answers;
use tokio::sync::oneshot;

use crate::calls::{Answer, Answered, Ask, Call, Waiter};
use crate::event::Event;
use crate::node::{Running, Task};
use crate::rot::NotMended;
use crate::scenario::{Micros, node_of};
use crate::world::World;

type Failed = Box<dyn std::error::Error>;

/// What came of a job.
pub enum Done {
    Sealed(Call, Result<Seal, String>),
    /// The log is sealed, and may be read.
    ReadSealed(Call, Result<(), String>),
    Held(Call, Result<bool, String>),
    Promised(TopicPartition, HomeEpoch, Result<(), String>),
    Begun(Box<Create>, Result<Box<(Sealed, Vec<Manifest>)>, String>),
    /// How much was mended of what had rotted, and what could not be.
    Mended(u64, NotMended),
    /// What the ledger has, of a move that a replica here has not told of.
    Owed((TopicPartition, HomeEpoch), ReplicaId, Result<Vec<Manifest>, String>),
}

pub struct Job {
    future: Pin<Box<dyn Future<Output = Done>>>,
    /// It waits for the leader's hand-off, and has done nothing yet.
    idles: Rc<Cell<bool>>,
    call: Option<Call>,
}

/// A range that a job asks another node for.
pub struct RangeWanted {
    source: NodeId,
    at: TopicPartition,
    epoch: HomeEpoch,
    from: LogIndex,
    to: LogIndex,
    reply: oneshot::Sender<Result<Bytes, String>>,
}

pub type Ranges = Rc<RefCell<Vec<RangeWanted>>>;

impl World {
    /// Takes up what was asked of this node.
    pub fn serve(&mut self, call: Call) {
        let (node, n) = (call.to, self.partition_of(call.at));
        let Some(running) = &mut self.nodes[node].running else { return };
        let (mover, at, epoch) = (running.mover.clone(), call.at, call.epoch);
        let idles = Rc::new(Cell::new(false));
        let asked = call.clone();
        let future: Pin<Box<dyn Future<Output = Done>>> = match call.ask.clone() {
            Ask::HandOff(_) => {
                running.inbox.hand_offs.push(call);
                return self.round_soon(node);
            }
            Ask::Seal(When::AtOnce) => Box::pin(async move {
                let sealed = mover.seal(at, epoch).await;
                let sealed = sealed.map(|(sealed, gone)| Seal::of(&sealed, gone.known_until_ms));
                Done::Sealed(asked, sealed.map_err(|error| error.to_string()))
            }),
            Ask::Seal(When::HandedOff) => {
                let view = running.replicas.view(at).or(running.replicas.sealed_view(at));
                let Some(view) = view.cloned() else {
                    return self.answer(&call, Err("no replica".into()));
                };
                idles.set(true);
                let waits = Rc::clone(&idles);
                Box::pin(async move {
                    let mut progress = view.watch();
                    if progress.wait_for(|now| now.handed_off).await.is_err() {
                        return Done::Sealed(asked, Err("the hand-off did not come".into()));
                    }
                    waits.set(false);
                    let sealed = mover.seal(at, epoch).await;
                    let sealed =
                        sealed.map(|(sealed, gone)| Seal::of(&sealed, gone.known_until_ms));
                    Done::Sealed(asked, sealed.map_err(|error| error.to_string()))
                })
            }
            Ask::Hold { fork, source } => {
                let ranges = Rc::clone(&running.ranges);
                let config = self.scenario.partitions[n].policy.log;
                Box::pin(async move {
                    let range = |from, to| {
                        let (reply, answer) = oneshot::channel();
                        let wanted = RangeWanted { source, at, epoch, from, to, reply };
                        ranges.borrow_mut().push(wanted);
                        async move {
                            let range = answer.await.unwrap_or_else(|_| Err("lost".into()));
                            range.map_err(Failed::from)
                        }
                    };
                    let held = mover.hold::<Failed, _>(at, &fork, config, range).await;
                    Done::Held(asked, held.map_err(|error| error.to_string()))
                })
            }
            Ask::Entries(..) | Ask::Standing(_) => {
                let answer = self.serve_mender(&call);
                return self.answer(&call, answer);
            }
            Ask::Range(..) => Box::pin(async move {
                let sealed = mover.seal(at, epoch).await;
                Done::ReadSealed(asked, sealed.map(|_| ()).map_err(|error| error.to_string()))
            }),
        };
        let job = self.job(node, Job { future, idles: Rc::clone(&idles), call: Some(call) });
        if idles.get() {
            let life = self.nodes[node].life;
            self.after(SEAL_WAIT.as_micros() as Micros, Event::Impatient(node, life, job));
        }
        self.poll_jobs(node);
    }

    fn job(&mut self, node: usize, job: Job) -> u64 {
        self.next_job += 1;
        let id = self.next_job;
        if let Some(running) = &mut self.nodes[node].running {
            running.jobs.insert(id, job);
        }
        id
    }

    /// The hand-off has been waited for long enough.
    pub fn impatient(&mut self, node: usize, life: u64, job: u64) {
        let Some(running) = self.alive(node, life) else { return };
        if running.jobs.get(&job).is_some_and(|job| job.idles.get())
            && let Some(call) = running.jobs.remove(&job).and_then(|job| job.call)
        {
            self.answer(&call, Err("the leader's hand-off did not come".into()));
        }
    }

    /// Lets every job of a node go on as far as it can.
    pub fn poll_jobs(&mut self, node: usize) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let Some(running) = &mut self.nodes[node].running else { return };
            let mut done = Vec::new();
            running.jobs.retain(|_, job| match job.future.as_mut().poll(&mut context) {
                Poll::Ready(ended) => {
                    done.push(ended);
                    false
                }
                Poll::Pending => true,
            });
            while let Ok(order) = running.desk.orders.try_recv() {
                running.inbox.orders.push(order);
            }
            let mut closes = false;
            while let Ok(command) = running.desk.commands.try_recv() {
                closes |= matches!(command, Command::Doubt(..));
                running.to_write.push_back(Task::Order(command));
            }
            let has_orders = !running.inbox.orders.is_empty();
            let ranges = std::mem::take(&mut *running.ranges.borrow_mut());
            let life = self.nodes[node].life;
            for wanted in ranges {
                let RangeWanted { source, at, epoch, from, to, reply } = wanted;
                let ask = Ask::Range(from.0, to.0);
                let waiter = Waiter::Range(node, life, reply);
                self.call((node, node_of(source)), at, epoch, ask, waiter);
            }
            if closes {
                // A replica that may have led.
                self.touch(node);
            }
            self.ask_for_menders(node);
            if has_orders {
                self.round_soon(node);
            }
            self.commit_soon(node);
            if done.is_empty() {
                return;
            }
            done.into_iter().for_each(|done| self.job_done(node, done));
        }
    }

    fn job_done(&mut self, node: usize, done: Done) {
        match done {
            Done::Sealed(call, seal) => {
                if seal.is_ok() {
                    self.oracle.promised(node, call.at, call.epoch);
                }
                self.answer(&call, seal.map(|seal| Answer::Sealed(Box::new(seal))));
            }
            Done::Held(call, held) => self.answer(&call, held.map(Answer::Held)),
            Done::ReadSealed(call, sealed) => {
                let range = sealed.and_then(|()| self.read_sealed(node, &call));
                self.answer(&call, range.map(Answer::Range));
            }
            Done::Promised(at, epoch, promised) => {
                let Some(running) = &mut self.nodes[node].running else { return };
                running.follows = false;
                if promised.is_ok() {
                    running.has_promised(at, epoch);
                }
                self.followed_one(node, promised);
            }
            Done::Begun(create, begun) => {
                let Some(running) = &mut self.nodes[node].running else { return };
                running.follows = false;
                let done = begun.map(|begun| self.begun(node, &create, *begun));
                self.followed_one(node, done);
            }
            Done::Mended(mended, not_mended) => self.has_looked_for_rot(node, mended, not_mended),
            Done::Owed(of, replica, ledger) => {
                let Some(running) = &mut self.nodes[node].running else { return };
                running.follows = false;
                let done = ledger.map(|ledger| self.tell(node, of, replica, &ledger, None));
                self.followed_one(node, done);
            }
        }
    }

    fn read_sealed(&mut self, node: usize, call: &Call) -> Result<Bytes, String> {
        let Ask::Range(from, to) = call.ask else { unreachable!("of a range") };
        let running = self.nodes[node].running.as_ref().ok_or("gone")?;
        let view = running.replicas.view(call.at).or(running.replicas.sealed_view(call.at));
        let range = view.ok_or("no replica")?.sealed_range(LogIndex(from), LogIndex(to));
        range.map_err(|error| error.to_string())
    }

    pub fn follow_by(&mut self, node: usize, future: impl Future<Output = Done> + 'static) {
        if let Some(running) = &mut self.nodes[node].running {
            running.follows = true;
        }
        self.job_of(node, future);
    }

    /// A job that nobody has called for.
    pub fn job_of(&mut self, node: usize, future: impl Future<Output = Done> + 'static) {
        let idles = Rc::default();
        self.job(node, Job { future: Box::pin(future), idles, call: None });
        self.poll_jobs(node);
    }
}

impl Running {
    /// An order of whoever moves homes, as the driver's loop obeys it. Whoever waited for a core that
    /// is let go hears of it.
    pub fn obey(&mut self, now: Micros, order: Order) -> Answers {
        let clock = self.now(now);
        match order {
            Order::Seal(at, epoch, reply) => match self.replicas.seal(clock, at, epoch) {
                Ok((gone, last)) => {
                    let _ = reply.send(Ok(gone));
                    return last.answers;
                }
                Err(refused) => {
                    let _ = reply.send(Err(refused));
                }
            },
            Order::Begun(recovered, reader, spec, reply) => {
                self.replicas.put_back(*recovered, reader);
                self.open(now, *spec).expect("its log is there");
                let _ = reply.send(Ok(()));
            }
            Order::KeepDamaged(spec) => self.replicas.keep_damaged(*spec),
            Order::LetGo(at, reply) => {
                let gone = self.replicas.let_go(at);
                let _ = reply.send(gone.is_some());
                return gone.map(|last| last.answers).unwrap_or_default();
            }
            Order::Mended(recovered, reader, reply) => {
                if let Some(spec) = self.replicas.mended(*recovered, reader) {
                    self.open(now, spec).expect("its log is there");
                }
                let _ = reply.send(Ok(()));
            }
            Order::Members(at, reply) => {
                let config = self.replicas.host.core(at).map(Core::config);
                let others = |c: &Config| {
                    let others = c.members.iter().filter(|(id, _)| **id != c.me);
                    (c.group, others.map(|(_, member)| member.clone()).collect())
                };
                let _ = reply.send(config.map(others));
            }
            Order::Placement(at, generation, members) => {
                self.replicas.placement_of_damaged(at, generation, &members);
                self.replicas.host.placement(clock, at, generation, members);
            }
            Order::Recorded(at, epoch, mode) => {
                self.replicas.recorded_of_damaged(at, epoch, mode);
                self.replicas.host.recorded(clock, at, epoch, mode);
            }
            _ => unreachable!("nobody gives other orders here"),
        }
        Answers::default()
    }

    /// A call to hand off: the answer, if there is one at once.
    pub fn hand_off(&mut self, now: Micros, call: Call) -> Option<(Call, Answered)> {
        let Ask::HandOff(to) = call.ask.clone() else { unreachable!("of a hand-off") };
        if self.replicas.sealed_view(call.at).is_some() {
            return Some((call, Ok(Answer::HandedOff)));
        }
        let (clock, ticket) = (self.now(now), self.ticket());
        let deadline = clock.mono + Duration::from_secs(10);
        if !self.replicas.host.hand_off(clock, call.at, ticket, (call.epoch, to), deadline) {
            return Some((call, Err("no such partition".into())));
        }
        self.handing_off.insert(ticket, call);
        None
    }
}
