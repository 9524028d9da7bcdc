use super::*;
use crate::log::{Content, HighWatermark, Manifest};
use crate::metadata::moves::topics::{Content as Contents, SuffixTopics};
use crate::metadata::moves::{Moved, owed, word};
use crate::model::NodeId;

fn e(number: u32) -> HomeEpoch {
    epoch(number)
}

fn ids(owed: Vec<(HomeEpoch, ReplicaId)>) -> Vec<(u32, u64)> {
    owed.into_iter().map(|(epoch, id)| (epoch.as_u32(), id.0)).collect()
}

/// What replica `id`, in this home epoch, owes.
fn owes(image: &Image, id: u64, home_epoch: u32) -> Vec<(u32, u64)> {
    let owed = owed(image, |_| Some((ReplicaId(id), e(home_epoch))));
    ids(owed.map(|(moved, id)| (moved.home_epoch, id)).collect())
}

/// From fra to iad in epoch 2, back to fra in epoch 3.
fn moved_twice() -> (World, TopicPartition) {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    activate(&mut world, activation(at, "iad", &[4, 5])).unwrap();
    let back = Begin { home_epoch: e(2), ..begin(at, Kind::Failover, "fra") };
    ask(&mut world, back).unwrap();
    let there = activation(at, "fra", &[1]);
    let fork = Fork { home_epoch: e(3), ..there.fork.clone() };
    activate(&mut world, Activation { home_epoch: e(2), fork, ..there }).unwrap();
    (world, at)
}

fn manifest(replica: u64, (old, new): (u32, u32), records: u64, last: u64) -> Manifest {
    let term = Term(HomeEpoch::FIRST.first_term().0 + 1);
    Manifest {
        partition: TopicPartition::META,
        topic_name: "t".into(),
        node: n(1),
        replica: ReplicaId(replica),
        installing: false,
        old_home_epoch: e(old),
        new_home_epoch: e(new),
        fork: cut(),
        first_index: LogIndex(last + 1 - records),
        last: (LogIndex(last), term),
        first_offset: Offset(6),
        next_offset: Offset(6 + records as i64),
        hw: HighWatermark::default(),
        content: Content {
            entries: records,
            batches: records,
            records,
            bytes: 10 * records,
            timestamps: None,
            epochs: Vec::new(),
            sha256: [0; 32],
            producers: Vec::new(),
            producers_left_out: 0,
        },
    }
}

#[test]
fn a_voter_of_an_old_home_owes_its_word_until_it_has_been_heard() {
    let (mut world, at) = moved_twice();
    assert_eq!(owes(&world.image, 1, 1), [], "it has not cut anything");
    assert_eq!(owes(&world.image, 1, 2), [(2, 1)]);
    // Away during both moves: of the second one's old home it was no voter.
    assert_eq!(owes(&world.image, 1, 3), [(2, 1)]);
    assert_eq!(owes(&world.image, 4, 3), [(3, 4)]);
    assert_eq!(owes(&world.image, 7, 3), [], "a learner of both");
    let report = Report { at, home_epoch: e(2), suffix: suffix(1, 2, 10) };
    world.ask(Request::ReportSuffix(report)).unwrap();
    assert_eq!(owes(&world.image, 1, 3), []);
    let nothing = owed(&world.image, |_| None).count();
    assert_eq!(nothing, 0, "no replica here");
}

#[test]
fn the_word_is_what_the_ledger_has_of_that_move() {
    let (world, at) = moved_twice();
    let said = |of: u32, ledger: &[Manifest], sealed| {
        let node: NodeId = n(1);
        let Report { suffix, home_epoch, .. } =
            word(&world.image, (at, e(of)), (ReplicaId(1), node), ledger, sealed);
        assert_eq!((suffix.replica, suffix.node, home_epoch), (ReplicaId(1), node, e(of)));
        (suffix.records, suffix.bytes, suffix.last.index.0)
    };
    let first = manifest(1, (1, 2), 3, 11);
    let later = manifest(1, (2, 3), 5, 30);
    let both = [first.clone(), later];
    assert_eq!(said(2, &both, None), (3, 30, 11));
    assert_eq!(said(3, &both, None), (5, 50, 30));
    // It was away during both: what it lacks of the first was cut for the second.
    assert_eq!(said(2, &[manifest(1, (1, 3), 4, 12)], None), (4, 40, 12));
    // Another replica's, on a disk that was replaced, is not its own.
    assert_eq!(said(2, &[manifest(2, (1, 2), 3, 11)], None), (0, 0, 0));
    // Cut already when it was sealed anew: its log was longer than it ended then.
    assert_eq!(said(2, &[first], Some(cut())), (3, 30, 11));
    assert_eq!(said(2, &[], Some(cut())), (0, 0, 8));
}

#[test]
fn what_a_move_left_is_found_in_parts_and_without_what_other_moves_left() {
    let (mut world, at) = moved_twice();
    // The voters that epoch 3 has left.
    for replica in [4, 5] {
        let report = Report { at, home_epoch: e(3), suffix: suffix(replica, 5, 30) };
        world.ask(Request::ReportSuffix(report)).unwrap();
    }
    // Cut for the first move; for the second; for it already, before it was given up; for a later one.
    let ledger = [
        manifest(4, (1, 2), 3, 11),
        manifest(4, (2, 4), 2, 27),
        manifest(4, (2, 3), 3, 30),
        manifest(4, (4, 5), 9, 90),
        manifest(5, (2, 3), 9, 90),
    ];
    let parts = |moved: &[Arc<Moved>]| {
        let topics = SuffixTopics::of(moved);
        let Some(topic) = topics.iter().next() else { panic!("no suffix topic") };
        let Contents::Ledger(held) = topic.partitions[at.partition as usize].content else {
            panic!("not known whose ledger counts")
        };
        let found = held.parts(ReplicaId(4), ledger.to_vec(), |manifest| manifest);
        found.iter().map(|m| (m.new_home_epoch.as_u32(), m.last.0.0)).collect::<Vec<_>>()
    };
    let all = &world.image.moved;
    assert_eq!(parts(all), [(4, 27), (3, 30)]);
    // The oldest moves are forgotten.
    let latest: Vec<_> = all.iter().filter(|moved| moved.home_epoch == e(3)).cloned().collect();
    assert_eq!(parts(&latest), [(4, 27), (3, 30)]);
}
