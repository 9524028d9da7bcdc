//! The cluster as a whole: nodes, ISR, and what is exposed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use isobar_topology::meta_voters;

use super::api;
use super::routes::Refusal;
use super::source::Source;
use super::{ask, topics};
use crate::metadata::image::Image;
use crate::model::{NodeId, TopicPartition};

/// The image with a topology in it.
pub(super) fn image(source: &dyn Source) -> Result<Arc<Image>, Refusal> {
    let image = source.image().filter(|image| image.topology.is_some());
    image.ok_or_else(|| {
        let missing = source.missing().join("; ");
        Refusal::NotReady(format!("this node knows no cluster yet: {missing}"))
    })
}

pub async fn status(source: &dyn Source) -> Result<api::Cluster, Refusal> {
    let image = image(source)?;
    let nodes = nodes_of(source, &image).await;
    let isr = isr_of(source, &image);
    let mut exposure: BTreeMap<String, api::Exposure> = BTreeMap::new();
    for (dc, more) in nodes.iter().filter_map(|n| n.load.as_ref()).flat_map(|l| &l.exposure) {
        ask::add(exposure.entry(dc.clone()).or_default(), *more);
    }
    let silent = |node: &&api::Node| {
        let leads = |p: &api::IsrPartition| p.placement.leader == Some(node.id);
        node.load.is_none() && isr.partitions.iter().any(leads)
    };
    let heard = source.leader(TopicPartition::META);
    let leader = heard.as_ref().map(|leader| leader.node);
    let voters: Vec<u32> =
        image.meta.iter().flat_map(|meta| meta.voters()).map(|r| r.node.as_u32()).collect();
    let due = image.topology.iter().flat_map(|topology| meta_voters(topology));
    let due = due.map(NodeId::as_u32);
    Ok(api::Cluster {
        name: image.topology.as_ref().map(|t| t.cluster().name.to_string()),
        id: image.cluster_id.as_ref().map(ToString::to_string),
        topology_generation: image.topology_generation,
        asked: source.node().as_u32(),
        meta: api::Meta {
            leader: leader.map(NodeId::as_u32),
            term: heard.map(|leader| leader.epoch),
            joining: due.filter(|node| !voters.contains(node)).collect(),
            voters,
        },
        controller: leader.filter(|node| source.is_alive(*node)).map(NodeId::as_u32),
        topics: image.topics.len(),
        partitions: isr.partitions.len(),
        leaderless: isr.leaderless,
        under_replicated: isr.under_replicated,
        exposure,
        silent: nodes.iter().filter(silent).map(|node| node.id).collect(),
        nodes,
    })
}

/// What this node has of `__meta`, whatever it knows of the cluster.
pub async fn meta(source: &dyn Source) -> api::MetaHere {
    let statuses = source.statuses().await;
    let here = statuses.iter().find(|status| status.partition == TopicPartition::META);
    let leader = source.leader(TopicPartition::META).map(|leader| leader.node);
    api::MetaHere {
        asked: source.node().as_u32(),
        controller: leader.filter(|node| source.is_alive(*node)).map(NodeId::as_u32),
        log: here.map(|status| api::MetaLog {
            home_epoch: status.term.home_epoch().as_u32(),
            term: status.last_term.0,
            index: status.last.0,
        }),
    }
}

pub async fn nodes(source: &dyn Source) -> Result<api::Nodes, Refusal> {
    let image = image(source)?;
    let nodes = nodes_of(source, &image).await;
    Ok(api::Nodes { asked: source.node().as_u32(), nodes })
}

/// Every node of the topology, all asked at once.
async fn nodes_of(source: &dyn Source, image: &Image) -> Vec<api::Node> {
    let Some(topology) = &image.topology else { return Vec::new() };
    let gone_for = source.gone_for();
    let asked = topology.nodes().map(|node| async {
        let registered = image.nodes.get(&node.id);
        let load = match registered {
            Some(_) => ask::load(source, node.id).await.ok(),
            None => None,
        };
        let state = match (&load, registered) {
            (Some(load), _) if load.ready => api::NodeState::Up,
            (Some(_), _) => api::NodeState::Starting,
            (None, Some(_)) => api::NodeState::Unreachable,
            (None, None) => api::NodeState::NotRegistered,
        };
        let listeners = registered.iter().flat_map(|r| &r.listeners);
        api::Node {
            id: node.id.as_u32(),
            dc: node.dc.to_string(),
            state,
            listeners: listeners.map(|l| format!("{}://{}:{}", l.name, l.host, l.port)).collect(),
            admin: registered
                .map_or_else(|| node.admin.advertised.to_string(), |r| r.admin.clone()),
            version: registered.map(|r| r.version.clone()),
            load,
            gone_seconds: gone_for.get(&node.id).map(Duration::as_secs_f64),
        }
    });
    all(asked).await
}

/// Whether it is worth asking: who is known to be silent is not waited for.
pub(super) fn speaks(source: &dyn Source, node: NodeId) -> bool {
    source.is_alive(node) && source.is_heard(node)
}

/// Runs futures side by side on this task, and gives their results in order.
pub(super) async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_pending = false;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().map(|(_, result)| result.expect("all are ready")).collect()
}

pub fn isr(source: &dyn Source) -> Result<api::IsrStatus, Refusal> {
    Ok(isr_of(source, &*image(source)?))
}

fn isr_of(source: &dyn Source, image: &Image) -> api::IsrStatus {
    let mut partitions = Vec::new();
    for topic in topics::by_name(image) {
        for (number, partition) in (0..).zip(&topic.partitions) {
            let at = TopicPartition { topic: topic.id, partition: number };
            let placement = topics::placement(source, at, partition);
            let missing = placement.replicas.iter().filter(|id| !placement.isr.contains(id));
            let missing = missing.copied().collect();
            partitions.push(api::IsrPartition {
                topic: topic.name.to_string(),
                placement,
                missing,
            });
        }
    }
    api::IsrStatus {
        under_replicated: partitions.iter().filter(|p| !p.missing.is_empty()).count(),
        leaderless: partitions.iter().filter(|p| p.placement.leader.is_none()).count(),
        partitions,
    }
}
