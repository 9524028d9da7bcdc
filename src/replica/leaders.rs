//! Who leads what, as far as this node has heard.
//!
//! Soft state: leaders tell every node over the control lane, on every change and again when a
//! peer connects. A higher leader epoch always wins, so late news does no harm.

use std::collections::HashMap;
use std::sync::RwLock;
use std::time::Instant;

use tokio::sync::Notify;

use crate::model::{LeaderEpoch, NodeId, TopicPartition};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    pub node: NodeId,
    pub epoch: LeaderEpoch,
    /// Nodes whose replicas are within the lag bound, the leader among them: what Kafka calls the
    /// ISR. Information, not what acks=all waits for.
    pub in_sync: Vec<NodeId>,
}

#[derive(Debug)]
struct Known {
    leader: Leader,
    /// When it was first heard of in its epoch.
    since: Instant,
}

#[derive(Debug, Default)]
pub struct Leaders {
    by_partition: RwLock<HashMap<TopicPartition, Known>>,
    learned: Notify,
}

impl Leaders {
    pub fn of(&self, partition: TopicPartition) -> Option<Leader> {
        self.by_partition
            .read()
            .expect("no panic while held")
            .get(&partition)
            .map(|known| known.leader.clone())
    }

    /// When the leader was first heard of here.
    pub fn since(&self, partition: TopicPartition) -> Option<Instant> {
        self.by_partition
            .read()
            .expect("no panic while held")
            .get(&partition)
            .map(|known| known.since)
    }

    /// Takes news of a leader; older news than what is known is dropped. Says whether it was news.
    pub fn learn(&self, partition: TopicPartition, leader: Leader) -> bool {
        let mut known = self.by_partition.write().expect("no panic while held");
        let since = match known.get(&partition) {
            Some(old) if old.leader.epoch > leader.epoch || old.leader == leader => return false,
            Some(old) if old.leader.epoch == leader.epoch => old.since,
            _ => Instant::now(),
        };
        known.insert(partition, Known { leader, since });
        drop(known);
        self.learned.notify_waiters();
        true
    }

    /// Returns once the leader of every one of these partitions is known: for whoever made them.
    pub async fn known(&self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.known_as(*partition, |_| true).await;
        }
    }

    /// Done at the next news after this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.learned.notified()
    }

    /// Returns once the known leader of a partition is one of those.
    pub async fn known_as(&self, at: TopicPartition, is_one: impl Fn(&Leader) -> bool) {
        loop {
            let learned = self.changed();
            if self.of(at).as_ref().is_some_and(&is_one) {
                return;
            }
            learned.await;
        }
    }

    pub fn forget(&self, partition: TopicPartition) {
        self.by_partition.write().expect("no panic while held").remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_news_of_an_older_leader_is_dropped() {
        let leaders = Leaders::default();
        let leader =
            |node, epoch| Leader { node: NodeId::new(node).unwrap(), epoch, in_sync: Vec::new() };
        assert!(leaders.learn(TopicPartition::META, leader(2, 7)));
        assert!(!leaders.learn(TopicPartition::META, leader(1, 6)));
        assert!(!leaders.learn(TopicPartition::META, leader(2, 7)));
        assert_eq!(leaders.of(TopicPartition::META).unwrap().epoch, 7);
    }
}
