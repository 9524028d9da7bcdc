//! What handlers and the broker hold: requests go in, answers come out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::driver::{Actor, Message};
use super::group::{
    CommitOffsets, CommittedOffset, Config, DeleteOffsets, Description, Error, FetchOffsets,
    FetchedOffset, Heartbeat, Id, Join, JoinRefused, Joined, Leave, LeaveOutcome, LedBack, Listing,
    Now, OffsetToCommit, PartitionOutcome, Response, Shard, Sync, Synced, Ticket, TopicPartition,
};
use super::partition::Partition;
use super::runtime::{Runtime, State};
use crate::model::LeaderEpoch;

/// Requests that may wait at one shard. A shard answers in microseconds, so a full queue means
/// that the shard's task is starved or held up by a snapshot; senders then wait, which holds up
/// their connections and nobody else's.
const MAILBOX_MAX: usize = 1024;

/// The clock and the random source, seams of the driver.
#[derive(Clone)]
pub struct Seams {
    /// Wall clock, milliseconds since 1970.
    pub unix_ms: Arc<dyn Fn() -> i64 + Send + std::marker::Sync>,
    pub random: Arc<dyn Fn() -> u128 + Send + std::marker::Sync>,
}

impl Seams {
    pub fn system() -> Self {
        let unix_ms = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        Self { unix_ms: Arc::new(unix_ms), random: Arc::new(rand::random::<u128>) }
    }
}

/// All group coordinators of a node. Cheap to clone.
///
/// A request that is dropped before its answer (the client went away) leaves its effect: it may
/// be under way to the log already, as with any request whose connection breaks.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    seams: Seams,
    directory: Mutex<Directory>,
}

struct Directory {
    runtime: Runtime,
    /// Of loading and active shards.
    mailboxes: BTreeMap<i32, Mailbox>,
}

struct Mailbox {
    sender: mpsc::Sender<Message>,
    /// Dropped to end the shard's task, at once: what is queued is not answered from a state that
    /// may be old by now.
    _lease: oneshot::Sender<()>,
}

impl Shared {
    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().expect("nothing panics while it holds the directory")
    }
}

/// A shard's place in the directory, as its task holds it: weakly, so that the tasks end with the
/// last handle.
pub(super) struct Seat {
    shared: Weak<Shared>,
    pub partition: i32,
    pub epoch: LeaderEpoch,
}

impl Seat {
    /// `false`: the shard has been given up meanwhile.
    pub fn loaded(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|s| s.directory().runtime.handle_loaded(self.partition, self.epoch))
    }

    pub fn load_failed(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut directory = shared.directory();
        if directory.runtime.handle_load_failed(self.partition, self.epoch) {
            directory.mailboxes.remove(&self.partition);
        }
    }

    pub fn resigned(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.directory().resign(self.partition, self.epoch);
    }
}

impl Directory {
    fn resign(&mut self, partition: i32, epoch: LeaderEpoch) {
        if self.runtime.handle_resigned(partition, epoch) {
            self.mailboxes.remove(&partition);
        }
    }
}

impl Handle {
    /// `partitions` is the partition count of `__consumer_offsets`.
    pub fn new(config: Config, partitions: u32, seams: Seams) -> Self {
        let directory = Directory { runtime: Runtime::new(partitions), mailboxes: BTreeMap::new() };
        Self { shared: Arc::new(Shared { config, seams, directory: Mutex::new(directory) }) }
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.shared.directory()
    }

    /// This node leads the partition in `epoch`: its shard is loaded, and then serves. Needs a
    /// tokio runtime.
    pub fn elected(&self, partition: i32, epoch: LeaderEpoch, replica: impl Partition) {
        let (sender, mailbox) = mpsc::channel(MAILBOX_MAX);
        let (lease, given_up) = oneshot::channel();
        {
            let mut directory = self.directory();
            if !directory.runtime.handle_elected(partition, epoch) {
                return;
            }
            // Ends the task of an earlier epoch.
            directory.mailboxes.insert(partition, Mailbox { sender, _lease: lease });
        }
        let shard = Shard::new(self.shared.config.clone());
        let seat = Seat { shared: Arc::downgrade(&self.shared), partition, epoch };
        let actor = Actor::new(shard, Arc::new(replica), mailbox, self.shared.seams.clone());
        tokio::spawn(actor.run(seat, given_up));
    }

    /// This node leads the partition no longer. Whoever waits is told NOT_COORDINATOR.
    pub fn resigned(&self, partition: i32, epoch: LeaderEpoch) {
        self.directory().resign(partition, epoch);
    }

    /// The partition of `__consumer_offsets` that the group belongs to, for FindCoordinator.
    pub fn partition_for(&self, group: &Id) -> i32 {
        self.directory().runtime.partition_for(group)
    }

    /// The shards that are here, for people.
    pub fn shards(&self) -> Vec<(i32, LeaderEpoch, State)> {
        self.directory().runtime.shards().collect()
    }

    fn mailbox(&self, group: &Id) -> Result<mpsc::Sender<Message>, Error> {
        let directory = self.directory();
        let partition = directory.runtime.route(group)?;
        let mailbox = directory.mailboxes.get(&partition).expect("an active shard's mailbox");
        Ok(mailbox.sender.clone())
    }

    /// Hands the group's shard a request that it answers by a ticket.
    async fn begin(
        &self,
        group: &Id,
        run: impl FnOnce(&mut Shard, Now, Ticket, u128) + Send + 'static,
    ) -> Result<oneshot::Receiver<Response>, Error> {
        let mailbox = self.mailbox(group)?;
        let (reply, answer) = oneshot::channel();
        let message = Message::Request { run: Box::new(run), reply };
        // It fails, as the answer does, when the shard is given up: then this is not the
        // coordinator.
        mailbox.send(message).await.map_err(|_| Error::NotCoordinator)?;
        Ok(answer)
    }

    async fn request(
        &self,
        group: &Id,
        run: impl FnOnce(&mut Shard, Now, Ticket, u128) + Send + 'static,
    ) -> Result<Response, Error> {
        self.begin(group, run).await?.await.map_err(|_| Error::NotCoordinator)
    }

    /// Asks a shard for what it knows.
    async fn query<T: Send + 'static>(
        &self,
        mailbox: mpsc::Sender<Message>,
        run: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let run = move |shard: &Shard| {
            // Nobody may be waiting any more.
            let _ = reply.send(run(shard));
        };
        let message = Message::Query { run: Box::new(run) };
        mailbox.send(message).await.map_err(|_| Error::NotCoordinator)?;
        answer.await.map_err(|_| Error::NotCoordinator)
    }

    pub async fn join(&self, join: Join) -> Result<Joined, JoinRefused> {
        let (group, member_id) = (join.group.clone(), join.member_id.clone());
        let run = |shard: &mut Shard, now, ticket, random| {
            shard.handle_join(now, ticket, join, random);
        };
        match self.request(&group, run).await {
            Ok(Response::Join(result)) => result,
            Ok(other) => unreachable!("a join answered by {other:?}"),
            Err(error) => Err(JoinRefused { error, member_id }),
        }
    }

    pub async fn sync(&self, sync: Sync) -> Result<Synced, Error> {
        let group = sync.group.clone();
        let run = |shard: &mut Shard, now, ticket, _| shard.handle_sync(now, ticket, sync);
        match self.request(&group, run).await {
            Ok(Response::Sync(result)) => result,
            Ok(other) => unreachable!("a sync answered by {other:?}"),
            // The generation is lost with the old coordinator, and old clients know no other
            // answer here that sends them back to join (as Kafka does).
            Err(Error::CoordinatorLoadInProgress) => Err(Error::RebalanceInProgress),
            Err(error) => Err(error),
        }
    }

    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Error> {
        let group = heartbeat.group.clone();
        let run =
            |shard: &mut Shard, now, ticket, _| shard.handle_heartbeat(now, ticket, heartbeat);
        match self.request(&group, run).await {
            Ok(Response::Heartbeat(result)) => result,
            Ok(other) => unreachable!("a heartbeat answered by {other:?}"),
            // Sessions start when the shard is loaded, so nothing is missed (as Kafka does).
            Err(Error::CoordinatorLoadInProgress) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// For the request as a whole; each member's is in its outcome.
    pub async fn leave(&self, leave: Leave) -> Result<Vec<LeaveOutcome>, Error> {
        let group = leave.group.clone();
        let run = |shard: &mut Shard, now, ticket, _| shard.handle_leave(now, ticket, leave);
        match self.request(&group, run).await? {
            Response::Leave(outcomes) => Ok(outcomes),
            other => unreachable!("a leave answered by {other:?}"),
        }
    }

    /// One outcome a partition, in the request's order.
    pub async fn commit_offsets(&self, commit: CommitOffsets) -> Vec<PartitionOutcome> {
        let group = commit.group.clone();
        let partition = |o: &OffsetToCommit| o.partition.clone();
        let partitions: Vec<_> = commit.offsets.iter().map(partition).collect();
        let run =
            |shard: &mut Shard, now, ticket, _| shard.handle_commit_offsets(now, ticket, commit);
        match self.request(&group, run).await {
            Ok(Response::CommitOffsets(outcomes)) => outcomes,
            Ok(other) => unreachable!("a commit answered by {other:?}"),
            Err(error) => partitions
                .into_iter()
                .map(|partition| PartitionOutcome { partition, result: Err(error) })
                .collect(),
        }
    }

    /// What the group has committed; `group::clamp` it before it leaves (R25).
    ///
    /// # Errors
    /// Where this is not the coordinator, or not yet: never "no offset" for want of knowing.
    pub async fn fetch_offsets(&self, fetch: FetchOffsets) -> Result<Vec<FetchedOffset>, Error> {
        let mailbox = self.mailbox(&fetch.group)?;
        self.query(mailbox, move |shard| shard.fetch_offsets(&fetch)).await
    }

    /// One result a group. All are asked first and awaited then, so that it takes one commit and
    /// not as many as there are groups.
    pub async fn delete_groups(&self, groups: Vec<Id>) -> Vec<(Id, Result<(), Error>)> {
        let mut asked = Vec::with_capacity(groups.len());
        for group in groups {
            let id = group.clone();
            let run =
                |shard: &mut Shard, _, ticket, _| shard.handle_delete_groups(ticket, vec![id]);
            let answer = self.begin(&group, run).await;
            asked.push((group, answer));
        }
        let mut outcomes = Vec::with_capacity(asked.len());
        for (group, answer) in asked {
            let answer = match answer {
                Ok(answer) => answer.await.map_err(|_| Error::NotCoordinator),
                Err(error) => Err(error),
            };
            match answer {
                Ok(Response::DeleteGroups(mut of_shard)) => outcomes.append(&mut of_shard),
                Ok(other) => unreachable!("a deletion answered by {other:?}"),
                Err(error) => outcomes.push((group, Err(error))),
            }
        }
        outcomes
    }

    pub async fn delete_offsets(
        &self,
        delete: DeleteOffsets,
    ) -> Result<Vec<PartitionOutcome>, Error> {
        let group = delete.group.clone();
        let run = |shard: &mut Shard, _, ticket, _| shard.handle_delete_offsets(ticket, delete);
        match self.request(&group, run).await? {
            Response::DeleteOffsets(result) => result,
            other => unreachable!("a deletion answered by {other:?}"),
        }
    }

    /// # Errors
    /// As `fetch_offsets`, and `GroupIdNotFound`.
    pub async fn describe(&self, group: Id) -> Result<Description, Error> {
        let mailbox = self.mailbox(&group)?;
        self.query(mailbox, move |shard| shard.describe(&group)).await?
    }

    /// The groups of all shards here.
    ///
    /// # Errors
    /// `CoordinatorLoadInProgress` while a shard is loading and `CoordinatorNotAvailable` where
    /// one could not: the list would not be whole.
    pub async fn list(&self) -> Result<Vec<Listing>, Error> {
        let mut groups = self.of_all(Shard::list).await?;
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// What the groups of all shards here have committed beyond the ends of leader epochs, which `end_of` tells (R25).
    ///
    /// # Errors
    /// As `list`.
    pub async fn led_back(
        &self,
        end_of: impl Fn(&TopicPartition, &CommittedOffset) -> Option<i64> + Clone + Send + 'static,
    ) -> Result<Vec<LedBack>, Error> {
        self.of_all(move |shard| shard.led_back(end_of)).await
    }

    async fn of_all<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Shard) -> Vec<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>, Error> {
        let mailboxes = {
            let directory = self.directory();
            for (_, _, state) in directory.runtime.shards() {
                match state {
                    State::Active => {}
                    State::Loading => return Err(Error::CoordinatorLoadInProgress),
                    State::Failed => return Err(Error::CoordinatorNotAvailable),
                }
            }
            directory.mailboxes.values().map(|m| m.sender.clone()).collect::<Vec<_>>()
        };
        let mut found = Vec::new();
        for mailbox in mailboxes {
            match self.query(mailbox, ask.clone()).await {
                Ok(mut of_shard) => found.append(&mut of_shard),
                // Moved away meanwhile: the other node has them.
                Err(_) => continue,
            }
        }
        Ok(found)
    }
}
