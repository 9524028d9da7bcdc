//! Tells the controller that a learner has what its group has, and may vote.
//!
//! Only a leader knows, so every node does this for what it leads: where a learner is to vote, it is
//! looked at once a second, and promoted when it has everything that was committed at the look before
//! (Raft thesis §4.2.1: a round that is short enough).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::metadata::controller::is_to_vote;
use crate::metadata::image::Image;
use crate::metadata::request::Request;
use crate::metadata::service;
use crate::model::{LogIndex, NodeId, ReplicaId, TopicPartition};
use crate::replica::Role;
use crate::replica::driver::Orders;
use crate::replica::host::Status;

/// Between two looks, while a learner waits; so a replica that is promoted lags a second at most, which
/// is what a commit waits for it at worst.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long one promotion may take. It is asked for again.
const PROMOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a leader has seen of the learners that are to vote.
#[derive(Debug, Default)]
struct Looks {
    committed: BTreeMap<(TopicPartition, ReplicaId), LogIndex>,
}

/// Whether any learner of the cluster waits for its vote.
fn anybody_waits(image: &Image) -> bool {
    let topics = image.topics.iter().flat_map(|(topic, t)| {
        (0..)
            .zip(&t.partitions)
            .map(|(partition, placed)| (TopicPartition { topic: *topic, partition }, placed))
    });
    let meta = image.meta.iter().map(|meta| (TopicPartition::META, meta));
    meta.chain(topics).any(|(at, placed)| {
        placed.replicas.iter().any(|replica| is_to_vote(image, at, placed, replica))
    })
}

impl Looks {
    /// Looks at what this node leads; returns what to ask for.
    fn look(&mut self, image: &Image, statuses: &[Status]) -> Vec<Request> {
        let before = std::mem::take(&mut self.committed);
        let mut requests = Vec::new();
        for status in statuses.iter().filter(|s| s.progress.role == Role::Leader) {
            let at = status.partition;
            let Some(placed) = image.partition(at) else { continue };
            for member in &status.members {
                let replica = placed.replicas.iter().find(|r| r.id == member.replica);
                let Some(replica) = replica.filter(|r| is_to_vote(image, at, placed, r)) else {
                    continue;
                };
                self.committed.insert((at, replica.id), status.committed);
                let due = before.get(&(at, replica.id));
                if member.matched.zip(due).is_some_and(|(matched, due)| matched >= *due) {
                    requests.push(Request::PromoteReplica {
                        partition: at,
                        replica: replica.id,
                        home_epoch: placed.home_epoch,
                        placement_generation: placed.placement_generation,
                    });
                }
            }
        }
        requests
    }
}

/// Runs as long as the node.
pub async fn run(node: NodeId, metadata: service::Handle, orders: Orders) {
    let mut images = metadata.watch();
    let mut looks = Looks::default();
    loop {
        let image = images.borrow_and_update().clone();
        if !anybody_waits(&image) {
            looks = Looks::default();
            if images.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Ok(statuses) = orders.statuses().await else { return };
        for request in looks.look(&image, &statuses) {
            let Request::PromoteReplica { partition, replica, .. } = &request else { continue };
            let (partition, replica) = (*partition, *replica);
            match metadata.submit(request, PROMOTE_TIMEOUT).await {
                Ok(_) => tracing::info!(%node, %partition, %replica, "promoted to voter"),
                Err(error) => {
                    tracing::info!(%node, %partition, %replica, %error, "not promoted yet")
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
