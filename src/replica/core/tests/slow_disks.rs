//! Disks that take their time: they delay what they write, and elect nobody.

use super::*;

#[test]
fn a_leader_whose_followers_disks_are_stuck_goes_on_leading() {
    let mut cluster = Cluster::new(ASYNC);
    let (leader, term) = (cluster.leader(), cluster.cores[&cluster.leader()].term());
    let followers = (1..=3).map(r).filter(|id| *id != leader);
    cluster.stuck.extend(followers);
    let waits = cluster.produce(leader, sample(1, None), Acks::All);
    // Many election timeouts, and less than the producer waits.
    cluster.tick(55);
    assert!(!cluster.replies.contains_key(&waits), "{:?}", cluster.replies[&waits]);
    assert_eq!((cluster.leader(), cluster.cores[&leader].term()), (leader, term));
    cluster.unstick();
    assert!(cluster.replies[&waits].is_ok());
}

#[test]
fn nobody_answers_for_a_term_that_is_not_on_its_disk() {
    let mut cluster = Cluster::new(ASYNC);
    let first = cluster.leader();
    cluster.stuck.insert(r(4));
    cluster.cut.insert(first);
    cluster.tick(100);
    let second = cluster.leader();
    assert!(cluster.cores[&second].is_silent(r(4)), "it cannot write the new term");
    assert!(!cluster.cores[&second].is_silent(r(5)));
    cluster.unstick();
    cluster.tick(20);
    assert!(!cluster.cores[&second].is_silent(r(4)));
}
