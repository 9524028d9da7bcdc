//! What the reconciler tells the loop: which replicas there are to be, and under which policy.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::replicas::Opening;
use super::restart;
use super::spec::{Policy, Spec};
use super::{Driver, Network, disk};
use crate::log;
use crate::model::{ReplicaId, TopicPartition};
use crate::replica::core::config::Member;
use crate::replica::host::Status;

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0} has a replica here already")]
    Exists(TopicPartition),
    #[error("{partition} has replica {found} of home epoch {epoch} on this disk, not {wanted}")]
    OtherReplica {
        partition: TopicPartition,
        found: ReplicaId,
        epoch: crate::model::HomeEpoch,
        wanted: ReplicaId,
    },
    #[error(
        "{partition}: {corruption:?}; it must refetch the range from its peers, which is not built yet"
    )]
    Corrupt { partition: TopicPartition, corruption: log::Corruption },
    #[error(transparent)]
    Restart(#[from] restart::Error),
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error("the node is shutting down")]
    ShuttingDown,
}

pub(super) enum Order {
    Open(Box<Spec>, oneshot::Sender<Result<(), Refused>>),
    Remove(TopicPartition, oneshot::Sender<Result<(), Refused>>),
    Policy(TopicPartition, Policy),
    Placement(TopicPartition, u64, BTreeMap<ReplicaId, Member>),
    Lease(bool),
    StepDown,
    Statuses(oneshot::Sender<Vec<Status>>),
    OnDisk(oneshot::Sender<Vec<TopicPartition>>),
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

    /// Whether this node holds a valid lease (R17).
    pub fn lease(&self, valid: bool) {
        self.tell(Order::Lease(valid));
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
                let _ = reply.send(opened);
            }
            Order::Remove(at, reply) => {
                let removed = self.remove(at).await;
                let _ = reply.send(removed);
            }
            Order::Policy(at, policy) => {
                if self.replicas.policy(now, at, policy) {
                    let _ = self.disk.send(disk::Command::SetConfig(at, policy.log));
                }
            }
            Order::Placement(at, generation, members) => {
                self.replicas.host.placement(now, at, generation, members);
            }
            Order::Lease(valid) => self.replicas.host.lease(now, valid),
            Order::StepDown => self.replicas.host.step_down(now),
            Order::Statuses(reply) => {
                let statuses =
                    self.replicas.host.cores().map(|core| Status::of(core, now.mono)).collect();
                let _ = reply.send(statuses);
            }
            Order::OnDisk(reply) => {
                let _ = reply.send(self.replicas.on_disk());
            }
            Order::ClusterId(id, reply) => {
                let set = self.ask_disk(|reply| disk::Command::SetClusterId(id, reply)).await;
                let _ = reply.send(set.and_then(|r| r.map_err(Refused::Log)));
            }
            Order::Close(reply) => {
                self.checkpoint();
                let _ = self.ask_disk(disk::Command::Close).await;
                let _ = reply.send(());
                return true;
            }
        }
        false
    }

    /// Waits for the disk thread between two commits. The loop stands still meanwhile, for as long
    /// as one commit takes; it is asked for when replicas come and go only.
    async fn ask_disk<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> disk::Command,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.disk.send(command(reply)).map_err(|_| Refused::ShuttingDown)?;
        answer.await.map_err(|_| Refused::ShuttingDown)
    }

    async fn open(&mut self, spec: Spec) -> Result<(), Refused> {
        let at = spec.group.partition;
        let opening = match self.replicas.resume(&spec)? {
            Some(resumed) => {
                // A store that was just opened cuts segments as the defaults say.
                let _ = self.disk.send(disk::Command::SetConfig(at, spec.policy.log));
                resumed
            }
            None => self.create(&spec).await?,
        };
        let view = self.replicas.open(self.now(), spec, opening);
        self.views.write().expect("no panic while held").insert(at, view);
        Ok(())
    }

    async fn create(&mut self, spec: &Spec) -> Result<Opening, Refused> {
        let state = restart::new_state(spec);
        let command = |reply| disk::Command::Create {
            partition: spec.group.partition,
            topic_name: spec.topic_name.clone(),
            state: state.clone(),
            config: spec.policy.log,
            reply,
        };
        let reader = self.ask_disk(command).await??;
        Ok(Opening::fresh(state, reader))
    }

    async fn remove(&mut self, at: TopicPartition) -> Result<(), Refused> {
        let last = self.replicas.remove(at);
        self.answer(last.replies, last.deleted);
        self.views.write().expect("no panic while held").remove(&at);
        self.leaders.forget(at);
        self.ask_disk(|reply| disk::Command::Remove(at, reply)).await??;
        Ok(())
    }
}
