//! Replicas that are far behind: whose missing entries only a disk has.

use super::*;
use crate::replica::core::raft_log::Start;

/// With these, a hundred batches are more than the leader keeps in memory.
const LARGE: usize = 64 << 10;
const MANY: usize = 100;

/// Learner 4 has missed `MANY` large batches.
fn far_behind(missing: u64) -> Cluster {
    let mut cluster = Cluster::new(ASYNC);
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.cut.insert(r(missing));
    for _ in 0..MANY {
        cluster.produce(r(1), sized(1, None, LARGE), Acks::All);
    }
    cluster.tick(10);
    cluster.appended.clear();
    cluster
}

/// The same, back and about to get its first range.
fn catching_up(replica: u64) -> Cluster {
    let mut cluster = far_behind(replica);
    cluster.holds = true;
    cluster.cut.clear();
    cluster.tick(10);
    assert!(cluster.fetched.iter().all(|(to, _)| *to == r(replica)));
    assert_eq!(cluster.cores[&r(1)].catching_up().collect::<Vec<_>>(), [r(replica)]);
    cluster.holds = false;
    cluster
}

fn sources(cluster: &Cluster) -> BTreeSet<u64> {
    cluster.fetched.iter().map(|(_, wanted)| u64::from(wanted.source.as_u32())).collect()
}

fn assert_equal_logs(cluster: &Cluster, one: u64, other: u64) {
    assert_eq!(cluster.disks[&r(one)], cluster.disks[&r(other)]);
    assert_eq!(cluster.hw(one), cluster.hw(other));
}

#[test]
fn a_learner_far_behind_takes_ranges_from_its_own_datacenter_and_appends_go_on_from_there() {
    let mut cluster = far_behind(4);
    cluster.cut.clear();
    cluster.tick(20);
    assert_equal_logs(&cluster, 4, 1);
    assert_eq!(sources(&cluster), BTreeSet::from([5]), "the WAN is crossed once");
    assert!(cluster.appended[&r(4)] < 20, "not as appends: {:?}", cluster.appended);
    assert_eq!(cluster.cores[&r(1)].catching_up().count(), 0);
    let next = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.replies[&next].is_ok());
    assert_equal_logs(&cluster, 4, 1);
}

#[test]
fn a_voter_far_behind_takes_them_from_its_leader() {
    let mut cluster = far_behind(3);
    cluster.cut.clear();
    cluster.tick(20);
    assert_equal_logs(&cluster, 3, 1);
    assert_eq!(sources(&cluster), BTreeSet::from([1]));
}

#[test]
fn where_the_near_source_is_gone_the_leader_gives_the_rest() {
    let mut cluster = catching_up(4);
    // Not silent for long enough to be known as gone.
    cluster.cut.extend([r(5), r(6)]);
    cluster.tick(20);
    assert_equal_logs(&cluster, 4, 1);
    assert!(sources(&cluster).contains(&1));
}

#[test]
fn no_more_than_two_ranges_wait_for_the_disk() {
    let mut cluster = catching_up(4);
    cluster.stuck.insert(r(4));
    cluster.tick(20);
    assert!(cluster.fetched.len() <= 2, "{:?}", cluster.fetched);
    cluster.unstick();
    cluster.tick(20);
    assert_equal_logs(&cluster, 4, 1);
}

#[test]
fn a_cut_ends_it_and_it_goes_on_where_the_log_ends() {
    let mut cluster = catching_up(4);
    cluster.stuck.insert(r(4));
    cluster.tick(10);
    cluster.cut.insert(r(4));
    cluster.unstick();
    let had = cluster.cores[&r(4)].log().last();
    assert!(had > LogIndex(10), "a range or two arrived: {had}");
    cluster.tick(500);
    assert_eq!(cluster.cores[&r(1)].catching_up().count(), 0, "the leader gave up waiting");
    let before = cluster.fetched.len();
    cluster.cut.clear();
    cluster.tick(100);
    assert_equal_logs(&cluster, 4, 1);
    let again = cluster.fetched[before..].iter().map(|(_, wanted)| wanted.from).min();
    assert!(again.is_none_or(|from| from > had), "from {again:?}, had {had}");
}

#[test]
fn a_new_leader_takes_over_where_the_old_one_was() {
    let mut cluster = catching_up(4);
    cluster.stuck.insert(r(4));
    cluster.tick(10);
    cluster.cut.insert(r(1));
    cluster.tick(60);
    cluster.unstick();
    let leader = cluster.leader();
    cluster.tick(100);
    assert_equal_logs(&cluster, 4, leader.0);
}

#[test]
fn entries_that_are_not_the_leaders_are_refused_whoever_sends_them() {
    let mut cluster = far_behind(4);
    // Another datacenter's log, as after a disk that came back from elsewhere.
    let disk = cluster.disks.get_mut(&r(5)).unwrap();
    for entry in disk.values_mut().skip(20) {
        entry.term = crate::model::Term(entry.term.0 + 1);
    }
    cluster.cut.clear();
    cluster.tick(30);
    assert!(sources(&cluster).contains(&5), "it was asked");
    assert_equal_logs(&cluster, 4, 1);
}

#[test]
fn a_range_does_not_put_off_the_election_of_another_leader() {
    let mut cluster = catching_up(3);
    let (from, wanted) = *cluster.fetched.last().expect("it asked");
    assert_eq!(from, r(3));
    let before = cluster.cores[&r(3)].raw.raft.election_elapsed;
    cluster.cut.insert(r(1));
    let past = cluster.disks[&r(1)].range(wanted.from..).take(3);
    let entries: Vec<log::Entry> = past.map(|(_, e)| e.clone()).collect();
    let now = cluster.now;
    cluster.cores.get_mut(&r(3)).unwrap().handle_range(now, wanted.from, Some(entries));
    assert_eq!(cluster.cores[&r(3)].raw.raft.election_elapsed, before);
}

#[test]
fn a_replica_that_retention_overtakes_begins_at_a_snapshot_instead() {
    let mut cluster = catching_up(4);
    cluster.holds = true;
    let leader = cluster.cores.get_mut(&r(1)).unwrap();
    let (index, term) = (LogIndex(50), leader.term());
    let offset = cluster.disks[&r(1)][&index].next_offset();
    leader.handle_start_moved(Start { index, term, offset }, &Bytes::new());
    cluster.tick(10);
    assert_eq!(cluster.cores[&r(4)].log().start().index, index);
    cluster.holds = false;
    cluster.tick(60);
    assert_eq!(cluster.hw(4), cluster.hw(1));
}
