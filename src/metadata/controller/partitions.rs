//! Where new partitions go, and CreatePartitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_topology::placement::{self, PARTITIONS_MAX};
use isobar_topology::{Load, PartitionPlacement, Replication, Settings, Topology};

use super::{
    CLUSTER_PARTITIONS_MAX, Context, Decision, bounded, load, repeated, topology, twice,
    unknown_topic,
};
use crate::metadata::command::Command;
use crate::metadata::config;
use crate::metadata::image::{Image, Partition, Phase, Replica, Topic, is_internal};
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{NewPartitions, Response};
use crate::model::{DcName, HomeEpoch, Mode, NodeId, ReplicaId};

/// Partitions in one command. With nine replicas each that is about 260 KB, so that a topic of any
/// size passes as records that an ordinary batch can hold.
const COMMAND_PARTITIONS_MAX: usize = 1000;

/// The placements of one request: what was placed for one topic counts for the next.
pub(super) struct Plan<'a> {
    image: &'a Image,
    topology: &'a Topology,
    load: Load,
    partitions: usize,
}

impl<'a> Plan<'a> {
    pub fn new(context: &Context<'a>, topology: &'a Topology) -> Self {
        let image = context.image;
        let partitions = image.topics.values().map(|t| t.partitions.len()).sum();
        Self { image, topology, load: load(context, topology), partitions }
    }

    /// Places `count` partitions by the policy, the first of them number `start` of a topic that
    /// exists, or of a new one.
    pub fn place(
        &mut self,
        settings: &Settings,
        count: u32,
        start: Option<usize>,
    ) -> Result<Vec<Arc<Partition>>, Refusal> {
        self.check_room(count as usize)?;
        let start = start.unwrap_or(self.partitions) as u64;
        let placed = placement::place(self.topology, settings, count, start, &self.load);
        let placed = placed.map_err(|error| {
            let reason = match error {
                placement::Error::Partitions { .. } => Reason::InvalidPartitions,
                placement::Error::HomeWithoutReplicas { .. } => Reason::InvalidConfig,
                placement::Error::TooFewNodes { .. } => Reason::InvalidReplicationFactor,
            };
            Refusal::new(reason, error.to_string())
        })?;
        Ok(placed.iter().map(|one| self.take(one, settings.replication)).collect())
    }

    /// Places partitions as somebody wrote them down, if that is what the policy asks for.
    pub fn assign(
        &mut self,
        settings: &Settings,
        assignments: Vec<Vec<i32>>,
    ) -> Result<Vec<Arc<Partition>>, Refusal> {
        self.check_room(assignments.len())?;
        let placed =
            (0..).zip(&assignments).map(|(i, brokers)| self.assigned(settings, i, brokers));
        let placed: Vec<PartitionPlacement> = placed.collect::<Result<_, _>>()?;
        Ok(placed.iter().map(|one| self.take(one, settings.replication)).collect())
    }

    fn assigned(
        &self,
        settings: &Settings,
        partition: usize,
        brokers: &[i32],
    ) -> Result<PartitionPlacement, Refusal> {
        let refused = |problem: String| {
            let message = format!("assignment {partition} {brokers:?}: {problem}");
            Refusal::new(Reason::InvalidReplicaAssignment, message)
        };
        let mut by_dc: BTreeMap<&DcName, Vec<NodeId>> = BTreeMap::new();
        let mut home = None;
        for broker in brokers {
            let node = u64::try_from(*broker).ok().and_then(|id| NodeId::new(id).ok());
            let dc = node.and_then(|node| self.topology.dc_of(node));
            let (Some(node), Some(dc)) = (node, dc) else {
                return Err(refused(format!("the topology has no node {broker}")));
            };
            let nodes = by_dc.entry(dc).or_default();
            if nodes.contains(&node) {
                return Err(refused(format!("node {node} stands there twice")));
            }
            nodes.push(node);
            home.get_or_insert(dc);
        }
        let counts = by_dc.iter().map(|(dc, nodes)| ((*dc).clone(), nodes.len() as u32));
        let fits = counts.collect::<BTreeMap<_, _>>() == settings.replicas;
        let home = home.filter(|home| fits && settings.homes().contains(home)).ok_or_else(|| {
            let each = settings.replicas.iter().map(|(dc, count)| format!("{count} in {dc}"));
            let each = each.collect::<Vec<_>>().join(", ");
            let homes = settings.homes().iter().map(DcName::to_string).collect::<Vec<_>>();
            refused(format!(
                "the policy places {each}, the first of them in {}; leave the assignment out, or \
                 write what the policy says",
                homes.join(" or ")
            ))
        })?;
        let home = home.clone();
        let voters = by_dc.remove(&home).expect("home is the DC of the first broker");
        let learners = by_dc.into_values().flatten().collect();
        Ok(PartitionPlacement { home, voters, learners })
    }

    fn check_room(&self, more: usize) -> Result<(), Refusal> {
        if self.partitions + more <= CLUSTER_PARTITIONS_MAX {
            return Ok(());
        }
        let message = format!(
            "{more} partitions more than the cluster's {}: expected at most \
             {CLUSTER_PARTITIONS_MAX} in all",
            self.partitions
        );
        Err(Refusal::new(Reason::LimitExceeded, message))
    }

    fn take(&mut self, placed: &PartitionPlacement, replication: Replication) -> Arc<Partition> {
        let mut replicas = Vec::new();
        for (id, node) in (1..).zip(placed.replicas()) {
            *self.load.entry(node).or_default() += 1;
            replicas.push(Replica {
                id: ReplicaId(id),
                node,
                voter: placed.voters.contains(&node),
                disk: self.image.nodes.get(&node).map(|n| n.disk),
            });
        }
        self.partitions += 1;
        Arc::new(Partition {
            home: placed.home.clone(),
            home_epoch: HomeEpoch::FIRST,
            fork: None,
            lossy_cut: None,
            budget: None,
            phase: Phase::Active,
            replication,
            mode: Mode { sid: 1, degraded: false },
            began: Mode { sid: 1, degraded: false },
            ever_sync: replication != Replication::Async,
            placement_generation: 1,
            next_replica_id: ReplicaId(replicas.len() as u64 + 1),
            replicas,
        })
    }
}

/// The commands that make a topic: one, unless it has very many partitions.
pub(super) fn commands_of(mut topic: Topic) -> Vec<Command> {
    let rest = topic.partitions.split_off(topic.partitions.len().min(COMMAND_PARTITIONS_MAX));
    let (id, from) = (topic.id, topic.partitions.len());
    let mut commands = vec![Command::CreateTopic(Arc::new(topic))];
    commands.extend(more(id, from, &rest));
    commands
}

fn more(
    topic: crate::model::TopicId,
    from: usize,
    partitions: &[Arc<Partition>],
) -> impl Iterator<Item = Command> {
    let chunks = partitions.chunks(COMMAND_PARTITIONS_MAX).enumerate();
    chunks.map(move |(i, chunk)| Command::CreatePartitions {
        topic,
        from: u32::try_from(from + i * COMMAND_PARTITIONS_MAX).expect("bounded by PARTITIONS_MAX"),
        partitions: chunk.to_vec(),
    })
}

pub fn create(
    context: &Context<'_>,
    topics: Vec<NewPartitions>,
    validate_only: bool,
) -> Result<Decision, Refusal> {
    bounded(topics.len())?;
    let repeated = repeated(topics.iter().map(|t| t.topic.as_str()));
    let mut plan = Plan::new(context, topology(context.image)?);
    let mut commands = Vec::new();
    let mut results = Vec::new();
    for (item, new) in topics.into_iter().enumerate() {
        let grown = if repeated.contains(&new.topic) {
            Err(twice(&new.topic))
        } else {
            grow(context, &mut plan, &new)
        };
        results.push(grown.map(|more| {
            commands.extend(more.into_iter().map(|command| (item, command)));
        }));
    }
    if validate_only {
        commands.clear();
    }
    Ok(Decision { commands, response: Response::PartitionsCreated(results) })
}

fn grow(
    context: &Context<'_>,
    plan: &mut Plan<'_>,
    new: &NewPartitions,
) -> Result<Vec<Command>, Refusal> {
    let topic = context.image.topic(&new.topic).ok_or_else(|| unknown_topic(&new.topic))?;
    if is_internal(&topic.name) {
        let message = format!(
            "{}: what it holds is spread over its partitions by hash, so their number is fixed",
            topic.name
        );
        return Err(Refusal::new(Reason::InternalTopic, message));
    }
    let current = topic.partitions.len();
    let invalid = |problem: String| Err(Refusal::new(Reason::InvalidPartitions, problem));
    let count = match usize::try_from(new.count) {
        Ok(count) if count > PARTITIONS_MAX as usize => {
            return invalid(format!("{count} partitions: expected at most {PARTITIONS_MAX}"));
        }
        Ok(count) if count > current => count,
        _ => {
            return invalid(format!(
                "topic {:?} has {current} partitions already; expected more than that, found {}",
                topic.name, new.count
            ));
        }
    };
    let effective = config::effective(context.image, topic).expect("there is a topology");
    let partitions = match &new.assignments {
        None => plan.place(&effective.policy, (count - current) as u32, Some(current))?,
        Some(manual) if manual.len() == count - current => {
            plan.assign(&effective.policy, manual.clone())?
        }
        Some(manual) => {
            let message =
                format!("{} assignments for {} new partitions", manual.len(), count - current);
            return Err(Refusal::new(Reason::InvalidReplicaAssignment, message));
        }
    };
    Ok(more(topic.id, current, &partitions).collect())
}
