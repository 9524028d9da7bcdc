//! What the reconciler tells the loop: which replicas there are to be, and under which policy.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::damaged::Damaged;
use super::moving::LetGo;
use super::replicas::Opening;
use super::restart;
use super::spec::{Policy, Spec};
use super::{Driver, Network, Waiting, disk};
use crate::log;
use crate::model::{DcName, GroupId, HomeEpoch, LogIndex, Mode, ReplicaId, TopicPartition};
use crate::replica::ProduceError;
use crate::replica::core::config::Member;
use crate::replica::core::{Core, Standing};
use crate::replica::host::Status;

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0} has a replica here already")]
    Exists(TopicPartition),
    #[error("{partition} has replica {found} of home epoch {epoch} on this disk, not {wanted}")]
    OtherReplica {
        partition: TopicPartition,
        found: ReplicaId,
        epoch: HomeEpoch,
        wanted: ReplicaId,
    },
    #[error("the log of {partition} is damaged from entry {} on, up to {}", .corruption.first, .corruption.last)]
    Corrupt { partition: TopicPartition, corruption: log::Corruption },
    /// It takes no part in that epoch any more (R10).
    #[error("{partition} is sealed here for home epoch {promised}")]
    Sealed { partition: TopicPartition, promised: HomeEpoch },
    #[error("{partition} is in home epoch {here} here already")]
    MovedOn { partition: TopicPartition, here: HomeEpoch },
    #[error("{partition}: {why}")]
    NotHandedOff { partition: TopicPartition, why: ProduceError },
    #[error(transparent)]
    Restart(#[from] restart::Error),
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error("the node is shutting down")]
    ShuttingDown,
}

pub enum Order {
    Open(Box<Spec>, oneshot::Sender<Result<(), Refused>>),
    Remove(TopicPartition, oneshot::Sender<Result<(), Refused>>),
    Policy(TopicPartition, Policy),
    Placement(TopicPartition, u64, BTreeMap<ReplicaId, Member>),
    Recorded(TopicPartition, HomeEpoch, Mode),
    Lease(bool, BTreeMap<TopicPartition, HomeEpoch>),
    StepDown,
    Statuses(oneshot::Sender<Vec<Status>>),
    OnDisk(oneshot::Sender<Vec<TopicPartition>>),
    Damaged(oneshot::Sender<Vec<Damaged>>),
    KeepDamaged(Box<Spec>),
    LetGo(TopicPartition, oneshot::Sender<bool>),
    Mended(Box<log::Recovered>, log::Reader, oneshot::Sender<Result<(), Refused>>),
    Members(TopicPartition, oneshot::Sender<Option<(GroupId, Vec<Member>)>>),
    Standing(TopicPartition, ReplicaId, oneshot::Sender<Option<Standing>>),
    Seal(TopicPartition, HomeEpoch, oneshot::Sender<Result<LetGo, Refused>>),
    Begun(Box<log::Recovered>, log::Reader, Box<Spec>, oneshot::Sender<Result<(), Refused>>),
    HandOff(
        TopicPartition,
        (HomeEpoch, DcName),
        Duration,
        oneshot::Sender<Result<LogIndex, ProduceError>>,
    ),
    ClusterId(String, oneshot::Sender<Result<(), Refused>>),
    Close(oneshot::Sender<()>),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    orders: mpsc::UnboundedSender<Order>,
}

impl Orders {
    pub(super) fn new(orders: mpsc::UnboundedSender<Order>) -> Self {
        Self { orders }
    }

    /// Opens a replica: resumes what the disk has of it, or begins an empty one.
    pub async fn open(&self, spec: Spec) -> Result<(), Refused> {
        self.ask(|reply| Order::Open(Box::new(spec), reply)).await?
    }

    /// Lets a replica go, with everything that the disk has of it.
    pub async fn remove(&self, partition: TopicPartition) -> Result<(), Refused> {
        self.ask(|reply| Order::Remove(partition, reply)).await?
    }

    pub fn policy(&self, partition: TopicPartition, policy: Policy) {
        self.tell(Order::Policy(partition, policy));
    }

    /// Who the members are, as of a placement's generation.
    pub fn placement(
        &self,
        partition: TopicPartition,
        generation: u64,
        members: BTreeMap<ReplicaId, Member>,
    ) {
        self.tell(Order::Placement(partition, generation, members));
    }

    /// What `__meta` has on record of a partition's mode in a home epoch (R7).
    pub fn recorded(&self, partition: TopicPartition, epoch: HomeEpoch, mode: Mode) {
        self.tell(Order::Recorded(partition, epoch, mode));
    }

    /// Whether this node holds a valid lease (R17); it is none for what is of an older epoch than in `left`.
    pub fn lease(&self, valid: bool, left: BTreeMap<TopicPartition, HomeEpoch>) {
        self.tell(Order::Lease(valid, left));
    }

    /// Hands over whatever this node leads.
    pub fn step_down(&self) {
        self.tell(Order::StepDown);
    }

    pub async fn statuses(&self) -> Result<Vec<Status>, Refused> {
        self.ask(Order::Statuses).await
    }

    /// Partitions that the disk has, open or not.
    pub async fn on_disk(&self) -> Result<Vec<TopicPartition>, Refused> {
        self.ask(Order::OnDisk).await
    }

    /// Replicas that are not open because their logs are damaged.
    pub async fn damaged(&self) -> Result<Vec<Damaged>, Refused> {
        self.ask(Order::Damaged).await
    }

    /// A replica that is to begin this home has to be mended first.
    pub(super) fn keep_damaged(&self, spec: Spec) {
        self.tell(Order::KeepDamaged(Box::new(spec)));
    }

    /// Closes a replica whose log is damaged where it is written; `false` if it is not open.
    pub async fn let_go(&self, at: TopicPartition) -> Result<bool, Refused> {
        self.ask(|reply| Order::LetGo(at, reply)).await
    }

    /// Opens a replica whose log has been mended, or read again, unless it was removed meanwhile.
    pub async fn mended(
        &self,
        recovered: Box<log::Recovered>,
        reader: log::Reader,
    ) -> Result<(), Refused> {
        self.ask(|reply| Order::Mended(recovered, reader, reply)).await?
    }

    /// The group of an open replica and who else is in it.
    pub async fn members(&self, at: TopicPartition) -> Option<(GroupId, Vec<Member>)> {
        self.ask(|reply| Order::Members(at, reply)).await.ok().flatten()
    }

    /// What this node's replica knows of another one.
    pub async fn standing(&self, at: TopicPartition, of: ReplicaId) -> Option<Standing> {
        self.ask(|reply| Order::Standing(at, of, reply)).await.ok().flatten()
    }

    /// Lets the core of an epoch before `epoch` go; its promise is the disk's to write.
    pub(super) async fn seal(
        &self,
        at: TopicPartition,
        epoch: HomeEpoch,
    ) -> Result<LetGo, Refused> {
        self.ask(|reply| Order::Seal(at, epoch, reply)).await?
    }

    /// Opens a replica in the epoch that its disk has begun.
    pub(super) async fn begun(
        &self,
        recovered: Box<log::Recovered>,
        reader: log::Reader,
        spec: Spec,
    ) -> Result<(), Refused> {
        self.ask(|reply| Order::Begun(recovered, reader, Box::new(spec), reply)).await?
    }

    /// Stops what this node leads of the partition for good, and returns the entry after which nothing
    /// comes, once a majority in `to` has it on disk and it is through the gate (R18).
    pub async fn hand_off(
        &self,
        at: TopicPartition,
        next: (HomeEpoch, DcName),
        timeout: Duration,
    ) -> Result<LogIndex, Refused> {
        let handed = self.ask(|reply| Order::HandOff(at, next, timeout, reply)).await?;
        handed.map_err(|why| Refused::NotHandedOff { partition: at, why })
    }

    /// Writes the cluster's id into the data directory; another one than is there is refused.
    pub async fn cluster_id(&self, id: String) -> Result<(), Refused> {
        self.ask(|reply| Order::ClusterId(id, reply)).await?
    }

    /// Syncs everything and ends the loop.
    pub async fn close(&self) -> Result<(), Refused> {
        self.ask(Order::Close).await
    }

    fn tell(&self, order: Order) {
        // The loop ends last; nothing that is told after it matters.
        let _ = self.orders.send(order);
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.tell(order(reply));
        answer.await.map_err(|_| Refused::ShuttingDown)
    }
}

impl<N: Network> Driver<N> {
    /// Carries out an order; `true` ends the loop.
    pub(super) async fn obey(&mut self, order: Order) -> bool {
        let now = self.now();
        match order {
            Order::Open(spec, reply) => {
                let opened = self.open(*spec).await;
                self.count_damaged();
                let _ = reply.send(opened);
            }
            Order::KeepDamaged(spec) => {
                self.replicas.keep_damaged(*spec);
                self.count_damaged();
            }
            Order::Remove(at, reply) => {
                let removed = self.remove(at).await;
                self.count_damaged();
                let _ = reply.send(removed);
            }
            Order::Policy(at, policy) => {
                self.replicas.policy_of_damaged(at, policy);
                if self.replicas.policy(now, at, policy) {
                    self.disks.tell(at, disk::Command::SetConfig(at, policy.log));
                }
            }
            Order::Placement(at, generation, members) => {
                self.replicas.placement_of_damaged(at, generation, &members);
                self.replicas.host.placement(now, at, generation, members);
            }
            Order::Recorded(at, epoch, mode) => {
                self.replicas.recorded_of_damaged(at, epoch, mode);
                self.replicas.host.recorded(now, at, epoch, mode);
            }
            Order::Lease(valid, left) => self.replicas.host.lease_but(now, valid, left),
            Order::StepDown => self.replicas.host.step_down(now),
            Order::Statuses(reply) => {
                let _ = reply.send(self.replicas.host.statuses(now));
            }
            Order::OnDisk(reply) => {
                let _ = reply.send(self.replicas.on_disk());
            }
            Order::Damaged(reply) => {
                let _ = reply.send(self.replicas.damaged());
            }
            Order::LetGo(at, reply) => {
                let gone = self.replicas.let_go(at);
                self.count_damaged();
                let _ = reply.send(gone.is_some());
                if let Some(last) = gone {
                    self.answer(last.answers);
                    self.views.hide(at);
                }
            }
            Order::Mended(recovered, reader, reply) => {
                let opened = self.open_mended(*recovered, reader).await;
                self.count_damaged();
                let _ = reply.send(opened);
            }
            Order::Members(at, reply) => {
                let config = self.replicas.host.core(at).map(Core::config);
                let _ = reply.send(config.map(|c| {
                    let others = c.members.iter().filter(|(id, _)| **id != c.me);
                    (c.group, others.map(|(_, member)| member.clone()).collect())
                }));
            }
            Order::Standing(at, of, reply) => {
                let core = self.replicas.host.core(at);
                let _ = reply.send(core.map(|core| core.standing(of)));
            }
            Order::Seal(at, epoch, reply) => {
                let sealed = self.replicas.seal(now, at, epoch);
                self.count_damaged();
                if let Some(view) = self.replicas.sealed_view(at) {
                    self.views.show(at, view.clone());
                }
                let gone = sealed.map(|(gone, last)| {
                    self.answer(last.answers);
                    gone
                });
                let _ = reply.send(gone);
            }
            Order::Begun(recovered, reader, spec, reply) => {
                self.replicas.put_back(*recovered, reader);
                let opened = self.open(*spec).await;
                self.count_damaged();
                let _ = reply.send(opened);
            }
            // It has stopped for good already; what it had counts as the seal says.
            Order::HandOff(at, _, _, reply) if self.replicas.sealed.contains_key(&at) => {
                let _ = reply.send(Ok(LogIndex::ZERO));
            }
            Order::HandOff(at, next, timeout, reply) => {
                let ticket = self.ticket(Waiting::HandOff(reply));
                if !self.replicas.host.hand_off(now, at, ticket, next, now.mono + timeout)
                    && let Some(Waiting::HandOff(reply)) = self.waiting.remove(&ticket)
                {
                    let _ = reply.send(Err(ProduceError::UnknownPartition));
                }
            }
            Order::ClusterId(id, reply) => {
                let _ = reply.send(self.name_cluster(id).await);
            }
            Order::Close(reply) => {
                self.checkpoint();
                for number in self.disks.numbers() {
                    let _ = self.disks.ask(number, disk::Command::Close).await;
                }
                let _ = reply.send(());
                return true;
            }
        }
        false
    }

    async fn name_cluster(&self, id: String) -> Result<(), Refused> {
        for number in self.disks.numbers() {
            let command = |reply| disk::Command::SetClusterId(id.clone(), reply);
            self.disks.ask(number, command).await??;
        }
        Ok(())
    }

    async fn open(&mut self, spec: Spec) -> Result<(), Refused> {
        let at = spec.group.partition;
        let mut resumed = self.replicas.resume(&spec);
        if let Err(Refused::Restart(restart::Error::Log(log::Error::Corrupt { index, .. }))) =
            &resumed
            && let Some(number) = self.disks.of(at)
        {
            let index = *index;
            let doubt = |reply| disk::Command::Doubt(at, index, reply);
            let (recovered, reader) = self.disks.ask(number, doubt).await??;
            self.replicas.put_back(*recovered, reader);
            resumed = self.replicas.resume(&spec);
        }
        let resumed = match resumed {
            Err(damaged @ Refused::Corrupt { .. }) => {
                // It neither votes nor answers until it is whole again (R21).
                tracing::error!(node = %self.node, %damaged, "a replica stays closed until it is mended");
                self.replicas.keep_damaged(spec);
                return Ok(());
            }
            Err(Refused::Sealed { promised, .. }) => {
                tracing::info!(node = %self.node, partition = %at, %promised, "a sealed replica waits for its next home");
                if let Some(view) = self.replicas.open_sealed(at) {
                    self.views.show(at, view);
                }
                return Ok(());
            }
            resumed => resumed?,
        };
        let opening = match resumed {
            Some(resumed) => {
                // A store that was just opened cuts segments as the defaults say.
                self.disks.tell(at, disk::Command::SetConfig(at, spec.policy.log));
                resumed
            }
            None => self.create(&spec).await?,
        };
        let view = self.replicas.open(self.now(), spec, opening);
        self.views.show(at, view);
        Ok(())
    }

    async fn open_mended(
        &mut self,
        recovered: log::Recovered,
        reader: log::Reader,
    ) -> Result<(), Refused> {
        match self.replicas.mended(recovered, reader) {
            Some(spec) => self.open(spec).await,
            None => Ok(()),
        }
    }

    fn count_damaged(&self) {
        let closed = self.replicas.closed.len() as u64;
        self.counters.damaged.store(closed, std::sync::atomic::Ordering::Relaxed);
    }

    async fn create(&mut self, spec: &Spec) -> Result<Opening, Refused> {
        let state = restart::new_state(spec);
        let at = spec.group.partition;
        let command = |reply| disk::Command::Create {
            partition: at,
            topic_name: spec.topic_name.clone(),
            state: state.clone(),
            config: spec.policy.log,
            reply,
        };
        let number = self.disks.least_used();
        let reader = self.disks.ask(number, command).await??;
        self.disks.put(at, number);
        Ok(Opening::fresh(state, reader))
    }

    async fn remove(&mut self, at: TopicPartition) -> Result<(), Refused> {
        let last = self.replicas.remove(at);
        self.answer(last.answers);
        self.views.hide(at);
        self.leaders.forget(at);
        if let Some(number) = self.disks.of(at) {
            self.disks.ask(number, |reply| disk::Command::Remove(at, reply)).await??;
            self.disks.forget(at);
        }
        Ok(())
    }
}
