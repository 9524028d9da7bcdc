//! Moving a home: what a seal proves, and where the log is cut (R10–R13). Pure counting over
//! positions, so that the broker, the simulator and the properties here share it.
//!
//! ```text
//!   sealed replicas ──▶ sealed DCs ──▶ enough? ──▶ lossless, proven ─┐
//!   (promised e + 1,    (a majority     (R11)      or on a word      ├──▶ F: the largest
//!    then reported)      of theirs)                                  ┘    (term, index) (R12)
//! ```
//!
//! Invariant: nothing here looks at what was committed, only at what is persisted and sealed (R10).

use std::collections::BTreeSet;

use crate::DcName;
use crate::quorum::{dcs_needed_for_seal, majority};

/// The last entry of a persisted log, ordered as R12 wants it: the term before the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LastEntry {
    pub term: u64,
    pub index: u64,
}

/// A replica of the partition, and what its seal said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub dc: DcName,
    /// Of the home that is left.
    pub voter: bool,
    /// `None`: it has not answered, or may not be counted (installing, or damaged: R21, R23).
    pub sealed: Option<LastEntry>,
}

/// What is moved, from where to where.
#[derive(Debug, Clone, Copy)]
pub struct Survey<'a> {
    pub home: &'a DcName,
    pub to: &'a DcName,
    /// Remote DCs that an acknowledgement waits for; 0 is async.
    pub sync_to: usize,
    /// A topic that was ever sync needs so many, whatever it is now (R11).
    pub ever_sync: bool,
    /// `__meta` has it on record that acknowledgements of this sync topic may have waited for the home
    /// alone (R7, R8).
    pub degraded: bool,
    pub seats: &'a [Seat],
}

/// What the seals so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// DCs of which a majority of replicas is sealed. The home counts by its voters.
    pub sealed: BTreeSet<DcName>,
    /// Every DC that has replicas, and is not in `sealed`.
    pub missing: BTreeSet<DcName>,
    /// R11: whether nothing that was acknowledged under sync can be beyond `cut`.
    pub safe: bool,
    /// R13: whether nothing that was acknowledged at all can be. Of a degraded topic only its home can
    /// prove that.
    pub proven: bool,
    /// F: the largest log over the sealed DCs; `None` while none is (R12).
    pub cut: Option<LastEntry>,
}

impl Found {
    /// Whether the target may hold F at all: a majority of it has answered.
    pub fn can_take_over(&self, to: &DcName) -> bool {
        self.sealed.contains(to)
    }

    /// What a home began with may be in no other datacenter before those have caught up with it: a cut without that
    /// proves nothing, whoever was asked. `holds` says whether a log that ends so has it.
    pub fn with_beginning(mut self, holds: impl FnOnce(LastEntry) -> bool) -> Self {
        let held = self.cut.is_none_or(holds);
        self.safe &= held;
        self.proven &= held;
        self
    }

    /// Whether no more than the home's exposure budget can be beyond `cut` (R16): what was at stake is what no other
    /// DC had, so with one of them missing nothing is bounded. It may have been the best.
    pub fn is_bounded_by_budget(&self, home: &DcName) -> bool {
        self.missing.iter().all(|dc| dc == home)
    }
}

/// Counts the seals of one partition.
///
/// The home is sealed when a majority of its *voters* is: then every entry that was ever committed
/// there is on one of the sealed disks. A remote DC is, when a majority of its replicas is: then it
/// has whatever that DC had persisted as a DC (R4).
pub fn survey(survey: Survey<'_>) -> Found {
    let dcs: BTreeSet<&DcName> = survey.seats.iter().map(|seat| &seat.dc).collect();
    let is_sealed = |dc: &DcName| {
        let of = survey.seats.iter().filter(|s| s.dc == *dc && (s.voter || dc != survey.home));
        let (sealed, all) = of.fold((0, 0), |(sealed, all), seat| {
            (sealed + usize::from(seat.sealed.is_some()), all + 1)
        });
        all > 0 && sealed >= majority(all)
    };
    let (sealed, missing): (BTreeSet<&DcName>, BTreeSet<&DcName>) =
        dcs.iter().copied().partition(|dc| is_sealed(dc));
    let remote = dcs.iter().filter(|dc| **dc != survey.home).count();
    let remote_sealed = sealed.iter().filter(|dc| **dc != survey.home).count();
    let by_gate = (1..=remote).contains(&survey.sync_to)
        && remote_sealed >= dcs_needed_for_seal(remote, survey.sync_to);
    let of_sealed = survey.seats.iter().filter(|seat| sealed.contains(&seat.dc));
    let by_home = sealed.contains(survey.home);
    Found {
        safe: by_gate || by_home,
        proven: by_gate && !survey.degraded || by_home,
        cut: of_sealed.filter_map(|seat| seat.sealed).max(),
        sealed: sealed.into_iter().cloned().collect(),
        missing: missing.into_iter().cloned().collect(),
    }
}

/// Whether a forced move may go on with what was found, given the operator's word (R11).
pub fn may_force(survey: &Survey<'_>, found: &Found, accept_loss: bool) -> bool {
    found.can_take_over(survey.to) && (found.safe || accept_loss || !survey.ever_sync)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DCS: [&str; 3] = ["fra", "iad", "sin"];

    fn dc(name: &str) -> DcName {
        name.parse().unwrap()
    }

    fn last(term: u64, index: u64) -> Option<LastEntry> {
        Some(LastEntry { term, index })
    }

    /// Three replicas a DC, home fra; what each has sealed, by DC.
    fn seats(sealed: [[Option<LastEntry>; 3]; 3]) -> Vec<Seat> {
        let of = DCS.iter().zip(sealed);
        of.flat_map(|(name, three)| {
            three.map(|sealed| Seat { dc: dc(name), voter: *name == "fra", sealed })
        })
        .collect()
    }

    fn found(sync_to: usize, seats: &[Seat]) -> Found {
        let (home, to) = (dc("fra"), dc("iad"));
        let ever_sync = sync_to > 0;
        survey(Survey { home: &home, to: &to, sync_to, ever_sync, degraded: false, seats })
    }

    #[test]
    fn a_degraded_topic_needs_as_many_and_only_its_home_proves_anything() {
        let (fra, iad) = (dc("fra"), dc("iad"));
        let ask = |seats: &[Seat]| {
            let degraded = true;
            let asked =
                Survey { home: &fra, to: &iad, sync_to: 1, ever_sync: true, degraded, seats };
            let found = survey(asked);
            (found.safe, found.proven, may_force(&asked, &found, false))
        };
        let some = [last(1, 5); 3];
        assert_eq!(ask(&seats([[None; 3], some, [None; 3]])), (false, false, false));
        assert_eq!(ask(&seats([[None; 3], some, some])), (true, false, true));
        assert_eq!(ask(&seats([some, some, [None; 3]])), (true, true, true));
    }

    fn names(dcs: &BTreeSet<DcName>) -> Vec<&str> {
        dcs.iter().map(|dc| dc.as_str()).collect()
    }

    #[test]
    fn a_sync_topic_that_waits_for_one_of_two_needs_both_of_them() {
        let one = seats([[None; 3], [last(1, 5); 3], [None; 3]]);
        let only_iad = found(1, &one);
        assert!(!only_iad.proven, "the record may be in sin alone (H10)");
        assert_eq!(names(&only_iad.missing), ["fra", "sin"]);
        let both = seats([[None; 3], [last(1, 5); 3], [last(1, 6), last(1, 4), None]]);
        let both = found(1, &both);
        assert!(both.proven);
        assert_eq!((names(&both.sealed), both.cut), (vec!["iad", "sin"], last(1, 6)));
    }

    #[test]
    fn a_sync_topic_that_waits_for_both_needs_one() {
        assert!(found(2, &seats([[None; 3], [last(1, 5); 3], [None; 3]])).proven);
    }

    #[test]
    fn an_async_topic_is_proven_only_by_its_home() {
        let remote = seats([[None; 3], [last(1, 5); 3], [last(1, 5); 3]]);
        assert!(!found(0, &remote).proven);
        let home = seats([[last(1, 9), last(1, 8), None], [last(1, 5); 3], [None; 3]]);
        let home = found(0, &home);
        assert!(home.proven);
        assert_eq!(home.cut, last(1, 9));
    }

    #[test]
    fn a_budget_bounds_the_loss_where_every_datacenter_but_the_home_has_said() {
        let some = [last(1, 5), last(1, 4), None];
        let minority = [last(1, 5), None, None];
        for (sealed, is_bounded) in [
            ([[None; 3], some, some], true),
            ([some, some, some], true),
            ([[None; 3], some, minority], false),
            ([some, some, [None; 3]], false),
        ] {
            let found = found(0, &seats(sealed));
            assert_eq!(found.is_bounded_by_budget(&dc("fra")), is_bounded, "{found:?}");
        }
    }

    #[test]
    fn a_minority_says_nothing_for_its_datacenter() {
        let lone = found(1, &seats([[last(9, 9), None, None], [last(1, 5); 3], [None; 3]]));
        assert_eq!((names(&lone.sealed), lone.cut), (vec!["iad"], last(1, 5)));
        assert_eq!(found(1, &seats([[None; 3]; 3])).cut, None);
    }

    #[test]
    fn the_term_comes_before_the_index() {
        let seats = seats([[None; 3], [last(1, 100); 3], [last(2, 7), last(1, 100), None]]);
        assert_eq!(
            found(1, &seats).cut,
            last(2, 7),
            "by index alone an acked record is lost (0.1)"
        );
    }

    #[test]
    fn force_needs_the_target_and_a_proof_or_a_word() {
        let (fra, iad, sin) = (dc("fra"), dc("iad"), dc("sin"));
        let seats = seats([[None; 3], [last(1, 5); 3], [None; 3]]);
        let ask = |to, sync_to, ever_sync, word| {
            let asked =
                Survey { home: &fra, to, sync_to, ever_sync, degraded: false, seats: &seats };
            may_force(&asked, &survey(asked), word)
        };
        assert!(!ask(&iad, 1, true, false));
        assert!(ask(&iad, 1, true, true));
        assert!(!ask(&iad, 0, true, false), "it was sync once (R11)");
        assert!(ask(&iad, 0, false, false));
        assert!(!ask(&sin, 0, false, true), "nobody there has answered");
    }

    proptest! {
        /// Whatever k DCs had persisted an entry, a proven cut is not before it.
        #[test]
        fn a_proven_cut_covers_every_entry_that_the_gate_let_through(
            k in 1usize..=2,
            ends in prop::collection::vec(prop::collection::vec(0u64..20, 3), 3),
            answered in prop::collection::vec(prop::collection::vec(any::<bool>(), 3), 3),
        ) {
            let sealed: Vec<[Option<LastEntry>; 3]> = ends.iter().zip(&answered).map(|(ends, yes)| {
                let of = |i: usize| yes[i].then_some(LastEntry { term: 1, index: ends[i] });
                [of(0), of(1), of(2)]
            }).collect();
            let found = found(k, &seats([sealed[0], sealed[1], sealed[2]]));
            prop_assume!(found.proven);
            let safe = |dc: usize| crate::quorum::dc_safe_index(&mut ends[dc].clone());
            let committed = safe(0);
            let acknowledged = crate::quorum::gate(&mut [safe(1), safe(2)], k).unwrap().min(committed);
            let cut = found.cut.map_or(0, |cut| cut.index);
            prop_assert!(cut >= acknowledged, "cut {cut}, acknowledged {acknowledged}");
        }
    }
}
