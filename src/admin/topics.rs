//! Topics and partitions.

use std::collections::BTreeSet;

use isobar_topology::policy::policy_of;

use super::api;
use super::ask::{self, Positions};
use super::cluster::image;
use super::routes::Refusal;
use super::source::Source;
use crate::metadata::config::{self, ConfigSource};
use crate::metadata::image::{Image, Partition, Topic, is_internal};
use crate::model::{NodeId, TopicPartition};

/// As people look for them.
pub(super) fn by_name(image: &Image) -> impl Iterator<Item = &Topic> {
    image.topic_ids.values().filter_map(|id| image.topics.get(id)).map(|topic| &**topic)
}

pub fn list(source: &dyn Source) -> Result<api::Topics, Refusal> {
    let image = image(source)?;
    let topics = by_name(&image).map(|topic| summary(&image, topic)).collect();
    Ok(api::Topics { topics })
}

pub fn describe(source: &dyn Source, name: &str) -> Result<api::Topic, Refusal> {
    let image = image(source)?;
    let topic = find(&image, name)?;
    let placements = (0..).zip(&topic.partitions).map(|(number, partition)| {
        placement(source, TopicPartition { topic: topic.id, partition: number }, partition)
    });
    let configs = config::describe(&image, topic).into_iter().map(|entry| api::Config {
        name: entry.name.to_owned(),
        value: entry.value,
        source: match entry.source {
            ConfigSource::Topic => "topic".to_owned(),
            ConfigSource::Policy(name) => format!("policy.{name}"),
            ConfigSource::Default => "default".to_owned(),
        },
        read_only: entry.is_read_only,
        doc: entry.doc.to_owned(),
    });
    Ok(api::Topic {
        summary: summary(&image, topic),
        placements: placements.collect(),
        configs: configs.collect(),
    })
}

pub async fn partition(
    source: &dyn Source,
    name: &str,
    number: i32,
) -> Result<api::Partition, Refusal> {
    let image = image(source)?;
    let topic = find(&image, name)?;
    let at = TopicPartition { topic: topic.id, partition: number };
    let Some(partition) = image.partition(at) else {
        return Err(Refusal::NotFound(format!(
            "topic {name:?} has no partition {number}: it has {}, counted from 0",
            topic.partitions.len()
        )));
    };
    let (told_by, positions) = told(source, at).await;
    // Taken after the answer, so that an election meanwhile does not leave the old leader named.
    let mut placement = placement(source, at, partition);
    if let Some(positions) = positions.as_ref().filter(|p| p.leads) {
        placement.leader = told_by.map(NodeId::as_u32);
        placement.leader_epoch = positions.leader_epoch;
    }
    let of = |take: fn(&Positions) -> i64| positions.as_ref().map(take);
    let (budget, at_stake, promise) = positions
        .as_ref()
        .map_or((None, None, None), |p| (p.budget.clone(), p.at_stake, p.promise));
    Ok(api::Partition {
        topic: topic.name.to_string(),
        topic_id: topic.id.to_string(),
        told_by: told_by.map(NodeId::as_u32),
        log_start_offset: of(|p| p.log_start_offset),
        high_watermark: positions.as_ref().and_then(|p| p.high_watermark),
        log_end_offset: of(|p| p.log_end_offset),
        term: positions.as_ref().map(|p| p.term),
        commit_index: positions.as_ref().map(|p| p.commit_index),
        last_index: positions.as_ref().map(|p| p.last_index),
        members: members(&image, partition, &placement, positions.as_ref()),
        exposure: positions.map(|p| p.exposure).unwrap_or_default(),
        budget,
        at_stake,
        promise,
        placement,
    })
}

/// The leader's positions; this node's own where the leader does not answer.
async fn told(source: &dyn Source, at: TopicPartition) -> (Option<NodeId>, Option<Positions>) {
    let leader = source.leader(at).map(|leader| leader.node);
    let here = source.node();
    for node in leader.into_iter().chain(Some(here).filter(|_| leader != Some(here))) {
        if let Ok(Some(positions)) = ask::positions(source, node, at).await {
            return (Some(node), Some(positions));
        }
    }
    (None, None)
}

fn members(
    image: &Image,
    partition: &Partition,
    placement: &api::Placement,
    positions: Option<&Positions>,
) -> Vec<api::Member> {
    let topology = image.topology.as_ref();
    let member = |replica: &crate::metadata::image::Replica| {
        let node = replica.node.as_u32();
        let dc = topology.and_then(|t| t.dc_of(replica.node));
        let matched = positions.and_then(|p| p.matched.iter().find(|(id, _)| *id == node));
        let matched_index = matched.map(|(_, index)| *index);
        let last = positions.filter(|p| p.leads).map(|p| p.last_index);
        api::Member {
            node,
            dc: dc.map(ToString::to_string).unwrap_or_default(),
            role: match replica.voter {
                _ if placement.leader == Some(node) => api::MemberRole::Leader,
                true => api::MemberRole::Voter,
                false => api::MemberRole::Learner,
            },
            in_sync: placement.isr.contains(&node),
            matched_index,
            lag_entries: matched_index.zip(last).map(|(index, last)| last.saturating_sub(index)),
        }
    };
    partition.replicas.iter().map(member).collect()
}

/// As Metadata tells it to clients: the leader only while it is believed alive.
pub(super) fn placement(
    source: &dyn Source,
    at: TopicPartition,
    partition: &Partition,
) -> api::Placement {
    let known = source.leader(at);
    let leader = known.as_ref().filter(|leader| source.is_heard(leader.node));
    let in_sync = known.iter().flat_map(|leader| &leader.in_sync);
    let is_replica = |node: &&NodeId| partition.replica_on(**node).is_some();
    api::Placement {
        partition: at.partition,
        home: partition.home.to_string(),
        home_epoch: partition.home_epoch.as_u32(),
        leader: leader.map(|leader| leader.node.as_u32()),
        leader_epoch: known.as_ref().map_or(-1, |leader| leader.epoch),
        replicas: partition.replicas.iter().map(|replica| replica.node.as_u32()).collect(),
        isr: in_sync.filter(is_replica).map(|node| node.as_u32()).collect(),
    }
}

/// `async`, or `sync_to=K`.
pub(super) fn replication(partition: &Partition) -> String {
    match partition.replication.sync_to() {
        0 => "async".to_owned(),
        k => format!("sync_to={k}"),
    }
}

fn summary(image: &Image, topic: &Topic) -> api::TopicSummary {
    let homes: BTreeSet<String> = topic.partitions.iter().map(|p| p.home.to_string()).collect();
    let policy = image.topology.as_ref().map(|t| policy_of(t, &topic.name).name.to_string());
    api::TopicSummary {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        internal: is_internal(&topic.name),
        partition_count: topic.partitions.len(),
        replication_factor: topic.partitions.iter().map(|p| p.replicas.len()).max().unwrap_or(0),
        homes: homes.into_iter().collect(),
        replication: topic.partitions.first().map(|p| replication(p)).unwrap_or_default(),
        policy,
    }
}

fn find<'a>(image: &'a Image, name: &str) -> Result<&'a Topic, Refusal> {
    let unknown = || {
        let names = image.topic_ids.keys().map(|name| &**name);
        let similar = isobar_topology::suggest::among(name, names, || {
            "one that `isobar topic list` names".to_owned()
        });
        Refusal::NotFound(format!("there is no topic {name:?}; expected {similar}"))
    };
    image.topic(name).map(|topic| &**topic).ok_or_else(unknown)
}
