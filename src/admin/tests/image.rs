//! What `__meta` says to the node of paper.

use super::*;

pub fn topology() -> Topology {
    let spec = dev::Spec {
        kafka_ports: dev::consecutive(9092).unwrap(),
        admin_ports: dev::consecutive(9640).unwrap(),
        peer_ports: dev::consecutive(7400).unwrap(),
        data_dir: "/nowhere",
    };
    Topology::parse(&dev::text(&spec)).unwrap().0
}

pub fn image() -> Image {
    let replica = |id| Replica {
        id: ReplicaId(id),
        node: node(id),
        voter: id < 4,
        disk: Some([id as u8; 16]),
    };
    let partition = Partition {
        fork: None,
        lossy_cut: None,
        budget: None,
        home: dc("fra"),
        home_epoch: HomeEpoch::FIRST,
        phase: Phase::Active,
        replication: Replication::Async,
        mode: Mode { sid: 1, degraded: false },
        began: Mode { sid: 1, degraded: false },
        ever_sync: false,
        placement_generation: 1,
        replicas: [1, 2, 3, 4].map(replica).into(),
        next_replica_id: ReplicaId(5),
    };
    let topic = Topic {
        id: TOPIC,
        name: "payments".into(),
        configs: BTreeMap::from([("retention.ms".to_owned(), "60000".to_owned())]),
        partitions: vec![Arc::new(partition)],
    };
    let topology = topology();
    let registered = topology.nodes().filter(|n| n.id != node(9)).map(|n| {
        let registered = Node {
            id: n.id,
            dc: n.dc.clone(),
            disk: [n.id.as_u32() as u8; 16],
            listeners: Vec::new(),
            admin: n.admin.advertised.to_string(),
            version: "0.1.0".into(),
            feature_level: 1,
        };
        (n.id, Arc::new(registered))
    });
    Image {
        cluster_id: Some("cluster".into()),
        nodes: registered.collect(),
        topology: Some(Arc::new(topology.clone())),
        topology_generation: 3,
        topic_ids: BTreeMap::from([(topic.name.clone(), TOPIC)]),
        topics: BTreeMap::from([(TOPIC, Arc::new(topic))]),
        ..Image::default()
    }
}
