//! What old homes had beyond the cut, as topics for consumers: which there are, what they are called, and
//! whose ledger has them.
//!
//! ```text
//!   moved: orders-0 to epoch 2, orders-1 to epoch 2, orders-0 to epoch 3, …
//!            └──────────────┬────────────┘             │
//!   __suffix.orders.2.1f3a9c77 (partitions 0, 1)    __suffix.orders.3.1f3a9c77 (partition 0)
//! ```
//!
//! All of it follows from the image, so every node names the same topics, partitions and nodes, and
//! nobody looks into a directory for it. A topic is there once a majority of the old home's voters has
//! told for one of its partitions (R16): before that a longer ledger may come, with other records at
//! the same offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Moved, Suffix};
use crate::log::{Manifest, Position};
use crate::model::{HomeEpoch, NodeId, ReplicaId, TopicId, TopicPartition};

/// What the names of these topics begin with, and no other topic's does.
pub const PREFIX: &str = "__suffix.";

/// Kafka's bound on a topic's name.
const NAME_BYTES_MAX: usize = 249;

/// Whether a topic of that name is, was or could be a suffix.
pub fn is_suffix(topic: &str) -> bool {
    topic.starts_with(PREFIX)
}

/// The suffixes that one move of a topic's home has left, as one topic: partitions have the numbers that
/// they have there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuffixTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    /// The topic that the records were written to, as it was called when its home moved.
    pub of: Arc<str>,
    /// The home epoch that began at the cut.
    pub home_epoch: HomeEpoch,
    /// From 0; the last one has records.
    pub partitions: Vec<SuffixPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuffixPartition {
    /// Whose suffix it is.
    pub source: TopicPartition,
    pub content: Content,
    /// Who serves it, by node; nobody while it is not known whose ledger counts.
    pub served_by: Vec<(NodeId, ReplicaId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It is in the ledgers of those replicas, the same in all of them.
    Ledger(Held),
    /// The move has left nothing beyond this cut; or, without one, was none of this partition's. As good as an
    /// empty log, which any node has.
    Nothing { cut: Option<Position> },
    /// A majority of the old home's voters has not told yet.
    Open,
}

/// What a ledger has of one move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its last entry, and the offset after it.
    pub last: Position,
    pub records: u64,
    /// The home epochs that the entries were cut off for: above this, if the partition moved before,
    after: Option<HomeEpoch>,
    /// and of entries older than this.
    before: HomeEpoch,
}

impl Held {
    /// Of what a ledger has of the partition, what this replica had beyond the cut of this move, oldest entries
    /// first: cut for its epoch, for one that was given up for it, or for a later one if it was away.
    pub fn parts<T>(
        &self,
        replica: ReplicaId,
        found: Vec<T>,
        manifest: impl Fn(&T) -> &Manifest,
    ) -> Vec<T> {
        let mut parts = found;
        parts.retain(|part| is_beyond(manifest(part), replica, (self.after, self.before)));
        // The move before may be forgotten by now, and be what the ledger has of it: a log is in one home epoch
        // until it is cut for a move, and in a later one after that.
        let of_this_move = parts.iter().map(|part| manifest(part).old_home_epoch).max();
        parts.retain(|part| Some(manifest(part).old_home_epoch) == of_this_move);
        parts.sort_by_key(|part| manifest(part).first_index);
        parts
    }
}

/// Whether it was cut for `home_epoch`, for one that was given up for it, or for a later one by a replica that was
/// away. `after`: of the move before.
pub(super) fn is_beyond(
    manifest: &Manifest,
    replica: ReplicaId,
    (after, home_epoch): (Option<HomeEpoch>, HomeEpoch),
) -> bool {
    manifest.replica == replica
        && manifest.old_home_epoch < home_epoch
        && after.is_none_or(|after| manifest.new_home_epoch > after)
}

impl SuffixPartition {
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.served_by.iter().map(|(node, _)| *node)
    }
}

impl SuffixTopic {
    pub fn partition(&self, number: i32) -> Option<&SuffixPartition> {
        self.partitions.get(usize::try_from(number).ok()?)
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuffixTopics {
    by_name: BTreeMap<Arc<str>, Arc<SuffixTopic>>,
    by_id: BTreeMap<TopicId, Arc<SuffixTopic>>,
}

impl SuffixTopics {
    pub fn of(moved: &[Arc<Moved>]) -> Self {
        let mut moves: BTreeMap<(TopicId, HomeEpoch), Moves<'_>> = BTreeMap::new();
        let mut latest: BTreeMap<TopicPartition, HomeEpoch> = BTreeMap::new();
        for one in moved {
            let of_topic = moves.entry((one.at.topic, one.home_epoch)).or_default();
            let before = latest.insert(one.at, one.home_epoch);
            of_topic.insert(one.at.partition, (one, before));
        }
        let mut all = Self::default();
        for ((source, _), partitions) in moves {
            let Some(topic) = topic(source, &partitions) else { continue };
            let topic = Arc::new(topic);
            all.by_name.insert(topic.name.clone(), topic.clone());
            all.by_id.insert(topic.id, topic);
        }
        all
    }

    pub fn named(&self, name: &str) -> Option<&Arc<SuffixTopic>> {
        self.by_name.get(name)
    }

    pub fn of_id(&self, id: TopicId) -> Option<&Arc<SuffixTopic>> {
        self.by_id.get(&id)
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SuffixTopic>> {
        self.by_name.values()
    }
}

impl Moved {
    /// The topic that shows what this move has left of its partition; `None` if it has left nothing, as far
    /// as is known.
    pub fn suffix_topic(&self) -> Option<String> {
        self.held().next().map(|_| name(&self.topic, self.at.topic, self.home_epoch))
    }

    /// The suffix that counts, of each replica that has all of it. A replica whose log began late has less
    /// of it in its ledger, though it ends at the same entry.
    fn held(&self) -> impl Iterator<Item = &Suffix> {
        let most = self.longest().map(|s| s.records).max().unwrap_or(0);
        self.longest().filter(move |s| s.records == most && most > 0)
    }

    /// `after`: the home epoch of the move before it.
    fn content(&self, after: Option<HomeEpoch>) -> Content {
        match (self.held().next(), self.longest().next()) {
            (Some(Suffix { last, records, .. }), _) => Content::Ledger(Held {
                last: *last,
                records: *records,
                after,
                before: self.home_epoch,
            }),
            (None, Some(_)) => Content::Nothing { cut: Some(self.cut) },
            (None, None) => Content::Open,
        }
    }
}

/// Of one topic to one home epoch, by partition: each with the home epoch of the move before it.
type Moves<'a> = BTreeMap<i32, (&'a Moved, Option<HomeEpoch>)>;

/// The suffixes of one topic at one home epoch; `None` if nobody has any.
fn topic(source: TopicId, moves: &Moves<'_>) -> Option<SuffixTopic> {
    let (last, (of_last, _)) = moves.iter().rfind(|(_, (m, _))| m.held().next().is_some())?;
    let (of, home_epoch) = (of_last.topic.clone(), of_last.home_epoch);
    let holders = |moved: &Moved| {
        let mut holders: Vec<_> = moved.held().map(|s| (s.node, s.replica)).collect();
        holders.sort_unstable();
        holders
    };
    let partitions = (0..=*last).map(|partition| {
        let moved = moves.get(&partition);
        let content = moved.map_or(Content::Nothing { cut: None }, |(m, after)| m.content(*after));
        let served_by = match (content, moved) {
            (Content::Ledger(_), Some((moved, _))) => holders(moved),
            (Content::Open, _) => Vec::new(),
            // Of nothing anyone could be the leader; let it be those who serve the rest.
            _ => holders(of_last),
        };
        SuffixPartition { source: TopicPartition { topic: source, partition }, content, served_by }
    });
    let partitions = partitions.collect();
    let name = name(&of, source, home_epoch).into();
    Some(SuffixTopic { name, id: id(source, home_epoch), of, home_epoch, partitions })
}

/// `__suffix.<topic>.<home epoch>.<first 8 digits of the topic's uuid>`: the uuid, since a topic that is
/// deleted and created again may lose its home in the same epoch again. If that is too long, the topic's
/// name loses its end.
fn name(topic: &str, source: TopicId, home_epoch: HomeEpoch) -> String {
    let uuid = source.to_string();
    let end = format!(".{home_epoch}.{}", &uuid[..8]);
    let left = NAME_BYTES_MAX - PREFIX.len() - end.len();
    let shown: String = topic.chars().take(left).collect();
    format!("{PREFIX}{shown}{end}")
}

/// The same on every node, and no other topic's: random ids are of version 4, these are of 8 (RFC 9562).
fn id(source: TopicId, home_epoch: HomeEpoch) -> TopicId {
    let hash = Sha256::new()
        .chain_update(b"isobar suffix")
        .chain_update(source.0)
        .chain_update(home_epoch.as_u32().to_be_bytes())
        .finalize();
    let mut id: [u8; 16] = hash[..16].try_into().expect("a SHA-256 has 32 bytes");
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    TopicId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::moves::{Kind, Verdict};
    use crate::model::{LogIndex, Offset, Term};

    const ORDERS: TopicId = TopicId([0x1f; 16]);

    /// Replicas 1 to 3 were the old home's, on nodes of the same numbers; each suffix is told as (replica, last
    /// index, records).
    fn moved(partition: i32, epoch: u32, suffixes: &[(u64, u64, u64)]) -> Arc<Moved> {
        let position =
            |index| Position { index: LogIndex(index), term: Term(1 << 17), offset: Offset(5) };
        let suffix = |(replica, last, records): &(u64, u64, u64)| Suffix {
            replica: ReplicaId(*replica),
            node: NodeId::new(*replica).unwrap(),
            records: *records,
            bytes: 9,
            last: position(*last),
        };
        Arc::new(Moved {
            at: TopicPartition { topic: ORDERS, partition },
            topic: "orders".into(),
            kind: Kind::Failover,
            from: "fra".parse().unwrap(),
            to: "iad".parse().unwrap(),
            home_epoch: HomeEpoch::new(epoch).unwrap(),
            cut: position(7),
            verdict: Verdict::UnboundedSince { ms: 3 },
            accept_loss: false,
            automatic: false,
            began_ms: 1,
            ended_ms: 2,
            old_voters: [1, 2, 3].map(ReplicaId).to_vec(),
            suffixes: suffixes.iter().map(suffix).collect(),
        })
    }

    fn names(moved: &[Arc<Moved>]) -> Vec<String> {
        SuffixTopics::of(moved).iter().map(|topic| topic.name.to_string()).collect()
    }

    fn nodes(partition: &SuffixPartition) -> Vec<u32> {
        partition.nodes().map(|node| node.as_u32()).collect()
    }

    #[test]
    fn a_suffix_is_a_topic_once_it_is_known_which_one_counts() {
        assert_eq!(names(&[]), Vec::<String>::new());
        assert_eq!(names(&[moved(0, 2, &[(1, 9, 2)])]), Vec::<String>::new(), "one of three told");
        assert_eq!(names(&[moved(0, 2, &[(1, 7, 0), (2, 7, 0)])]), Vec::<String>::new(), "nothing");
        let others = moved(0, 2, &[(4, 9, 2), (5, 9, 2)]);
        assert_eq!(names(&[others]), Vec::<String>::new(), "not the old home's");
        let told = moved(0, 2, &[(3, 9, 2), (1, 9, 2), (2, 8, 1)]);
        assert_eq!(names(std::slice::from_ref(&told)), ["__suffix.orders.2.1f1f1f1f"]);
        let topics = SuffixTopics::of(std::slice::from_ref(&told));
        let topic = topics.named("__suffix.orders.2.1f1f1f1f").unwrap();
        assert_eq!(told.suffix_topic().as_deref(), Some(&*topic.name));
        assert_eq!(topics.of_id(topic.id), Some(topic));
        assert_eq!(nodes(&topic.partitions[0]), [1, 3], "those that have all of it");
        assert!(
            matches!(topic.partitions[0].content, Content::Ledger(held) if held.last.index == LogIndex(9))
        );
    }

    #[test]
    fn a_replica_with_the_same_end_and_fewer_records_does_not_serve() {
        let late = moved(0, 2, &[(1, 9, 2), (2, 9, 1)]);
        let topics = SuffixTopics::of(&[late]);
        assert_eq!(nodes(&topics.iter().next().unwrap().partitions[0]), [1]);
    }

    #[test]
    fn partitions_keep_their_numbers_and_epochs_are_topics_of_their_own() {
        let lost = [(1, 9, 2), (2, 9, 2)];
        let nothing = [(1, 7, 0), (2, 7, 0)];
        let all = [
            moved(1, 2, &nothing),
            moved(2, 2, &[(1, 9, 2)]),
            moved(3, 2, &lost),
            moved(4, 2, &nothing),
            moved(0, 3, &lost),
        ];
        assert_eq!(names(&all), ["__suffix.orders.2.1f1f1f1f", "__suffix.orders.3.1f1f1f1f"]);
        let topics = SuffixTopics::of(&all);
        let partitions = &topics.iter().next().unwrap().partitions;
        let contents: Vec<Content> = partitions.iter().map(|p| p.content).collect();
        let cut = all[0].cut;
        assert_eq!(
            contents[..2],
            [Content::Nothing { cut: None }, Content::Nothing { cut: Some(cut) }]
        );
        assert!(matches!(contents[2..], [Content::Open, Content::Ledger(_)]));
        let served: Vec<_> = partitions.iter().map(nodes).collect();
        assert_eq!(served, [vec![1, 2], vec![1, 2], vec![], vec![1, 2]]);
        assert!(partitions.iter().zip(0..).all(|(p, n)| p.source.partition == n));
        let ids: std::collections::BTreeSet<_> = topics.iter().map(|topic| topic.id).collect();
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn names_are_legal_however_long_the_topics_is() {
        let epoch = HomeEpoch::new(16_383).unwrap();
        for topic in ["a", "__consumer_offsets", &"x".repeat(249)] {
            let name = name(topic, ORDERS, epoch);
            assert!(name.len() <= NAME_BYTES_MAX && is_suffix(&name), "{name}");
            assert!(name.ends_with(".16383.1f1f1f1f"), "{name}");
        }
        assert!(!is_suffix("orders") && !is_suffix("__consumer_offsets"));
    }
}
