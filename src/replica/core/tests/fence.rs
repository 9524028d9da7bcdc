//! A home without a lease (R17).

use super::*;
use crate::replica::host::Host;

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
fn a_grant_takes_the_lease_from_a_moved_home_also_where_it_never_ran_out() {
    let mut cluster = Cluster::new(AckPolicy { fence: true, ..ASYNC });
    let (now, at) = (cluster.now, TopicPartition::META);
    let from = |epoch| BTreeMap::from([(at, HomeEpoch::new(epoch).unwrap())]);
    let has_lease = |host: &Host| host.core(at).unwrap().has_lease();
    let mut host = Host::new();
    host.lease(now, true);
    host.insert(now, cluster.cores.remove(&r(1)).unwrap());
    host.lease_but(now, true, from(1));
    assert!(has_lease(&host), "it is of that epoch");
    host.lease_but(now, true, from(2));
    assert!(!has_lease(&host));
    let (ticket, deadline) = (Ticket(9), now.mono + Duration::from_secs(3));
    let batches = vec![sample(1, None)];
    host.produce(at, Queued { ticket, batches, acks: Acks::All, deadline });
    let replies = host.take_round(now).answers.replies;
    assert_eq!(replies, [(ticket, Err(ProduceError::Fenced))]);
    host.remove(at);
    host.insert(now, cluster.cores.remove(&r(2)).unwrap());
    assert!(!has_lease(&host), "nor has one that is opened after the grant");
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
