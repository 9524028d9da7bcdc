//! Nodes and the disks that they come with.
//!
//! ```text
//!   node 2 has disk A ──AdmitDisk(A → B)──▶ node 2 has disk B; A is retired for ever
//!   node 2 shows A again ──▶ refused: others have gone on without what A holds
//! ```

use std::sync::Arc;

use super::{Outcome, compare, placed, replaced};
use crate::metadata::command::AdmitDisk;
use crate::metadata::image::{DiskId, Image, Node, Partition, Replica};
use crate::metadata::refusal::{Reason, Refusal};
use crate::model::{NodeId, TopicPartition};

/// Why a node may not come with this disk, whatever it had before.
pub fn check(image: &Image, node: NodeId, disk: DiskId) -> Outcome {
    if image.retired.contains_key(&disk) {
        let message = format!(
            "this data directory of node {node} (disk {}) was replaced, or the node was removed: \
             the cluster has gone on without it and counts on nothing that it holds. Start the \
             node with the directory that it had last, or with an empty one",
            text(disk)
        );
        return Err(Refusal::new(Reason::DiskReplaced, message));
    }
    if let Some(other) = image.nodes.values().find(|n| n.disk == disk && n.id != node) {
        let message = format!(
            "node {node} shows the data directory of node {}: give each node a directory of its own",
            other.id
        );
        return Err(Refusal::new(Reason::UnknownNode, message));
    }
    Ok(())
}

/// Why a node may not register with a disk: it is not the one that it has.
pub fn check_registered(image: &Image, node: NodeId, disk: DiskId) -> Outcome {
    check(image, node, disk)?;
    let meta = image.meta.as_ref().and_then(|meta| meta.replica_on(node));
    let known = image.nodes.get(&node).map(|n| n.disk).or(meta.and_then(|r| r.disk));
    match known {
        Some(known) if known != disk => {
            let message = format!(
                "node {node} has disk {} and shows another, {}, which was not admitted",
                text(known),
                text(disk)
            );
            Err(Refusal::new(Reason::DiskReplaced, message))
        }
        Some(_) | None => Ok(()),
    }
}

fn text(disk: DiskId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(disk)
}

pub(super) fn register(image: &mut Image, node: Arc<Node>) -> Outcome {
    check_registered(image, node.id, node.disk)?;
    if !image.nodes.contains_key(&node.id) {
        bind(image, &node);
    }
    image.nodes.insert(node.id, node);
    Ok(())
}

/// Replicas that were placed on the node before it had ever started get its disk.
fn bind(image: &mut Image, node: &Node) {
    let unbound = |p: &Arc<Partition>| p.replica_on(node.id).is_some_and(|r| r.disk.is_none());
    let bind = |partition: &mut Arc<Partition>| {
        for replica in &mut Arc::make_mut(partition).replicas {
            if replica.node == node.id {
                replica.disk = Some(node.disk);
            }
        }
    };
    image.meta.iter_mut().filter(|p| unbound(p)).for_each(bind);
    for topic in image.topics.values_mut().filter(|t| t.partitions.iter().any(unbound)) {
        Arc::make_mut(topic).partitions.iter_mut().filter(|p| unbound(p)).for_each(bind);
    }
}

pub(super) fn admit(image: &mut Image, admit: AdmitDisk) -> Outcome {
    let AdmitDisk { node, expected, disk, meta } = admit;
    check(image, node, disk)?;
    let found = image.nodes.get(&node).map(|n| n.disk);
    if found != expected {
        let words = |disk: Option<DiskId>| disk.map_or("none".to_owned(), |d| text(d).to_string());
        compare(&format!("disk of node {node}"), words(expected), words(found))?;
    }
    let next = replaced(placed(image, TopicPartition::META)?, meta)?;
    image.meta = Some(Arc::new(next));
    if let Some(old) = expected {
        image.retired.insert(old, node);
        if let Some(registered) = image.nodes.get_mut(&node) {
            Arc::make_mut(registered).disk = disk;
        }
    }
    Ok(())
}

/// Nodes leave the topology. If one comes back it is with another disk: what it had of `__meta` is
/// followed by nobody any more.
pub(super) fn leave(image: &mut Image, gone: Vec<Replica>) {
    for replica in gone {
        let registered = image.nodes.remove(&replica.node).map(|node| node.disk);
        let disks = registered.into_iter().chain(replica.disk);
        image.retired.extend(disks.map(|disk| (disk, replica.node)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::command::Command;
    use crate::metadata::fixture::{World, n, node};
    use crate::metadata::quorum;

    fn admission(world: &World, id: u64, disk: DiskId) -> AdmitDisk {
        let meta = world.image.meta.as_ref().unwrap();
        let (_, meta) = quorum::admitted(meta, n(id), disk);
        let expected = world.image.nodes.get(&n(id)).map(|n| n.disk);
        AdmitDisk { node: n(id), expected, disk, meta: meta.expect("it changes something") }
    }

    #[test]
    fn a_replaced_disk_is_retired_for_ever() {
        let mut world = World::new();
        let admit = admission(&world, 2, [0xee; 16]);
        world.apply(Command::AdmitDisk(admit)).unwrap();
        assert_eq!(world.image.nodes[&n(2)].disk, [0xee; 16]);
        assert_eq!(world.image.retired[&node(2).disk], n(2));
        let back = world.apply(Command::RegisterNode(node(2).into())).unwrap_err();
        assert_eq!(back.reason, Reason::DiskReplaced);
        let again = admission(&world, 2, node(2).disk);
        let again = world.apply(Command::AdmitDisk(again)).unwrap_err();
        assert_eq!(again.reason, Reason::DiskReplaced);
        assert!(again.message.contains("was replaced"), "{again}");
    }

    #[test]
    fn of_two_admissions_that_were_decided_on_one_state_the_second_changes_nothing() {
        let mut world = World::new();
        let (one, two) = (admission(&world, 2, [0xe2; 16]), admission(&world, 3, [0xe3; 16]));
        let other = admission(&world, 2, [0xe4; 16]);
        world.apply(Command::AdmitDisk(one)).unwrap();
        let before = world.image.clone();
        for late in [two, other] {
            assert_eq!(world.apply(Command::AdmitDisk(late)).unwrap_err().reason, Reason::Stale);
        }
        assert_eq!((&world.image.meta, &world.image.nodes), (&before.meta, &before.nodes));
        let two = admission(&world, 3, [0xe3; 16]);
        world.apply(Command::AdmitDisk(two)).unwrap();
    }

    #[test]
    fn who_shows_a_disk_that_was_not_admitted_is_not_registered() {
        let mut world = World::new();
        let shown = Node { disk: [0xee; 16], ..node(2) };
        let refused = world.apply(Command::RegisterNode(shown.into())).unwrap_err();
        assert_eq!(refused.reason, Reason::DiskReplaced);
        let theirs = Node { disk: node(3).disk, ..node(2) };
        let refused = world.apply(Command::RegisterNode(theirs.into())).unwrap_err();
        assert_eq!(refused.reason, Reason::UnknownNode);
    }
}
