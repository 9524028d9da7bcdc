//! A home that is planned to move, and replicas that stand in for lost ones.

use super::*;

const SYNC: AckPolicy = AckPolicy { sync_to: 1, ..ASYNC };

fn next() -> HomeEpoch {
    HomeEpoch::new(2).unwrap()
}

fn hand_off(cluster: &mut Cluster, to: u64) -> Ticket {
    cluster.tickets += 1;
    let (ticket, leader) = (Ticket(cluster.tickets), cluster.leader());
    let deadline = cluster.now.mono + Duration::from_secs(5);
    let core = cluster.cores.get_mut(&leader).unwrap();
    core.hand_off(cluster.now, ticket, (next(), dc(to)), deadline);
    cluster.settle();
    ticket
}

#[test]
fn a_leader_that_hands_off_takes_nothing_more_and_says_when_the_target_has_it_all() {
    let mut cluster = Cluster::new(SYNC);
    let leader = cluster.leader();
    let before = cluster.produce(leader, sample(2, None), Acks::All);
    cluster.stuck = (4..=6).map(r).collect();
    let ticket = hand_off(&mut cluster, 4);
    assert!(!cluster.handed_off.contains_key(&ticket), "nothing of it is on a disk in iad");
    let late = cluster.produce(leader, sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&late], Err(ProduceError::NotLeader));
    assert!(cluster.replies[&before].is_ok(), "sin lets it through the gate");
    cluster.write_one(r(5));
    assert!(!cluster.handed_off.contains_key(&ticket), "one of three");
    let has_it = |cluster: &Cluster| {
        (4..=6).filter(|id| cluster.cores[&r(*id)].progress().handed_off).collect::<Vec<_>>()
    };
    assert_eq!(has_it(&cluster), [5], "who has it on disk may promise the next epoch at once");
    cluster.write_one(r(6));
    let last = cluster.cores[&leader].log().last();
    assert_eq!(cluster.handed_off[&ticket], Ok(last));
    let again = hand_off(&mut cluster, 4);
    assert_eq!(cluster.handed_off[&again], Ok(last), "there is one such entry");
}

#[test]
fn a_target_that_does_not_answer_is_told_in_time_and_the_leader_stays_stopped() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.cut = (4..=6).map(r).collect();
    let ticket = hand_off(&mut cluster, 4);
    cluster.tick(120);
    assert_eq!(cluster.handed_off[&ticket], Err(ProduceError::TimedOut));
    let late = cluster.produce(cluster.leader(), sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&late], Err(ProduceError::NotLeader), "its epoch ends (R18)");
}

/// Whoever carried the move to this home, and has not heard that it ended, asks again.
#[test]
fn a_home_that_has_begun_does_not_hand_off_so_that_it_begins() {
    let mut cluster = Cluster::new(ASYNC);
    let (ticket, leader) = (Ticket(99), cluster.leader());
    let core = cluster.cores.get_mut(&leader).unwrap();
    core.hand_off(cluster.now, ticket, (HomeEpoch::FIRST, dc(4)), Duration::from_secs(9));
    cluster.settle();
    assert_eq!(cluster.handed_off[&ticket], Err(ProduceError::NotLeader));
    let produced = cluster.produce(leader, sample(1, None), Acks::All);
    assert!(cluster.replies[&produced].is_ok(), "it goes on");
}

#[test]
fn a_follower_has_nothing_to_hand_off() {
    let mut cluster = Cluster::new(ASYNC);
    let ticket = Ticket(99);
    let core = cluster.cores.get_mut(&r(4)).unwrap();
    core.hand_off(cluster.now, ticket, (next(), dc(4)), Duration::from_secs(9));
    cluster.settle();
    assert_eq!(cluster.handed_off[&ticket], Err(ProduceError::NotLeader));
}

#[test]
fn a_stand_in_says_so_until_it_has_what_a_leader_had_shown_after_it_came() {
    let mut cluster = Cluster::without(ASYNC, BTreeSet::from([r(6)]));
    let leader = cluster.leader();
    cluster.produce(leader, sample(3, None), Acks::All);
    // It begins empty, in the place of one that was lost.
    let config = cluster.cores[&r(6)].config().clone();
    let mut log = Restored::default();
    log.conf_state.voters = vec![1, 2, 3];
    log.conf_state.learners = (4..=9).collect();
    log.hard_state.term = HomeEpoch::FIRST.first_term().0;
    let restart = Restart { log, joins: true, ..Restart::default() };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    cluster.cores.insert(r(6), Core::new(config, restart, 6, &logger));
    cluster.tick(10);
    assert!(cluster.caught_up.is_empty(), "it has heard of nothing");
    cluster.stuck.insert(r(6));
    cluster.cut.clear();
    cluster.tick(60);
    assert!(cluster.caught_up.is_empty(), "it has heard of all, and nothing is on its disk");
    cluster.unstick();
    cluster.tick(10);
    assert_eq!(cluster.caught_up, BTreeSet::from([r(6)]));
}
