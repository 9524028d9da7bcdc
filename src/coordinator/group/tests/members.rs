//! Joining, syncing, heartbeats, leaving, dying.

use super::*;

#[test]
fn a_first_join_is_given_an_id_and_must_come_again_with_it() {
    let mut s = Script::new();
    let ticket = s.ask_join(a_join());
    let refused = s.refused(ticket);
    assert_eq!(refused.error, Error::MemberIdRequired);
    assert!(refused.member_id.starts_with("c-"), "{}", refused.member_id);
    assert_eq!(refused.member_id.len(), "c-".len() + 36);
    let ticket = s.rejoin(&refused.member_id);
    let joined = s.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (1, &joined.member_id));
    assert_eq!(joined.protocol_name, "range");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(s.state(), Some(State::CompletingRebalance));
}

#[test]
fn a_join_before_version_4_enters_at_once() {
    let mut s = Script::new();
    let ticket = s.ask_join(Join { requires_known_member_id: false, ..a_join() });
    assert_eq!(s.joined(ticket).generation, 1);
}

#[test]
fn an_id_that_is_never_used_is_forgotten_and_the_group_with_it() {
    let mut s = Script::new();
    s.ask_join(a_join());
    assert_eq!(s.state(), Some(State::Empty));
    s.pass(Duration::from_secs(11));
    assert_eq!(s.state(), None);
    assert_eq!(s.shard.cx.timers.len(), 1, "only the look for expired offsets");
    assert_eq!(s.shard.state_bytes(), 0);
}

#[test]
fn two_members_rebalance_and_each_gets_its_part() {
    let mut s = Script::new();
    let (a, b, generation) = s.two_members();
    assert_eq!(generation, 2);
    assert_eq!(s.heartbeat(&a, generation), Ok(()));
    assert_eq!(s.heartbeat(&b, generation), Ok(()));
    let description = s.shard.describe(&"g".into()).unwrap();
    assert_eq!(description.state, State::Stable);
    let parts: Vec<_> = description.members.iter().map(|m| m.assignment.clone()).collect();
    assert!(parts.contains(&Bytes::from("left")) && parts.contains(&Bytes::from("right")));
}

#[test]
fn nobody_hears_of_an_assignment_before_it_is_committed() {
    let mut s = Script::new();
    let (a, join) = s.ask_to_enter(a_join());
    let generation = s.joined(join).generation;
    let sync = s.ask_sync(&a, generation, &[(&a, "all")]);
    assert!(s.waits(sync));
    assert_eq!(s.state(), Some(State::CompletingRebalance));
    s.commit_writes();
    assert_eq!(s.synced(sync), Ok("all".into()));
}

#[test]
fn an_assignment_that_is_lost_sends_everybody_back_to_join() {
    for (lost, heard) in [
        (AppendError::Unavailable, Error::CoordinatorNotAvailable),
        (AppendError::NotLeader, Error::NotCoordinator),
        (AppendError::TooLarge, Error::UnknownServerError),
    ] {
        let mut s = Script::new();
        let (a, join) = s.ask_to_enter(a_join());
        let generation = s.joined(join).generation;
        let sync = s.ask_sync(&a, generation, &[(&a, "all")]);
        s.lose_writes(lost);
        assert_eq!(s.synced(sync), Err(heard));
        assert_eq!(s.state(), Some(State::PreparingRebalance));
        let ticket = s.rejoin(&a);
        assert_eq!(s.joined(ticket).generation, generation + 1);
    }
}

#[test]
fn a_rebalance_that_overtakes_an_assignment_wins() {
    let mut s = Script::new();
    let (a, join) = s.ask_to_enter(a_join());
    let first = s.joined(join).generation;
    let sync = s.ask_sync(&a, first, &[(&a, "all")]);
    let (_, join_b) = s.ask_to_enter(a_join());
    assert_eq!(s.synced(sync), Err(Error::RebalanceInProgress));
    s.commit_writes();
    assert_eq!(s.state(), Some(State::PreparingRebalance));
    let join_a = s.rejoin(&a);
    assert_eq!(s.joined(join_a).generation, first + 1);
    assert_eq!(s.joined(join_b).generation, first + 1);
}

#[test]
fn when_the_leader_dies_another_member_leads() {
    let mut s = Script::new();
    let (a, b, generation) = s.two_members();
    for _ in 0..4 {
        s.pass(Duration::from_secs(3));
        let _ = s.heartbeat(&b, generation);
    }
    assert_eq!(s.state(), Some(State::PreparingRebalance));
    assert_eq!(s.heartbeat(&a, generation), Err(Error::UnknownMemberId));
    let ticket = s.rejoin(&b);
    let joined = s.joined(ticket);
    assert_eq!((joined.leader, joined.generation), (b, generation + 1));
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_behind() {
    let mut s = Script::new();
    let (a, b, generation) = s.two_members();
    let ticket = s.rejoin(&a);
    for _ in 0..7 {
        assert!(s.waits(ticket));
        // It heartbeats, and so keeps its session, but does not join.
        assert_eq!(s.heartbeat(&b, generation), Err(Error::RebalanceInProgress));
        s.pass(Duration::from_secs(9));
    }
    assert_eq!(s.joined(ticket).members.len(), 1);
    assert_eq!(s.heartbeat(&b, generation), Err(Error::UnknownMemberId));
}

#[test]
fn a_member_that_joins_and_never_syncs_is_removed() {
    let mut s = Script::new();
    let (a, b, _) = s.two_members();
    let (join_a, join_b) = (s.rejoin(&a), s.rejoin(&b));
    let generation = s.joined(join_a).generation;
    assert_eq!(s.joined(join_b).generation, generation);
    s.ask_sync(&a, generation, &[(&a, "left"), (&b, "right")]);
    s.commit_writes();
    for _ in 0..7 {
        let _ = s.heartbeat(&a, generation);
        let _ = s.heartbeat(&b, generation);
        s.pass(Duration::from_secs(9));
    }
    assert_eq!(s.heartbeat(&b, generation), Err(Error::UnknownMemberId));
    assert_eq!(s.heartbeat(&a, generation), Err(Error::RebalanceInProgress));
}

#[test]
fn the_last_member_to_leave_leaves_an_empty_generation_in_the_log() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    assert_eq!(s.leave(&a, None), Ok(()));
    assert_eq!(s.state(), Some(State::Empty));
    s.commit_writes();
    let next = s.take_over();
    assert_eq!(next.state(), Some(State::Empty));
    assert_eq!(next.shard.groups[&Id::from("g")].generation, generation + 1);
}

#[test]
fn leaving_answers_for_each_member() {
    let mut s = Script::new();
    let (a, _, _) = s.two_members();
    assert_eq!(s.leave("nobody", None), Err(Error::UnknownMemberId));
    assert_eq!(s.leave("", Some("nobody")), Err(Error::UnknownMemberId));
    assert_eq!(s.leave(&a, None), Ok(()));
    assert_eq!(s.state(), Some(State::PreparingRebalance));
    let ticket = s.ask_join(a_join());
    let pending = s.refused(ticket).member_id;
    assert_eq!(s.leave(&pending, None), Ok(()));
}

#[test]
fn members_with_a_wrong_word_are_told_which() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    let stranger = MemberId::from("stranger");
    assert_eq!(s.heartbeat(&stranger, generation), Err(Error::UnknownMemberId));
    assert_eq!(s.heartbeat(&a, generation - 1), Err(Error::IllegalGeneration));
    let sync = s.ask_sync(&a, generation + 1, &[]);
    assert_eq!(s.synced(sync), Err(Error::IllegalGeneration));
    let join = |s: &mut Script, join: Join| {
        let ticket = s.ask_join(join);
        s.refused(ticket).error
    };
    assert_eq!(join(&mut s, Join { member_id: stranger, ..a_join() }), Error::UnknownMemberId);
    assert_eq!(join(&mut s, Join { group: "".into(), ..a_join() }), Error::InvalidGroupId);
    for session_timeout_ms in [-1, 0, 5_999, 1_800_001, i32::MAX] {
        let error = join(&mut s, Join { session_timeout_ms, ..a_join() });
        assert_eq!(error, Error::InvalidSessionTimeout, "{session_timeout_ms}");
    }
    let protocols = vec![protocol("roundrobin", Bytes::new())];
    assert_eq!(join(&mut s, Join { protocols, ..a_join() }), Error::InconsistentGroupProtocol);
    let protocol_type = "connect".into();
    assert_eq!(join(&mut s, Join { protocol_type, ..a_join() }), Error::InconsistentGroupProtocol);
    assert_eq!(s.state(), Some(State::Stable), "and nothing has changed");
}

#[test]
fn a_join_that_is_refused_leaves_no_group_behind() {
    let mut s = Script::new();
    s.ask_join(Join { protocols: Vec::new(), ..a_join() });
    assert_eq!(s.state(), None);
}

#[test]
fn a_full_group_takes_nobody_but_keeps_its_own() {
    let config =
        Config { group_size_max: 1, initial_rebalance_delay: Duration::ZERO, ..Config::default() };
    let mut s = Script::with(config);
    let (a, generation) = s.one_member();
    let ticket = s.ask_join(a_join());
    assert_eq!(s.refused(ticket).error, Error::GroupMaxSizeReached);
    assert_eq!(s.heartbeat(&a, generation), Ok(()));
    let ticket = s.rejoin(&a);
    assert_eq!(s.joined(ticket).generation, generation + 1);
}

#[test]
fn the_protocol_that_most_prefer_and_all_support_is_chosen() {
    let mut s = Script::new();
    let offer =
        |names: &[&str]| names.iter().map(|n| protocol(n, Bytes::new())).collect::<Vec<_>>();
    let (_, generation) = s.one_member();
    s.ask_to_enter(Join { protocols: offer(&["sticky", "range"]), ..a_join() });
    let (_, join_c) = s.ask_to_enter(Join { protocols: offer(&["sticky", "range"]), ..a_join() });
    s.pass(Duration::from_secs(11));
    // The first member offered only `range`, and its session has ended.
    let joined = s.joined(join_c);
    assert_eq!(joined.protocol_name, "sticky");
    assert_eq!(joined.generation, generation + 1);
}

#[test]
fn a_repeated_join_hears_the_same_again() {
    let mut s = Script::new();
    let (a, join) = s.ask_to_enter(a_join());
    let first = s.joined(join);
    let again = s.rejoin(&a);
    assert_eq!(s.joined(again), first, "its first answer may be lost");
}

#[test]
fn a_join_that_waits_is_answered_when_another_takes_its_place() {
    let mut s = Script::new();
    let (a, b, _) = s.two_members();
    let first = s.rejoin(&a);
    let second = s.rejoin(&a);
    assert_eq!(s.refused(first).error, Error::RebalanceInProgress);
    assert!(s.waits(second));
    s.rejoin(&b);
    assert_eq!(s.joined(second).member_id, a);
}

#[test]
fn a_follower_that_joins_unchanged_disturbs_nobody_and_a_leader_rebalances() {
    let mut s = Script::new();
    let (a, b, generation) = s.two_members();
    let ticket = s.rejoin(&b);
    assert_eq!(s.joined(ticket).generation, generation);
    assert_eq!(s.state(), Some(State::Stable));
    let sync = s.ask_sync(&b, generation, &[]);
    assert_eq!(s.synced(sync), Ok("right".into()));
    let ticket = s.rejoin(&a);
    assert!(s.waits(ticket));
    assert_eq!(s.state(), Some(State::PreparingRebalance));
}

#[test]
fn the_first_join_waits_for_others_and_each_of_them_prolongs_it() {
    let delay = Duration::from_millis(500);
    let mut s = Script::with(Config { initial_rebalance_delay: delay, ..Config::default() });
    let (_, join_a) = s.ask_to_enter(a_join());
    s.pass(Duration::from_millis(400));
    let (_, join_b) = s.ask_to_enter(a_join());
    s.pass(Duration::from_millis(400));
    assert!(s.waits(join_a), "500 ms from the second member's");
    s.pass(Duration::from_millis(200));
    assert_eq!(s.joined(join_a).generation, 1);
    assert_eq!(s.joined(join_b).generation, 1);
}

#[test]
fn a_new_member_whose_client_has_gone_does_not_stay_for_ever() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    let ghost = s.ask_join(Join {
        requires_known_member_id: false,
        rebalance_timeout_ms: i32::MAX,
        ..a_join()
    });
    for _ in 0..34 {
        assert!(s.waits(ghost));
        assert_eq!(s.heartbeat(&a, generation), Err(Error::RebalanceInProgress));
        s.pass(Duration::from_secs(9));
    }
    assert_eq!(s.refused(ghost).error, Error::UnknownMemberId);
}

#[test]
fn everybody_who_waits_is_told_when_the_shard_resigns() {
    let mut s = Script::new();
    let (a, _, generation) = s.two_members();
    let commit = s.ask_commit(&a, generation, 7);
    let join = s.rejoin(&a);
    s.shard.handle_resigned(s.now);
    s.collect();
    assert_eq!(s.committed(commit), Err(Error::NotCoordinator));
    assert_eq!(s.refused(join).error, Error::NotCoordinator);
    assert_eq!(s.appends.len(), 1, "only the commit that was asked for before");
}

#[test]
fn a_new_coordinator_knows_the_members_and_gives_them_a_session() {
    let mut s = Script::new();
    let (a, b, generation) = s.two_members();
    s.pass(Duration::from_secs(9));
    let mut next = s.take_over();
    next.pass(Duration::from_secs(9));
    assert_eq!(next.heartbeat(&a, generation), Ok(()));
    next.pass(Duration::from_secs(2));
    assert_eq!(next.heartbeat(&b, generation), Err(Error::UnknownMemberId));
    assert_eq!(next.heartbeat(&a, generation), Err(Error::RebalanceInProgress));
}

#[test]
fn a_member_that_waits_for_an_answer_does_not_lose_its_session() {
    let mut s = Script::new();
    let (a, b, generation) = s.two_members();
    let join = s.rejoin(&a);
    // A heartbeat on its way starts a session that ends while the join waits.
    assert_eq!(s.heartbeat(&a, generation), Err(Error::RebalanceInProgress));
    for _ in 0..4 {
        assert_eq!(s.heartbeat(&b, generation), Err(Error::RebalanceInProgress));
        s.pass(Duration::from_secs(9));
    }
    assert!(s.waits(join));
    s.rejoin(&b);
    let generation = s.joined(join).generation;
    let sync = s.ask_sync(&a, generation, &[(&a, "left"), (&b, "right")]);
    assert_eq!(s.heartbeat(&a, generation), Ok(()));
    s.pass(Duration::from_secs(9));
    assert_eq!(s.heartbeat(&b, generation), Ok(()));
    s.pass(Duration::from_secs(9));
    assert!(s.waits(sync), "its write is still in flight");
    s.commit_writes();
    assert_eq!(s.synced(sync), Ok("left".into()));
    assert_eq!(s.heartbeat(&a, generation), Ok(()));
}
