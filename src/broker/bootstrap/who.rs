//! "Who are you, and is there a cluster?" The question, and what the answers come to.

use std::collections::BTreeMap;

use bytes::Bytes;
use isobar_topology::{Topology, meta_voters, quorum};
use isobar_transport::{RpcError, Transport};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Error, WHO_EVERY, WHO_TIMEOUT};
use crate::broker::inbound::method;
use crate::metadata::image::{DiskId, Image};
use crate::model::NodeId;

/// What a node knows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Known {
    /// Empty: no cluster.
    #[prost(string, tag = "1")]
    cluster_id: String,
    /// Of the node that answers.
    #[prost(bytes = "vec", tag = "4")]
    disk: Vec<u8>,
    /// It has a replica of `__meta`: its disk is not empty.
    #[prost(bool, tag = "5")]
    has_begun: bool,
    /// Who votes in `__meta`, as far as its image says, and how new that is; without an image, as its
    /// disk says.
    #[prost(uint32, repeated, tag = "6")]
    voters: Vec<u32>,
    #[prost(int64, tag = "7")]
    at: i64,
    /// Of `__meta`, by the image: with another one, another log is at `at`.
    #[prost(uint32, tag = "8")]
    home_epoch: u32,
}

/// The answer, from the image, which may be empty, and from what the data directory says.
pub fn answer(
    image: &Image,
    cluster_id: Option<&str>,
    disk: DiskId,
    begun: Option<&Vec<NodeId>>,
) -> Bytes {
    let voters: Vec<NodeId> = match &image.meta {
        Some(meta) => meta.voters().map(|replica| replica.node).collect(),
        None => begun.cloned().unwrap_or_default(),
    };
    let known = Known {
        cluster_id: image.cluster_id.as_deref().or(cluster_id).unwrap_or_default().to_owned(),
        disk: disk.to_vec(),
        has_begun: begun.is_some(),
        voters: voters.into_iter().map(NodeId::as_u32).collect(),
        at: image.next_offset.0,
        home_epoch: image.meta.as_ref().map_or(0, |meta| meta.home_epoch.as_u32()),
    };
    known.encode_to_vec().into()
}

#[derive(Debug)]
pub struct Answer {
    peer: NodeId,
    asked_at: Instant,
    known: Known,
}

/// Asks one node again and again, for as long as somebody takes the answers.
pub async fn keep_asking(transport: Transport, peer: NodeId, answers: mpsc::Sender<Answer>) {
    loop {
        let asked_at = Instant::now();
        if let Ok(known) = who_is(&transport, peer).await
            && answers.send(Answer { peer, asked_at, known }).await.is_err()
        {
            return;
        }
        tokio::time::sleep(WHO_EVERY).await;
    }
}

async fn who_is(transport: &Transport, peer: NodeId) -> Result<Known, RpcError> {
    let answer = transport.call(peer, method::WHO, Bytes::new(), WHO_TIMEOUT).await?;
    Known::decode(answer).map_err(|_| RpcError::Malformed)
}

#[derive(Debug)]
pub enum Verdict {
    /// Nobody knows a cluster, and everybody was asked.
    Found,
    /// Nobody who answered knows a cluster, a majority of `__meta`'s voters among them; others are
    /// silent.
    Agreed,
    /// There is a cluster.
    Join,
    /// There is one, and a majority of its `__meta` has lost its disks.
    Lost(Error),
    Wait,
}

/// What was answered so far.
pub struct Answers {
    node: NodeId,
    nodes: Vec<NodeId>,
    voters: Vec<NodeId>,
    /// The newest of each node.
    known: BTreeMap<NodeId, Known>,
    /// When a cluster was first heard of. Who is empty by an answer to a later question is so for
    /// good: those whose votes named the cluster had begun before.
    named_at: Option<Instant>,
    since_named: BTreeMap<NodeId, Known>,
}

impl Answers {
    pub fn new(topology: &Topology, node: NodeId) -> Self {
        Self {
            node,
            nodes: topology.nodes().map(|n| n.id).collect(),
            voters: meta_voters(topology),
            known: BTreeMap::new(),
            named_at: None,
            since_named: BTreeMap::new(),
        }
    }

    pub fn take(&mut self, now: Instant, answer: Answer) {
        let Answer { peer, asked_at, known } = answer;
        if self.named_at.is_some_and(|named| asked_at > named) {
            self.since_named.insert(peer, known.clone());
        }
        if !known.cluster_id.is_empty() {
            self.named_at.get_or_insert(now);
        }
        self.known.insert(peer, known);
    }

    pub fn judge(&self) -> Verdict {
        if self.named_at.is_some() {
            return self.lost().map_or(Verdict::Join, Verdict::Lost);
        }
        let agreed = self.voters.iter().filter(|id| self.is_heard(**id)).count();
        if self.missing().is_empty() {
            Verdict::Found
        } else if agreed >= quorum::majority(self.voters.len()) {
            Verdict::Agreed
        } else {
            Verdict::Wait
        }
    }

    /// Whether so many voters of `__meta` are empty that the rest is no majority. The voters are those
    /// of the newest image that anybody has.
    fn lost(&self) -> Option<Error> {
        let newest = self.since_named.values().filter(|known| !known.voters.is_empty());
        let newest = newest.max_by_key(|known| (known.home_epoch, known.at))?;
        let of = |id: &u32| NodeId::new(u64::from(*id)).ok();
        let voters: Vec<NodeId> = newest.voters.iter().filter_map(of).collect();
        let is_empty = |id: &NodeId| {
            *id == self.node || self.since_named.get(id).is_some_and(|known| !known.has_begun)
        };
        let empty: Vec<NodeId> = voters.iter().copied().filter(is_empty).collect();
        let left = voters.len() - empty.len();
        (left < quorum::majority(voters.len())).then(|| Error::MajorityLost {
            node: self.node,
            cluster_id: newest.cluster_id.clone(),
            voters: list(&voters),
            empty: list(&empty),
        })
    }

    fn is_heard(&self, id: NodeId) -> bool {
        id == self.node || self.known.contains_key(&id)
    }

    /// Nodes that have not answered.
    pub fn missing(&self) -> Vec<NodeId> {
        self.nodes.iter().copied().filter(|id| !self.is_heard(*id)).collect()
    }

    /// The disks of those who answered.
    pub fn disks(&self) -> BTreeMap<NodeId, DiskId> {
        let disk = |(id, known): (&NodeId, &Known)| {
            Some((*id, DiskId::try_from(known.disk.as_slice()).ok()?))
        };
        self.known.iter().filter_map(disk).collect()
    }

    /// Nodes that know the cluster.
    pub fn who_know(&self) -> Vec<NodeId> {
        let knows = |(id, known): (&NodeId, &Known)| (!known.cluster_id.is_empty()).then_some(*id);
        self.known.iter().filter_map(knows).collect()
    }

    /// For the operator.
    pub fn waits_for(&self) -> String {
        if self.named_at.is_some() {
            return "there is a cluster, and its __meta has to admit this disk".to_owned();
        }
        format!("waiting to hear of a cluster from nodes {}", list(&self.missing()))
    }
}

pub fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u64) -> NodeId {
        NodeId::new(node).unwrap()
    }

    /// Of nodes 1 to 4, of which 1 to 3 vote; node 1 asks.
    fn answers() -> Answers {
        Answers {
            node: id(1),
            nodes: (1..=4).map(id).collect(),
            voters: (1..=3).map(id).collect(),
            known: BTreeMap::new(),
            named_at: None,
            since_named: BTreeMap::new(),
        }
    }

    fn empty() -> Known {
        Known { disk: vec![7; 16], ..Known::default() }
    }

    fn member(voters: &[u32]) -> Known {
        Known {
            cluster_id: "c".into(),
            has_begun: true,
            voters: voters.to_vec(),
            at: 9,
            ..Known::default()
        }
    }

    impl Answers {
        fn hears(&mut self, node: u64, known: Known) {
            let now = Instant::now();
            self.take(now, Answer { peer: id(node), asked_at: now, known });
        }
    }

    #[test]
    fn a_cluster_is_founded_when_everybody_says_that_there_is_none() {
        let mut answers = answers();
        assert!(matches!(answers.judge(), Verdict::Wait));
        answers.hears(4, empty());
        assert!(matches!(answers.judge(), Verdict::Wait), "a learner is no voter");
        answers.hears(2, empty());
        assert!(matches!(answers.judge(), Verdict::Agreed), "a voter is silent");
        assert_eq!(answers.missing(), [id(3)]);
        answers.hears(3, Known { has_begun: true, ..empty() });
        assert!(matches!(answers.judge(), Verdict::Found));
        assert_eq!(answers.disks().len(), 3);
    }

    #[test]
    fn one_node_that_knows_a_cluster_is_enough_to_found_none() {
        let mut answers = answers();
        answers.hears(2, empty());
        answers.hears(3, empty());
        answers.hears(4, member(&[]));
        assert!(matches!(answers.judge(), Verdict::Join));
        assert_eq!(answers.who_know(), [id(4)]);
    }

    #[test]
    fn without_a_majority_of_the_metadatas_disks_it_ends_with_words() {
        let mut answers = answers();
        answers.hears(2, empty());
        answers.hears(4, member(&[1, 2, 3]));
        assert!(matches!(answers.judge(), Verdict::Join), "asked before a cluster was heard of");
        answers.hears(4, member(&[1, 2, 3]));
        assert!(matches!(answers.judge(), Verdict::Join), "node 2 may be a founder that was late");
        answers.hears(2, empty());
        let Verdict::Lost(error) = answers.judge() else { panic!() };
        let words = error.to_string();
        assert!(words.contains("(1, 2, 3), 1, 2 have lost their disks"), "{words}");
    }

    #[test]
    fn the_voters_are_those_of_the_newest_image() {
        let mut answers = answers();
        answers.hears(4, member(&[1, 2, 3]));
        answers.hears(4, member(&[1, 2, 3]));
        answers.hears(3, Known { at: 12, ..member(&[1, 2]) });
        assert!(matches!(answers.judge(), Verdict::Lost(_)), "node 3's disk is not counted yet");
    }

    #[test]
    fn who_voted_before_the_metadata_was_begun_anew_is_no_voter() {
        let mut answers = answers();
        answers.hears(4, member(&[4]));
        answers.hears(4, Known { home_epoch: 2, ..member(&[4]) });
        answers.hears(3, Known { at: 12, home_epoch: 1, ..member(&[1, 2]) });
        assert!(matches!(answers.judge(), Verdict::Join), "node 1 may come back empty");
    }

    #[test]
    fn a_cluster_of_one_waits_for_nobody() {
        let one = Answers { nodes: vec![id(1)], voters: vec![id(1)], ..answers() };
        assert!(matches!(one.judge(), Verdict::Found));
    }
}
