//! Offsets: committed, lost, fetched, clamped.

use super::*;

#[test]
fn a_commit_is_answered_and_seen_once_it_is_committed() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    let commit = s.ask_commit(&a, generation, 42);
    assert!(s.waits(commit));
    assert_eq!(s.offset(), None);
    s.commit_writes();
    assert_eq!(s.committed(commit), Ok(()));
    assert_eq!(s.offset(), Some(42));
}

#[test]
fn a_commit_that_is_lost_was_never_seen() {
    for (lost, heard) in [
        (AppendError::Unavailable, Error::CoordinatorNotAvailable),
        (AppendError::NotLeader, Error::NotCoordinator),
        (AppendError::TooLarge, Error::InvalidCommitOffsetSize),
    ] {
        let mut s = Script::new();
        let (a, generation) = s.one_member();
        let first = s.ask_commit(&a, generation, 1);
        s.commit_writes();
        let second = s.ask_commit(&a, generation, 2);
        s.lose_writes(lost);
        assert_eq!((s.committed(first), s.committed(second)), (Ok(()), Err(heard)));
        assert_eq!(s.offset(), Some(1));
    }
}

#[test]
fn writes_take_effect_in_the_order_of_the_log_however_they_are_reported() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    let tickets = [1, 2, 3].map(|offset| s.ask_commit(&a, generation, offset));
    let ids: Vec<AppendId> = s.appends.iter().map(|(id, _)| *id).collect();
    for id in ids.into_iter().rev() {
        assert!(tickets.iter().all(|t| s.waits(*t)));
        s.shard.handle_appended(s.now, id, Ok(()));
        s.collect();
    }
    assert_eq!(s.offset(), Some(3));
}

#[test]
fn a_consumer_that_assigns_itself_commits_without_a_group() {
    let mut s = Script::new();
    let nobody = MemberId::default();
    let commit = s.ask_commit(&nobody, -1, 5);
    s.commit_writes();
    assert_eq!(s.committed(commit), Ok(()));
    assert_eq!((s.offset(), s.state()), (Some(5), Some(State::Empty)));
}

#[test]
fn a_commit_of_a_wrong_generation_or_stranger_is_refused() {
    let mut s = Script::new();
    let nobody = MemberId::default();
    let commit = s.ask_commit(&nobody, 3, 1);
    assert_eq!(s.committed(commit), Err(Error::IllegalGeneration), "of a group that is no more");
    assert_eq!(s.state(), None);
    let (a, generation) = s.one_member();
    let commit = s.ask_commit(&a, generation - 1, 1);
    assert_eq!(s.committed(commit), Err(Error::IllegalGeneration));
    let commit = s.ask_commit(&"stranger".into(), generation, 1);
    assert_eq!(s.committed(commit), Err(Error::UnknownMemberId));
    let commit = s.ask_commit(&nobody, -1, 1);
    assert_eq!(s.committed(commit), Err(Error::UnknownMemberId), "the group has members");
    assert!(s.appends.is_empty());
}

#[test]
fn members_commit_while_others_join_and_not_before_they_are_assigned() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    let (_, join_b) = s.ask_to_enter(a_join());
    let commit = s.ask_commit(&a, generation, 9);
    s.commit_writes();
    assert_eq!(s.committed(commit), Ok(()));
    let join_a = s.rejoin(&a);
    let generation = s.joined(join_a).generation;
    assert_eq!(s.joined(join_b).generation, generation);
    let commit = s.ask_commit(&a, generation, 10);
    assert_eq!(s.committed(commit), Err(Error::RebalanceInProgress));
}

#[test]
fn metadata_that_is_too_large_fails_for_its_partition_only() {
    let mut s = Script::new();
    let offset = |partition, bytes| OffsetToCommit {
        partition: TopicPartition::new("t", partition),
        offset: 1,
        leader_epoch: -1,
        metadata: "m".repeat(bytes),
    };
    let ticket = s.ask_commit_of(CommitOffsets {
        group: "g".into(),
        generation: -1,
        member_id: MemberId::default(),
        instance_id: None,
        retention_ms: None,
        offsets: vec![offset(0, 4_096), offset(1, 4_097)],
    });
    s.commit_writes();
    let Response::CommitOffsets(outcomes) = s.answer(ticket) else { panic!() };
    assert_eq!(outcomes[0].result, Ok(()));
    assert_eq!(outcomes[1].result, Err(Error::OffsetMetadataTooLarge));
    let all = s.shard.fetch_offsets(&FetchOffsets { group: "g".into(), partitions: None });
    assert_eq!(all.len(), 1);
}

#[test]
fn offsets_survive_with_their_epoch_metadata_and_time() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    s.ask_commit(&a, generation, 42);
    s.commit_writes();
    let next = s.take_over();
    let fetch = FetchOffsets { group: "g".into(), partitions: None };
    let committed = CommittedOffset {
        offset: 42,
        leader_epoch: 131_073,
        metadata: "m".into(),
        commit_timestamp_ms: s.now.unix_ms,
    };
    let expected =
        FetchedOffset { partition: TopicPartition::new("t", 0), committed: Some(committed) };
    assert_eq!(next.shard.fetch_offsets(&fetch), [expected]);
}

#[test]
fn a_partition_that_commits_nothing_refuses_more_before_the_memory_is_full() {
    let mut s = Script::new();
    let nobody = MemberId::default();
    let mut refused = 0;
    for offset in 0..200_000 {
        let commit = s.ask_commit(&nobody, -1, offset);
        if let Some(Response::CommitOffsets(outcomes)) = s.answers.remove(&commit) {
            assert_eq!(outcomes[0].result, Err(Error::CoordinatorNotAvailable));
            refused += 1;
        }
    }
    assert!(refused > 0);
    s.commit_writes();
    let commit = s.ask_commit(&nobody, -1, 7);
    s.commit_writes();
    assert_eq!((s.committed(commit), s.offset()), (Ok(()), Some(7)));
}

#[test]
fn an_offset_beyond_its_epochs_end_is_led_back_to_it() {
    let table = [
        (100, None, 100, false),
        (100, Some(150), 100, false),
        (100, Some(100), 100, false),
        (100, Some(99), 99, true),
        (100, Some(0), 0, true),
    ];
    for (offset, epoch_end, expected, was_clamped) in table {
        let clamped = Clamped { offset: expected, was_clamped };
        assert_eq!(clamp(offset, epoch_end), clamped, "{offset} {epoch_end:?}");
    }
}

#[test]
fn who_is_led_back_is_told_until_it_commits_again() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    s.ask_commit(&a, generation, 42);
    let led_back = |s: &Script, end| {
        let found = s.shard.led_back(|of, committed| {
            assert_eq!((of, committed.leader_epoch), (&TopicPartition::new("t", 0), 131_073));
            end
        });
        found
            .iter()
            .map(|one| (one.group.to_string(), one.committed.offset, one.end))
            .collect::<Vec<_>>()
    };
    assert_eq!(led_back(&s, Some(40)), [], "it is not committed yet");
    s.commit_writes();
    assert_eq!(led_back(&s, Some(40)), [("g".to_owned(), 42, 40)]);
    assert_eq!((led_back(&s, Some(42)), led_back(&s, None)), (vec![], vec![]));
    s.ask_commit(&a, generation, 40);
    s.commit_writes();
    assert_eq!(led_back(&s, Some(40)), []);
}
