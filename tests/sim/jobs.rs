//! A node's part in a move: what the product's [`Mover`] does there step by step, between the
//! simulator's loop and its disk, and following the image as `broker::reconcile` does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use isobar::log::{self, Manifest, Reader, Recovered, Sealed};
use isobar::metadata::moves::carrier::{SEAL_WAIT, Seal, When};
use isobar::metadata::reconciler::{Action, Create, Local, LocalReplica, Members, reconcile};
use isobar::model::{GroupId, HomeEpoch, LogIndex, Mode, NodeId, ReplicaId, TopicPartition};
use isobar::replica::core::config::Member;
use isobar::replica::driver::replicas::Opening;
use isobar::replica::driver::{Order, Refused, Spec, restart};
use isobar::replica::host::Answers;
use tokio::sync::oneshot;

use crate::calls::{Answer, Answered, Ask, Call, Waiter};
use crate::event::Event;
use crate::node::{Running, Task};
use crate::scenario::{Micros, SECOND, Scenario, node_id, node_of, timing};
use crate::world::World;

/// Between two tries of what could not be done, as `broker::reconcile`'s caller.
const RETRY: Micros = SECOND;

type Failed = Box<dyn std::error::Error>;

/// What came of a job.
pub enum Done {
    Sealed(Call, Result<Seal, String>),
    /// The log is sealed, and may be read.
    ReadSealed(Call, Result<(), String>),
    Held(Call, Result<bool, String>),
    Promised(TopicPartition, HomeEpoch, Result<(), String>),
    Begun(Box<Create>, Result<Box<(Sealed, Vec<Manifest>)>, String>),
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
            while let Ok(command) = running.desk.commands.try_recv() {
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

    /// One action is done, or could not be: then all is looked at again later.
    fn followed_one(&mut self, node: usize, done: Result<(), String>) {
        if let Err(why) = done {
            crate::show::line(self.now, node, || format!("could not: {why}"));
            let life = self.nodes[node].life;
            let running = self.nodes[node].running.as_mut();
            if running.is_some_and(|running| !std::mem::replace(&mut running.retries, true)) {
                self.after(RETRY, Event::Reconcile(node, life));
            }
        }
        let running = self.nodes[node].running.as_mut();
        if running.is_some_and(|running| std::mem::take(&mut running.changed)) {
            return self.reconcile(node);
        }
        self.go_on(node);
    }

    /// Follows the image that a node has now.
    pub fn reconcile(&mut self, node: usize) {
        let image = self.meta.image(node).clone();
        let (disk, is_current) = (self.nodes[node].disk_id, false);
        let Some(running) = &mut self.nodes[node].running else { return };
        if running.follows {
            // What is under way comes to its end first.
            running.changed = true;
            return;
        }
        let local = Local { node: node_id(node), disk, replicas: &running.local, is_current };
        running.actions = reconcile(&image, &local).into();
        running.retries = false;
        self.go_on(node);
    }

    /// Takes the next action, unless one is under way.
    fn go_on(&mut self, node: usize) {
        loop {
            let now = self.now;
            let Some(running) = &mut self.nodes[node].running else { return };
            if running.follows {
                return;
            }
            let Some(action) = running.actions.pop_front() else { return self.tell_owed(node) };
            match action {
                Action::Seal { partition, epoch } => {
                    let mover = running.mover.clone();
                    self.follow_by(node, async move {
                        let sealed = mover.seal(partition, epoch).await;
                        let sealed = sealed.map(|_| ()).map_err(|error| error.to_string());
                        Done::Promised(partition, epoch, sealed)
                    });
                }
                Action::BeginEpoch(create) => self.begin_epoch(node, create),
                Action::Create(create) => {
                    let asleep = running.asleep.get(&create.partition);
                    match asleep.map(|asleep| asleep.home_epoch) {
                        Some(epoch) if epoch < create.home_epoch => self.begin_epoch(node, create),
                        Some(epoch) if epoch > create.home_epoch => {} // Read from an older image on.
                        _ => {
                            let spec = spec(&self.scenario, &create);
                            let at = create.partition;
                            let opened = running.open(now, spec);
                            if running.writer.store.check_disk().is_err() {
                                // The process ends (R20).
                                return self.end_process(node, false, None);
                            }
                            if opened.is_err() {
                                return self.followed_one(node, opened);
                            }
                            running.asleep.remove(&at);
                            running.local.insert(at, local(&create));
                            self.round_soon(node);
                        }
                    }
                }
                Action::UpdatePlacement { partition, members } => {
                    let generation = members.placement_generation;
                    let Some(local) = running.local.get_mut(&partition) else { continue };
                    local.placement_generation = generation;
                    let order = Order::Placement(partition, generation, by_id(&members));
                    running.inbox.orders.push(order);
                    self.round_soon(node);
                }
                Action::UpdatePolicy { partition, effective } => {
                    if let Some(local) = running.local.get_mut(&partition) {
                        local.effective = Some(effective);
                    }
                }
                Action::UpdateMode { partition, home_epoch, mode } => {
                    let Some(local) = running.local.get_mut(&partition) else { continue };
                    local.recorded = mode;
                    running.inbox.orders.push(Order::Recorded(partition, home_epoch, mode));
                    self.round_soon(node);
                }
                Action::Remove { partition, reason, .. } => {
                    panic!("{partition} is to be removed: {reason:?}")
                }
            }
        }
    }

    fn begin_epoch(&mut self, node: usize, create: Box<Create>) {
        let Some(running) = &self.nodes[node].running else { return };
        let mover = running.mover.clone();
        let spec = spec(&self.scenario, &create);
        let fork = create.fork.clone().expect("an epoch after the first has a fork");
        self.follow_by(node, async move {
            let begun = async {
                let (sealed, _) = mover.begin_epoch(spec, &fork).await?;
                Ok(Box::new((sealed, mover.ledger(create.partition).await?)))
            };
            match begun.await {
                Err(Refused::Log(log::Error::Promised { promised, .. })) => {
                    Done::Promised(create.partition, promised, Ok(()))
                }
                begun => Done::Begun(create, begun.map_err(|error| error.to_string())),
            }
        });
    }

    pub fn follow_by(&mut self, node: usize, future: impl Future<Output = Done> + 'static) {
        if let Some(running) = &mut self.nodes[node].running {
            running.follows = true;
        }
        let idles = Rc::default();
        self.job(node, Job { future: Box::pin(future), idles, call: None });
        self.poll_jobs(node);
    }
}

impl Running {
    /// Opens a replica in the epoch that its disk is in; a sealed one only shows what it has.
    fn open(&mut self, now: Micros, spec: Spec) -> Result<(), String> {
        let at = spec.group.partition;
        let clock = self.now(now);
        match self.replicas.resume(&spec) {
            Ok(Some(opening)) => {
                let taken = self.writer.store.set_config(at, spec.policy.log);
                taken.expect("a partition of this disk");
                self.replicas.open(clock, spec, opening);
            }
            // Placed here since the node started, on an empty disk.
            Ok(None) => {
                let (state, config) = (restart::new_state(&spec), spec.policy.log);
                let created = self.writer.store.create(at, &spec.topic_name, state.clone(), config);
                // It has failed, or is full.
                created.map_err(|error| error.to_string())?;
                let reader = self.writer.store.reader(at).expect("it was created");
                self.replicas.open(clock, spec, Opening::fresh(state, reader));
            }
            Err(Refused::Sealed { .. }) => {
                self.replicas.open_sealed(at);
            }
            Err(error) => panic!("{at} cannot be opened: {error}"),
        }
        Ok(())
    }

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
            Order::Placement(at, generation, members) => {
                self.replicas.host.placement(clock, at, generation, members);
            }
            Order::Recorded(at, epoch, mode) => {
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

/// What the disk has, for a node that starts (`broker::reconcile::on_disk`).
pub fn on_disk(recovered: &[(Recovered, Reader)]) -> BTreeMap<TopicPartition, LocalReplica> {
    let replica = |r: &Recovered| LocalReplica {
        id: r.state.replica,
        home_epoch: r.state.home_epoch,
        promised: r.state.promised.max(r.state.home_epoch),
        placement_generation: r.state.placement_generation,
        effective: None,
        recorded: Mode::default(),
    };
    recovered.iter().map(|(r, _)| (r.partition, replica(r))).collect()
}

pub fn local(create: &Create) -> LocalReplica {
    LocalReplica {
        id: create.replica,
        home_epoch: create.home_epoch,
        promised: create.home_epoch,
        placement_generation: create.members.placement_generation,
        effective: Some(Arc::clone(&create.effective)),
        recorded: create.recorded,
    }
}

/// As `broker::reconcile`, but that the policy is the scenario's.
pub fn spec(scenario: &Scenario, create: &Create) -> Spec {
    let Create {
        partition,
        replica,
        home,
        home_epoch,
        members,
        fork,
        lossy_cut,
        stands_in,
        began,
        recorded,
        ..
    } = create;
    let n = usize::try_from(partition.partition).expect("partitions are numbered from 0");
    Spec {
        group: GroupId { partition: *partition, home_epoch: *home_epoch },
        topic_name: format!("topic-{n}"),
        me: *replica,
        home: home.clone(),
        preferred: members.voters.first().is_some_and(|m| m.id == *replica),
        placement_generation: members.placement_generation,
        fork: fork.as_ref().map(|fork| fork.at),
        lossy_cut: *lossy_cut,
        stands_in: *stands_in,
        began: *began,
        recorded: *recorded,
        timing: timing(),
        policy: scenario.partitions[n].policy,
        members: by_id(members),
    }
}

fn by_id(members: &Members) -> BTreeMap<ReplicaId, Member> {
    let voters = members.voters.iter().map(|m| (m, true));
    let learners = members.learners.iter().map(|m| (m, false));
    let all = voters.chain(learners);
    all.map(|(m, voter)| (m.id, Member { node: m.node, dc: m.dc.clone(), voter })).collect()
}
