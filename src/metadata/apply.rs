//! Apply: the one function that changes an image. Pure and deterministic; every node calls it with
//! the same commands in the same order.
//!
//! A command is checked again here although the controller has checked it: the controller decided on
//! its own image, and a command of another leader may have come in between. What does not hold any
//! more is refused, by every node alike, and changes nothing but the image's offset.

pub mod disks;

use std::sync::Arc;

use super::budgets;
use super::command::{Command, Placement};
use super::image::{Image, Partition, Phase, Topic};
use super::modes;
use super::moves;
use super::quorum;
use super::recovery;
use super::refusal::{Reason, Refusal};
use crate::model::{Offset, TopicId, TopicPartition};

/// What became of a command: done, or refused without a trace.
pub type Outcome = Result<(), Refusal>;

/// Applies the command at `offset`.
///
/// # Panics
/// When `offset` is not the image's next: the caller has lost or repeated a command.
pub fn apply(image: &mut Image, offset: Offset, command: Command) -> Outcome {
    assert_eq!(image.next_offset, offset, "commands are applied in order, each once");
    image.next_offset = offset.plus(1);
    match command {
        Command::NameCluster { id } => name_cluster(image, id),
        Command::RegisterNode(node) => disks::register(image, node),
        Command::AdmitDisk(admit) => disks::admit(image, admit),
        Command::ApplyTopology { expected, topology } => {
            compare("topology generation", expected, image.topology_generation)?;
            image.topology_generation += 1;
            let topology = Arc::unwrap_or_clone(topology);
            match &mut image.meta {
                Some(meta) => {
                    let gone = quorum::follow(meta, &topology);
                    disks::leave(image, gone);
                }
                None => image.meta = quorum::founded(&topology).map(Arc::new),
            }
            image.topology = Some(Arc::new(topology.with_generation(image.topology_generation)));
            let topics: Vec<TopicId> = image.topics.keys().copied().collect();
            budgets::widen(image, topics);
            Ok(())
        }
        Command::CreateTopic(topic) => create_topic(image, topic),
        Command::DeleteTopic { id } => {
            let topic = image.topics.remove(&id).ok_or_else(|| unknown_topic(id))?;
            image.topic_ids.remove(&topic.name);
            Ok(())
        }
        Command::CreatePartitions { topic, from, partitions } => {
            create_partitions(image, topic, from, partitions)
        }
        Command::AlterTopicConfigs { topic, set, delete } => {
            let altered = Arc::make_mut(topic_mut(image, topic)?);
            for key in delete {
                altered.configs.remove(&key);
            }
            altered.configs.extend(set);
            budgets::widen(image, [topic]);
            Ok(())
        }
        Command::AllocateProducerIds { first, count } => {
            compare("next producer id", first, image.next_producer_id)?;
            let next = first.checked_add(i64::from(count));
            image.next_producer_id = next.ok_or_else(|| {
                Refusal::new(Reason::LimitExceeded, "2^63 producer ids were given out")
            })?;
            Ok(())
        }
        Command::ReplacePlacement(placement) => replace_placement(image, placement),
        Command::BeginMove(begin) => moves::begin(image, begin),
        Command::ChooseCut(choice) => moves::choose(image, *choice),
        Command::ActivateHome(activation) => moves::activate(image, *activation),
        Command::ReportSuffix(report) => moves::report(image, report),
        Command::ChangeMode(change) => modes::change(image, change),
        Command::RecoverMeta(recover) => recovery::recover(image, *recover),
        Command::Snapshot(_) => Ok(()),
    }
}

fn name_cluster(image: &mut Image, id: Arc<str>) -> Outcome {
    match &image.cluster_id {
        Some(known) => Err(Refusal::new(Reason::Stale, format!("the cluster is {known} already"))),
        None => {
            image.cluster_id = Some(id);
            Ok(())
        }
    }
}

fn create_topic(image: &mut Image, topic: Arc<Topic>) -> Outcome {
    if image.topic_ids.contains_key(&topic.name) || image.topics.contains_key(&topic.id) {
        let message = format!("topic {:?} exists already", topic.name);
        return Err(Refusal::new(Reason::TopicExists, message));
    }
    if topic.partitions.is_empty() {
        let message = format!("topic {:?} without a partition", topic.name);
        return Err(Refusal::new(Reason::InvalidPartitions, message));
    }
    topic.partitions.iter().try_for_each(|p| check(p))?;
    image.topic_ids.insert(topic.name.clone(), topic.id);
    let id = topic.id;
    image.topics.insert(id, topic);
    budgets::begin(image, id, 0);
    Ok(())
}

fn create_partitions(
    image: &mut Image,
    topic: TopicId,
    from: u32,
    partitions: Vec<Arc<Partition>>,
) -> Outcome {
    let grown = topic_mut(image, topic)?;
    compare("number of partitions", from as usize, grown.partitions.len())?;
    partitions.iter().try_for_each(|p| check(p))?;
    Arc::make_mut(grown).partitions.extend(partitions);
    budgets::begin(image, topic, from as usize);
    Ok(())
}

fn replace_placement(image: &mut Image, new: Placement) -> Outcome {
    let at = new.partition;
    let slot = placed(image, at)?;
    *slot = replaced(slot, new)?.into();
    Ok(())
}

pub(super) fn placed(
    image: &mut Image,
    at: TopicPartition,
) -> Result<&mut Arc<Partition>, Refusal> {
    if at == TopicPartition::META {
        let none = || Refusal::new(Reason::NotReady, "__meta has no placement yet");
        return image.meta.as_mut().ok_or_else(none);
    }
    let topic = topic_mut(image, at.topic)?;
    let index = usize::try_from(at.partition).ok().filter(|i| *i < topic.partitions.len());
    let index = index.ok_or_else(|| {
        let message = format!("topic {:?} has no partition {}", topic.name, at.partition);
        Refusal::new(Reason::UnknownTopic, message)
    })?;
    Ok(&mut Arc::make_mut(topic).partitions[index])
}

/// What a placement becomes by a change that was decided on it.
fn replaced(old: &Partition, new: Placement) -> Result<Partition, Refusal> {
    let at = new.partition;
    if old.phase != Phase::Active {
        let message = format!("the home of {at} is moving");
        return Err(Refusal::new(Reason::Stale, message));
    }
    compare("home epoch", new.home_epoch, old.home_epoch)?;
    compare("placement generation", new.placement_generation, old.placement_generation)?;
    let mut next = old.clone();
    next.placement_generation += 1;
    next.replicas = new.replicas;
    next.next_replica_id = new.next_replica_id;
    check(&next)?;
    check_step(old, &next)?;
    Ok(next)
}

/// What holds of every placement.
fn check(partition: &Partition) -> Outcome {
    let replicas = &partition.replicas;
    let twice = |i: usize| {
        replicas[..i].iter().any(|r| r.id == replicas[i].id || r.node == replicas[i].node)
    };
    let problem = if partition.voters().next().is_none() {
        "a partition without a voter"
    } else if (0..replicas.len()).any(twice) {
        "two replicas with one id or on one node"
    } else if replicas.iter().any(|r| r.id >= partition.next_replica_id || r.id.0 == 0) {
        "a replica id that was not given out"
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::InvalidReplicaAssignment, problem))
}

/// What holds of a change: an id stays with its node and disk, an id that was dropped never comes
/// back, and the voters change by one at most, as Raft's simple configuration changes do, so that
/// every majority of the old meets every majority of the new (R4).
fn check_step(old: &Partition, new: &Partition) -> Outcome {
    let same = |id| (old.replicas.iter().find(|r| r.id == id), id < old.next_replica_id);
    // A disk that nobody knew yet may become known.
    let moved = new.replicas.iter().any(|r| match same(r.id) {
        (Some(known), _) => known.node != r.node || known.disk.is_some() && known.disk != r.disk,
        (None, given_before) => given_before,
    });
    let voters = |p: &Partition| p.voters().map(|r| r.id).collect::<Vec<_>>();
    let (before, after) = (voters(old), voters(new));
    let dropped = before.iter().filter(|id| !after.contains(id)).count();
    let added = after.iter().filter(|id| !before.contains(id)).count();
    let problem = if moved {
        "a replica id that belongs to another replica"
    } else if new.next_replica_id < old.next_replica_id {
        "replica ids that were given out would be given again"
    } else if dropped + added > 1 {
        "more than one voter changed at once"
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::InvalidReplicaAssignment, problem))
}

fn topic_mut(image: &mut Image, id: TopicId) -> Result<&mut Arc<Topic>, Refusal> {
    image.topics.get_mut(&id).ok_or_else(|| unknown_topic(id))
}

fn unknown_topic(id: TopicId) -> Refusal {
    Refusal::new(Reason::UnknownTopic, format!("no topic has the id {id}"))
}

pub(super) fn compare<T: PartialEq + std::fmt::Display>(
    what: &str,
    expected: T,
    found: T,
) -> Outcome {
    if expected == found {
        return Ok(());
    }
    let message = format!("the {what} is {found}, this was decided at {expected}");
    Err(Refusal::new(Reason::Stale, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::{World, n, node, topic};
    use crate::metadata::image::Replica;
    use crate::model::{HomeEpoch, ReplicaId, TopicPartition};

    fn placement(world: &World) -> Placement {
        let id = world.image.topic("t").unwrap().id;
        let partition = TopicPartition { topic: id, partition: 0 };
        let now = world.image.partition(partition).unwrap();
        Placement {
            partition,
            home_epoch: now.home_epoch,
            placement_generation: now.placement_generation,
            replicas: now.replicas.clone(),
            next_replica_id: now.next_replica_id,
        }
    }

    fn world() -> World {
        let mut world = World::new();
        world.create(topic("t", 1, &[])).unwrap();
        world
    }

    /// A change to a placement that stands, and why it is refused.
    type Case = (&'static str, fn(&mut Placement), Option<Reason>);

    #[test]
    fn placements_change_one_voter_at_a_time_and_never_give_an_id_twice() {
        use Reason::{InvalidReplicaAssignment as Invalid, Stale, UnknownTopic};
        let cases: &[Case] = &[
            ("nothing", |_| {}, None),
            ("a learner goes", |p| p.replicas.truncate(8), None),
            ("a voter goes", |p| p.replicas.retain(|r| r.id.0 != 1), None),
            ("a voter becomes a learner", |p| p.replicas[1].voter = false, None),
            ("a learner becomes a voter", |p| p.replicas[8].voter = true, None),
            ("the preferred leader changes", |p| p.replicas.swap(0, 1), None),
            ("two voters go", |p| p.replicas.retain(|r| r.id.0 > 2), Some(Invalid)),
            (
                "a voter is swapped",
                |p| {
                    p.replicas[0].voter = false;
                    p.replicas[8].voter = true;
                },
                Some(Invalid),
            ),
            ("no voter", |p| p.replicas.iter_mut().for_each(|r| r.voter = false), Some(Invalid)),
            ("two on one node", |p| p.replicas[8].node = n(1), Some(Invalid)),
            ("another disk", |p| p.replicas[8].disk = Some([7; 16]), Some(Invalid)),
            ("an id not given", |p| p.replicas[8].id = ReplicaId(10), Some(Invalid)),
            (
                "an id given now",
                |p| {
                    p.replicas[8].id = ReplicaId(10);
                    p.next_replica_id = ReplicaId(11);
                },
                None,
            ),
            ("id 0", |p| p.replicas[8].id = ReplicaId(0), Some(Invalid)),
            (
                "ids go back",
                |p| {
                    p.replicas.truncate(8);
                    p.next_replica_id = ReplicaId(9);
                },
                Some(Invalid),
            ),
            ("late", |p| p.placement_generation = 0, Some(Stale)),
            ("another home", |p| p.home_epoch = HomeEpoch::new(2).unwrap(), Some(Stale)),
            ("no such partition", |p| p.partition.partition = 1, Some(UnknownTopic)),
            ("no such topic", |p| p.partition.topic = TopicId::ZERO, Some(UnknownTopic)),
        ];
        for (what, change, refused) in cases {
            let mut world = world();
            let mut placement = placement(&world);
            change(&mut placement);
            let before = world.image.clone();
            let outcome = world.apply(Command::ReplacePlacement(placement.clone()));
            assert_eq!(
                outcome.as_ref().map_err(|r| r.reason).err(),
                *refused,
                "{what}: {outcome:?}"
            );
            if refused.is_some() {
                assert_eq!(world.image.topics, before.topics, "{what}");
            } else {
                let now = world.image.partition(placement.partition).unwrap();
                assert_eq!((now.placement_generation, &now.replicas), (2, &placement.replicas));
            }
            assert_eq!(world.image.next_offset, before.next_offset.plus(1), "{what}");
        }
    }

    #[test]
    fn a_dropped_id_does_not_come_back() {
        let mut world = world();
        let mut dropped = placement(&world);
        let gone = dropped.replicas.pop().unwrap();
        world.apply(Command::ReplacePlacement(dropped)).unwrap();
        let mut back = placement(&world);
        back.replicas.push(gone);
        let refused = world.apply(Command::ReplacePlacement(back)).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidReplicaAssignment);
    }

    #[test]
    fn no_placement_changes_while_the_home_is_moving() {
        let mut world = world();
        let placement = placement(&world);
        let topic = world.image.topics.get_mut(&placement.partition.topic).unwrap();
        Arc::make_mut(&mut Arc::make_mut(topic).partitions[0]).phase =
            Phase::Sealing(crate::metadata::fixture::moving("iad"));
        let refused = world.apply(Command::ReplacePlacement(placement)).unwrap_err();
        assert_eq!(refused.reason, Reason::Stale);
    }

    #[test]
    fn what_was_decided_on_another_state_is_refused_and_changes_nothing() {
        let mut world = world();
        let id = world.image.topic("t").unwrap().id;
        let again = world.image.topics[&id].clone();
        let partitions = again.partitions.clone();
        let topology = world.image.topology.clone().unwrap();
        let cases = [
            (Command::NameCluster { id: "other".into() }, Reason::Stale),
            (Command::ApplyTopology { expected: 0, topology }, Reason::Stale),
            (Command::CreateTopic(again), Reason::TopicExists),
            (Command::CreatePartitions { topic: id, from: 0, partitions }, Reason::Stale),
            (Command::AllocateProducerIds { first: 1, count: 1 }, Reason::Stale),
            (Command::DeleteTopic { id: TopicId::ZERO }, Reason::UnknownTopic),
        ];
        for (command, reason) in cases {
            let mut before = world.image.clone();
            let refused = world.apply(command).unwrap_err();
            assert_eq!(refused.reason, reason, "{refused}");
            before.next_offset = world.image.next_offset;
            assert_eq!(world.image, before);
        }
    }

    #[test]
    fn producer_ids_end_where_the_number_ends() {
        let mut world = world();
        world.image.next_producer_id = i64::MAX - 1;
        let command = Command::AllocateProducerIds { first: i64::MAX - 1, count: 2 };
        assert_eq!(world.apply(command).unwrap_err().reason, Reason::LimitExceeded);
    }

    #[test]
    fn a_topic_without_a_voter_or_partition_is_none() {
        let mut world = world();
        let mut topic = Topic::clone(world.image.topic("t").unwrap());
        topic.name = "u".into();
        topic.id = TopicId([9; 16]);
        let learner = Replica { id: ReplicaId(1), node: n(1), voter: false, disk: None };
        Arc::make_mut(&mut topic.partitions[0]).replicas = vec![learner];
        let refused = world.apply(Command::CreateTopic(topic.clone().into())).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidReplicaAssignment);
        topic.partitions.clear();
        let refused = world.apply(Command::CreateTopic(topic.into())).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidPartitions);
    }

    #[test]
    #[should_panic(expected = "in order, each once")]
    fn a_command_out_of_order_is_a_broken_invariant() {
        let mut image = Image::default();
        let _ = apply(&mut image, Offset(1), Command::RegisterNode(node(1).into()));
    }
}
