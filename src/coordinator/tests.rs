//! Shards over a partition in memory: who waits for what, and what survives whom.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{oneshot, watch};

use super::batch;
use super::group::*;
use super::runtime::State;
use super::{Handle, Partition, ReadError, Seams};
use crate::model::Offset;
use crate::model::batch::{Header, place};

/// What the high watermark does with appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Commits,
    /// They wait for the next mode.
    Stalls,
    Loses(AppendError),
}

/// A partition in memory, as its leader in one epoch sees it. Clones share the log, not the drop.
struct Fake {
    log: Arc<Mutex<Log>>,
    mode: watch::Receiver<Mode>,
    is_readable: watch::Receiver<bool>,
    /// Dropped with the shard's task.
    _alive: oneshot::Sender<()>,
}

#[derive(Default)]
struct Log {
    start: i64,
    next: i64,
    batches: Vec<Bytes>,
}

/// The test's side of it.
struct World {
    log: Arc<Mutex<Log>>,
    mode: watch::Sender<Mode>,
    is_readable: watch::Sender<bool>,
    handle: Handle,
}

impl Log {
    fn append(&mut self, batch: &Bytes) -> Offset {
        let offset = Offset(self.next);
        let mut placed = BytesMut::from(&batch[..]);
        place(&mut placed, offset, 1);
        let placed = placed.freeze();
        self.next = Header::parse(&placed).unwrap().next_offset().0;
        self.batches.push(placed);
        offset
    }
}

impl Partition for Fake {
    async fn append(&self, batch: Bytes) -> Result<Offset, AppendError> {
        let offset = match *self.mode.borrow() {
            Mode::Commits | Mode::Stalls => self.log.lock().unwrap().append(&batch),
            Mode::Loses(error) => return Err(error),
        };
        let mut mode = self.mode.clone();
        let mode = *mode.wait_for(|m| *m != Mode::Stalls).await.unwrap();
        match mode {
            Mode::Loses(error) => Err(error),
            Mode::Commits | Mode::Stalls => Ok(offset),
        }
    }

    async fn committed(&self) -> Result<Range<Offset>, ReadError> {
        self.is_readable.clone().wait_for(|readable| *readable).await.unwrap();
        let log = self.log.lock().unwrap();
        Ok(Offset(log.start)..Offset(log.next))
    }

    async fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<Bytes>, ReadError> {
        let log = self.log.lock().unwrap();
        let mut bytes = 0;
        let ends_after = |b: &&Bytes| Header::parse(b).unwrap().next_offset() > from;
        let fits = |b: &&Bytes| {
            let fits = bytes < bytes_max;
            bytes += b.len();
            fits
        };
        Ok(log.batches.iter().filter(ends_after).take_while(fits).cloned().collect())
    }

    async fn advance_log_start(&self, offset: Offset) -> Result<(), AppendError> {
        let mut log = self.log.lock().unwrap();
        log.start = offset.0;
        log.batches.retain(|b| Header::parse(b).unwrap().next_offset() > offset);
        Ok(())
    }
}

impl World {
    fn new() -> Self {
        let config = Config {
            initial_rebalance_delay: Duration::ZERO,
            session_timeout_min: Duration::from_millis(1),
            ..Config::default()
        };
        Self {
            log: Arc::default(),
            mode: watch::Sender::new(Mode::Commits),
            is_readable: watch::Sender::new(true),
            handle: Handle::new(config, 1, Seams::system()),
        }
    }

    /// The receiver ends when the shard's task has.
    fn elect(&self, epoch: i32) -> oneshot::Receiver<()> {
        let (alive, ended) = oneshot::channel();
        let fake = Fake {
            log: Arc::clone(&self.log),
            mode: self.mode.subscribe(),
            is_readable: self.is_readable.subscribe(),
            _alive: alive,
        };
        self.handle.elected(0, epoch, fake);
        ended
    }

    async fn until(&self, state: Option<State>) {
        while self.handle.shards().first().map(|(_, _, s)| *s) != state {
            tokio::task::yield_now().await;
        }
    }

    async fn lead(&self, epoch: i32) -> oneshot::Receiver<()> {
        let ended = self.elect(epoch);
        self.until(Some(State::Active)).await;
        ended
    }

    async fn commit(&self, offset: i64) -> Result<(), Error> {
        let outcomes = self.handle.commit_offsets(a_commit(offset, "")).await;
        outcomes[0].result
    }

    async fn offset(&self) -> Result<Option<i64>, Error> {
        let partitions = Some(vec![TopicPartition::new("t", 0)]);
        let fetch = FetchOffsets { group: "g".into(), partitions };
        let fetched = self.handle.fetch_offsets(fetch).await?;
        Ok(fetched[0].committed.as_ref().map(|c| c.offset))
    }
}

fn a_commit(offset: i64, metadata: &str) -> CommitOffsets {
    CommitOffsets {
        group: "g".into(),
        generation: -1,
        member_id: MemberId::default(),
        instance_id: None,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            partition: TopicPartition::new("t", 0),
            offset,
            leader_epoch: 1,
            metadata: metadata.into(),
        }],
    }
}

fn a_join() -> Join {
    Join {
        group: "g".into(),
        member_id: MemberId::default(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        requires_known_member_id: false,
        skips_assignment: true,
    }
}

#[tokio::test]
async fn a_group_lives_through_its_coordinators() {
    let world = World::new();
    world.lead(1).await;
    let joined = world.handle.join(a_join()).await.unwrap();
    let sync = Sync {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(joined.member_id.clone(), Bytes::from("all"))],
    };
    assert_eq!(world.handle.sync(sync).await.unwrap().assignment, "all");
    let commit = CommitOffsets {
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        ..a_commit(42, "")
    };
    assert_eq!(world.handle.commit_offsets(commit).await[0].result, Ok(()));
    world.handle.resigned(0, 1);
    assert_eq!(world.offset().await, Err(Error::NotCoordinator));
    world.lead(2).await;
    assert_eq!(world.offset().await, Ok(Some(42)));
    let heartbeat = Heartbeat {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id,
        instance_id: None,
    };
    assert_eq!(world.handle.heartbeat(heartbeat).await, Ok(()));
    let listed = world.handle.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(world.handle.describe("g".into()).await.unwrap().members.len(), 1);
    assert_eq!(world.handle.describe("h".into()).await, Err(Error::GroupIdNotFound));
    let deleted = world.handle.delete_groups(vec!["g".into(), "h".into()]).await;
    let results: Vec<_> = deleted.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results, [Err(Error::NonEmptyGroup), Err(Error::GroupIdNotFound)]);
}

#[tokio::test]
async fn nothing_is_answered_from_a_shard_that_is_loading() {
    let world = World::new();
    world.lead(1).await;
    world.commit(42).await.unwrap();
    world.handle.resigned(0, 1);
    world.is_readable.send_replace(false);
    world.elect(2);
    let loading = Error::CoordinatorLoadInProgress;
    assert_eq!(world.offset().await, Err(loading), "and not: no offset");
    assert_eq!(world.commit(1).await, Err(loading));
    assert_eq!(world.handle.join(a_join()).await.unwrap_err().error, loading);
    assert_eq!(world.handle.list().await, Err(loading));
    let heartbeat =
        Heartbeat { group: "g".into(), generation: 1, member_id: "m".into(), instance_id: None };
    assert_eq!(world.handle.heartbeat(heartbeat).await, Ok(()), "sessions have not begun");
    world.is_readable.send_replace(true);
    world.until(Some(State::Active)).await;
    assert_eq!(world.offset().await, Ok(Some(42)));
}

#[tokio::test]
async fn a_shard_that_is_elected_again_before_it_has_loaded_starts_anew() {
    let world = World::new();
    world.is_readable.send_replace(false);
    let first = world.elect(1);
    world.elect(2);
    assert!(first.await.is_err(), "its task has ended");
    world.is_readable.send_replace(true);
    world.until(Some(State::Active)).await;
    assert_eq!(world.handle.shards(), [(0, 2, State::Active)]);
}

#[tokio::test]
async fn a_replica_that_leads_no_longer_answers_nothing_more() {
    let world = World::new();
    let ended = world.lead(1).await;
    world.commit(1).await.unwrap();
    world.mode.send_replace(Mode::Loses(AppendError::NotLeader));
    assert_eq!(world.commit(2).await, Err(Error::NotCoordinator));
    assert!(ended.await.is_err());
    assert_eq!(world.offset().await, Err(Error::NotCoordinator));
}

#[tokio::test]
async fn a_write_that_does_not_commit_is_refused_and_the_shard_goes_on() {
    let world = World::new();
    world.lead(1).await;
    world.mode.send_replace(Mode::Loses(AppendError::Unavailable));
    assert_eq!(world.commit(1).await, Err(Error::CoordinatorNotAvailable));
    assert_eq!(world.offset().await, Ok(None));
    world.mode.send_replace(Mode::Commits);
    assert_eq!(world.commit(2).await, Ok(()));
    assert_eq!(world.offset().await, Ok(Some(2)));
}

#[tokio::test]
async fn commits_that_come_while_others_wait_share_batches_and_keep_their_order() {
    const COMMITS: i64 = 500;
    let world = World::new();
    world.lead(1).await;
    world.mode.send_replace(Mode::Stalls);
    let commits: Vec<_> = (0..COMMITS)
        .map(|offset| {
            let handle = world.handle.clone();
            tokio::spawn(async move { handle.commit_offsets(a_commit(offset, "")).await })
        })
        .collect();
    // Answered after all of the commits above, since a mailbox is a queue.
    tokio::task::yield_now().await;
    assert_eq!(world.offset().await, Ok(None));
    world.mode.send_replace(Mode::Commits);
    for commit in commits {
        assert_eq!(commit.await.unwrap()[0].result, Ok(()));
    }
    let batches = world.log.lock().unwrap().batches.clone();
    let records = |b: &Bytes| batch::decode(b).unwrap();
    assert_eq!(batches.iter().flat_map(records).count(), COMMITS as usize);
    assert!(batches.len() < 100, "{} batches", batches.len());
    let last = batches.last().map(records).unwrap().pop().unwrap();
    let last = record::OffsetValue::decode(last.value.unwrap()).unwrap().offset;
    assert_eq!(world.offset().await, Ok(Some(last)));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_the_coordinator_instead_of_forgetting() {
    let world = World::new();
    let key = record::offset_key("g", &TopicPartition::new("t", 0));
    let broken = Record { key, value: Some(Bytes::from_static(&[0, 9])) };
    world.log.lock().unwrap().append(&batch::encode(&[broken], 0));
    world.elect(1);
    world.until(Some(State::Failed)).await;
    assert_eq!(world.offset().await, Err(Error::CoordinatorNotAvailable));
    assert_eq!(world.handle.shards(), [(0, 1, State::Failed)]);
}

#[tokio::test]
async fn a_session_ends_by_the_drivers_clock() {
    let world = World::new();
    world.lead(1).await;
    let gone = Join { session_timeout_ms: 30, rebalance_timeout_ms: 30, ..a_join() };
    let gone = world.handle.join(gone).await.unwrap();
    // The second member's join is answered when the first one's session has ended.
    let joined = world.handle.join(a_join()).await.unwrap();
    assert_eq!(joined.generation, gone.generation + 1);
    assert_eq!(joined.members.len(), 1);
}

#[tokio::test]
async fn a_log_that_has_grown_is_replaced_by_a_snapshot() {
    let world = World::new();
    world.lead(1).await;
    let metadata = "m".repeat(4_096);
    let mut offset = 0;
    while world.log.lock().unwrap().start == 0 {
        let outcomes = world.handle.commit_offsets(a_commit(offset, &metadata)).await;
        assert_eq!(outcomes[0].result, Ok(()));
        offset += 1;
        assert!(offset < 10_000, "40 MB and no snapshot");
    }
    world.handle.resigned(0, 1);
    world.lead(2).await;
    assert_eq!(world.offset().await, Ok(Some(offset - 1)));
}

#[tokio::test]
async fn the_tasks_end_with_the_last_handle() {
    let world = World::new();
    let ended = world.lead(1).await;
    drop(world);
    assert!(ended.await.is_err());
}

#[tokio::test]
async fn requests_that_are_queued_when_the_shard_is_given_up_are_not_answered_from_it() {
    let world = World::new();
    world.lead(1).await;
    world.commit(42).await.unwrap();
    let mut fetch = std::pin::pin!(world.offset());
    tokio::select! {
        biased;
        // Polled once: the request is in the mailbox, and the shard's task has not run yet.
        fetched = &mut fetch => panic!("{fetched:?} on the same thread"),
        () = std::future::ready(()) => {}
    }
    world.handle.resigned(0, 1);
    assert_eq!(fetch.await, Err(Error::NotCoordinator));
}
