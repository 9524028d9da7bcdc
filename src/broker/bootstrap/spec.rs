//! The replica of `__meta` that a node opens.

use std::collections::BTreeMap;

use isobar_topology::{Topology, meta_voters};

use crate::log::{self, Position};
use crate::metadata::request::Admitted;
use crate::model::{GroupId, HomeEpoch, Mode, NodeId, ReplicaId, TopicPartition};
use crate::replica::core::Budget;
use crate::replica::core::config::{AckPolicy, Member, Timing};
use crate::replica::driver::{Policy, Spec};

/// Segments of `__meta`: small, so that log start can follow its snapshots closely.
const META_SEGMENT_BYTES: u32 = 4 << 20;

/// Of those who found a cluster: ids are the nodes' own, voters as the topology says.
pub fn founding_spec(topology: &Topology, node: NodeId) -> Option<Spec> {
    let voters = meta_voters(topology);
    let replicas =
        topology.nodes().map(|n| (ReplicaId::of_meta(0, n.id), voters.contains(&n.id))).collect();
    let preferred = voters.first() == Some(&node);
    let begun = (HomeEpoch::FIRST, None);
    spec(topology, (ReplicaId::of_meta(0, node), begun), replicas, 0, preferred)
}

/// Of a node that was admitted. A founder that came late begins as all founders did: what has
/// happened since is in the log.
pub fn admitted_spec(topology: &Topology, node: NodeId, admitted: &Admitted) -> Option<Spec> {
    let here = admitted.replicas.iter().find(|r| r.id == admitted.replica)?;
    if here.voter && admitted.home_epoch == HomeEpoch::FIRST {
        return founding_spec(topology, node);
    }
    let replicas = admitted.replicas.iter().map(|r| (r.id, r.voter)).collect();
    let begun = (admitted.home_epoch, admitted.fork.as_ref().map(|fork| fork.at));
    let me = (admitted.replica, begun);
    spec(topology, me, replicas, admitted.placement_generation, false)
}

/// Of a replica that the disk has: who the others are is as it last knew; the image says more.
pub fn resumed_spec(topology: &Topology, node: NodeId, recovered: &log::Recovered) -> Option<Spec> {
    let state = &recovered.state;
    let conf = &state.conf;
    let learners = conf.learners.iter().chain(&conf.learners_next).map(|id| (*id, false));
    let voters = conf.voters_outgoing.iter().chain(&conf.voters).map(|id| (*id, true));
    let replicas = learners.chain(voters).collect();
    let is_first = meta_voters(topology).first() == Some(&node);
    let is_alone = conf.voters == [state.replica] && conf.voters_outgoing.is_empty();
    let preferred = is_first && state.replica == ReplicaId::of_meta(0, node) || is_alone;
    let me = (state.replica, (state.home_epoch, state.fork));
    spec(topology, me, replicas, state.placement_generation, preferred)
}

/// `begun`: the home epoch, and where it began.
fn spec(
    topology: &Topology,
    (me, begun): (ReplicaId, (HomeEpoch, Option<Position>)),
    replicas: BTreeMap<ReplicaId, bool>,
    placement_generation: u64,
    preferred: bool,
) -> Option<Spec> {
    let voters = meta_voters(topology);
    let member = |(id, voter): (ReplicaId, bool)| {
        let node = id.meta_node()?;
        Some((id, Member { node, dc: topology.dc_of(node)?.clone(), voter }))
    };
    Some(Spec {
        group: GroupId { partition: TopicPartition::META, home_epoch: begun.0 },
        topic_name: "__meta".into(),
        me,
        // It spans the DCs, and no gate counts for it: any name serves.
        home: topology.dc_of(*voters.first()?)?.clone(),
        members: replicas.into_iter().filter_map(member).collect(),
        preferred,
        placement_generation,
        fork: begun.1,
        lossy_cut: None,
        stands_in: false,
        began: Mode::default(),
        recorded: Mode::default(),
        timing: ticks(topology.timing(&voters)),
        policy: Policy {
            ack: AckPolicy {
                sync_to: 0,
                degrade_after: None,
                min_in_sync: 1,
                fence: false,
                log_append_time: false,
                budget: Budget::NONE,
            },
            flush: true,
            log: log_config(),
            retention: log::Retention { ms: None, bytes: None },
        },
    })
}

/// How the log of `__meta` is cut into segments.
pub fn log_config() -> log::Config {
    log::Config { segment_bytes: META_SEGMENT_BYTES, ..log::Config::default() }
}

pub fn ticks(timing: isobar_topology::Timing) -> Timing {
    Timing {
        heartbeat_ticks: timing.heartbeat_ticks,
        election_ticks_min: timing.election_ticks_min,
        election_ticks_max: timing.election_ticks_max,
    }
}
