//! Following the image, as `broker::reconcile` does, step by step: what is to be open here, in which home.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar::log::{self, Reader, Recovered, Store};
use isobar::metadata::reconciler::{Action, Create, Local, LocalReplica, Members, reconcile};
use isobar::model::{GroupId, Mode, ReplicaId, TopicPartition};
use isobar::replica::core::Now;
use isobar::replica::core::config::Member;
use isobar::replica::driver::replicas::{Opening, Replicas};
use isobar::replica::driver::{Order, Refused, Spec, restart};

use crate::event::Event;
use crate::jobs::Done;
use crate::node::Running;
use crate::scenario::{Micros, SECOND, Scenario, node_id, timing};
use crate::world::World;

/// Between two tries of what could not be done, as `broker::reconcile`'s caller.
const RETRY: Micros = SECOND;

impl World {
    /// One action is done, or could not be: then all is looked at again later.
    pub fn followed_one(&mut self, node: usize, done: Result<(), String>) {
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
}

impl Running {
    /// Opens a replica in the epoch that its disk is in.
    pub fn open(&mut self, now: Micros, spec: Spec) -> Result<(), String> {
        let clock = self.now(now);
        let opened = open(&mut self.replicas, &mut self.writer.store, clock, spec);
        // It has failed, or is full.
        opened.map_err(|error| error.to_string())
    }
}

/// As the driver's loop opens one: a sealed one only shows what it has, a damaged one waits to be mended.
pub fn open(
    replicas: &mut Replicas,
    store: &mut Store,
    now: Now,
    spec: Spec,
) -> Result<(), log::Error> {
    let at = spec.group.partition;
    let mut resumed = replicas.resume(&spec);
    if let Err(Refused::Restart(restart::Error::Log(log::Error::Corrupt { index, .. }))) = &resumed
    {
        let (recovered, reader) = store.doubt(at, *index)?;
        replicas.put_back(recovered, reader);
        resumed = replicas.resume(&spec);
    }
    match resumed {
        Ok(Some(opening)) => {
            store.set_config(at, spec.policy.log)?;
            replicas.open(now, spec, opening);
        }
        // Placed here since the node started, or on an empty disk.
        Ok(None) => {
            let state = restart::new_state(&spec);
            store.create(at, &spec.topic_name, state.clone(), spec.policy.log)?;
            let opening = Opening::fresh(state, store.reader(at)?);
            replicas.open(now, spec, opening);
        }
        Err(Refused::Sealed { .. }) => {
            replicas.open_sealed(at);
        }
        Err(Refused::Corrupt { .. }) => replicas.keep_damaged(spec),
        Err(error) => panic!("{at} cannot be opened: {error}"),
    }
    Ok(())
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
