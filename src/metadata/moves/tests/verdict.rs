//! What a forced move without a proof claims.

use std::sync::Arc;

use super::super::carrier::{Course, Seal};
use super::super::{Aim, Kind, Verdict};
use super::carrier::{Script, course, seal, term};
use crate::log::{Fork, Position};
use crate::metadata::budgets::Bound;
use crate::model::{HomeEpoch, LogIndex, Offset, Term};

#[test]
fn a_budget_bounds_the_loss_where_every_other_datacenter_was_asked() {
    let bound = Bound { span: None, bytes: None, records: Some(100) };
    let claimed = |sync, silent: &[u64], seals: &[u64]| {
        let course = course(Kind::Failover, sync, false);
        let aim = Aim { accept_loss: true, ..course.aim };
        let mut script = Script::of(Course { bound: Some(bound), aim, ..course });
        let of = script.expect_seals();
        script.sealed(of, &seals.iter().map(|r| seal(*r, 1, 9)).collect::<Vec<_>>());
        script.silent(of, silent);
        script.activated().verdict
    };
    let ms = 600;
    assert_eq!(claimed(false, &[1, 2, 3, 6, 9], &[4, 5, 7, 8]), Verdict::AtMost { bound, ms });
    // What was at stake may be in sin, and what is missing more than that.
    let since = Verdict::UnboundedSince { ms };
    assert_eq!(claimed(false, &[1, 2, 3, 8, 9], &[4, 5, 6, 7]), since);
    assert_eq!(claimed(true, &[1, 2, 3], &[4, 5, 6, 7, 8, 9]), Verdict::Lossless);
}

/// What it began with, the home before may have counted on this one to have.
#[test]
fn a_budget_does_not_bound_what_its_home_epoch_began_with() {
    let bound = Bound { span: None, bytes: None, records: Some(100) };
    let epoch = |n| HomeEpoch::new(n).unwrap();
    let own = |replica, election, index| {
        let mut seal = seal(replica, 0, index);
        seal.last.term = Term(epoch(2).first_term().0 + election);
        seal
    };
    // The home epoch began at 1.1, 9.
    let claimed_of = |sync, seal: &dyn Fn(u64) -> Seal| {
        let mut course = course(Kind::Failover, sync, false);
        course.aim.accept_loss = sync;
        let at = Position { index: LogIndex(9), term: term(1), offset: Offset(8) };
        let placed = Arc::make_mut(&mut course.placed);
        placed.home_epoch = epoch(2);
        placed.fork = Some(Fork { home_epoch: epoch(2), at, epochs: vec![] }.into());
        let mut script = Script::of(Course { bound: Some(bound), next: epoch(3), ..course });
        let of = script.expect_seals();
        script.sealed(of, &[4, 5, 6, 7, 8, 9].map(seal));
        script.silent(of, &[1, 2, 3]);
        script.activated().verdict
    };
    let claimed = |seal: &dyn Fn(u64) -> Seal| claimed_of(false, seal);
    let (since, at_most) =
        (Verdict::UnboundedSince { ms: 600 }, Verdict::AtMost { bound, ms: 600 });
    assert_eq!(claimed(&|r| seal(r, 1, 8)), since);
    assert_eq!(claimed(&|r| seal(r, 2, 12)), since, "another leader's, of before");
    assert_eq!(claimed(&|r| seal(r, 1, 9)), at_most);
    assert_eq!(claimed(&|r| own(r, 0, 10)), at_most);
    assert_eq!(claimed(&|r| if r < 7 { own(r, 3, 10) } else { seal(r, 1, 3) }), at_most);
    // Nor does a gate prove it: the home may have been alone with that (seed 1193721707843551362 of the simulator).
    assert_eq!(claimed_of(true, &|r| seal(r, 1, 8)), since);
    assert_eq!(claimed_of(true, &|r| seal(r, 1, 9)), Verdict::Lossless);
    assert_eq!(claimed_of(true, &|r| own(r, 0, 10)), Verdict::Lossless);
}
