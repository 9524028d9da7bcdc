//! The exposure budget as sentences: what is refused, what waits, what a new leader may not forget.

use isobar_topology::policy::OnLag;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Two seconds.
const LAG_TICKS: u32 = 40;

fn bound(on_lag: OnLag) -> AckPolicy {
    let lag = Some(TICK * LAG_TICKS);
    AckPolicy { budget: Budget { lag, bytes: None, records: None, on_lag }, ..ASYNC }
}

fn bytes(most: u64) -> AckPolicy {
    let budget = Budget { lag: None, bytes: Some(most), records: None, on_lag: OnLag::Reject };
    AckPolicy { budget, ..ASYNC }
}

const OVER: Result<Produced, ProduceError> =
    Err(ProduceError::OverBudget { pause: Duration::ZERO });

impl Cluster {
    /// The home alone; each other DC is as good as gone.
    pub(super) fn cut_off_home(&mut self) {
        self.cut.extend((4..=9).map(r));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.tick(10);
    }

    pub(super) fn last(&self, id: u64) -> LogIndex {
        self.cores[&r(id)].log().last()
    }

    fn span(&self, id: u64) -> Duration {
        let at_stake = self.cores[&r(id)].at_stake().unwrap();
        assert!(at_stake.is_known);
        at_stake.span
    }

    fn answer(&self, ticket: Ticket) -> Option<Result<Produced, ProduceError>> {
        self.replies.get(&ticket).copied()
    }
}

#[test]
fn a_cut_off_home_takes_records_for_as_long_as_the_budget_and_then_none() {
    let mut cluster = Cluster::new(bound(OnLag::Reject));
    cluster.cut_off_home();
    let mut taken = Vec::new();
    for tick in 0..2 * LAG_TICKS {
        let before = cluster.last(1);
        let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
        let answer = cluster.answer(ticket).expect("at once");
        assert!(answer.is_ok() || answer == OVER, "{answer:?}");
        assert_eq!(answer.is_ok(), cluster.last(1) > before, "what is refused is not appended");
        taken.push(answer.is_ok());
        assert!(cluster.span(1) <= TICK * LAG_TICKS, "at tick {tick}");
        cluster.tick(1);
    }
    assert_eq!(taken.iter().filter(|taken| **taken).count() as u32, LAG_TICKS + 1);
    assert!(taken.is_sorted_by(|a, b| a >= b), "none after the first that was refused");
    let age = cluster.cores[&r(1)].exposures(cluster.now.mono)[&dc(4)].age;
    assert_eq!(age, TICK * 2 * LAG_TICKS, "the age of the oldest goes on growing");
    cluster.heal();
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.answer(ticket).unwrap().is_ok());
}

#[test]
fn one_datacenter_that_follows_is_enough_whichever_it_is() {
    for gone in [4..=6, 7..=9] {
        let mut cluster = Cluster::new(bound(OnLag::Reject));
        cluster.cut.extend(gone.map(r));
        for _ in 0..2 * LAG_TICKS {
            let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
            assert!(cluster.answer(ticket).unwrap().is_ok());
            cluster.tick(1);
        }
        assert_eq!(cluster.span(1), Duration::ZERO);
    }
}

#[test]
fn one_learner_of_three_is_no_datacenter_here_either() {
    let mut cluster = Cluster::new(bound(OnLag::Reject));
    cluster.cut.extend([4, 5, 7, 8].map(r));
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.tick(LAG_TICKS + 1);
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.answer(ticket), Some(OVER));
}

#[test]
fn bytes_are_counted_with_the_produce_that_asks_and_those_of_the_same_round() {
    let size = sized(1, None, 39).len() as u64;
    let mut cluster = Cluster::new(bytes(3 * size));
    cluster.cut_off_home();
    let first = cluster.produce(r(1), sized(1, None, 39), Acks::All);
    assert!(cluster.answer(first).unwrap().is_ok());
    let deadline = cluster.now.mono + SECOND;
    let core = cluster.cores.get_mut(&r(1)).unwrap();
    for ticket in 11..=13 {
        let (ticket, batches) = (Ticket(ticket), vec![sized(1, None, 39)]);
        core.queue_produce(Queued { ticket, batches, acks: Acks::All, deadline });
    }
    core.flush(cluster.now);
    cluster.settle();
    let taken: Vec<bool> = (11..=13).map(|t| cluster.answer(Ticket(t)).unwrap().is_ok()).collect();
    assert_eq!(taken, [true, true, false]);
    assert_eq!(cluster.cores[&r(1)].at_stake().unwrap().bytes, 3 * size);
}

#[test]
fn a_batch_that_would_never_fit_is_refused_for_good() {
    let mut cluster = Cluster::new(bytes(100));
    let ticket = cluster.produce(r(1), sized(1, None, 100), Acks::All);
    assert_eq!(cluster.answer(ticket), Some(Err(ProduceError::LargerThanBudget)));
}

#[test]
fn a_retry_of_what_is_in_the_log_is_answered_at_the_end_of_the_budget_too() {
    let mut cluster = Cluster::new(bound(OnLag::Reject));
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, Some(0)), Acks::All);
    cluster.tick(LAG_TICKS + 1);
    let retry = cluster.produce(r(1), sample(1, Some(0)), Acks::All);
    assert!(cluster.answer(retry).unwrap().unwrap().duplicate);
    let next = cluster.produce(r(1), sample(1, Some(1)), Acks::All);
    assert_eq!(cluster.answer(next), Some(OVER));
}

/// Here it learns that late, since one of the two datacenters that it waits for is away.
#[test]
fn a_new_leader_speaks_for_those_before_it_once_it_has_shown_an_entry_of_its_own() {
    let mut cluster = Cluster::new(AckPolicy { sync_to: 2, ..ASYNC });
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.tick(5);
    assert!(cluster.answer(ticket).unwrap().is_ok());
    let known = |cluster: &Cluster, id| cluster.cores[&r(id)].known_until_ms(cluster.now).unwrap();
    assert_eq!(known(&cluster, 1), cluster.now.wall_ms);
    cluster.cut.extend([1, 7, 8, 9].map(r));
    let (before, heard) = (cluster.now.wall_ms, known(&cluster, 4));
    cluster.tick(60);
    let leader = cluster.leader();
    assert!(leader != r(1) && !cluster.cores[&leader].knows_watermark());
    assert!(cluster.cores[&r(4)].leader() == Some(leader) && heard <= before);
    assert!(known(&cluster, 4) <= before, "the one before may have acknowledged since");
    assert!(known(&cluster, leader.0) <= before, "nor does it know of itself");
    cluster.heal();
    assert!(known(&cluster, 4) > before);
}

/// After a lossy cut a producer may leave a gap, but not where a batch is that was only refused.
#[test]
fn what_a_budget_has_refused_is_no_gap_of_a_cut() {
    let mut cluster = Cluster::new(bytes(300));
    cluster.cores.get_mut(&r(1)).unwrap().producers.set_lossy_cut(Some(LogIndex::ZERO));
    cluster.cut_off_home();
    let produce = |cluster: &mut Cluster, sequence, bytes| {
        let ticket = cluster.produce(r(1), sized(1, Some(sequence), bytes), Acks::All);
        cluster.answer(ticket).unwrap()
    };
    assert!(produce(&mut cluster, 0, 0).is_ok());
    assert_eq!(produce(&mut cluster, 1, 200), OVER);
    let later = Err(ProduceError::AfterLoss { expected: 1, found: 2 });
    assert_eq!([2, 2, 2].map(|sequence| produce(&mut cluster, sequence, 0)), [later; 3]);
    cluster.heal();
    assert!(produce(&mut cluster, 1, 200).is_ok());
    assert!(produce(&mut cluster, 2, 0).is_ok());
}

#[test]
fn a_new_leader_takes_nothing_before_another_datacenter_has_all_that_it_inherited() {
    let mut cluster = Cluster::new(bound(OnLag::Reject));
    cluster.cut_off_home();
    let inherited = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.answer(inherited).unwrap().is_ok());
    cluster.cut.insert(r(1));
    cluster.tick(60);
    let leader = cluster.leader();
    let refused = cluster.produce(leader, sample(1, None), Acks::All);
    assert_eq!(cluster.answer(refused), Some(OVER));
    assert!(!cluster.cores[&leader].at_stake().unwrap().is_known);
    let age = cluster.cores[&leader].exposures(cluster.now.mono)[&dc(4)].age;
    assert!(age > Duration::ZERO, "what it inherited is exposed");
    cluster.cut = BTreeSet::from([r(1)]);
    cluster.tick(10);
    let taken = cluster.produce(leader, sample(1, None), Acks::All);
    assert!(cluster.answer(taken).unwrap().is_ok());
}

#[test]
fn the_first_leader_of_all_has_inherited_nothing() {
    let mut cluster = Cluster::without(bound(OnLag::Reject), (4..=9).map(r).collect());
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.answer(ticket).unwrap().is_ok());
}

#[test]
fn throttled_producers_wait_longer_and_longer_and_are_told_so() {
    let mut cluster = Cluster::new(bound(OnLag::Throttle));
    cluster.cut_off_home();
    let mut pauses = Vec::new();
    for _ in 0..LAG_TICKS {
        let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
        let asked = cluster.now.mono;
        while cluster.answer(ticket).is_none() && cluster.now.mono < asked + SECOND * 2 {
            cluster.tick(1);
        }
        if let Some(Ok(produced)) = cluster.answer(ticket) {
            assert!(cluster.now.mono - asked >= produced.throttle);
            pauses.push(produced.throttle);
        }
        cluster.tick(1);
    }
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(pauses.is_sorted() && *pauses.last().unwrap() > SECOND / 10, "{pauses:?}");
    assert!(pauses.len() < LAG_TICKS as usize / 2 + 10, "they are fewer than without");
    assert!(cluster.span(1) <= TICK * LAG_TICKS);
}

#[test]
fn at_the_end_of_the_budget_a_throttled_produce_waits_for_room_in_its_turn() {
    let mut cluster = Cluster::new(bound(OnLag::Throttle));
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, Some(0)), Acks::All);
    cluster.tick(LAG_TICKS + 1);
    let before = cluster.last(1);
    let waits: Vec<Ticket> =
        (1..=3).map(|n| cluster.produce(r(1), sample(1, Some(n)), Acks::All)).collect();
    cluster.tick(20);
    assert!(waits.iter().all(|ticket| cluster.answer(*ticket).is_none()));
    assert_eq!(cluster.last(1), before);
    cluster.heal();
    let offsets: Vec<i64> =
        waits.iter().map(|t| cluster.answer(*t).unwrap().unwrap().base_offset.0).collect();
    assert_eq!(offsets, [1, 2, 3]);
}

#[test]
fn a_throttled_produce_for_which_there_is_no_room_in_time_is_refused_and_not_appended() {
    let mut cluster = Cluster::new(bound(OnLag::Throttle));
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.tick(LAG_TICKS + 1);
    let before = cluster.last(1);
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.tick(59);
    assert_eq!(cluster.answer(ticket), None);
    cluster.tick(1);
    assert_eq!(cluster.answer(ticket), Some(Err(ProduceError::OverBudget { pause: SECOND })));
    assert_eq!(cluster.last(1), before);
}

#[test]
fn what_waits_for_the_budget_is_told_when_its_leader_leads_no_more() {
    let mut cluster = Cluster::new(bound(OnLag::Throttle));
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.tick(LAG_TICKS + 1);
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.cut.insert(r(1));
    cluster.tick(40);
    assert_eq!(cluster.answer(ticket), Some(Err(ProduceError::NotLeader)));
}

#[test]
fn a_topic_that_continues_takes_everything_and_says_that_it_is_over_its_budget() {
    let mut cluster = Cluster::new(bound(OnLag::Continue));
    cluster.cut_off_home();
    for _ in 0..2 * LAG_TICKS {
        let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
        assert!(cluster.answer(ticket).unwrap().is_ok());
        let passed = cluster.span(1) > TICK * LAG_TICKS;
        assert_eq!(cluster.cores[&r(1)].is_over_budget(), passed);
        cluster.tick(1);
    }
    assert!(cluster.cores[&r(1)].is_over_budget());
    cluster.heal();
    assert!(!cluster.cores[&r(1)].is_over_budget());
}

#[test]
fn a_changed_budget_counts_what_is_at_stake_already() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.cut_off_home();
    cluster.produce(r(1), sample(1, None), Acks::All);
    cluster.tick(LAG_TICKS + 1);
    let now = cluster.now;
    let change = |cluster: &mut Cluster, ack| {
        cluster.cores.get_mut(&r(1)).unwrap().handle_policy(now, ack);
        let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
        cluster.answer(ticket)
    };
    assert_eq!(change(&mut cluster, bound(OnLag::Reject)), Some(OVER));
    assert_eq!(change(&mut cluster, bound(OnLag::Throttle)), None, "it waits");
    let Some(Ok(_)) = change(&mut cluster, ASYNC) else { panic!("without a budget it is taken") };
    assert_eq!(cluster.replies.values().filter(|answer| answer.is_ok()).count(), 3);
}

#[test]
fn a_sync_topic_has_no_budget() {
    let mut cluster = Cluster::new(AckPolicy { sync_to: 1, ..bound(OnLag::Reject) });
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.answer(ticket).unwrap().is_ok());
    assert_eq!(cluster.cores[&r(1)].at_stake(), None);
}
