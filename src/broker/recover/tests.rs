//! On a disk in memory, which may lose power at any change.

use super::*;
use crate::log::disk::sim::SimDisk;
use crate::log::{Config, Options};
use crate::metadata::fixture::{World, n, topic};
use crate::model::TopicId;

const AT: TopicPartition = TopicPartition::META;

fn dirs() -> Vec<PathBuf> {
    vec![PathBuf::from("/data")]
}

fn store(disk: &SimDisk, node: u64) -> Store {
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(on, &dirs()[0], n(node), [7; 16], Options::default()).unwrap().0
}

fn world() -> World {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    world
}

/// Node `node`'s log of `__meta`: one entry a command, by the first leader.
fn meta_of(disk: &SimDisk, world: &World, node: u64) {
    let mut store = store(disk, node);
    let placed = world.image.meta.as_deref().unwrap();
    let ids = |voter: bool| {
        placed.replicas.iter().filter(|r| r.voter == voter).map(|r| r.id).collect::<Vec<_>>()
    };
    let first = HomeEpoch::FIRST;
    let term = Term(first.first_term().0 + 1);
    let state = ReplicaState {
        replica: placed.replica_on(n(node)).unwrap().id,
        home_epoch: first,
        promised: first,
        term,
        placement_generation: placed.placement_generation,
        conf: ConfState { voters: ids(true), learners: ids(false), ..ConfState::default() },
        ..ReplicaState::default()
    };
    store.create(AT, "__meta", state, Config::default()).unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    for command in &world.commands {
        let last = entries.last().map(|e| (e.index, e.next_offset())).unwrap_or_default();
        let last = Position { index: last.0, term, offset: last.1 };
        entries.push(Entry { term, ..entry(last, first, command, 5) });
    }
    store.commit(vec![Write { entries, ..Write::to(AT) }]).unwrap();
    store.close().unwrap();
}

fn survivor(disk: &SimDisk, node: u64) -> Result<Survivor, Error> {
    Survivor::open_on(Arc::new(disk.clone()), &dirs(), n(node))
}

fn lost() -> BTreeSet<NodeId> {
    (1..=6).map(n).collect()
}

/// As a start of the node finds it.
fn found(disk: &SimDisk, node: u64) -> Recovered {
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let (_, recovered) = Store::open(on, &dirs()[0], n(node), [7; 16], Options::default()).unwrap();
    recovered.into_iter().find(|r| r.partition == AT).unwrap()
}

#[test]
fn the_survivor_goes_on_alone_with_all_that_it_has() {
    let disk = SimDisk::new(1);
    let world = world();
    meta_of(&disk, &world, 7);
    let survivor = survivor(&disk, 7).unwrap();
    assert_eq!(survivor.image.topics, world.image.topics);
    assert_eq!(survivor.voters(), (1..=9).map(n).collect());
    let (last, me) = (survivor.last, survivor.meta.state.replica);
    let epoch = survivor.recover(lost(), 77).unwrap();
    let after = found(&disk, 7);
    assert!(epoch > HomeEpoch::FIRST && !is_unfinished(&after));
    assert_eq!((after.state.home_epoch, after.state.promised), (epoch, epoch));
    assert_eq!((&after.state.conf.voters[..], after.state.vote), (&[me][..], Some(me)));
    assert_eq!((after.state.fork, after.last.0), (Some(last), last.index.next()));
    assert_eq!(after.last.1.home_epoch(), epoch);
    let again = super::tests::survivor(&disk, 7).unwrap();
    let [recovery] = &again.image.recoveries[..] else { panic!() };
    assert_eq!((recovery.node, recovery.cut, &recovery.lost), (n(7), last, &lost()));
    assert_eq!(again.voters(), BTreeSet::from([n(7)]));
}

#[test]
fn no_two_nodes_begin_the_same_epoch() {
    let epochs: BTreeSet<HomeEpoch> = (1..=9)
        .map(|node| {
            let disk = SimDisk::new(node);
            meta_of(&disk, &world(), node);
            survivor(&disk, node).unwrap().recover(BTreeSet::new(), 1).unwrap()
        })
        .collect();
    assert_eq!(epochs.len(), 9);
}

#[test]
fn after_a_power_cut_it_is_done_again_and_comes_to_the_same_end() {
    let (mut whole, mut unfinished) = (0, 0);
    for changes in 0.. {
        let disk = SimDisk::new(changes);
        meta_of(&disk, &world(), 8);
        disk.crash();
        let at = survivor(&disk, 8).unwrap();
        let last = at.last;
        disk.crash_after(changes);
        let done = at.recover(lost(), 77);
        disk.crash();
        let after = found(&disk, 8);
        unfinished += u32::from(is_unfinished(&after));
        let again = survivor(&disk, 8).unwrap();
        if again.image.recoveries.is_empty() {
            assert!(done.is_err(), "what was promised is there");
            assert_eq!(again.last, last, "nothing is lost, and nothing half there");
            again.recover(lost(), 78).unwrap();
        } else {
            drop(again);
        }
        let image = survivor(&disk, 8).unwrap().image;
        assert_eq!(image.recoveries.len(), 1);
        assert_eq!(image.recoveries[0].cut, last);
        assert_eq!(image.meta.unwrap().home_epoch, found(&disk, 8).state.home_epoch);
        if done.is_ok() {
            whole += 1;
            break;
        }
    }
    assert!(whole == 1 && unfinished > 0, "every step was reached");
}

#[test]
fn what_is_no_survivor_is_refused_by_name() {
    let disk = SimDisk::new(1);
    let refused = |node| match survivor(&disk, node) {
        Ok(_) => panic!("refused"),
        Err(error) => error.to_string(),
    };
    assert!(refused(7).contains("is no data directory"));
    drop(store(&disk, 7));
    assert!(refused(7).contains("no replica of __meta"));
    assert!(refused(8).contains("belongs to node 7"));
    let at = TopicPartition { topic: TopicId([3; 16]), partition: 0 };
    store(&disk, 7).create(at, "unheard-of", ReplicaState::default(), Config::default()).unwrap();
    meta_of(&disk, &world(), 7);
    assert_eq!(survivor(&disk, 7).unwrap().unknown, ["unheard-of-0"]);
    let mut old = world();
    let node = Node { feature_level: FEATURE_LEVEL - 1, ..crate::metadata::fixture::node(9) };
    old.apply(Command::RegisterNode(Arc::new(node))).unwrap();
    let disk = SimDisk::new(2);
    meta_of(&disk, &old, 7);
    let refused = survivor(&disk, 7).unwrap().recover(lost(), 1).unwrap_err().to_string();
    assert!(refused.contains("node 9 last started with older software"), "{refused}");
}
