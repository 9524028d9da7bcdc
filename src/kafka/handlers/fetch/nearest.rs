//! Which replica a consumer should read from (KIP-392): `client.rack` names its DC.

use crate::model::{DcName, NodeId};

/// A replica as the leader knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub node: NodeId,
    pub dc: &'a DcName,
    /// In sync, alive, and with an endpoint that the client can reach.
    pub is_fit: bool,
}

/// A replica in the consumer's DC; `None`: the leader itself is as near as any. Partitions take
/// turns among the replicas of a DC, and each always gets the same, so that caches stay warm.
pub(super) fn nearest<'a>(
    rack: &str,
    leader_dc: &DcName,
    partition: i32,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Option<NodeId> {
    if rack.is_empty() || rack == leader_dc.as_str() {
        return None;
    }
    let mut near: Vec<NodeId> = candidates
        .into_iter()
        .filter(|candidate| candidate.is_fit && candidate.dc.as_str() == rack)
        .map(|candidate| candidate.node)
        .collect();
    near.sort_unstable();
    let turn = usize::try_from(partition).ok()?.checked_rem(near.len())?;
    near.get(turn).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_sent_to_a_fit_replica_of_its_own_dc() {
        let (fra, iad): (DcName, DcName) = ("fra".parse().unwrap(), "iad".parse().unwrap());
        let node = |id| NodeId::new(id).unwrap();
        let candidates = [(1, &fra, true), (4, &iad, true), (5, &iad, false), (6, &iad, true)];
        let ask = |rack: &str, partition| {
            let all = candidates.map(|(id, dc, is_fit)| Candidate { node: node(id), dc, is_fit });
            nearest(rack, &fra, partition, all)
        };
        assert_eq!(ask("iad", 0), Some(node(4)));
        assert_eq!(ask("iad", 1), Some(node(6)));
        assert_eq!(ask("iad", 2), Some(node(4)));
        assert_eq!(ask("fra", 0), None, "the leader is there");
        assert_eq!(ask("", 0), None, "the consumer does not say");
        assert_eq!(ask("sin", 0), None, "no replica is there");
        assert_eq!(ask("iad", -1), None);
    }
}
