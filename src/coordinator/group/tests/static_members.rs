//! KIP-345.

use super::*;

fn a_static_join(instance: &str) -> Join {
    Join { instance_id: Some(instance.into()), ..a_join() }
}

/// Static members `x` (the leader) and `y`, stable.
fn two_static_members(s: &mut Script) -> (MemberId, MemberId, i32) {
    let join_x = s.ask_join(a_static_join("x"));
    let x = s.joined(join_x).member_id;
    let join_y = s.ask_join(a_static_join("y"));
    let again = s.ask_join(Join { member_id: x.clone(), ..a_static_join("x") });
    let generation = s.joined(again).generation;
    let y = s.joined(join_y).member_id;
    s.ask_sync(&y, generation, &[]);
    s.ask_sync(&x, generation, &[(&x, "left"), (&y, "right")]);
    s.commit_writes();
    assert_eq!(s.state(), Some(State::Stable));
    (x, y, generation)
}

#[test]
fn a_static_member_needs_no_second_join_and_carries_its_name() {
    let mut s = Script::new();
    let ticket = s.ask_join(a_static_join("x"));
    assert!(s.joined(ticket).member_id.starts_with("x-"));
}

#[test]
fn a_static_member_that_restarts_keeps_its_part_and_nobody_rebalances() {
    let mut s = Script::new();
    let (x, y, generation) = two_static_members(&mut s);
    let ticket = s.ask_join(a_static_join("y"));
    assert!(s.waits(ticket), "its new id is not in the log yet");
    assert_eq!(s.heartbeat(&y, generation), Ok(()), "and the old one is still good");
    s.commit_writes();
    let joined = s.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (generation, &x));
    assert_eq!(s.state(), Some(State::Stable));
    let sync = s.ask_sync(&joined.member_id, generation, &[]);
    assert_eq!(s.synced(sync), Ok("right".into()));
    assert_eq!(s.heartbeat(&x, generation), Ok(()));
    let mut next = s.take_over();
    assert_eq!(next.heartbeat(&joined.member_id, generation), Ok(()));
    assert_eq!(next.heartbeat(&y, generation), Err(Error::UnknownMemberId));
}

#[test]
fn the_former_self_of_a_static_member_is_fenced() {
    let mut s = Script::new();
    let (_, y, generation) = two_static_members(&mut s);
    s.ask_join(a_static_join("y"));
    s.commit_writes();
    let heartbeat = Heartbeat {
        group: "g".into(),
        generation,
        member_id: y.clone(),
        instance_id: Some("y".into()),
    };
    let ticket = s.ask(|shard, now, ticket, _| shard.handle_heartbeat(now, ticket, heartbeat));
    assert_eq!(s.answer(ticket), Response::Heartbeat(Err(Error::FencedInstanceId)));
    let ticket = s.ask_join(Join { member_id: y.clone(), ..a_static_join("y") });
    assert_eq!(s.refused(ticket).error, Error::FencedInstanceId);
    assert_eq!(s.leave(&y, Some("y")), Err(Error::FencedInstanceId));
}

#[test]
fn a_static_leader_that_restarts_is_told_whether_to_assign() {
    for (skips_assignment, leads) in [(true, true), (false, false)] {
        let mut s = Script::new();
        let (x, _, generation) = two_static_members(&mut s);
        let ticket = s.ask_join(Join { skips_assignment, ..a_static_join("x") });
        s.commit_writes();
        let joined = s.joined(ticket);
        assert_eq!(joined.generation, generation);
        assert_eq!(joined.skip_assignment, leads);
        assert_eq!(joined.leader == joined.member_id, leads);
        assert_eq!(joined.members.len(), if leads { 2 } else { 0 });
        assert_ne!(joined.member_id, x);
    }
}

#[test]
fn a_static_member_that_comes_back_with_another_subscription_rebalances() {
    let mut s = Script::new();
    two_static_members(&mut s);
    let protocols = vec![protocol("range", subscription(&["t", "u"]))];
    let ticket = s.ask_join(Join { protocols, ..a_static_join("y") });
    assert_eq!(s.state(), Some(State::PreparingRebalance));
    assert!(s.waits(ticket) && s.appends.is_empty());
}

#[test]
fn a_replacement_that_is_lost_leaves_the_former_self_in_place() {
    let mut s = Script::new();
    let (_, y, generation) = two_static_members(&mut s);
    let ticket = s.ask_join(a_static_join("y"));
    s.lose_writes(AppendError::Unavailable);
    assert_eq!(s.refused(ticket).error, Error::CoordinatorNotAvailable);
    assert_eq!(s.heartbeat(&y, generation), Ok(()));
}

#[test]
fn replacements_of_two_members_are_written_one_after_the_other() {
    let mut s = Script::new();
    let (x, y, generation) = two_static_members(&mut s);
    let (join_x, join_y) = (s.ask_join(a_static_join("x")), s.ask_join(a_static_join("y")));
    assert_eq!(s.appends.len(), 1);
    s.commit_writes();
    let (x2, y2) = (s.joined(join_x).member_id, s.joined(join_y).member_id);
    let mut next = s.take_over();
    for old in [x, y] {
        assert_eq!(next.heartbeat(&old, generation), Err(Error::UnknownMemberId));
    }
    for new in [x2, y2] {
        assert_eq!(next.heartbeat(&new, generation), Ok(()));
    }
}

#[test]
fn a_rebalance_that_overtakes_a_replacement_takes_the_member_along() {
    let mut s = Script::new();
    let (x, _, generation) = two_static_members(&mut s);
    let join_y = s.ask_join(a_static_join("y"));
    assert_eq!(s.leave("", Some("x")), Ok(()));
    assert_eq!(s.heartbeat(&x, generation), Err(Error::UnknownMemberId));
    s.commit_writes();
    let joined = s.joined(join_y);
    assert_eq!((joined.generation, joined.members.len()), (generation + 1, 1));
    assert_eq!(joined.leader, joined.member_id);
}

#[test]
fn two_selves_of_a_static_member_in_one_rebalance_end_with_the_later() {
    let mut s = Script::new();
    let (x, _, _) = two_static_members(&mut s);
    s.leave(&x, Some("x")).unwrap();
    let (first, second) = (s.ask_join(a_static_join("y")), s.ask_join(a_static_join("y")));
    assert_eq!(s.joined(first).members.len(), 1);
    // The first one's join ended the phase; the second one's begins another.
    assert_eq!(s.joined(second).members.len(), 1);
    assert_ne!(s.joined(first).member_id, s.joined(second).member_id);
}

#[test]
fn a_static_member_keeps_its_place_through_a_rebalance_until_its_session_ends() {
    let mut s = Script::new();
    let (x, y, generation) = two_static_members(&mut s);
    let protocols = vec![protocol("range", subscription(&["u"]))];
    let ticket = s.ask_join(Join { member_id: x.clone(), protocols, ..a_static_join("x") });
    for _ in 0..7 {
        assert_eq!(s.heartbeat(&y, generation), Err(Error::RebalanceInProgress));
        s.pass(Duration::from_secs(9));
    }
    assert_eq!(s.joined(ticket).members.len(), 2, "it did not rejoin and is counted still");
}

#[test]
fn a_group_of_static_members_that_are_all_gone_becomes_empty() {
    let mut s = Script::new();
    two_static_members(&mut s);
    s.pass(Duration::from_secs(200));
    assert_eq!(s.state(), Some(State::Empty));
}
