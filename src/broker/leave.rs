//! How a node that stops lets go of what it leads.

use std::time::Duration;

use isobar_topology::quorum::majority;
use isobar_transport::Transport;

use crate::metadata::image::Image;
use crate::model::{LeaderEpoch, NodeId, TopicPartition};
use crate::replica::driver::Orders;
use crate::replica::{Handle, Role};

/// How long a node that stops waits for others to take over what it leads. Ten elections inside a
/// DC; a leader that nobody can replace is stopped all the same, and its clients retry.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// How long a node whose leaders are led elsewhere still answers: clients that were sending to it are told by their
/// next request who leads now. One that is cut off instead, and has no other connection, asks half a second later
/// (librdkafka). A client beyond an ocean has sent its next request by then.
const FAREWELL: Duration = Duration::from_millis(300);

pub(super) struct Leaving<'a> {
    pub me: NodeId,
    pub image: &'a Image,
    pub replicas: &'a Handle,
    pub transport: &'a Transport,
}

impl Leaving<'_> {
    /// Hands over what this node leads, and returns when it has named who leads it next: a client that it sends
    /// away knows no other to ask, and one whose leader is gone before the next is known comes back
    /// half a second later, or more.
    pub async fn hand_over(&self, orders: &Orders) {
        let led: Vec<_> = self.led().collect();
        orders.step_down();
        let all = async {
            for (partition, epoch) in &led {
                self.is_left(*partition, *epoch).await;
            }
        };
        if tokio::time::timeout(HAND_OVER_MAX, all).await.is_err() {
            tracing::warn!(node = %self.me, "stopping while leading: no other voter took over");
        }
        let leads = |at| self.replicas.leaders().of(at).filter(|leader| leader.node != self.me);
        if led.into_iter().any(|(at, _)| leads(at).is_some()) {
            tokio::time::sleep(FAREWELL).await;
        }
    }

    fn led(&self) -> impl Iterator<Item = (TopicPartition, LeaderEpoch)> {
        let views = self.replicas.views().into_iter();
        let progress = views.map(|view| (view.partition, view.progress()));
        progress.filter(|(_, p)| p.role == Role::Leader).map(|(at, p)| (at, p.leader_epoch))
    }

    /// Returns once another node is known to lead the partition, or nobody will.
    async fn is_left(&self, at: TopicPartition, epoch: LeaderEpoch) {
        tokio::select! {
            () = self.replicas.leaders().known_as(at, |leader| leader.node != self.me) => {}
            () = self.is_let_go(at, epoch) => {}
            () = self.is_last(at) => {}
        }
    }

    /// Returns once this node has stopped leading without having voted for another.
    async fn is_let_go(&self, at: TopicPartition, epoch: LeaderEpoch) {
        let Some(view) = self.replicas.view(at) else { return };
        let mut progress = view.watch();
        let left = progress.wait_for(|now| now.role != Role::Leader).await;
        if left.is_ok_and(|now| now.leader_epoch > epoch) {
            std::future::pending().await
        }
    }

    /// Returns once so few other voters are reached that they and this node elect nobody: so it is when a
    /// whole cluster stops.
    async fn is_last(&self, at: TopicPartition) {
        let Some(partition) = self.image.partition(at) else { return };
        let voters: Vec<NodeId> = partition.voters().map(|replica| replica.node).collect();
        let mut reached = self.transport.reached();
        let is_last = |reached: &[NodeId]| {
            let others = voters.iter().filter(|voter| reached.contains(voter)).count();
            others == 0 || others + 1 < majority(voters.len())
        };
        // An error means that the transport is gone.
        let _ = reached.wait_for(|reached| is_last(reached)).await;
    }
}
