//! Moves, step by step, on a cluster without a log.

mod carrier;
mod chosen;
mod owed;
mod verdict;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::carrier::Course;
use super::{Account, Activation, Aim, Begin, Choice, Kind, Report, Suffix, Verdict};
use crate::log::{EpochStart, Fork, Position};
use crate::metadata::budgets::Bound;
use crate::metadata::command::Command;
use crate::metadata::fixture::{World, n, topic};
use crate::metadata::image::{Image, Partition};
use crate::metadata::refusal::Reason;
use crate::metadata::request::{Request, Response};
use crate::metadata::snapshot;
use crate::model::{HomeEpoch, LogIndex, Offset, ReplicaId, Term, TopicPartition};

/// A topic with its home in fra: replicas 1 to 3 there, 4 to 6 in iad, 7 to 9 in sin.
fn world() -> (World, TopicPartition) {
    let mut world = World::new();
    world.create(topic("t", 1, &[])).unwrap();
    let topic = world.image.topic("t").unwrap().id;
    (world, TopicPartition { topic, partition: 0 })
}

fn partition(world: &World, at: TopicPartition) -> Arc<Partition> {
    world.image.partition(at).unwrap().clone()
}

fn epoch(e: u32) -> HomeEpoch {
    HomeEpoch::new(e).unwrap()
}

fn begin(at: TopicPartition, kind: Kind, to: &str) -> Begin {
    let aim =
        Aim { kind, to: to.parse().unwrap(), accept_loss: false, automatic: false, began_ms: 5 };
    Begin { at, home_epoch: HomeEpoch::FIRST, aim }
}

/// Begins one move; why not, if not.
fn ask(world: &mut World, begin: Begin) -> Result<(), Reason> {
    match world.ask(Request::MoveHomes { moves: vec![begin] }).unwrap() {
        Response::MovesBegun(mut results) => results.remove(0).map_err(|r| r.reason),
        other => panic!("{other:?}"),
    }
}

fn cut() -> Position {
    let term = Term(HomeEpoch::FIRST.first_term().0 + 1);
    Position { index: LogIndex(8), term, offset: Offset(6) }
}

fn activation(at: TopicPartition, home: &str, voters: &[u64]) -> Activation {
    let Position { term, .. } = cut();
    let epochs = vec![EpochStart { term, index: LogIndex(1), offset: Offset(0) }];
    Activation {
        at,
        home_epoch: HomeEpoch::FIRST,
        home: home.parse().unwrap(),
        voters: voters.iter().copied().map(ReplicaId).collect(),
        fork: Fork { home_epoch: epoch(2), at: cut(), epochs },
        verdict: Verdict::UnboundedSince { ms: 3 },
        by_word: false,
        ended_ms: 9,
    }
}

fn activate(world: &mut World, activation: Activation) -> Result<(), Reason> {
    let request = Request::ActivateHomes { activations: vec![activation] };
    match world.ask(request).unwrap() {
        Response::HomesActivated(mut results) => results.remove(0).map_err(|r| r.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_home_moves_by_two_steps_and_the_replicas_change_their_roles() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    assert_eq!(partition(&world, at).moving().unwrap().aim.to.as_str(), "iad");
    activate(&mut world, activation(at, "iad", &[5, 4])).unwrap();
    let now = partition(&world, at);
    assert_eq!((now.home.as_str(), now.home_epoch, now.moving()), ("iad", epoch(2), None));
    let voters: Vec<u64> = now.voters().map(|r| r.id.0).collect();
    assert_eq!(voters, [5, 4], "those that hold F; the first is the preferred leader");
    assert_eq!((now.replicas.len(), now.placement_generation), (9, 2));
    assert_eq!(now.fork.as_ref().unwrap().at, cut());
    let of = |term: Term| now.end_of_epoch(term.leader_epoch());
    let ends = (of(cut().term), of(epoch(2).first_term()), now.end_of_epoch(-1));
    assert_eq!(ends, (Some(cut().offset), None, None), "of an earlier home only, and if known");
    assert_eq!(now.lossy_cut, Some(LogIndex(8)));
}

/// The second home had less than the third begins with: what the first one acknowledged after that is lost all the
/// same, though the third loses nothing of the second.
#[test]
fn what_a_later_home_brings_back_is_before_the_lossy_cut() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    let (less, more) = (activation(at, "iad", &[5, 4]), cut());
    activate(&mut world, shorter(less.clone())).unwrap();
    let first = partition(&world, at).lossy_cut.unwrap();
    assert!(first < more.index);
    let forced = |world: &mut World, from, to| {
        let begin = begin(at, Kind::Failover, to);
        ask(world, Begin { home_epoch: epoch(from), ..begin }).unwrap();
    };
    let next = |of: &Position, from: u32, home| Activation {
        home_epoch: epoch(from),
        fork: Fork { home_epoch: epoch(from + 1), at: *of, epochs: less.fork.epochs.clone() },
        verdict: Verdict::Lossless,
        ..activation(at, home, if home == "sin" { &[7, 8] } else { &[4, 5] })
    };
    let same = partition(&world, at).fork.as_ref().unwrap().at;
    forced(&mut world, 2, "sin");
    activate(&mut world, next(&same, 2, "sin")).unwrap();
    assert_eq!(partition(&world, at).lossy_cut, Some(first), "nothing came back");
    forced(&mut world, 3, "iad");
    activate(&mut world, next(&more, 3, "iad")).unwrap();
    assert_eq!(partition(&world, at).lossy_cut, Some(more.index));
    let later = Position { index: LogIndex(20), term: epoch(4).first_term(), offset: Offset(30) };
    forced(&mut world, 4, "sin");
    activate(&mut world, next(&later, 4, "sin")).unwrap();
    assert_eq!(partition(&world, at).lossy_cut, Some(more.index), "those were its own");
}

#[test]
fn a_home_epoch_goes_by_the_budget_that_its_policy_has_when_it_begins() {
    let (mut world, at) = world();
    let set = [("isobar.max.lag.records", "10"), ("isobar.on.lag", "reject")];
    let set = set.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let alter = Command::AlterTopicConfigs { topic: at.topic, set, delete: Vec::new() };
    world.apply(alter).unwrap();
    assert_eq!(partition(&world, at).budget, None, "nobody knows who enforces it already");
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    assert_eq!(Course::of(&world.image, at).unwrap().bound, None);
    activate(&mut world, activation(at, "iad", &[4, 5])).unwrap();
    let bound = Bound { span: None, bytes: None, records: Some(10) };
    assert_eq!(partition(&world, at).budget, Some(bound));
    ask(&mut world, Begin { home_epoch: epoch(2), ..begin(at, Kind::Failover, "sin") }).unwrap();
    assert_eq!(Course::of(&world.image, at).unwrap().bound, Some(bound));
    let verdict = Verdict::AtMost { bound, ms: 5 };
    let fork = Fork { home_epoch: epoch(3), ..activation(at, "sin", &[7]).fork };
    let of_second =
        Activation { home_epoch: epoch(2), fork, verdict, ..activation(at, "sin", &[7, 8]) };
    activate(&mut world, of_second).unwrap();
    let restored = snapshot::decode(&snapshot::encode(&world.image), world.image.next_offset);
    assert_eq!(restored.unwrap(), world.image);
}

#[test]
fn a_step_that_comes_late_or_twice_changes_nothing() {
    let (mut world, at) = world();
    assert_eq!(activate(&mut world, activation(at, "iad", &[4])), Err(Reason::Stale), "no seal");
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    assert_eq!(activate(&mut world, activation(at, "sin", &[7])), Err(Reason::Stale));
    activate(&mut world, activation(at, "iad", &[4, 5])).unwrap();
    let after = world.image.topics.clone();
    assert_eq!(activate(&mut world, activation(at, "iad", &[4, 5])), Err(Reason::Stale));
    assert_eq!(ask(&mut world, begin(at, Kind::Failover, "sin")), Err(Reason::Stale), "of epoch 1");
    assert_eq!(world.image.topics, after);
    assert_eq!(world.image.moved.len(), 1);
}

fn choose(world: &mut World, from: Activation) -> Result<(), Reason> {
    let Activation { at, home_epoch, fork, verdict, by_word, .. } = from;
    let choice = Choice { at, home_epoch, fork, verdict, by_word };
    match world.ask(Request::ChooseCuts { choices: vec![choice] }).unwrap() {
        Response::CutsChosen(mut results) => results.remove(0).map_err(|r| r.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_carries_a_move_counts_on_the_word_where_a_topic_was_sync() {
    let mut world = World::new();
    for replication in ["sync", "async"] {
        world.create(topic(replication, 1, &[("isobar.replication", replication)])).unwrap();
        let topic = world.image.topic(replication).unwrap().id;
        let at = TopicPartition { topic, partition: 0 };
        for accept_loss in [true, false] {
            let mut begin = begin(at, Kind::Failover, "iad");
            begin.aim.accept_loss = accept_loss;
            ask(&mut world, begin).unwrap();
            let counts = replication == "sync" && accept_loss;
            assert_eq!(Course::of(&world.image, at).unwrap().by_word, counts);
        }
    }
}

/// By who carries the move and has not heard that it was taken back.
#[test]
fn a_word_that_was_taken_back_moves_nothing() {
    let (mut world, at) = world();
    let of = |accept_loss| {
        let begin = begin(at, Kind::Failover, "iad");
        Begin { aim: Aim { accept_loss, ..begin.aim }, ..begin }
    };
    let by_word = Activation { by_word: true, ..activation(at, "iad", &[4, 5]) };
    ask(&mut world, of(true)).unwrap();
    ask(&mut world, of(false)).unwrap();
    assert_eq!(choose(&mut world, by_word.clone()), Err(Reason::Stale));
    assert_eq!(activate(&mut world, by_word.clone()), Err(Reason::Stale));
    assert_eq!(partition(&world, at).moving().unwrap().chosen, None);
    ask(&mut world, of(true)).unwrap();
    choose(&mut world, by_word.clone()).unwrap();
    activate(&mut world, by_word).unwrap();
    assert!(world.image.moved[0].accept_loss);
    assert!(world.commands.iter().any(|c| c.feature_level() == Verdict::WORD_FEATURE_LEVEL));
}

/// With another cut.
fn shorter(activation: Activation) -> Activation {
    let mut shorter = activation;
    shorter.fork.at.index = LogIndex(7);
    shorter.fork.at.offset = Offset(5);
    shorter
}

#[test]
fn an_epoch_has_one_cut_whoever_carries_the_move() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    let first = activation(at, "iad", &[4, 5]);
    choose(&mut world, first.clone()).unwrap();
    choose(&mut world, first.clone()).expect("twice is once");
    assert_eq!(choose(&mut world, shorter(first.clone())), Err(Reason::Stale));
    let late = activate(&mut world, shorter(first.clone()));
    assert_eq!(late, Err(Reason::Stale), "its target has been cut for the other one by now");
    activate(&mut world, first).unwrap();
}

#[test]
fn another_cut_takes_another_promise() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    ask(&mut world, begin(at, Kind::Failover, "sin")).unwrap();
    assert_eq!(partition(&world, at).moving().unwrap().epoch, epoch(2), "nothing was cut yet");
    let old = activation(at, "sin", &[7, 8]);
    choose(&mut world, old.clone()).unwrap();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    let now = partition(&world, at);
    let moving = now.moving().unwrap();
    assert_eq!((moving.epoch, moving.chosen.is_none()), (epoch(3), true));
    assert_eq!(activate(&mut world, old), Err(Reason::Stale));
    let mut new = shorter(activation(at, "iad", &[4]));
    new.fork.home_epoch = epoch(3);
    activate(&mut world, new).unwrap();
    assert_eq!(partition(&world, at).home_epoch, epoch(3));
}

/// Each move that is forced after a cut was chosen is one epoch further, and none of them has ended.
#[test]
fn a_home_that_was_forced_again_and_again_can_still_be_moved() {
    let (mut world, at) = world();
    let before = partition(&world, at);
    for n in 2..8 {
        ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
        assert_eq!(partition(&world, at).moving().unwrap().epoch, epoch(n));
        let mut cut = activation(at, "iad", &[4, 5]);
        cut.fork.home_epoch = epoch(n);
        choose(&mut world, cut).unwrap();
    }
    assert_eq!(partition(&world, at).home_epoch, HomeEpoch::FIRST);
    assert!(partition(&world, at).may_promise(epoch(7)));
    assert!(!before.may_promise(epoch(7)), "it has missed six moves, or somebody is mistaken");
}

#[test]
fn a_replica_on_a_disk_that_was_replaced_under_a_move_is_gone_for_its_carrier() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    assert_eq!(Course::of(&world.image, at).unwrap().gone, BTreeSet::new());
    Arc::make_mut(world.image.nodes.get_mut(&n(2)).unwrap()).disk = [0xee; 16];
    assert_eq!(Course::of(&world.image, at).unwrap().gone, BTreeSet::from([ReplicaId(2)]));
}

#[test]
fn what_is_planned_may_be_forced_and_nothing_else_may_change_a_move() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Switchover, "iad")).unwrap();
    assert_eq!(ask(&mut world, begin(at, Kind::Switchover, "sin")), Err(Reason::Stale));
    ask(&mut world, begin(at, Kind::Failover, "sin")).unwrap();
    ask(&mut world, begin(at, Kind::Failover, "fra")).expect("given up: it stays at home (R18)");
    activate(&mut world, activation(at, "fra", &[1, 2, 3])).unwrap();
    let now = partition(&world, at);
    assert_eq!((now.home.as_str(), now.home_epoch), ("fra", epoch(2)), "an epoch never resumes");
}

#[test]
fn moves_that_cannot_be_are_refused() {
    let (mut world, at) = world();
    let mut nowhere = at;
    nowhere.partition = 7;
    for (begin, reason) in [
        (begin(at, Kind::Failover, "fra"), Reason::InvalidRequest),
        (begin(at, Kind::Failover, "nrt"), Reason::InvalidReplicaAssignment),
        (begin(nowhere, Kind::Failover, "iad"), Reason::UnknownTopic),
        (begin(TopicPartition::META, Kind::Failover, "iad"), Reason::InternalTopic),
    ] {
        assert_eq!(ask(&mut world, begin), Err(reason));
    }
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    for voters in [&[][..], &[4, 4], &[10]] {
        let refused = activate(&mut world, activation(at, "iad", voters));
        assert_eq!(refused, Err(Reason::InvalidReplicaAssignment), "{voters:?}");
    }
    let mut skips = activation(at, "iad", &[4]);
    skips.fork.home_epoch = epoch(3);
    assert_eq!(activate(&mut world, skips), Err(Reason::Stale));
}

fn suffix(replica: u64, records: u64, index: u64) -> Suffix {
    let last = Position { index: LogIndex(index), ..cut() };
    Suffix { replica: ReplicaId(replica), node: n(replica), records, bytes: 10, last }
}

#[test]
fn the_account_is_exact_when_a_majority_of_the_old_voters_has_been_read() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    activate(&mut world, activation(at, "iad", &[4, 5, 6])).unwrap();
    let mut tell = |suffix| {
        let report = Report { at, home_epoch: epoch(2), suffix };
        world.ask(Request::ReportSuffix(report)).unwrap();
        world.image.moved[0].account()
    };
    assert_eq!(tell(suffix(7, 9, 30)), Account::Open, "a learner is none of them");
    assert_eq!(tell(suffix(1, 2, 10)), Account::Open);
    assert_eq!(tell(suffix(1, 2, 10)), Account::Open, "told twice it counts once");
    assert_eq!(tell(suffix(3, 4, 12)), Account::Exact { records: 4 }, "the longest (R16)");
    let late = Report { at, home_epoch: epoch(3), suffix: suffix(2, 0, 8) };
    assert!(world.ask(Request::ReportSuffix(late)).is_err());
}

#[test]
fn a_proven_move_has_nothing_to_account_for() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Switchover, "iad")).unwrap();
    let proven = Activation { verdict: Verdict::Lossless, ..activation(at, "iad", &[4, 5]) };
    activate(&mut world, proven).unwrap();
    assert_eq!(world.image.moved[0].account(), Account::Nothing);
}

#[test]
fn moves_are_in_snapshots_and_in_records() {
    let (mut world, at) = world();
    ask(&mut world, begin(at, Kind::Failover, "iad")).unwrap();
    let back = |image: &Image| {
        snapshot::decode(&snapshot::encode(image), image.next_offset).unwrap() == *image
    };
    assert!(back(&world.image), "under way");
    choose(&mut world, activation(at, "iad", &[4, 5])).unwrap();
    assert!(back(&world.image), "its cut is chosen");
    activate(&mut world, activation(at, "iad", &[4, 5])).unwrap();
    let report = Report { at, home_epoch: epoch(2), suffix: suffix(1, 2, 10) };
    world.ask(Request::ReportSuffix(report)).unwrap();
    assert!(back(&world.image), "ended, and told of");
    for command in world.commands.clone() {
        let again = Command::decode(&command.encode()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{command:?}"));
    }
}
