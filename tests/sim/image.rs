//! The image of `__meta` at the start: nine nodes, and a topic with the partitions of the run.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar::metadata::budgets::Bound;
use isobar::metadata::command::FEATURE_LEVEL;
use isobar::metadata::image::{Image, Node, Partition, Phase, Replica, Topic};
use isobar::model::{HomeEpoch, Mode, ReplicaId, TopicId};
use isobar::replica::core::Budget;
use isobar::replica::core::config::AckPolicy;
use isobar_topology::policy::OnLag;
use isobar_topology::{Replication, Topology, dev};

use crate::scenario::{NODES, NODES_PER_DC, Scenario, dc_name, dc_of, node_id, replica_of};

fn topology() -> Topology {
    let ports = |first| dev::consecutive(first).expect("nine ports");
    let text = dev::text(&dev::Spec {
        kafka_ports: ports(9092),
        admin_ports: ports(9640),
        peer_ports: ports(7400),
        data_dir: "/data",
    });
    Topology::parse(&text).unwrap_or_else(|problems| panic!("{problems}")).0
}

/// Of a node's first disk, and of those that it is given later.
pub fn disk_id(node: usize, number: u8) -> [u8; 16] {
    let mut id = [node as u8; 16];
    id[15] = number;
    id
}

fn placed(scenario: &Scenario, partition: usize) -> Partition {
    let of = &scenario.partitions[partition];
    let k = of.policy.ack.sync_to;
    // The home's first: the first voter is the preferred leader.
    let mut nodes: Vec<usize> = (0..NODES).collect();
    nodes.sort_by_key(|node| dc_of(*node) != of.home);
    let replica = |node: usize| Replica {
        id: replica_of(node),
        node: node_id(node),
        voter: dc_of(node) == of.home,
        disk: Some(disk_id(node, 0)),
    };
    Partition {
        home: dc_name(of.home),
        home_epoch: HomeEpoch::FIRST,
        phase: Phase::Active,
        replication: match k {
            0 => Replication::Async,
            k => Replication::Sync { to: k as u32 },
        },
        mode: Mode::default(),
        began: Mode::default(),
        ever_sync: k > 0,
        placement_generation: 1,
        replicas: nodes.into_iter().map(replica).collect(),
        next_replica_id: ReplicaId(NODES as u64 + 1),
        fork: None,
        lossy_cut: None,
        budget: bound(&of.policy.ack),
    }
}

/// What a verdict may count on (`metadata::budgets`): each partition has its own policy here.
fn bound(ack: &AckPolicy) -> Option<Bound> {
    let Budget { lag, bytes, records, on_lag } = ack.budget;
    let bound = Bound { span: lag, bytes, records };
    let bounds = ack.sync_to == 0 && on_lag != OnLag::Continue;
    (bounds && ack.budget.is_bound()).then_some(bound)
}

/// What of the policies `__meta` itself decides by.
fn configs(scenario: &Scenario) -> BTreeMap<String, String> {
    let timeout = scenario.degrade_after().map(|after| format!("{}s", after.as_secs()));
    let timeout = timeout.into_iter().flat_map(|timeout| {
        [
            ("on.sync.loss", "degrade".to_owned()),
            ("sync.timeout", timeout),
            ("replication", "sync".to_owned()),
        ]
    });
    timeout.map(|(key, value)| (format!("isobar.{key}"), value)).collect()
}

/// Where `__meta` itself is, for disks that are replaced.
fn quorum() -> Partition {
    let replica = |n: usize| Replica {
        id: ReplicaId::of_meta(0, node_id(n)),
        node: node_id(n),
        voter: n.is_multiple_of(NODES_PER_DC),
        disk: Some(disk_id(n, 0)),
    };
    Partition {
        home: dc_name(0),
        home_epoch: HomeEpoch::FIRST,
        phase: Phase::Active,
        replication: Replication::Async,
        mode: Mode::default(),
        began: Mode::default(),
        ever_sync: false,
        placement_generation: 1,
        replicas: (0..NODES).map(replica).collect(),
        next_replica_id: ReplicaId(1 << 32),
        fork: None,
        lossy_cut: None,
        budget: None,
    }
}

pub fn first_image(scenario: &Scenario) -> Image {
    let node = |n: usize| Node {
        id: node_id(n),
        dc: dc_name(dc_of(n)),
        disk: disk_id(n, 0),
        listeners: Vec::new(),
        admin: String::new(),
        version: String::new(),
        feature_level: FEATURE_LEVEL,
    };
    let id: TopicId = scenario.partitions[0].at.topic;
    let name: Arc<str> = "topic".into();
    let partitions = 0..scenario.partitions.len();
    let topic = Topic {
        id,
        name: name.clone(),
        configs: configs(scenario),
        partitions: partitions.map(|n| placed(scenario, n).into()).collect(),
    };
    Image {
        meta: Some(quorum().into()),
        cluster_id: Some("sim".into()),
        topology: Some(topology().into()),
        nodes: (0..NODES).map(|n| (node_id(n), node(n).into())).collect(),
        topics: BTreeMap::from([(id, topic.into())]),
        topic_ids: BTreeMap::from([(name, id)]),
        ..Image::default()
    }
}
