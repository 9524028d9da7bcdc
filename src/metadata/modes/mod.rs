//! What `__meta` knows of the modes of sync topics: which one holds, and how it came to that (R7 to R9).
//!
//! ```text
//!   (sid 1, sync) ──Change 1 → (2, degraded)──▶ the grant: only now may the leader weaken (R7)
//!                 ◀─Change 2 → (3, sync)─────── the leader enforces it already (R8)
//! ```
//!
//! A change is a compare-and-set on home epoch and `sid`, in an active home only. While a home is moving its
//! mode stands still: the claim of a move is chosen with its cut, before it is activated (ADR 0019), and the
//! epoch has ended anyway. The next one begins with the mode that stands there.

pub mod wire;

use std::sync::Arc;

use isobar_topology::Replication;

use super::apply::{Outcome, compare, placed};
use super::image::{Image, Phase};
use super::refusal::{Reason, Refusal};
use crate::model::{HomeEpoch, Mode, NodeId, TopicPartition};

/// Changes that the image keeps, the oldest go first: an outage and its end, of 500 partitions, at
/// about 100 bytes each.
pub const KEPT_MAX: usize = 1000;

/// Asked for by who leads the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub at: TopicPartition,
    pub home_epoch: HomeEpoch,
    /// The `sid` that it was decided on.
    pub expected: u64,
    pub mode: Mode,
    /// Where the leader is.
    pub node: NodeId,
    /// Unix time there, for people.
    pub at_ms: i64,
}

/// A change on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// As it was called then.
    pub topic: Arc<str>,
    pub change: Change,
}

pub fn change(image: &mut Image, change: Change) -> Outcome {
    let at = change.at;
    let topic = image.topics.get(&at.topic).map(|t| t.name.clone());
    let slot = placed(image, at)?;
    compare("home epoch", change.home_epoch, slot.home_epoch)?;
    if slot.phase != Phase::Active {
        return Err(Refusal::new(Reason::Stale, format!("the home of {at} is moving")));
    }
    if slot.replication == Replication::Async {
        let message = format!("{at} is async: there is no mode to change");
        return Err(Refusal::new(Reason::InvalidRequest, message));
    }
    compare("mode's number", change.expected, slot.mode.sid)?;
    if change.mode.sid <= slot.mode.sid {
        let message = format!("mode {} would follow {} of {at}", change.mode, slot.mode);
        return Err(Refusal::new(Reason::InvalidRequest, message));
    }
    Arc::make_mut(slot).mode = change.mode;
    if image.modes.len() == KEPT_MAX {
        image.modes.remove(0);
    }
    image.modes.push(Arc::new(Changed { topic: topic.unwrap_or_default(), change }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::command::Command;
    use crate::metadata::fixture::{World, moving, n, text_with_sync, topic};
    use crate::metadata::request::{Request, Response};

    fn world() -> (World, TopicPartition) {
        let mut world = World::of(&text_with_sync());
        world.create(topic("sync-t", 1, &[("isobar.on.sync.loss", "degrade")])).unwrap();
        let topic = world.image.topic("sync-t").unwrap().id;
        (world, TopicPartition { topic, partition: 0 })
    }

    fn to(at: TopicPartition, expected: u64, sid: u64, degraded: bool) -> Change {
        let mode = Mode { sid, degraded };
        Change { at, home_epoch: HomeEpoch::FIRST, expected, mode, node: n(1), at_ms: 7 }
    }

    fn ask(world: &mut World, change: Change) -> Result<(), Reason> {
        match world.ask(Request::ChangeModes { changes: vec![change] }).unwrap() {
            Response::ModesChanged(mut results) => results.remove(0).map_err(|r| r.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_counts_once_and_only_on_what_it_was_decided_on() {
        let (mut world, at) = world();
        assert_eq!(ask(&mut world, to(at, 1, 2, true)), Ok(()));
        assert_eq!(ask(&mut world, to(at, 1, 2, true)), Err(Reason::Stale), "twice");
        assert_eq!(ask(&mut world, to(at, 1, 2, false)), Err(Reason::Stale), "a late confirmation");
        assert_eq!(ask(&mut world, to(at, 2, 2, false)), Err(Reason::InvalidRequest));
        let other = Change { home_epoch: HomeEpoch::new(2).unwrap(), ..to(at, 2, 3, false) };
        assert_eq!(ask(&mut world, other), Err(Reason::Stale), "of another home epoch");
        assert_eq!(ask(&mut world, to(at, 2, 3, false)), Ok(()));
        let now = world.image.partition(at).unwrap();
        assert_eq!(now.mode, Mode { sid: 3, degraded: false });
        let sids: Vec<u64> = world.image.modes.iter().map(|m| m.change.mode.sid).collect();
        assert_eq!(sids, [2, 3]);
    }

    #[test]
    fn a_mode_stands_still_while_the_home_is_moving() {
        let (mut world, at) = world();
        let topic = world.image.topics.get_mut(&at.topic).unwrap();
        Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]).phase =
            Phase::Sealing(moving("iad"));
        let refused = world.apply(Command::ChangeMode(to(at, 1, 2, true))).unwrap_err();
        assert_eq!(refused.reason, Reason::Stale);
    }

    #[test]
    fn topics_that_are_async_or_that_block_are_not_degraded() {
        let (mut world, _) = world();
        world.create(topic("sync-b", 1, &[])).unwrap();
        world.create(topic("a", 1, &[])).unwrap();
        for name in ["sync-b", "a"] {
            let topic = world.image.topic(name).unwrap().id;
            let at = TopicPartition { topic, partition: 0 };
            assert_eq!(ask(&mut world, to(at, 1, 2, true)), Err(Reason::InvalidRequest), "{name}");
        }
    }
}
