//! A home without a lease (R17).

use super::*;

#[test]
fn a_fenced_home_acknowledges_nothing_until_its_lease_is_back() {
    let mut cluster = Cluster::new(AckPolicy { fence: true, ..ASYNC });
    let now = cluster.now;
    cluster.cores.get_mut(&r(1)).unwrap().handle_lease(now, false);
    let refused = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&refused], Err(ProduceError::Fenced));
    cluster.cores.get_mut(&r(1)).unwrap().handle_lease(now, true);
    let taken = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.replies[&taken].is_ok());
}

#[test]
fn a_policy_that_begins_to_fence_while_the_lease_is_out_does_so_at_once() {
    let mut cluster = Cluster::new(AckPolicy { sync_to: 1, ..ASYNC });
    let now = cluster.now;
    let fence = AckPolicy { fence: true, ..ASYNC };
    let leader = cluster.cores.get_mut(&r(1)).unwrap();
    leader.handle_lease(now, false);
    leader.handle_policy(now, fence);
    let refused = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&refused], Err(ProduceError::Fenced));
}
