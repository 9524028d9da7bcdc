//! The counting behind acknowledgements and seals, over plain ordered values, so that the broker
//! uses it for log indices, the simulator for its own, and the properties here for both.
//!
//! Words as in `docs/consistency.md`: n = remote data DCs of a partition, k = remote DCs a sync
//! topic waits for.

/// The smallest number of `members` of which any two sets share a member.
pub fn majority(members: usize) -> usize {
    assert!(members > 0, "a majority of nobody");
    members / 2 + 1
}

/// How many of `members` may be gone while a majority is still there.
pub fn losses_tolerated(members: usize) -> usize {
    members - majority(members)
}

/// Rule R11: how many of the n remote DCs must be sealed so that every set of k DCs that may have
/// acknowledged meets the sealed set: n − k + 1.
///
/// # Panics
/// When k is not in 1..=n; [`crate::Topology::parse`] and [`crate::resolve`] refuse such a policy.
pub fn dcs_needed_for_seal(n: usize, k: usize) -> usize {
    assert!((1..=n).contains(&k), "a sync policy waits for 1..={n} remote DCs, not for {k}");
    n - k + 1
}

/// Rule R4: what a DC has safely: the largest position that a majority of its replicas has
/// reached. `matched` has one value for each replica *that should be there*, a silent one with its
/// last (or the smallest) value. The slice is reordered.
///
/// # Panics
/// When `matched` is empty: a DC without replicas is not asked.
pub fn dc_safe_index<T: Ord + Copy>(matched: &mut [T]) -> T {
    let rank = majority(matched.len());
    *nth_largest(matched, rank)
}

/// The gate of `sync_to = k`: the largest position that at least k remote DCs have safely, which is
/// the k-th largest. `None` when fewer than k DCs are listed: then nothing passes. The slice is
/// reordered.
///
/// # Panics
/// When k is 0: async has no gate.
pub fn gate<T: Ord + Copy>(safe: &mut [T], k: usize) -> Option<T> {
    assert!(k > 0, "async has no gate");
    (k <= safe.len()).then(|| *nth_largest(safe, k))
}

/// `rank` counts from 1.
fn nth_largest<T: Ord>(values: &mut [T], rank: usize) -> &T {
    let (_, nth, _) = values.select_nth_unstable_by(rank - 1, |a, b| b.cmp(a));
    nth
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn majorities_and_what_they_survive() {
        let cases = [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (9, 5, 4)];
        for (members, quorum, lost) in cases {
            assert_eq!((majority(members), losses_tolerated(members)), (quorum, lost));
        }
    }

    #[test]
    fn a_gate_of_more_dcs_than_there_are_lets_nothing_through() {
        assert_eq!(gate(&mut [7u64, 9], 1), Some(9));
        assert_eq!(gate(&mut [7u64, 9], 2), Some(7));
        assert_eq!(gate(&mut [7u64, 9], 3), None);
    }

    proptest! {
        #[test]
        fn any_two_majorities_meet(members in 1usize..100) {
            prop_assert!(2 * majority(members) > members);
            prop_assert!(2 * (majority(members) - 1) <= members);
        }

        #[test]
        fn every_k_dcs_meet_every_sealed_set(n in 1usize..20, k in 1usize..20) {
            prop_assume!(k <= n);
            let sealed = dcs_needed_for_seal(n, k);
            prop_assert!(sealed + k > n, "pigeonhole");
            prop_assert!(sealed - 1 + k <= n, "and one DC fewer would not do");
        }

        #[test]
        fn a_dc_is_safe_exactly_up_to_what_a_majority_has(
            matched in prop::collection::vec(0u64..20, 1..8),
        ) {
            let safe = dc_safe_index(&mut matched.clone());
            let has = |i: u64| matched.iter().filter(|m| **m >= i).count();
            prop_assert!(has(safe) >= majority(matched.len()));
            prop_assert!(has(safe + 1) < majority(matched.len()));
        }

        #[test]
        fn the_gate_is_where_k_dcs_have_arrived(
            safe in prop::collection::vec(0u64..20, 1..6), k in 1usize..6,
        ) {
            let at = |i: u64| safe.iter().filter(|s| **s >= i).count();
            match gate(&mut safe.clone(), k) {
                Some(index) => {
                    prop_assert!(at(index) >= k);
                    prop_assert!(at(index + 1) < k);
                }
                None => prop_assert!(safe.len() < k),
            }
        }
    }
}
