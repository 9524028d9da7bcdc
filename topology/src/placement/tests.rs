use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::policy::Home;

/// DCs `a`, `b`, … with so many nodes each, numbered across.
fn topology(nodes: &[usize]) -> Topology {
    let names: Vec<char> = ('a'..='z').take(nodes.len()).collect();
    let mut text = String::from("version = 1\n[cluster]\nname = \"t\"\n");
    for dc in &names {
        write!(text, "[[dc]]\nname = \"{dc}\"\n").unwrap();
    }
    let mut id = 0;
    for (dc, count) in names.iter().zip(nodes) {
        for _ in 0..*count {
            id += 1;
            write!(
                text,
                "[[node]]\nid = {id}\ndc = \"{dc}\"\npeer = {{ bind = \"10.0.0.{id}:7400\" }}\ndata_dirs = [\"/d\"]\n[[node.listener]]\nname = \"c\"\nbind = \"10.0.0.{id}:9092\"\n"
            )
            .unwrap();
        }
    }
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            write!(text, "[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt = \"9ms\"\n").unwrap();
        }
    }
    text.push_str("[policy.default]\nhome = \"a\"\n");
    Topology::parse(&text).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn settings(topology: &Topology, replicas: &[u32], home: Home) -> Settings {
    let counts = topology.data_dcs().cloned().zip(replicas.iter().copied());
    let default = topology.policy("default").unwrap().settings.clone();
    Settings { home, replicas: counts.collect(), ..default }
}

fn spread(counts: &BTreeMap<NodeId, usize>, nodes: &[NodeId]) -> usize {
    let of = |id: &NodeId| counts.get(id).copied().unwrap_or(0);
    nodes.iter().map(of).max().unwrap() - nodes.iter().map(of).min().unwrap()
}

fn count(load: &mut Load, placed: &[PartitionPlacement]) {
    for id in placed.iter().flat_map(PartitionPlacement::replicas) {
        *load.entry(id).or_default() += 1;
    }
}

fn home_a() -> Home {
    Home::Dc("a".parse().unwrap())
}

/// Nodes and replicas.
type Dc = (usize, u32);
/// Partitions and start.
type Topic = (u32, u64);

/// A cluster, the topics to place on it, and whether their home rotates.
fn cluster() -> impl Strategy<Value = (Vec<Dc>, Vec<Topic>, bool)> {
    let dc = (1usize..=6).prop_flat_map(|nodes| (Just(nodes), 1..=nodes as u32));
    let topic = (1u32..=20, 0u64..50);
    (prop::collection::vec(dc, 1..=4), prop::collection::vec(topic, 1..=4), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replicas_are_where_the_policy_wants_them_and_spread_evenly(
        (dcs, topics, rotate) in cluster(),
    ) {
        let nodes: Vec<usize> = dcs.iter().map(|dc| dc.0).collect();
        let replicas: Vec<u32> = dcs.iter().map(|dc| dc.1).collect();
        let topology = topology(&nodes);
        let home = if rotate { Home::Spread } else { home_a() };
        let settings = settings(&topology, &replicas, home);
        let mut load = Load::new();
        for (partitions, start) in topics {
            let placed = place(&topology, &settings, partitions, start, &load).unwrap();
            prop_assert_eq!(placed.len(), partitions as usize);
            for (i, one) in placed.iter().enumerate() {
                let all: Vec<NodeId> = one.replicas().collect();
                let distinct: BTreeSet<NodeId> = all.iter().copied().collect();
                prop_assert_eq!(distinct.len(), all.len(), "two replicas on one node");
                for (dc, wanted) in &settings.replicas {
                    let here = |ids: &[NodeId]| ids.iter().filter(|id| topology.dc_of(**id) == Some(dc)).count();
                    let (voters, learners) = (here(&one.voters), here(&one.learners));
                    let expected = if *dc == one.home { (*wanted as usize, 0) } else { (0, *wanted as usize) };
                    prop_assert_eq!((voters, learners), expected);
                }
                let homes = settings.homes();
                prop_assert_eq!(&one.home, &homes[(start as usize + i) % homes.len()]);
            }
            count(&mut load, &placed);
            for dc in settings.replicas.keys() {
                let nodes: Vec<NodeId> = topology.nodes_in(dc).map(|node| node.id).collect();
                prop_assert!(spread(&load, &nodes) <= 1, "{:?}", load);
            }
        }
    }

    #[test]
    fn leaders_of_a_topic_are_spread_over_its_home(
        nodes in 1usize..=7, wanted in 1u32..=7, partitions in 1u32..=60, start in 0u64..100,
    ) {
        prop_assume!(wanted as usize <= nodes);
        let topology = topology(&[nodes]);
        let settings = settings(&topology, &[wanted], home_a());
        let placed = place(&topology, &settings, partitions, start, &Load::new()).unwrap();
        let mut leaders = BTreeMap::new();
        for one in &placed {
            *leaders.entry(one.voters[0]).or_insert(0usize) += 1;
        }
        let all: Vec<NodeId> = topology.nodes().map(|node| node.id).collect();
        prop_assert!(spread(&leaders, &all) <= 1, "{:?}", leaders);
    }

    #[test]
    fn an_uneven_load_evens_out(load in prop::collection::vec(0usize..30, 5), partitions in 1u32..40) {
        let topology = topology(&[5]);
        let settings = settings(&topology, &[3], home_a());
        let ids: Vec<NodeId> = topology.nodes().map(|node| node.id).collect();
        let before: Load = ids.iter().copied().zip(load).collect();
        let placed = place(&topology, &settings, partitions, 0, &before).unwrap();
        let mut after = before.clone();
        count(&mut after, &placed);
        prop_assert!(spread(&after, &ids) <= spread(&before, &ids).max(1));
        prop_assert_eq!(&place(&topology, &settings, partitions, 0, &before).unwrap(), &placed);
    }
}

#[test]
fn topics_of_one_partition_do_not_all_lead_from_one_node() {
    let topology = topology(&[3]);
    let settings = settings(&topology, &[3], home_a());
    let leaders: BTreeSet<NodeId> = (0..3)
        .map(|start| place(&topology, &settings, 1, start, &Load::new()).unwrap()[0].voters[0])
        .collect();
    assert_eq!(leaders.len(), 3);
}

#[test]
fn what_cannot_be_placed_says_why() {
    let topology = topology(&[3, 1]);
    let fits = settings(&topology, &[3, 1], home_a());
    let placed = |settings: &Settings, n| place(&topology, settings, n, 0, &Load::new());
    assert_eq!(placed(&fits, 0), Err(Error::Partitions { found: 0 }));
    assert!(placed(&fits, PARTITIONS_MAX + 1).is_err());
    let error = placed(&settings(&topology, &[3, 3], home_a()), 1).unwrap_err().to_string();
    assert_eq!(error, "3 replicas in b, which has 1 node(s): expected at most 1");
    let homeless = Settings { home: Home::Dc("c".parse().unwrap()), ..fits };
    assert!(matches!(placed(&homeless, 1), Err(Error::HomeWithoutReplicas { .. })));
}
