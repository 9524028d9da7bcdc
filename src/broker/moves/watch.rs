//! Which moves are to be carried here: all of them, while this node leads `__meta`.

use std::collections::BTreeSet;

use isobar_transport::Lane;
use tokio::task::JoinSet;

use super::activate::Activator;
use super::{Moves, carry};
use crate::metadata::image::Image;
use crate::model::{NodeId, TopicPartition};

/// Partitions whose moves are carried at a time; more wait for their turn. Each has some calls under way.
const CARRIED_MAX: usize = 128;

fn moving(image: &Image) -> impl Iterator<Item = TopicPartition> + '_ {
    let topics = image.topics.iter().flat_map(|(topic, t)| {
        (0..)
            .zip(&t.partitions)
            .map(|(partition, placed)| (TopicPartition { topic: *topic, partition }, placed))
    });
    topics.filter(|(_, placed)| placed.moving().is_some()).map(|(at, _)| at)
}

/// Who is about to be a home sends to all replicas soon: the first appends need not wait for a handshake over the
/// WAN. Returns what is moving here; what was before is not done again.
fn warm(
    moves: &Moves,
    image: &Image,
    before: &BTreeSet<TopicPartition>,
) -> BTreeSet<TopicPartition> {
    let dc = image.topology.as_ref().and_then(|topology| topology.dc_of(moves.node));
    let is_here = |at: &TopicPartition| {
        let placed = image.partition(*at);
        let to = placed.and_then(|placed| Some(&placed.moving()?.aim.to));
        to.is_some() && to == dc && placed.is_some_and(|p| p.replica_on(moves.node).is_some())
    };
    let here: BTreeSet<TopicPartition> = moving(image).filter(is_here).collect();
    let new = here.difference(before).filter_map(|at| image.partition(*at));
    let peers: BTreeSet<NodeId> = new.flat_map(|p| p.replicas.iter().map(|r| r.node)).collect();
    for peer in peers {
        moves.transport.warm(peer, Lane::Replication);
    }
    here
}

/// Runs as long as the node.
pub async fn run(moves: Moves) {
    let (activator, activating) = Activator::new(moves.metadata.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(activating);
    let mut images = moves.metadata.watch();
    let mut carried = JoinSet::new();
    let mut busy = BTreeSet::new();
    let mut warmed = BTreeSet::new();
    loop {
        let image = images.borrow_and_update().clone();
        warmed = warm(&moves, &image, &warmed);
        let meta = moves.replicas.view(TopicPartition::META);
        let seen = meta.as_ref().map(|meta| meta.progress());
        if moves.leads_meta() {
            for at in moving(&image) {
                if busy.len() >= CARRIED_MAX {
                    break;
                }
                if busy.insert(at) {
                    let (moves, activator) = (moves.clone(), activator.clone());
                    carried.spawn(async move {
                        carry::carry(moves, activator, at).await;
                        at
                    });
                }
            }
        }
        let led = async {
            match meta.as_ref().zip(seen) {
                Some((meta, seen)) => meta.moved_from(seen).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = led => {}
            Some(ended) = carried.join_next() => match ended {
                Ok(at) => {
                    busy.remove(&at);
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
}
