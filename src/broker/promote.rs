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
        // Before it has committed anything in its own term, what it knows to be committed may be less than its home
        // began with, which a voter must have (R14).
        for status in statuses.iter().filter(|s| s.ready_to_lead) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::command::Command;
    use crate::metadata::controller;
    use crate::metadata::fixture::{World, n, topic};
    use crate::model::{LeaderEpoch, Mode, Offset, Term};
    use crate::replica::core::Budget;
    use crate::replica::host::MemberStatus;
    use crate::replica::{Progress, Role};

    /// A topic whose voter on node 2 was replaced.
    fn world() -> (World, TopicPartition) {
        let mut world = World::new();
        world.create(topic("t", 1, &[])).unwrap();
        assert!(!anybody_waits(&world.image));
        let at = TopicPartition { topic: world.image.topic("t").unwrap().id, partition: 0 };
        world.replace_disk(2, [0xee; 16]);
        for placement in controller::repair(&world.image) {
            world.apply(Command::ReplacePlacement(placement)).unwrap();
        }
        (world, at)
    }

    /// As a replica of the partition sees its members, of which node 2's has come to `matched`.
    fn status(
        world: &World,
        at: TopicPartition,
        role: Role,
        committed: u64,
        matched: Option<u64>,
    ) -> Status {
        let members = world.image.partition(at).unwrap().replicas.iter().map(|r| MemberStatus {
            replica: r.id,
            node: r.node,
            dc: "fra".parse().unwrap(),
            voter: r.voter,
            matched: if r.node == n(2) { matched.map(LogIndex) } else { Some(LogIndex(committed)) },
        });
        Status {
            partition: at,
            replica: ReplicaId(1),
            progress: Progress {
                role,
                hands_over: false,
                handed_off: false,
                leader_epoch: LeaderEpoch::default(),
                log_start: Offset(0),
                high_watermark: Offset(0),
                watermark_known: true,
                log_end: Offset(0),
            },
            term: Term(0),
            leader: None,
            committed: LogIndex(committed),
            applied: LogIndex(committed),
            ready_to_lead: role == Role::Leader,
            begins_after: LogIndex(0),
            last: LogIndex(committed),
            in_sync: Vec::new(),
            members: members.collect(),
            exposure: BTreeMap::new(),
            budget: Budget::NONE,
            promise: None,
            mode: Mode::default(),
            at_stake: None,
            last_term: Term(0),
            staleness: None,
            known_until_ms: None,
            is_quiet: false,
        }
    }

    /// Seed 1152921504607313638 of the simulator: the home had begun, and its leader was elected and alone.
    #[test]
    fn a_leader_that_has_committed_nothing_promotes_nobody() {
        let (world, at) = world();
        let mut looks = Looks::default();
        let mut alone = status(&world, at, Role::Leader, 0, Some(0));
        alone.ready_to_lead = false;
        for _ in 0..2 {
            assert_eq!(looks.look(&world.image, std::slice::from_ref(&alone)), []);
        }
    }

    #[test]
    fn a_learner_is_promoted_when_it_has_what_was_committed_at_the_look_before() {
        let (mut world, at) = world();
        assert!(anybody_waits(&world.image));
        let mut looks = Looks::default();
        let mut look = |world: &World, role, committed, matched| {
            looks.look(&world.image, &[status(world, at, role, committed, matched)])
        };
        assert_eq!(look(&world, Role::Leader, 100, Some(100)), [], "one look says nothing");
        assert_eq!(look(&world, Role::Leader, 200, Some(99)), [], "it lags");
        assert_eq!(look(&world, Role::Leader, 300, None), [], "Raft has not heard of it yet");
        assert_eq!(look(&world, Role::Follower, 300, Some(300)), [], "not for others to say");
        assert_eq!(look(&world, Role::Leader, 300, Some(300)), [], "another leader's first look");
        let asked = look(&world, Role::Leader, 400, Some(300));
        let [request @ Request::PromoteReplica { .. }] = &asked[..] else { panic!("{asked:?}") };
        world.ask(request.clone()).unwrap();
        assert_eq!(look(&world, Role::Leader, 500, Some(500)), [], "it votes");
    }
}
