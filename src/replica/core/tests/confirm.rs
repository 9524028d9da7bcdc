//! Whether a leader still is one.

use super::*;

fn confirm(cluster: &mut Cluster, of: ReplicaId) -> Ticket {
    cluster.tickets += 1;
    let (ticket, deadline) = (Ticket(cluster.tickets), cluster.now.mono + Duration::from_secs(1));
    cluster.cores.get_mut(&of).unwrap().confirm(cluster.now, ticket, deadline);
    cluster.settle();
    ticket
}

#[test]
fn a_leader_that_a_majority_follows_hears_so_at_once() {
    let mut cluster = Cluster::new(ASYNC);
    let leader = cluster.leader();
    let epoch = cluster.cores[&leader].term().leader_epoch();
    cluster.cut = (4..=9).map(r).collect();
    let follower = (1..=3).map(r).find(|id| *id != leader).unwrap();
    cluster.cut.insert(follower);
    let ticket = confirm(&mut cluster, leader);
    assert_eq!(cluster.confirmed[&ticket], Ok(epoch), "two of three voters");
}

#[test]
fn a_leader_that_is_cut_off_hears_it_from_nobody() {
    let mut cluster = Cluster::new(ASYNC);
    let leader = cluster.leader();
    cluster.cut.insert(leader);
    let ticket = confirm(&mut cluster, leader);
    assert!(!cluster.confirmed.contains_key(&ticket), "learners' words do not count either");
    cluster.tick(30);
    let why = cluster.confirmed[&ticket];
    assert!(matches!(why, Err(ProduceError::NotLeader | ProduceError::TimedOut)), "{why:?}");
    let other = cluster.leader();
    let ticket = confirm(&mut cluster, other);
    assert_eq!(cluster.confirmed[&ticket], Ok(cluster.cores[&other].term().leader_epoch()));
}

#[test]
fn a_follower_does_not_ask() {
    let mut cluster = Cluster::new(ASYNC);
    let leader = cluster.leader();
    let follower = (1..=9).map(r).find(|id| *id != leader).unwrap();
    let ticket = confirm(&mut cluster, follower);
    assert_eq!(cluster.confirmed[&ticket], Err(ProduceError::NotLeader));
}
