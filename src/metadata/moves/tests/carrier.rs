//! Transcripts of moves: what is asked, what comes back, what is activated.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::carrier::{Attempt, Carrier, Course, Effect, Seal, When};
use super::super::{Activation, Aim, Kind, Verdict};
use crate::log::{EpochStart, Position};
use crate::metadata::fixture::{World, n, topic};
use crate::metadata::lease::Wait;
use crate::model::{HomeEpoch, LogIndex, NodeId, Offset, ReplicaId, Term};

/// Of a topic with three replicas in each DC, 1 to 3 at home in fra.
pub(super) struct Script {
    pub(super) carrier: Carrier,
    pub(super) now: Duration,
}

pub(super) fn course(kind: Kind, sync: bool, fences: bool) -> Course {
    let mut world = World::new();
    let configs: &[_] = if sync { &[("isobar.replication", "sync")] } else { &[] };
    world.create(topic("t", 1, configs)).unwrap();
    let topic = world.image.topic("t").unwrap();
    let placed = topic.partitions[0].clone();
    let topology = world.image.topology.as_ref().unwrap();
    let dcs = placed.replicas.iter().map(|r| (r.node, topology.dc_of(r.node).unwrap().clone()));
    Course {
        at: crate::model::TopicPartition { topic: topic.id, partition: 0 },
        dcs: dcs.collect(),
        gone: BTreeSet::new(),
        aim: Aim {
            kind,
            to: "iad".parse().unwrap(),
            accept_loss: false,
            automatic: false,
            began_ms: 1,
        },
        next: HomeEpoch::new(2).unwrap(),
        chosen: None,
        placed,
        fences,
        by_word: false,
        bound: None,
    }
}

pub(super) fn term(election: u64) -> Term {
    Term(HomeEpoch::FIRST.first_term().0 + election)
}

pub(super) fn seal(replica: u64, election: u64, index: u64) -> Seal {
    let last =
        Position { index: LogIndex(index), term: term(election), offset: Offset(index as i64 - 1) };
    let epochs = vec![EpochStart { term: term(election), index: LogIndex(1), offset: Offset(0) }];
    let known_until_ms = Some(1_000 - 100 * replica as i64);
    Seal { replica: ReplicaId(replica), last, epochs, uncounted: false, known_until_ms }
}

impl Script {
    pub(super) fn of(course: Course) -> Self {
        Self { carrier: Carrier::new(Duration::ZERO, course), now: Duration::ZERO }
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.carrier.poll_effect()).collect()
    }

    /// Everybody is being asked for a seal; in which attempt.
    pub(super) fn expect_seals(&mut self) -> Attempt {
        let effects = self.effects();
        let asked = asked(&effects, When::AtOnce);
        assert_eq!(asked, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let Effect::Seal { attempt, .. } = effects[0] else { unreachable!() };
        attempt
    }

    /// The leader is being asked to hand off, and the target to seal when it has.
    fn expect_hand_off(&mut self) -> Attempt {
        let effects = self.effects();
        let Some((Effect::HandOff(of), seals)) = effects.split_first() else {
            panic!("{effects:?}")
        };
        assert_eq!(asked(seals, When::HandedOff), [4, 5, 6]);
        *of
    }

    pub(super) fn sealed(&mut self, of: Attempt, seals: &[Seal]) {
        for seal in seals {
            let of_whom = (seal.replica, n(seal.replica.0));
            self.carrier.handle_sealed(self.now, of, of_whom, Ok(seal.clone()));
        }
    }

    pub(super) fn silent(&mut self, of: Attempt, replicas: &[u64]) {
        for id in replicas {
            let of_whom = (ReplicaId(*id), n(*id));
            self.carrier.handle_sealed(self.now, of, of_whom, Err("gone".into()));
        }
    }

    /// Time passes up to the next timeout.
    pub(super) fn pass(&mut self) -> Duration {
        self.now = self.carrier.poll_timeout().expect("it waits for a time");
        self.carrier.handle_timeout(self.now);
        self.now
    }

    pub(super) fn expect_activation(&mut self) -> (Attempt, Activation) {
        match &self.effects()[..] {
            [Effect::Activate(of, activation)] => (*of, (**activation).clone()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn activated(&mut self) -> Activation {
        let (of, activation) = self.expect_activation();
        self.carrier.handle_activated(self.now, of, Ok(()));
        assert!(self.carrier.is_over());
        activation
    }
}

fn asked(effects: &[Effect], when: When) -> Vec<u64> {
    let replica = |effect: &Effect| match effect {
        Effect::Seal { replica, when: asked, .. } if *asked == when => replica.0,
        other => panic!("{other:?}"),
    };
    effects.iter().map(replica).collect()
}

fn ids(of: &Activation) -> Vec<u64> {
    of.voters.iter().map(|id| id.0).collect()
}

#[test]
fn a_switchover_hands_off_seals_and_activates_without_a_round_trip_more() {
    let mut script = Script::of(course(Kind::Switchover, false, true));
    let of = script.expect_hand_off();
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9)]);
    assert_eq!(script.effects(), [], "the leader has not answered");
    script.carrier.handle_handed_off(script.now, of, Ok(()));
    let effects = script.effects();
    assert_eq!(
        asked(&effects, When::AtOnce),
        [1, 2, 3, 7, 8, 9],
        "not again who has told or is about to"
    );
    script.sealed(of, &[seal(1, 1, 9), seal(6, 1, 9)]);
    assert_eq!(script.effects(), [], "one of three at home");
    script.sealed(of, &[seal(2, 1, 9)]);
    let activation = script.activated();
    assert_eq!((ids(&activation), activation.verdict), (vec![4, 5, 6], Verdict::Lossless));
    assert_eq!(activation.fork.at, seal(4, 1, 9).last);
}

#[test]
fn a_target_that_gave_up_waiting_for_the_hand_off_is_asked_again_after_it() {
    let mut script = Script::of(course(Kind::Switchover, false, true));
    let of = script.expect_hand_off();
    script.silent(of, &[4, 5, 6]);
    script.carrier.handle_handed_off(script.now, of, Ok(()));
    let of = script.expect_seals();
    script.sealed(of, &(1..=6).map(|id| seal(id, 1, 9)).collect::<Vec<_>>());
    assert_eq!(ids(&script.activated()), [4, 5, 6]);
}

/// The leader died when its last entry had reached the target: nothing more can be handed off to who is sealed.
#[test]
fn a_leader_that_dies_handing_off_does_not_hold_the_move_up() {
    let mut script = Script::of(course(Kind::Switchover, true, true));
    let of = script.expect_hand_off();
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9)]);
    script.carrier.handle_handed_off(script.now, of, Err("connection lost".into()));
    assert_eq!(asked(&script.effects(), When::AtOnce), [1, 2, 3, 7, 8, 9]);
    // Its successor at home had taken more before it was sealed too.
    script.silent(of, &[1, 6]);
    script.sealed(of, &[seal(2, 2, 12), seal(3, 2, 12)]);
    script.pass();
    let effects = script.effects();
    let [Effect::Choose(_, choice)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((choice.fork.at.index, choice.verdict), (LogIndex(12), Verdict::Lossless));
}

#[test]
fn a_switchover_never_goes_on_without_its_home() {
    let mut script = Script::of(course(Kind::Switchover, true, false));
    let of = script.expect_hand_off();
    script.carrier.handle_handed_off(script.now, of, Ok(()));
    script.sealed(of, &(3..=9).map(|id| seal(id, 1, 9)).collect::<Vec<_>>());
    script.silent(of, &[1, 2]);
    assert!(
        script.carrier.stuck().unwrap().contains("missing: fra"),
        "one of three is no majority"
    );
    script.effects();
    script.pass();
    script.expect_hand_off();
}

#[test]
fn a_switchover_that_cannot_go_on_is_given_up_and_again_if_nobody_heard() {
    let mut script = Script::of(course(Kind::Switchover, false, false));
    let mut given_up = Vec::new();
    while given_up.len() < 3 {
        for effect in script.effects() {
            match effect {
                Effect::HandOff(of) => {
                    script.carrier.handle_handed_off(script.now, of, Err("no leader".into()));
                }
                Effect::Seal { when: When::HandedOff, .. } => {}
                Effect::GiveUp => given_up.push(script.now),
                other => panic!("{other:?}"),
            }
        }
        script.pass();
    }
    for (before, after) in [Duration::ZERO].iter().chain(&given_up).zip(&given_up) {
        let after = *after - *before;
        assert!(after >= Duration::from_secs(15) && after < Duration::from_secs(17), "{after:?}");
    }
}

#[test]
fn a_proven_failover_waits_for_no_lease_and_for_nobody_who_is_not_needed() {
    let mut script = Script::of(course(Kind::Failover, true, true));
    let of = script.expect_seals();
    script.silent(of, &[1, 2, 3]);
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9), seal(7, 1, 7)]);
    assert_eq!(script.effects(), [], "k = 1 of two: sin is needed too (R11)");
    script.sealed(of, &[seal(8, 1, 8)]);
    let activation = script.activated();
    assert_eq!(activation.verdict, Verdict::Lossless);
    assert_eq!(activation.fork.at.index, LogIndex(9));
}

#[test]
fn without_the_proof_a_sync_topic_stays_where_it_is_until_somebody_gives_the_word() {
    let of_three = [seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9)];
    let mut script = Script::of(course(Kind::Failover, true, false));
    let of = script.expect_seals();
    script.sealed(of, &of_three);
    script.silent(of, &[1, 2, 3, 7, 8, 9]);
    assert_eq!(script.effects(), []);
    assert!(script.carrier.stuck().unwrap().contains("--accept-loss"));
    let mut word = course(Kind::Failover, true, false);
    (word.aim.accept_loss, word.by_word) = (true, true);
    let mut script = Script::of(word);
    let of = script.expect_seals();
    script.sealed(of, &of_three);
    script.silent(of, &[1, 2, 3, 7, 8, 9]);
    let activation = script.activated();
    // What replica 4 said.
    assert_eq!(activation.verdict, Verdict::UnboundedSince { ms: 600 });
    assert!(activation.by_word);
}

#[test]
fn an_async_failover_waits_for_all_who_may_answer_and_for_the_old_homes_leases() {
    let mut script = Script::of(course(Kind::Failover, false, true));
    let of = script.expect_seals();
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9)]);
    assert_eq!(script.effects(), [], "sin may have more");
    assert_eq!(script.pass(), Duration::from_secs(2));
    let nodes: Vec<NodeId> = [1, 2, 3].map(n).into();
    let [Effect::WaitForLeases(of, asked)] = &script.effects()[..] else { panic!() };
    assert_eq!(*asked, Wait::new(nodes, vec![]));
    script.carrier.handle_leases_over(script.now, *of, Ok(()));
    assert_eq!(script.activated().verdict, Verdict::UnboundedSince { ms: 600 });
}

#[test]
fn a_node_whose_disk_was_replaced_is_waited_for_though_it_goes_on_renewing() {
    let course = course(Kind::Failover, false, true);
    let gone = [1, 2].map(ReplicaId).into();
    let mut script = Script::of(Course { gone, ..course });
    let of = script.expect_seals();
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9)]);
    script.pass();
    let [Effect::WaitForLeases(of, asked)] = &script.effects()[..] else { panic!() };
    assert_eq!(*asked, Wait::new(vec![n(3)], vec![n(1), n(2)]));
    script.carrier.handle_leases_over(script.now, *of, Ok(()));
    assert_eq!(script.activated().verdict, Verdict::UnboundedSince { ms: 600 });
}

/// Its links are healed while its leases are waited for, which it renews for ever from then on.
#[test]
fn an_old_home_that_comes_back_meanwhile_is_asked_again_and_its_promises_end_the_wait() {
    let mut script = Script::of(course(Kind::Failover, false, true));
    let of = script.expect_seals();
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9)]);
    script.silent(of, &[2, 3, 7, 8]);
    script.pass();
    let [Effect::WaitForLeases(..)] = &script.effects()[..] else { panic!() };
    // Slow, and no more than that.
    script.sealed(of, &[seal(1, 1, 12)]);
    let [Effect::WaitForLeases(_, wait)] = &script.effects()[..] else { panic!() };
    assert_eq!(*wait, Wait::new(vec![n(2), n(3)], vec![]));
    let before = script.now;
    assert_eq!(script.pass() - before, Duration::from_secs(2));
    assert_eq!(asked(&script.effects(), When::AtOnce), [2, 3], "and nobody who has promised");
    script.silent(of, &[2]);
    script.sealed(of, &[seal(3, 1, 11)]);
    let [Effect::WaitForLeases(_, wait)] = &script.effects()[..] else { panic!() };
    assert_eq!(*wait, Wait::new(vec![n(2)], vec![]));
    script.pass();
    assert_eq!(asked(&script.effects(), When::AtOnce), [2]);
    script.sealed(of, &[seal(2, 1, 12)]);
    let activation = script.activated();
    assert_eq!(
        (activation.fork.at.index, activation.verdict),
        (LogIndex(9), Verdict::UnboundedSince { ms: 600 })
    );
}

/// It is up to date by its own word, but nothing of its log is in the cut.
#[test]
fn an_old_leader_that_answers_alone_does_not_shorten_the_time_of_the_verdict() {
    let mut script = Script::of(course(Kind::Failover, false, false));
    let of = script.expect_seals();
    let alone = Seal { known_until_ms: Some(1_000), ..seal(1, 1, 40) };
    script.sealed(of, &[alone, seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9)]);
    let stands_in = Seal { known_until_ms: Some(1_000), uncounted: true, ..seal(7, 1, 9) };
    script.sealed(of, &[stands_in]);
    script.silent(of, &[2, 3, 8, 9]);
    let activation = script.activated();
    assert_eq!(activation.fork.at.index, LogIndex(9));
    // What replica 4 said.
    assert_eq!(activation.verdict, Verdict::UnboundedSince { ms: 600 });
}

#[test]
fn who_cannot_say_that_leases_are_over_activates_nothing() {
    let mut script = Script::of(course(Kind::Failover, false, true));
    let of = script.expect_seals();
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9)]);
    script.pass();
    let [Effect::WaitForLeases(of, _)] = &script.effects()[..] else { panic!() };
    script.carrier.handle_leases_over(script.now, *of, Err("another leads __meta".into()));
    assert_eq!(script.effects(), []);
    script.pass();
    script.expect_seals();
}

#[test]
fn the_target_fetches_what_another_datacenter_has_more() {
    let mut script = Script::of(course(Kind::Failover, true, true));
    let of = script.expect_seals();
    script.silent(of, &[1, 2, 3]);
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 8)]);
    // A later term wins although it is shorter (R12).
    script.sealed(of, &[seal(7, 2, 5), seal(8, 1, 8), seal(9, 1, 8)]);
    let effects = script.effects();
    let [Effect::Choose(of, choice)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((choice.fork.at.index, choice.verdict), (LogIndex(5), Verdict::Lossless));
    script.carrier.handle_chosen(script.now, *of, Ok(()));
    let effects = script.effects();
    let held: Vec<(u64, u64, NodeId)> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Hold { replica, fork, source, .. } => (replica.0, fork.at.index.0, *source),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(held, [(4, 5, n(7)), (5, 5, n(7)), (6, 5, n(7))]);
    let Effect::Hold { attempt, .. } = effects[0] else { unreachable!() };
    script.carrier.handle_held(script.now, attempt, ReplicaId(6), Ok(true));
    assert_eq!(script.effects(), []);
    script.carrier.handle_held(script.now, attempt, ReplicaId(4), Ok(true));
    script.pass();
    assert_eq!(ids(&script.activated()), [4, 6], "the third is a learner until it has caught up");
}

#[test]
fn a_target_whose_logs_end_before_the_others_begin_is_refused_before_the_cut_is_chosen() {
    let begins = |mut seal: Seal, index: u64| {
        seal.epochs[0].index = LogIndex(index);
        seal
    };
    let failed = |log_starts: [u64; 2]| {
        let mut script = Script::of(course(Kind::Failover, false, true));
        let of = script.expect_seals();
        let [last, first] = log_starts;
        let theirs = [4, 5, 6].map(|id| seal(id, 1, last));
        let others = [7, 8, 9].map(|id| begins(seal(id, 1, 40), first));
        script.sealed(of, &theirs);
        script.sealed(of, &others);
        script.silent(of, &[1, 2, 3]);
        script
    };
    let mut next = failed([19, 20]);
    assert!(matches!(next.effects()[..], [Effect::Choose(..)]), "it goes on where they end");
    let mut refused = failed([18, 20]);
    assert_eq!(refused.effects(), []);
    let why = refused.carrier.stuck().unwrap();
    for part in
        ["in iad the logs of nodes 4, 5, 6 end before the log of node 7 begins", "choose another"]
    {
        assert!(why.contains(part), "{why}");
    }
    refused.pass();
    refused.expect_seals();
}

#[test]
fn who_stands_in_or_is_damaged_is_not_counted() {
    let mut script = Script::of(course(Kind::Failover, true, true));
    let of = script.expect_seals();
    script.silent(of, &[1, 2, 3, 9]);
    let stands_in = Seal { uncounted: true, ..seal(8, 1, 2) };
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9), seal(7, 1, 9), stands_in]);
    let stuck = script.carrier.stuck().unwrap();
    assert!(stuck.contains("missing: fra, sin"), "7 alone is no majority: {stuck}");
    assert!(stuck.contains("node 8: its replica is damaged, or stands in"), "{stuck}");
}

#[test]
fn a_target_that_has_lost_disks_is_named_first_and_another_may_be_asked_for() {
    let mut script = Script::of(course(Kind::Failover, false, true));
    let of = script.expect_seals();
    script.silent(of, &[1, 2, 3]);
    let stands_in = |id| Seal { uncounted: true, ..seal(id, 1, 2) };
    let whole = [seal(6, 1, 9), seal(7, 1, 9), seal(8, 1, 9), seal(9, 1, 9)];
    script.sealed(of, &[&[stands_in(4), stands_in(5)][..], &whole].concat());
    let stuck = script.carrier.stuck().unwrap();
    assert!(stuck.contains("sealed: sin; missing: fra, iad (node 4: its replica"), "{stuck}");
    assert!(
        stuck.contains("in iad must answer") && stuck.contains("`isobar dc failover fra --to`"),
        "{stuck}"
    );
}

#[test]
fn an_answer_to_an_attempt_that_is_over_counts_for_nothing() {
    let mut script = Script::of(course(Kind::Failover, true, false));
    let first = script.expect_seals();
    script.silent(first, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    script.pass();
    let second = script.expect_seals();
    assert_ne!(first, second);
    script.sealed(first, &(1..=9).map(|id| seal(id, 1, 9)).collect::<Vec<_>>());
    assert_eq!(script.effects(), []);
    script.sealed(second, &(1..=9).map(|id| seal(id, 1, 9)).collect::<Vec<_>>());
    script.activated();
}

#[test]
fn an_activation_that_came_too_late_is_tried_from_the_beginning() {
    let mut script = Script::of(course(Kind::Failover, true, false));
    let of = script.expect_seals();
    script.sealed(of, &(1..=6).map(|id| seal(id, 1, 9)).collect::<Vec<_>>());
    let (of, _) = script.expect_activation();
    script.carrier.handle_activated(script.now, of, Err("the placement has changed".into()));
    assert!(!script.carrier.is_over());
    script.pass();
    script.expect_seals();
}
