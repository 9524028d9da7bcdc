//! Which node carries a control frame or a call round a dead link. Pure.

use std::time::Duration;

use isobar_topology::{DcName, NodeId};

/// A peer to which control is up.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: NodeId,
    pub(crate) dc: &'a DcName,
    pub(crate) rtt: Option<Duration>,
    /// It has said that it reaches the destination.
    pub(crate) reaches: bool,
}

/// A node that reaches the destination: of a third DC if there is one, since whatever broke our path may
/// break our neighbours' too; then the nearest; then the lowest id, so that the choice is steady.
pub(crate) fn choose<'a>(
    ours: &DcName,
    theirs: &DcName,
    candidates: impl Iterator<Item = Candidate<'a>>,
) -> Option<NodeId> {
    let rank = |candidate: &Candidate<'_>| {
        let third_dc = candidate.dc != ours && candidate.dc != theirs;
        (!third_dc, candidate.rtt.unwrap_or(Duration::MAX), candidate.node)
    };
    candidates.filter(|candidate| candidate.reaches).min_by_key(rank).map(|found| found.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_node_of_a_third_dc_that_reaches_the_destination_is_chosen() {
        let [fra, iad, sin] = ["fra", "iad", "sin"].map(|dc| dc.parse::<DcName>().unwrap());
        let candidate = |node, dc, ms, reaches| Candidate {
            node: NodeId::new(node).unwrap(),
            dc,
            rtt: Some(Duration::from_millis(ms)),
            reaches,
        };
        let choose = |candidates: &[Candidate<'_>]| {
            choose(&fra, &iad, candidates.iter().cloned()).map(NodeId::as_u32)
        };
        let home = candidate(2, &fra, 1, true);
        let far = candidate(7, &sin, 170, true);
        let near = candidate(8, &sin, 160, true);
        let blind = candidate(9, &sin, 10, false);
        assert_eq!(choose(&[home.clone(), far.clone(), near, blind.clone()]), Some(8));
        assert_eq!(choose(&[home.clone(), far, blind.clone()]), Some(7));
        assert_eq!(choose(&[home, blind.clone()]), Some(2));
        assert_eq!(choose(&[blind]), None);
    }
}
