//! Who votes in `__meta`, the metadata quorum that spans the DCs.
//!
//! Up to three nodes of each data DC (so that one may be down without the DC falling silent), one
//! of each witness DC, an odd total (an even one costs a vote more and survives no more), and, where
//! there are three DCs or more, no DC whose loss would take the majority with it. All other nodes
//! are learners, so that every node answers Metadata from its own image.

use std::collections::BTreeMap;

use crate::quorum::majority;
use crate::{DcName, NodeId, Topology};

/// Voters of one data DC. A fourth would only add round trips to wait for.
pub const META_VOTERS_PER_DC_MAX: usize = 3;

/// The voters of `__meta`, ascending. Deterministic: the lowest ids of each DC.
pub fn meta_voters(topology: &Topology) -> Vec<NodeId> {
    let seats = seats(topology);
    let of = |(dc, seats): (&DcName, &usize)| -> Vec<NodeId> {
        topology.nodes_in(dc).take(*seats).map(|node| node.id).collect()
    };
    let mut voters: Vec<NodeId> = seats.iter().flat_map(of).collect();
    voters.sort();
    voters
}

/// All nodes that do not vote in `__meta`, ascending.
pub fn meta_learners(topology: &Topology) -> Vec<NodeId> {
    let voters = meta_voters(topology);
    topology.nodes().map(|node| node.id).filter(|id| !voters.contains(id)).collect()
}

/// The DCs whose loss, each alone, would leave `__meta` without a majority.
pub fn meta_indispensable_dcs(topology: &Topology) -> Vec<DcName> {
    let seats = seats(topology);
    let total: usize = seats.values().sum();
    let fatal = |lost: usize| total - lost < majority(total);
    seats.into_iter().filter(|(_, count)| fatal(*count)).map(|(dc, _)| dc).collect()
}

/// How many voters each DC has.
fn seats(topology: &Topology) -> BTreeMap<DcName, usize> {
    let most = |witness: bool| if witness { 1 } else { META_VOTERS_PER_DC_MAX };
    let seat = |dc: &crate::Dc| {
        let nodes = topology.nodes_in(&dc.name).count();
        (dc.name.clone(), nodes.min(most(dc.witness)))
    };
    let mut seats: BTreeMap<DcName, usize> = topology.dcs().iter().map(seat).collect();
    trim(&mut seats);
    seats
}

/// Takes a seat from the DC with most (the last by name among equals) until the total is odd and,
/// with three DCs or more, every DC may be lost. Ends at the latest when each DC has one seat, or
/// one DC of an even number has none.
fn trim(seats: &mut BTreeMap<DcName, usize>) {
    loop {
        let total: usize = seats.values().sum();
        let most = seats.values().copied().max().unwrap_or(0);
        let voting_dcs = seats.values().filter(|count| **count > 0).count();
        let too_heavy = voting_dcs >= 3 && total - most < majority(total);
        if total % 2 == 1 && !too_heavy {
            return;
        }
        let last = seats.values_mut().rev().find(|count| **count == most);
        *last.expect("a topology has a node") -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seats_of(counts: &[usize]) -> Vec<usize> {
        let name = |i: usize| format!("dc{i:02}").parse().unwrap();
        let mut seats = counts.iter().enumerate().map(|(i, count)| (name(i), *count)).collect();
        trim(&mut seats);
        seats.into_values().collect()
    }

    #[test]
    fn an_odd_total_that_any_dc_may_leave() {
        let cases: &[(&[usize], &[usize])] = &[
            (&[3, 3, 3], &[3, 3, 3]),
            (&[3, 3, 1], &[3, 3, 1]),
            (&[3, 3], &[3, 2]),
            (&[3, 1, 1], &[1, 1, 1]),
            (&[1, 1, 1, 1], &[1, 1, 1, 0]),
            (&[3, 3, 3, 3], &[3, 3, 3, 2]),
            (&[2], &[1]),
            (&[3], &[3]),
        ];
        for (counts, expected) in cases {
            assert_eq!(seats_of(counts), *expected, "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn meta_survives_the_loss_of_any_dc_when_there_are_three(
            counts in prop::collection::vec(1usize..=3, 1..8),
        ) {
            let seats = seats_of(&counts);
            let total: usize = seats.iter().sum();
            prop_assert_eq!(total % 2, 1);
            prop_assert!(seats.iter().zip(&counts).all(|(seat, nodes)| seat <= nodes));
            if counts.len() >= 3 {
                let most = *seats.iter().max().unwrap();
                prop_assert!(total - most >= majority(total), "{:?}", seats);
            }
        }
    }
}
