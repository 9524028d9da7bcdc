//! Quiet replicas, as sentences.

use super::*;

/// Three seconds, and two looks.
const QUIET_AFTER: u64 = 150;

fn quiet(partitions: i32) -> Cluster {
    let mut cluster = Cluster::new(partitions);
    cluster.ticks_until(QUIET_AFTER, Cluster::is_all_quiet);
    cluster
}

#[test]
fn what_nobody_uses_costs_a_beat_for_each_pair_of_nodes_however_much_of_it_there_is() {
    let cost = |partitions| {
        let mut cluster = quiet(partitions);
        (cluster.messages, cluster.beats) = (0, 0);
        cluster.tick(120);
        (cluster.messages, cluster.beats)
    };
    let few = cost(1);
    assert_eq!(few.0, 0, "no heartbeat of a group");
    assert!(few.1 > 0 && few.1 <= 2 * 40 * 5, "{few:?}");
    assert_eq!(cost(20), few);
}

#[test]
fn a_produce_wakes_its_group_alone_and_everybody_has_it() {
    let mut cluster = quiet(3);
    let taken = cluster.produce(n(1), 1);
    assert!(cluster.replies[&taken]);
    cluster.tick(4);
    assert_eq!(cluster.quiet(), 2 * NODES as usize);
    for node in 1..=NODES {
        assert_eq!(cluster.status(n(node), 1).progress.high_watermark, Offset(1), "node {node}");
    }
    cluster.ticks_until(QUIET_AFTER, Cluster::is_all_quiet);
}

#[test]
fn a_leader_that_dies_quietly_is_followed_as_soon_as_one_that_is_heard_of() {
    let mut cluster = quiet(3);
    assert!(cluster.hosts[&n(2)].follows(n(1)), "so it is owed beats");
    assert!(!cluster.hosts[&n(4)].follows(n(1)) && !cluster.hosts[&n(2)].follows(n(3)));
    let lost = |cluster: &mut Cluster| {
        cluster.cut.insert(n(1));
        let led = |c: &Cluster| (0..3).all(|partition| c.leader(partition).is_some());
        cluster.ticks_until(200, led)
    };
    let took = lost(&mut cluster);
    // The same timeouts are drawn where nothing is quiet, and count from the last heartbeat.
    let mut loud = Cluster::new(3);
    loud.hosts.values_mut().for_each(|host| host.idle_ticks = u64::MAX);
    loud.tick(QUIET_AFTER);
    let heard_of = lost(&mut loud);
    assert!(took.abs_diff(heard_of) <= 3, "{took} and {heard_of} ticks");
    let leader = cluster.leader(0).unwrap();
    let taken = cluster.produce(leader, 0);
    assert!(cluster.replies[&taken]);
    assert_eq!(cluster.hosts[&n(4)].core(at(0)).unwrap().progress().high_watermark, Offset(1));
}

#[test]
fn a_quiet_leader_that_is_cut_off_does_not_lead_for_ever() {
    let mut cluster = quiet(1);
    cluster.cut.extend([2, 3].map(n));
    let deposed = |c: &Cluster| !c.hosts[&n(1)].core(at(0)).unwrap().is_leader();
    let took = cluster.ticks_until(200, deposed);
    // As long as Raft's own look at the quorum takes at most.
    assert!(took <= 2 * u64::from(ELECTION_TICKS_MIN), "{took} ticks");
}

#[test]
fn a_dead_follower_is_missed_as_soon_as_one_of_a_group_that_is_used() {
    let mut cluster = quiet(1);
    assert_eq!(cluster.status(n(1), 0).in_sync.len(), NODES as usize);
    cluster.cut.insert(n(5));
    let missed = |c: &Cluster| c.hosts[&n(1)].core(at(0)).unwrap().in_sync().len() == 5;
    let took = cluster.ticks_until(200, missed);
    assert!(took <= 60, "{took} ticks");
    assert_eq!(cluster.leader(0), Some(n(1)));
    cluster.cut.clear();
    cluster.ticks_until(300, Cluster::is_all_quiet);
}

#[test]
fn a_beat_that_is_lost_begins_a_new_session_and_no_election() {
    let mut cluster = Cluster::new(2);
    // From here on beats go round; the first with news is lost to some.
    cluster.tick(21);
    let leads = |c: &Cluster| (c.leader(0), c.hosts[&n(1)].core(at(0)).unwrap().term());
    let before = leads(&cluster);
    for _ in 0..10 {
        cluster.tick(15);
        cluster.deaf.extend([2, 3, 6].map(n));
    }
    cluster.ticks_until(2 * QUIET_AFTER, Cluster::is_all_quiet);
    assert_eq!(leads(&cluster), before);
}

#[test]
fn a_node_that_does_not_answer_beats_keeps_everything_awake() {
    let mut cluster = Cluster::new(2);
    cluster.old.insert(n(3));
    cluster.tick(3 * QUIET_AFTER);
    assert_eq!(cluster.quiet(), 0);
    assert_eq!(cluster.leader(0), Some(n(1)));
}

#[test]
fn a_node_that_was_restarted_knows_of_no_quiet_leaders_and_all_begin_anew() {
    let mut cluster = quiet(1);
    let core = cluster.hosts.get_mut(&n(5)).unwrap().cores.remove(&at(0)).unwrap();
    let mut host = Host::new();
    host.insert(cluster.now, core);
    cluster.hosts.insert(n(5), host);
    cluster.ticks_until(12, |c| !c.hosts[&n(1)].is_quiet(at(0)));
    cluster.ticks_until(2 * QUIET_AFTER, Cluster::is_all_quiet);
}

#[test]
fn what_a_quiet_follower_lacks_at_most_is_as_old_as_the_last_beat() {
    let mut cluster = quiet(1);
    cluster.tick(100);
    let told = cluster.status(n(4), 0);
    assert!(told.is_quiet && told.progress.role == Role::Learner);
    assert!(told.staleness.unwrap() <= TICK * 12, "{told:?}");
    assert!(cluster.now.wall_ms - told.known_until_ms.unwrap() <= 600);
    let last = told.known_until_ms;
    cluster.cut.insert(n(1));
    cluster.tick(9);
    let told = cluster.status(n(4), 0);
    assert!(told.staleness.unwrap() >= TICK * 9, "it grows with the clock");
    assert!(told.known_until_ms >= last && told.known_until_ms <= Some(cluster.now.wall_ms - 450));
}

#[test]
fn a_follower_whose_group_was_moved_says_so_and_its_old_leader_wakes() {
    let mut cluster = quiet(1);
    cluster.hosts.get_mut(&n(6)).unwrap().remove(at(0));
    cluster.ticks_until(40, |c| !c.hosts[&n(1)].is_quiet(at(0)));
}
