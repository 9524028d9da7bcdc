//! A cluster for tests: the topology of `isobar dev`, nine nodes, no log.

use std::collections::{BTreeMap, BTreeSet};

use isobar_topology::{Topology, dev};

use super::apply::apply;
use super::command::Command;
use super::controller::{self, Context};
use super::image::{DiskId, Image, Listener, Node};
use super::moves::{Aim, Kind, Moving};
use super::refusal::Refusal;
use super::request::{Admitted, NewTopic, Request, Response};
use crate::model::{HomeEpoch, NodeId, TopicId};

pub fn text() -> String {
    dev::text(&dev::Spec {
        kafka_ports: dev::consecutive(9092).unwrap(),
        admin_ports: dev::consecutive(9640).unwrap(),
        peer_ports: dev::consecutive(7400).unwrap(),
        data_dir: "/data",
    })
}

/// With a policy for `sync-*` beside those of dev.
pub fn text_with_sync() -> String {
    text()
        .replace(
            "[policy.internal]",
            "[policy.strong]\ntopics = [\"sync-*\"]\nreplication = \"sync\"\n\n[policy.internal]",
        )
        .replace(
            "replication = \"async\"\nflush = \"quorum\"",
            "replication = \"sync\"\nflush = \"quorum\"",
        )
}

pub fn topology(text: &str) -> Topology {
    Topology::parse(text).unwrap_or_else(|problems| panic!("{problems}")).0
}

pub fn n(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Nodes 1 to 3 stand in fra, 4 to 6 in iad, 7 to 9 in sin.
pub fn node(id: u64) -> Node {
    let dc = ["fra", "iad", "sin"][(id as usize - 1) / 3];
    Node {
        id: n(id),
        dc: dc.parse().unwrap(),
        disk: [id as u8; 16],
        listeners: vec![Listener {
            name: "clients".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9091 + id as u16,
        }],
        admin: format!("127.0.0.1:{}", 9639 + id),
        version: "0.1.0".to_owned(),
        feature_level: super::command::FEATURE_LEVEL,
    }
}

/// A failover to a DC.
pub fn moving(to: &str) -> Moving {
    let to = to.parse().unwrap();
    let aim = Aim { kind: Kind::Failover, to, accept_loss: false, automatic: false, began_ms: 7 };
    Moving { aim, epoch: HomeEpoch::new(2).unwrap(), chosen: None }
}

/// An image and the controller over it, without a log in between.
pub struct World {
    pub image: Image,
    pub live: BTreeSet<NodeId>,
    /// Every command so far, refused ones too.
    pub commands: Vec<Command>,
    ids: u8,
}

impl World {
    /// Named and with a topology, no node registered.
    pub fn empty(text: &str) -> Self {
        let mut world = Self {
            image: Image::default(),
            live: (1..=9).map(n).collect(),
            commands: Vec::new(),
            ids: 0,
        };
        let own = topology(text).into();
        for command in {
            let (image, none) = (world.image.clone(), BTreeMap::new());
            controller::first_topology(&image, "cluster", &own, &none)
        } {
            world.apply(command).unwrap();
        }
        world
    }

    /// With all nine nodes registered.
    pub fn new() -> Self {
        Self::of(&text())
    }

    pub fn of(text: &str) -> Self {
        let mut world = Self::empty(text);
        for id in 1..=9 {
            world.ask(Request::RegisterNode(node(id))).unwrap();
        }
        world
    }

    pub fn apply(&mut self, command: Command) -> Result<(), Refusal> {
        self.commands.push(command.clone());
        let offset = self.image.next_offset;
        apply(&mut self.image, offset, command)
    }

    /// Decides, applies, answers.
    pub fn ask(&mut self, request: Request) -> Result<Response, Refusal> {
        let ids = &mut self.ids;
        let mut context = Context {
            image: &self.image,
            live: &self.live,
            new_topic_id: &mut || {
                *ids += 1;
                TopicId([*ids; 16])
            },
        };
        let decision = controller::decide(&mut context, request)?;
        let commands: Vec<Command> = decision.commands.iter().map(|(_, c)| c.clone()).collect();
        let outcomes = commands.into_iter().map(|command| self.apply(command)).collect();
        controller::answer(decision, outcomes)
    }

    /// A node comes back with another disk, whatever that leaves without a majority.
    pub fn replace_disk(&mut self, id: u64, disk: DiskId) -> Admitted {
        let admit = Request::AdmitDisk { node: n(id), disk, accept_loss: true };
        let Response::Admitted(admitted) = self.ask(admit).unwrap() else { panic!() };
        self.ask(Request::RegisterNode(Node { disk, ..node(id) })).unwrap();
        admitted
    }

    /// Creates one topic; its refusal, if it has one.
    pub fn create(&mut self, topic: NewTopic) -> Result<(), Refusal> {
        let request = Request::CreateTopics { topics: vec![topic], validate_only: false };
        match self.ask(request)? {
            Response::TopicsCreated(mut results) => results.remove(0).map(drop),
            other => panic!("{other:?}"),
        }
    }
}

pub fn topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        configs: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..NewTopic::default()
    }
}
