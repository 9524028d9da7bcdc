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

/// What a degraded topic has shown and not acknowledged is in no other DC, though it enforces sync again since.
#[test]
fn a_topic_that_is_recovering_is_fenced_as_a_degraded_one_is() {
    let fences = AckPolicy { fence: true, ..mode::DEGRADES };
    let mut cluster = Cluster::degraded_of(fences);
    cluster.stuck.extend([r(2), r(3)]);
    let waits = cluster.produce(r(1), sample(1, None), Acks::All);
    let now = cluster.now;
    cluster.cores.get_mut(&r(1)).unwrap().handle_lease(now, false);
    cluster.unstick();
    assert_eq!(cluster.outcome(waits), None, "shown by now, without a lease");
    let blocks = AckPolicy { degrade_after: None, ..fences };
    for id in 1..=3 {
        cluster.cores.get_mut(&r(id)).unwrap().handle_policy(cluster.now, blocks);
    }
    cluster.wait(1);
    assert_eq!(cluster.promise(), mode::Promise::Recovering);
    assert_eq!(cluster.outcome(waits), None);
    cluster.heal();
    cluster.record(Mode { sid: 2, degraded: false });
    assert_eq!(cluster.outcome(waits), Some(Ok(())), "in another DC, and on record");
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
