//! Degrading and restoring (R7, R8, R9).

use super::*;
pub(super) use crate::replica::core::Promise;

const AFTER: Duration = Duration::from_secs(4);
pub(super) const DEGRADES: AckPolicy =
    AckPolicy { sync_to: 1, degrade_after: Some(AFTER), ..ASYNC };

fn mode(sid: u64, degraded: bool) -> Mode {
    Mode { sid, degraded }
}

impl Cluster {
    /// What `__meta` has, told to everybody at home.
    pub(super) fn record(&mut self, recorded: Mode) {
        for id in 1..=3 {
            let core = self.cores.get_mut(&r(id)).unwrap();
            core.handle_recorded(self.now, HomeEpoch::FIRST, recorded);
        }
        self.settle();
    }

    /// Seconds go by.
    pub(super) fn wait(&mut self, seconds: u32) {
        self.tick(seconds * 20);
    }

    pub(super) fn promise(&self) -> Promise {
        self.cores[&self.leader()].promise().expect("a sync topic")
    }

    pub(super) fn outcome(&self, ticket: Ticket) -> Option<Result<(), ProduceError>> {
        self.replies.get(&ticket).map(|answer| answer.map(|_| ()))
    }

    fn last_ask(&mut self) -> Option<(u64, Mode)> {
        self.asks.drain(..).next_back().map(|(_, ask)| (ask.expected, ask.mode))
    }

    /// Cut off for long enough, and on record.
    fn degraded() -> Self {
        Self::degraded_of(DEGRADES)
    }

    pub(super) fn degraded_of(policy: AckPolicy) -> Self {
        let mut cluster = Self::new(policy);
        cluster.cut_off_home();
        cluster.wait(8);
        assert_eq!(cluster.last_ask(), Some((0, mode(1, true))));
        cluster.record(mode(1, true));
        assert_eq!(cluster.promise(), Promise::Degraded);
        cluster
    }
}

#[test]
fn a_starved_gate_asks_after_the_timeout_and_weakens_nothing_by_itself() {
    let mut cluster = Cluster::new(DEGRADES);
    cluster.cut_off_home();
    let waits = cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.wait(3);
    assert_eq!(cluster.last_ask(), None, "not yet");
    cluster.wait(2);
    assert_eq!(cluster.last_ask(), Some((0, mode(1, true))));
    cluster.wait(60);
    assert_eq!(cluster.promise(), Promise::Sync, "without __meta nothing is weakened (R9)");
    assert_eq!(cluster.outcome(waits), Some(Err(ProduceError::TimedOut)));
    let refused = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.outcome(refused), Some(Err(ProduceError::NotEnoughReplicas)));
}

#[test]
fn a_topic_that_blocks_never_asks() {
    let mut cluster = Cluster::new(AckPolicy { degrade_after: None, ..DEGRADES });
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.wait(60);
    assert_eq!(cluster.last_ask(), None);
}

#[test]
fn a_grant_lets_the_home_acknowledge_alone_for_acks_one_as_for_all() {
    let mut cluster = Cluster::degraded();
    let all = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.outcome(all), Some(Ok(())));
    cluster.cut.extend([r(2), r(3)]);
    let leader = cluster.produce(r(1), sample(1, None), Acks::Leader);
    assert_eq!(cluster.outcome(leader), None, "acks=1 waits for the home's majority");
}

#[test]
fn the_weaker_rule_waits_until_its_entry_is_committed_at_home() {
    let mut cluster = Cluster::new(DEGRADES);
    cluster.cut_off_home();
    let waits = cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.wait(2);
    cluster.cores.get_mut(&r(1)).unwrap().handle_recorded(
        cluster.now,
        HomeEpoch::FIRST,
        mode(1, true),
    );
    let before = cluster.last(1);
    while cluster.last(1) == before {
        cluster.unstick();
        cluster.stuck.extend([r(2), r(3)]);
        cluster.tick(1);
    }
    assert_eq!(cluster.promise(), Promise::Recovering, "it is in the log and not committed");
    assert_ne!(cluster.outcome(waits), Some(Ok(())));
    // A second grant would have the number of the entry that makes it sync again.
    cluster.asks.clear();
    cluster.wait(2);
    assert_eq!(cluster.promise(), Promise::Recovering);
    assert_eq!(cluster.last_ask(), None, "what was granted has not been used");
    cluster.unstick();
    assert_eq!(cluster.promise(), Promise::Degraded);
}

#[test]
fn silence_alone_degrades_nothing_while_the_disks_over_there_answer() {
    let mut cluster = Cluster::new(DEGRADES);
    cluster.wait(20);
    let leader = cluster.cores.get_mut(&r(1)).unwrap();
    leader.heard.clear();
    let before = leader.log().last();
    cluster.wait(1);
    assert!(cluster.cores[&r(1)].log().last() > before, "a probe (H14)");
    cluster.wait(20);
    assert_eq!(cluster.last_ask(), None);
}

#[test]
fn it_is_sync_again_by_itself_enforced_before_it_is_on_record() {
    let mut cluster = Cluster::degraded();
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.heal();
    cluster.wait(3);
    assert_eq!(cluster.promise(), Promise::Recovering);
    assert_eq!(cluster.cores[&r(1)].sync_to(), 1, "k is enforced");
    assert_eq!(cluster.last_ask(), Some((1, mode(2, false))));
    cluster.record(mode(2, false));
    assert_eq!(cluster.promise(), Promise::Sync);
    cluster.wait(5);
    assert_eq!(cluster.last_ask(), None, "that is all");
}

#[test]
fn an_old_grant_does_not_count_again() {
    let mut cluster = Cluster::degraded();
    cluster.heal();
    cluster.wait(3);
    cluster.asks.clear();
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.record(mode(1, true));
    cluster.wait(8);
    assert_eq!(cluster.promise(), Promise::Recovering, "it enforces 2, the grant is 1");
    assert_eq!(cluster.last_ask(), Some((1, mode(3, true))), "it asks for another one");
    let other = HomeEpoch::new(2).unwrap();
    cluster.cores.get_mut(&r(1)).unwrap().handle_recorded(cluster.now, other, mode(9, true));
    cluster.wait(2);
    assert_eq!(cluster.promise(), Promise::Recovering, "a grant of another home is none");
    cluster.record(mode(3, true));
    assert_eq!(cluster.promise(), Promise::Degraded);
}

#[test]
fn a_grant_that_comes_when_all_is_well_again_is_taken_back() {
    let mut cluster = Cluster::new(DEGRADES);
    cluster.cut_off_home();
    cluster.wait(8);
    cluster.heal();
    cluster.wait(4);
    cluster.asks.clear();
    cluster.record(mode(1, true));
    assert_eq!(cluster.promise(), Promise::Recovering);
    cluster.wait(3);
    assert_eq!(cluster.last_ask(), Some((1, mode(2, false))));
}

#[test]
fn a_new_leader_obeys_its_log() {
    let mut cluster = Cluster::degraded();
    cluster.cores.get_mut(&r(1)).unwrap().handle_step_down(cluster.now);
    cluster.wait(2);
    let leader = cluster.leader();
    assert_ne!(leader, r(1));
    assert_eq!(cluster.promise(), Promise::Degraded);
    let acked = cluster.produce(leader, sample(1, None), Acks::All);
    assert_eq!(cluster.outcome(acked), Some(Ok(())));
    cluster.heal();
    cluster.wait(4);
    assert_eq!(cluster.last_ask(), Some((1, mode(2, false))));
}

#[test]
fn a_leader_after_the_one_that_strengthened_confirms_by_an_entry_of_its_own() {
    let mut cluster = Cluster::degraded();
    cluster.heal();
    cluster.wait(3);
    cluster.asks.clear();
    cluster.cores.get_mut(&r(1)).unwrap().handle_step_down(cluster.now);
    cluster.wait(4);
    assert_ne!(cluster.leader(), r(1));
    assert_eq!(cluster.last_ask(), Some((1, mode(2, false))));
}

#[test]
fn a_policy_that_blocks_by_now_is_enforced_at_once() {
    let mut cluster = Cluster::degraded();
    let blocks = AckPolicy { degrade_after: None, ..DEGRADES };
    for id in 1..=3 {
        cluster.cores.get_mut(&r(id)).unwrap().handle_policy(cluster.now, blocks);
    }
    cluster.wait(1);
    assert_eq!(cluster.promise(), Promise::Recovering);
    let refused = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.outcome(refused), Some(Err(ProduceError::NotEnoughReplicas)));
}
