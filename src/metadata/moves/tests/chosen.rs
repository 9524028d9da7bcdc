//! A cut that is chosen stays, whoever carries the move on.

use std::collections::BTreeSet;

use super::super::carrier::{Course, Effect, Seal};
use super::super::{Chosen, Kind, Verdict};
use super::carrier::{Script, course, seal};
use crate::log::Fork;
use crate::model::{HomeEpoch, LogIndex, ReplicaId};

#[test]
fn a_cut_that_was_chosen_is_kept_by_who_carries_on() {
    let fork = Fork {
        home_epoch: HomeEpoch::new(2).unwrap(),
        at: seal(7, 1, 9).last,
        epochs: seal(7, 1, 9).epochs,
    };
    let mut taken_over = course(Kind::Failover, false, false);
    let verdict = Verdict::UnboundedSince { ms: 77 };
    taken_over.chosen = Some(Chosen { fork: fork.clone().into(), verdict });
    let mut script = Script::of(taken_over.clone());
    let of = script.expect_seals();
    // The home is back and has more: too late for this epoch.
    script.sealed(of, &[seal(1, 1, 20), seal(2, 1, 20), seal(3, 1, 20)]);
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 4)]);
    let activation = script.activated();
    assert_eq!((activation.fork, activation.verdict), (fork, verdict));
    assert_eq!(activation.voters, [ReplicaId(4), ReplicaId(5)]);
    let mut gone = Script::of(taken_over);
    let of = gone.expect_seals();
    gone.sealed(of, &[seal(4, 1, 3), seal(5, 1, 4), seal(6, 1, 4)]);
    gone.silent(of, &[1, 2, 3, 7, 8, 9]);
    assert!(gone.carrier.stuck().unwrap().contains("fail over again"));
}

#[test]
fn whoever_cannot_give_the_cut_is_not_the_only_one_asked() {
    let at = seal(7, 1, 9).last;
    let fork = Fork { home_epoch: HomeEpoch::new(2).unwrap(), at, epochs: seal(7, 1, 9).epochs };
    let mut course = course(Kind::Failover, false, false);
    let verdict = Verdict::UnboundedSince { ms: 77 };
    course.chosen = Some(Chosen { fork: fork.into(), verdict });
    let mut script = Script::of(course);
    let mut sources = BTreeSet::new();
    for _ in 0..2 {
        let of = script.expect_seals();
        script.sealed(of, &[seal(7, 1, 9), seal(8, 1, 9)]);
        script.silent(of, &[1, 2, 3, 9]);
        script.sealed(of, &[seal(4, 1, 3), seal(5, 1, 3), seal(6, 1, 3)]);
        for effect in script.effects() {
            let Effect::Hold { attempt, replica, source, .. } = effect else {
                panic!("{effect:?}")
            };
            sources.insert(source);
            script.carrier.handle_held(script.now, attempt, replica, Err("no replica".into()));
        }
        script.pass();
    }
    assert_eq!(sources.len(), 2);
}

/// By a leader of `__meta` that did not know yet that it had been deposed.
#[test]
fn a_cut_that_another_carrier_had_chosen_meanwhile_is_taken_up() {
    let before = course(Kind::Failover, false, false);
    let mut script = Script::of(before.clone());
    let of = script.expect_seals();
    script.sealed(of, &[4, 5, 6, 7, 8, 9].map(|r| seal(r, 1, 9)));
    script.silent(of, &[1, 2, 3]);
    let (of, activation) = script.expect_activation();
    assert_eq!(activation.fork.at.index, LogIndex(9));
    let Seal { last: at, epochs, .. } = seal(7, 1, 12);
    let fork = Fork { home_epoch: HomeEpoch::new(2).unwrap(), at, epochs };
    let verdict = Verdict::UnboundedSince { ms: 77 };
    let chosen = Some(Chosen { fork: fork.clone().into(), verdict });
    script.carrier.handle_course(Course { chosen, ..before.clone() });
    script.carrier.handle_activated(script.now, of, Err("the cut is 11 already".into()));
    script.pass();
    let of = script.expect_seals();
    // It lags behind what was chosen here.
    script.carrier.handle_course(before);
    script.sealed(of, &[seal(4, 1, 9), seal(5, 1, 9), seal(6, 1, 9), seal(7, 1, 12)]);
    script.silent(of, &[1, 2, 3, 8, 9]);
    let held: Vec<Effect> = script.effects();
    let holds = |e: &Effect| matches!(e, Effect::Hold { fork: f, .. } if **f == fork);
    assert!(held.len() == 3 && held.iter().all(holds), "{held:?}");
}
