//! The budget that a verdict may count on: the loosest exposure budget that a home may have enforced in its
//! present home epoch.
//!
//! ```text
//!   the home epoch begins ──▶ what its policy bounds then
//!   the policy changes ─────▶ the looser of that and what stands here; never a tighter one
//!   the home is moving ─────▶ it stands still, and replicas enforce no looser one
//! ```
//!
//! An isolated home goes by an image that it had, so its policy may be one of before. But no replica is of a home
//! epoch that its image does not have: whatever it goes by is a policy of this epoch, and none of those was
//! looser than what stands here. A budget that was tightened, or made, since the epoch began is enforced at once, and
//! counts for a verdict from the next home epoch on (ADR 0021).

use std::sync::Arc;
use std::time::Duration;

use isobar_topology::Settings;
use isobar_topology::policy::OnLag;

use super::config::{self, Effective};
use super::image::{Image, Partition, Phase};
use super::moves::Verdict;
use crate::model::TopicId;

/// What may be at stake at most: each for itself, and at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// From the append of the oldest to that of the newest.
    pub span: Option<Duration>,
    pub bytes: Option<u64>,
    pub records: Option<u32>,
}

impl Bound {
    /// What a policy bounds hard; `None` where it does not, or not this way.
    pub fn of(settings: &Settings) -> Option<Self> {
        let bounds = settings.on_lag != OnLag::Continue && settings.replication.sync_to() == 0;
        let Settings { max_lag, max_lag_bytes, max_lag_records, .. } = *settings;
        Self { span: max_lag, bytes: max_lag_bytes, records: max_lag_records }
            .some()
            .filter(|_| bounds)
    }

    fn some(self) -> Option<Self> {
        (self.span.is_some() || self.bytes.is_some() || self.records.is_some()).then_some(self)
    }

    /// Within which both are.
    fn looser(self, other: Self) -> Option<Self> {
        fn more<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            a.zip(b).map(|(a, b)| a.max(b))
        }
        Self {
            span: more(self.span, other.span),
            bytes: more(self.bytes, other.bytes),
            records: more(self.records, other.records),
        }
        .some()
    }

    /// Within both.
    pub fn tighter(self, other: Self) -> Self {
        fn less<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            a.into_iter().chain(b).min()
        }
        Self {
            span: less(self.span, other.span),
            bytes: less(self.bytes, other.bytes),
            records: less(self.records, other.records),
        }
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct BoundWire {
    #[prost(uint64, optional, tag = "1")]
    span_ms: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    bytes: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    records: Option<u32>,
}

impl From<Bound> for BoundWire {
    fn from(bound: Bound) -> Self {
        let Bound { span, bytes, records } = bound;
        let span_ms = span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        Self { span_ms, bytes, records }
    }
}

impl From<BoundWire> for Bound {
    fn from(wire: BoundWire) -> Self {
        let BoundWire { span_ms, bytes, records } = wire;
        Self { span: span_ms.map(Duration::from_millis), bytes, records }
    }
}

/// What a topic's policy bounds now.
pub fn of(image: &Image, topic: TopicId) -> Option<Bound> {
    let effective = config::effective(image, image.topics.get(&topic)?)?;
    Bound::of(&effective.policy)
}

/// The policy of these topics may have changed.
pub(super) fn widen(image: &mut Image, topics: impl IntoIterator<Item = TopicId>) {
    for id in topics {
        let bound = of(image, id);
        let Some(topic) = image.topics.get_mut(&id) else { continue };
        if topic.partitions.iter().any(|p| widened(p, bound) != p.budget) {
            let partitions = &mut Arc::make_mut(topic).partitions;
            for partition in partitions {
                let budget = widened(partition, bound);
                if budget != partition.budget {
                    Arc::make_mut(partition).budget = budget;
                }
            }
        }
    }
}

fn widened(partition: &Partition, policy: Option<Bound>) -> Option<Bound> {
    match (&partition.phase, partition.budget, policy) {
        (Phase::Sealing(_), before, _) => before,
        (Phase::Active, Some(before), Some(policy)) => before.looser(policy),
        (Phase::Active, ..) => None,
    }
}

/// A topic's partitions from this one on begin now, and go by what its policy bounds.
pub(super) fn begin(image: &mut Image, id: TopicId, from: usize) {
    let bound = of(image, id);
    let Some(topic) = image.topics.get_mut(&id) else { return };
    for partition in &mut Arc::make_mut(topic).partitions[from..] {
        Arc::make_mut(partition).budget = bound;
    }
}

/// What a verdict may name: while there is a node that could not read one with a number, nothing.
pub fn to_claim(image: &Image, placed: &Partition) -> Option<Bound> {
    placed.budget.filter(|_| image.feature_level() >= Verdict::AT_MOST_FEATURE_LEVEL)
}

/// What a replica goes by: its topic's policy, and while its home is moving nothing looser than what stands here,
/// which the verdict may have been chosen by.
pub fn enforced(effective: &Arc<Effective>, placed: &Partition) -> Arc<Effective> {
    let bound = placed.budget.filter(|_| placed.moving().is_some());
    let Some(bound) = bound else { return Arc::clone(effective) };
    let policy = Bound::of(&effective.policy);
    let least = policy.map_or(bound, |policy| policy.tighter(bound));
    if policy == Some(least) {
        return Arc::clone(effective);
    }
    let mut held = Effective::clone(effective);
    held.policy.max_lag = least.span;
    held.policy.max_lag_bytes = least.bytes;
    held.policy.max_lag_records = least.records;
    if held.policy.on_lag == OnLag::Continue {
        held.policy.on_lag = OnLag::Reject;
    }
    Arc::new(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::{World, moving, topic};
    use crate::metadata::request::{NewPartitions, Request};

    const SECOND: Duration = Duration::from_secs(1);

    fn records(most: u32) -> Option<Bound> {
        Some(Bound { span: None, bytes: None, records: Some(most) })
    }

    fn configs<'a>(most: &'a str, on_lag: &'a str) -> [(&'a str, &'a str); 2] {
        [("isobar.max.lag.records", most), ("isobar.on.lag", on_lag)]
    }

    fn of_first(world: &World) -> Option<Bound> {
        world.image.topic("t").unwrap().partitions[0].budget
    }

    fn alter(world: &mut World, configs: &[(&str, &str)]) {
        let topic = world.image.topic("t").unwrap().id;
        let set = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let command = crate::metadata::command::Command::AlterTopicConfigs {
            topic,
            set,
            delete: Default::default(),
        };
        world.apply(command).unwrap();
    }

    #[test]
    fn each_bounds_for_itself() {
        let one = Bound { span: Some(SECOND), bytes: Some(5), records: None };
        let other = Bound { span: Some(SECOND * 2), bytes: None, records: Some(7) };
        let span = |span| Bound { span: Some(span), bytes: None, records: None };
        assert_eq!(one.looser(other), Some(span(SECOND * 2)), "what only one has bounds nothing");
        let bytes = Bound { bytes: Some(9), span: None, records: None };
        assert_eq!(bytes.looser(span(SECOND)), None);
        let both = Bound { span: Some(SECOND), bytes: Some(5), records: Some(7) };
        assert_eq!(one.tighter(other), both);
    }

    #[test]
    fn it_is_loosened_at_once_and_tightened_by_nothing() {
        let mut world = World::new();
        world.create(topic("t", 1, &configs("100", "reject"))).unwrap();
        assert_eq!(of_first(&world), records(100));
        alter(&mut world, &configs("10", "reject"));
        assert_eq!(of_first(&world), records(100), "an isolated leader may not know yet");
        alter(&mut world, &configs("300", "throttle"));
        assert_eq!(of_first(&world), records(300));
        alter(&mut world, &configs("300", "continue"));
        assert_eq!(of_first(&world), None);
        alter(&mut world, &configs("300", "reject"));
        assert_eq!(of_first(&world), None);
    }

    #[test]
    fn it_stands_still_while_the_home_is_moving() {
        let mut world = World::new();
        world.create(topic("t", 1, &configs("100", "reject"))).unwrap();
        let id = world.image.topic("t").unwrap().id;
        let seals = Arc::make_mut(world.image.topics.get_mut(&id).unwrap());
        Arc::make_mut(&mut seals.partitions[0]).phase = Phase::Sealing(moving("iad"));
        alter(&mut world, &configs("300", "reject"));
        assert_eq!(of_first(&world), records(100));
    }

    #[test]
    fn partitions_that_come_later_begin_with_the_policy_of_then() {
        let mut world = World::new();
        world.create(topic("t", 1, &configs("100", "reject"))).unwrap();
        alter(&mut world, &configs("10", "reject"));
        let more = NewPartitions { topic: "t".into(), count: 2, assignments: None };
        world.ask(Request::CreatePartitions { topics: vec![more], validate_only: false }).unwrap();
        let of_each = |p: &Arc<Partition>| p.budget;
        let topic = world.image.topic("t").unwrap();
        assert_eq!(
            topic.partitions.iter().map(of_each).collect::<Vec<_>>(),
            [records(100), records(10)]
        );
    }

    #[test]
    fn while_a_home_moves_its_replicas_enforce_no_looser_one() {
        let mut world = World::new();
        world.create(topic("t", 1, &configs("100", "reject"))).unwrap();
        alter(&mut world, &configs("300", "continue"));
        let topic = world.image.topic("t").unwrap();
        let effective = Arc::new(config::effective(&world.image, topic).unwrap());
        let mut placed = Partition { budget: records(100), ..(*topic.partitions[0]).clone() };
        assert_eq!(enforced(&effective, &placed), effective);
        placed.phase = Phase::Sealing(moving("iad"));
        assert_eq!(Bound::of(&enforced(&effective, &placed).policy), records(100));
        placed.budget = None;
        assert_eq!(enforced(&effective, &placed), effective, "nothing was claimed by it");
    }
}
