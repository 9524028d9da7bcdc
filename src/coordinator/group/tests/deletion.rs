//! DeleteGroups, OffsetDelete, retention.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Script {
    fn delete_group(&mut self) -> Ticket {
        self.ask(|shard, _, ticket, _| shard.handle_delete_groups(ticket, vec!["g".into()]))
    }

    fn deleted(&self, ticket: Ticket) -> Result<(), Error> {
        match self.answer(ticket) {
            Response::DeleteGroups(outcomes) => outcomes[0].1,
            other => panic!("{other:?}"),
        }
    }

    fn delete_offset(&mut self, topic: &str) -> Ticket {
        let partitions = vec![TopicPartition::new(topic, 0)];
        let delete = DeleteOffsets { group: "g".into(), partitions };
        self.ask(|shard, _, ticket, _| shard.handle_delete_offsets(ticket, delete))
    }

    fn offset_deleted(&self, ticket: Ticket) -> Result<(), Error> {
        match self.answer(ticket) {
            Response::DeleteOffsets(Ok(outcomes)) => outcomes[0].result,
            Response::DeleteOffsets(Err(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// A member that commits and heartbeats for a while, and then leaves.
    fn abandoned_group(&mut self) {
        let (a, generation) = self.one_member();
        self.ask_commit(&a, generation, 42);
        self.commit_writes();
        for _ in 0..3 {
            self.pass(Duration::from_secs(9));
            assert_eq!(self.heartbeat(&a, generation), Ok(()));
        }
        self.leave(&a, None).unwrap();
        self.commit_writes();
    }

    fn pass_and_commit(&mut self, time: Duration) {
        for _ in 0..24 {
            self.pass(time / 24);
            self.commit_writes();
        }
    }
}

#[test]
fn a_group_with_members_cannot_be_deleted_and_an_empty_one_leaves_nothing() {
    let mut s = Script::new();
    let ticket = s.delete_group();
    assert_eq!(s.deleted(ticket), Err(Error::GroupIdNotFound));
    let (a, generation) = s.one_member();
    s.ask_commit(&a, generation, 42);
    s.commit_writes();
    let ticket = s.delete_group();
    assert_eq!(s.deleted(ticket), Err(Error::NonEmptyGroup));
    s.leave(&a, None).unwrap();
    s.commit_writes();
    let ticket = s.delete_group();
    assert!(s.waits(ticket));
    assert_eq!(s.state(), Some(State::Dead));
    s.commit_writes();
    assert_eq!((s.deleted(ticket), s.state(), s.offset()), (Ok(()), None, None));
    assert_eq!(s.shard.state_bytes(), 0);
    let next = s.take_over();
    assert_eq!((next.state(), next.offset()), (None, None));
    assert!(next.shard.snapshot().is_empty());
}

#[test]
fn a_deletion_that_is_lost_leaves_the_group_as_it_was() {
    let mut s = Script::new();
    s.abandoned_group();
    let ticket = s.delete_group();
    let join = s.ask_join(a_join());
    assert_eq!(s.refused(join).error, Error::CoordinatorNotAvailable, "while it is undecided");
    s.lose_writes(AppendError::Unavailable);
    assert_eq!(s.deleted(ticket), Err(Error::CoordinatorNotAvailable));
    assert_eq!((s.state(), s.offset()), (Some(State::Empty), Some(42)));
    s.one_member();
}

#[test]
fn a_commit_that_is_in_flight_dies_with_its_group() {
    let mut s = Script::new();
    let nobody = MemberId::default();
    s.ask_commit(&nobody, -1, 5);
    s.delete_group();
    s.commit_writes();
    assert_eq!((s.offset(), s.take_over().offset()), (None, None));
    assert_eq!(s.state(), None);
}

#[test]
fn offsets_in_use_cannot_be_deleted_and_others_can() {
    let mut s = Script::new();
    let ticket = s.delete_offset("t");
    assert_eq!(s.offset_deleted(ticket), Err(Error::GroupIdNotFound));
    let (a, generation) = s.one_member();
    s.ask_commit(&a, generation, 42);
    s.commit_writes();
    let ticket = s.delete_offset("t");
    assert_eq!(s.offset_deleted(ticket), Err(Error::GroupSubscribedToTopic));
    let ticket = s.delete_offset("u");
    assert_eq!(s.offset_deleted(ticket), Ok(()), "nothing is committed there");
    s.leave(&a, None).unwrap();
    let ticket = s.delete_offset("t");
    assert_eq!(s.offset(), Some(42));
    s.commit_writes();
    assert_eq!((s.offset_deleted(ticket), s.offset()), (Ok(()), None));
    assert_eq!(s.take_over().offset(), None);
}

#[test]
fn a_commit_after_a_deletion_in_flight_stays() {
    let mut s = Script::new();
    let nobody = MemberId::default();
    s.ask_commit(&nobody, -1, 5);
    s.commit_writes();
    s.delete_offset("t");
    s.ask_commit(&nobody, -1, 6);
    s.commit_writes();
    assert_eq!((s.offset(), s.take_over().offset()), (Some(6), Some(6)));
}

#[test]
fn offsets_of_an_empty_group_expire_a_week_after_the_last_member_left() {
    let mut s = Script::new();
    s.abandoned_group();
    for _ in 0..6 {
        s.pass_and_commit(DAY);
    }
    assert_eq!(s.offset(), Some(42));
    s.pass_and_commit(2 * DAY);
    assert_eq!((s.offset(), s.state()), (None, None), "and the group with them");
    assert!(s.take_over().shard.snapshot().is_empty());
    assert_eq!(s.shard.state_bytes(), 0);
}

#[test]
fn offsets_of_a_living_group_do_not_expire_while_it_subscribes() {
    let mut s = Script::new();
    // Two commits: of the topic that the member subscribes to, and of another.
    let (a, generation) = s.one_member();
    let offset = |topic: &str| OffsetToCommit {
        partition: TopicPartition::new(topic, 0),
        offset: 1,
        leader_epoch: -1,
        metadata: String::new(),
    };
    s.ask_commit_of(CommitOffsets {
        group: "g".into(),
        generation,
        member_id: a.clone(),
        instance_id: None,
        retention_ms: None,
        offsets: vec![offset("t"), offset("u")],
    });
    s.commit_writes();
    for _ in 0..(9 * 24 * 60 * 60 / 9) {
        s.pass(Duration::from_secs(9));
        s.commit_writes();
        assert_eq!(s.heartbeat(&a, generation), Ok(()));
    }
    let all = s.shard.fetch_offsets(&FetchOffsets { group: "g".into(), partitions: None });
    assert_eq!(all.len(), 1);
    assert_eq!(&*all[0].partition.topic, "t");
}

#[test]
fn a_commits_own_retention_wins() {
    let mut s = Script::new();
    s.ask_commit_of(CommitOffsets {
        group: "g".into(),
        generation: -1,
        member_id: MemberId::default(),
        instance_id: None,
        retention_ms: Some(3_600_000),
        offsets: vec![OffsetToCommit {
            partition: TopicPartition::new("t", 0),
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    });
    s.commit_writes();
    s.pass_and_commit(DAY / 25);
    assert_eq!(s.offset(), Some(1));
    s.pass_and_commit(DAY / 20);
    assert_eq!(s.offset(), None);
}

#[test]
fn an_expiry_that_is_lost_is_tried_again() {
    let mut s = Script::new();
    s.abandoned_group();
    s.pass(8 * DAY);
    assert_eq!(s.appends.len(), 1, "one attempt at a time");
    assert_eq!(s.state(), Some(State::Dead));
    s.lose_writes(AppendError::Unavailable);
    assert_eq!((s.offset(), s.state()), (Some(42), Some(State::Empty)));
    s.pass(DAY);
    s.commit_writes();
    assert_eq!((s.offset(), s.state()), (None, None));
}

#[test]
fn a_group_whose_first_commit_and_deletion_are_lost_is_forgotten() {
    let mut s = Script::new();
    s.ask_commit(&MemberId::default(), -1, 5);
    let ticket = s.delete_group();
    s.lose_writes(AppendError::Unavailable);
    assert_eq!(s.deleted(ticket), Err(Error::CoordinatorNotAvailable));
    assert_eq!((s.state(), s.shard.state_bytes()), (None, 0));
}

#[test]
fn a_commit_in_flight_saves_an_offset_from_expiry() {
    let mut s = Script::new();
    let nobody = MemberId::default();
    s.ask_commit(&nobody, -1, 1);
    s.commit_writes();
    s.pass(7 * DAY - Duration::from_secs(60));
    let commit = s.ask_commit(&nobody, -1, 2);
    // A look for what has expired, before the commit is in: a tombstone would come after it.
    s.pass(Duration::from_secs(3_600));
    s.commit_writes();
    assert_eq!((s.committed(commit), s.offset()), (Ok(()), Some(2)));
    assert_eq!(s.take_over().offset(), Some(2));
}
