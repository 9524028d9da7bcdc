//! The thread that writes: one per data directory, so that the commits of many partitions share
//! their fdatasync.
//!
//! Everything that waits when a commit ends goes into the next one. Writes of one partition are
//! done in the order in which they came; what found no room is tried again before anything newer.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc as async_mpsc, oneshot};

use crate::log::{
    self, Cut, Entry, Fatal, Fork, LogStart, Manifest, Mend, OutOfSpace, Reader, Recovered,
    ReplicaState, Sealed, Space, Spare, Store, Write,
};
use crate::model::{HomeEpoch, LogIndex, TopicPartition};
use crate::replica::core::raft_log::Start;

/// How long a write that found no room waits before it is tried again.
pub const NO_ROOM_RETRY: Duration = Duration::from_millis(200);

/// Writes in one commit. A commit of this many takes tens of milliseconds; more would only delay
/// the first of them.
const COMMIT_WRITES_MAX: usize = 4096;

pub enum Command {
    Commit(Write, Note),
    Create {
        partition: TopicPartition,
        topic_name: String,
        state: ReplicaState,
        config: log::Config,
        reply: oneshot::Sender<Result<Reader, log::Error>>,
    },
    SetConfig(TopicPartition, log::Config),
    Remove(TopicPartition, oneshot::Sender<Result<(), log::Error>>),
    /// Reads a log again that cannot be opened from what the start has read.
    Doubt(TopicPartition, LogIndex, oneshot::Sender<Result<(Box<Recovered>, Reader), log::Error>>),
    /// Begins to mend a damaged log; `None` if it is not damaged.
    Mend(TopicPartition, log::Config, oneshot::Sender<Result<Option<Mend>, log::Error>>),
    Adopt(Box<Mend>, oneshot::Sender<Result<(Box<Recovered>, Reader), log::Error>>),
    Swap(Box<Spare>, oneshot::Sender<Result<bool, log::Error>>),
    Seal(TopicPartition, HomeEpoch, oneshot::Sender<Result<Sealed, log::Error>>),
    Cut(TopicPartition, Arc<Fork>, oneshot::Sender<Result<Cut, log::Error>>),
    /// As `Cut`; a log that has nothing in common goes into the ledger whole.
    SetAside(TopicPartition, Arc<Fork>, oneshot::Sender<Result<Cut, log::Error>>),
    /// What the ledger has of a partition.
    Ledger(TopicPartition, oneshot::Sender<Result<Vec<Manifest>, log::Error>>),
    Extend(TopicPartition, Arc<Fork>, Vec<Entry>, oneshot::Sender<Result<Cut, log::Error>>),
    BeginEpoch(
        TopicPartition,
        Box<ReplicaState>,
        oneshot::Sender<Result<(Box<Recovered>, Reader), log::Error>>,
    ),
    SetClusterId(String, oneshot::Sender<Result<(), log::Error>>),
    Close(oneshot::Sender<()>),
}

/// What the write was for, so that the loop knows whom to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A Persist effect of the core that the partition has in this home epoch: the next one's core is
    /// not told.
    Persist(HomeEpoch),
    /// A checkpoint: nobody waits.
    Checkpoint,
}

/// What a commit came to, in the order of its writes.
#[derive(Debug, Default)]
pub struct Done {
    pub persisted: Vec<(TopicPartition, HomeEpoch)>,
    /// Segments that begin with this index were opened.
    pub rolled: Vec<(TopicPartition, LogIndex)>,
    /// Logs that begin elsewhere now, and the producers' state there.
    pub started: Vec<(TopicPartition, Start, Bytes)>,
    pub space: Option<Space>,
    /// Which of the node's disks it was, from 0.
    pub disk: usize,
    pub files_synced: usize,
    pub bytes_appended: u64,
    pub took: Duration,
}

pub struct Disk {
    number: usize,
    writer: Writer,
    commands: mpsc::Receiver<Command>,
    done: async_mpsc::UnboundedSender<Done>,
    /// Monotonic, for the figure of how long a commit took.
    clock: fn() -> Duration,
}

/// Group commits to one store. Synchronous, so that the simulator runs it too.
pub struct Writer {
    pub store: Store,
    starts: HashMap<TopicPartition, LogStart>,
    /// Found no room.
    waiting: Vec<(Write, Note)>,
}

impl Disk {
    pub fn new(
        number: usize,
        store: Store,
        commands: mpsc::Receiver<Command>,
        done: async_mpsc::UnboundedSender<Done>,
        clock: fn() -> Duration,
    ) -> Self {
        Self { number, writer: Writer::new(store), commands, done, clock }
    }

    /// Runs until it is told to close or nobody can tell it anything more. An error means that the
    /// disk failed: the process must end (R20).
    pub fn run(mut self) -> Result<(), Fatal> {
        loop {
            let Some(first) = self.next() else { return self.writer.store.close() };
            let mut writes = Vec::new();
            let mut next = first;
            while let Some(command) = next.take() {
                match command {
                    Command::Commit(write, note) => writes.push((write, note)),
                    // Others take effect between commits: what came before them goes first.
                    Command::Close(reply) => {
                        self.commit(std::mem::take(&mut writes))?;
                        self.writer.store.close()?;
                        // Whoever asked may have gone.
                        let _ = reply.send(());
                        return Ok(());
                    }
                    other => {
                        self.commit(std::mem::take(&mut writes))?;
                        self.writer.obey(other);
                        // Whoever asked has heard of it; nothing else need come to be written.
                        self.writer.store.check_disk()?;
                    }
                }
                if writes.len() < COMMIT_WRITES_MAX {
                    next = self.commands.try_recv().ok();
                }
            }
            self.commit(writes)?;
        }
    }

    fn commit(&mut self, writes: Vec<(Write, Note)>) -> Result<(), Fatal> {
        let from = (self.clock)();
        let Some(mut done) = self.writer.commit(writes)? else { return Ok(()) };
        done.disk = self.number;
        done.took = (self.clock)().saturating_sub(from);
        // The loop has ended: nobody is left to be told.
        let _ = self.done.send(done);
        Ok(())
    }

    /// Waits for the next command: `Some(None)` is time to try again what found no room, `None`
    /// the end.
    fn next(&mut self) -> Option<Option<Command>> {
        if self.writer.waiting.is_empty() {
            return self.commands.recv().ok().map(Some);
        }
        match self.commands.recv_timeout(NO_ROOM_RETRY) {
            Ok(command) => Some(Some(command)),
            Err(mpsc::RecvTimeoutError::Timeout) => Some(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl Writer {
    pub fn new(store: Store) -> Self {
        Self { store, starts: HashMap::new(), waiting: Vec::new() }
    }

    /// Writes that found no room: the next commit tries them again, before all others.
    pub fn waiting(&self) -> impl Iterator<Item = &Write> {
        self.waiting.iter().map(|(write, _)| write)
    }

    /// Takes effect between two commits.
    pub fn obey(&mut self, command: Command) {
        match command {
            Command::Commit(..) | Command::Close(_) => unreachable!("the caller takes these"),
            Command::Create { partition, topic_name, state, config, reply } => {
                let created = self.store.create(partition, &topic_name, state, config);
                let reader = created.and_then(|()| self.store.reader(partition));
                let _ = reply.send(reader);
            }
            Command::SetConfig(partition, config) => {
                if let Err(error) = self.store.set_config(partition, config) {
                    tracing::warn!(%partition, %error, "configuration of the log not taken");
                }
            }
            Command::Remove(partition, reply) => {
                self.starts.remove(&partition);
                self.waiting.retain(|(write, _)| write.partition != partition);
                let _ = reply.send(self.store.remove(partition));
            }
            Command::Doubt(partition, index, reply) => {
                // Of a replica that is closed: as before a promise.
                self.waiting.retain(|(write, _)| write.partition != partition);
                let found = self.store.doubt(partition, index);
                let _ = reply.send(found.map(|(recovered, by)| (Box::new(recovered), by)));
            }
            Command::Mend(partition, config, reply) => {
                let _ = reply.send(self.store.mend(partition, config));
            }
            Command::Adopt(mend, reply) => {
                let adopted = self.store.adopt(*mend);
                let _ = reply.send(adopted.map(|(recovered, by)| (Box::new(recovered), by)));
            }
            Command::Swap(spare, reply) => {
                let _ = reply.send(self.store.swap(*spare));
            }
            Command::Seal(partition, epoch, reply) => {
                // What found no room was told to nobody, and must not come after the promise.
                self.waiting.retain(|(write, _)| write.partition != partition);
                let _ = reply.send(self.store.seal(partition, epoch));
            }
            Command::Cut(partition, fork, reply) => {
                let _ = reply.send(self.store.cut_at(partition, &fork));
            }
            Command::SetAside(partition, fork, reply) => {
                let _ = reply.send(self.store.set_aside(partition, &fork));
            }
            Command::Ledger(partition, reply) => {
                let _ = reply.send(self.store.set_aside_of(partition));
            }
            Command::Extend(partition, fork, entries, reply) => {
                let _ = reply.send(self.store.extend(partition, &fork, &entries));
            }
            Command::BeginEpoch(partition, state, reply) => {
                self.starts.remove(&partition);
                let begun = self.store.begin_epoch(partition, *state);
                let _ = reply.send(begun.map(|(recovered, by)| (Box::new(recovered), by)));
            }
            Command::SetClusterId(id, reply) => {
                let _ = reply.send(self.store.set_cluster_id(&id));
            }
        }
    }

    /// One group commit, of these writes and of what found no room before; `None` if there was
    /// nothing to write.
    pub fn commit(&mut self, new: Vec<(Write, Note)>) -> Result<Option<Done>, Fatal> {
        let mut writes = std::mem::take(&mut self.waiting);
        writes.extend(new);
        if writes.is_empty() {
            return Ok(None);
        }
        let moved: Vec<TopicPartition> =
            writes.iter().filter(|(w, _)| w.start.is_some()).map(|(w, _)| w.partition).collect();
        let mut done = writes.clone();
        let committed = self.store.commit(writes.into_iter().map(|(write, _)| write).collect())?;
        for out_of_space in &committed.refused {
            tracing::warn!(partition = %out_of_space.partition, %out_of_space, "disk full: the write waits");
        }
        self.waiting = take_refused(&mut done, &committed.refused);
        let persisted = done.into_iter().filter_map(|(write, note)| match note {
            Note::Persist(epoch) => Some((write.partition, epoch)),
            Note::Checkpoint => None,
        });
        Ok(Some(Done {
            persisted: persisted.collect(),
            rolled: committed.rolled,
            started: moved.into_iter().filter_map(|at| self.started(at)).collect(),
            space: Some(self.store.space()),
            disk: 0,
            files_synced: committed.files_synced,
            bytes_appended: committed.bytes_appended,
            took: Duration::ZERO,
        }))
    }

    /// Where a log begins now, if that is not where it began.
    fn started(&mut self, partition: TopicPartition) -> Option<(TopicPartition, Start, Bytes)> {
        let reader = self.store.reader(partition).ok()?;
        let start = reader.start();
        if self.starts.get(&partition).is_some_and(|old| old.index == start.index) {
            return None;
        }
        self.starts.insert(partition, start);
        let producers = match reader.producer_snapshot(start.index) {
            Ok(Some((at, bytes))) if at == start.index => bytes,
            Ok(_) => Bytes::new(),
            Err(error) => {
                tracing::warn!(%partition, %error, "no producer state at log start");
                Bytes::new()
            }
        };
        let base = reader.segments().first().map_or(reader.next_offset(), |s| s.base_offset);
        Some((partition, Start { index: start.index, term: start.term, offset: base }, producers))
    }
}

/// Takes what found no room out of `writes`: of a partition the last ones, as many as were refused. What went
/// before them is in the log.
fn take_refused(writes: &mut Vec<(Write, Note)>, refused: &[OutOfSpace]) -> Vec<(Write, Note)> {
    if refused.is_empty() {
        return Vec::new();
    }
    let mut left: HashMap<TopicPartition, usize> = HashMap::new();
    for one in refused {
        *left.entry(one.partition).or_default() += 1;
    }
    let (mut waiting, mut done) = (Vec::new(), Vec::new());
    for (write, note) in std::mem::take(writes).into_iter().rev() {
        match left.get_mut(&write.partition) {
            Some(count) if *count > 0 => {
                *count -= 1;
                waiting.push((write, note));
            }
            _ => done.push((write, note)),
        }
    }
    waiting.reverse();
    done.reverse();
    *writes = done;
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::{
        TERM, all_entries, append_batches, batch_entry, partition, store_with,
    };

    /// Of several writes of a partition in one commit the first ones may find room: only the others come again.
    #[test]
    fn what_found_room_is_not_written_again() {
        let disk = SimDisk::new(1);
        let mut writer = Writer::new(store_with(&disk, 1 << 20));
        let value = [7; 1000];
        let writes = (0..4u64).map(|n| {
            let entries = vec![batch_entry(n + 1, TERM, n as i64, 1, &value)];
            let write = Write { entries, ..Write::to(partition(0)) };
            (write, Note::Persist(HomeEpoch::FIRST))
        });
        disk.set_capacity(disk.used_bytes() + 2500);
        let done = writer.commit(writes.collect()).unwrap().unwrap();
        assert_eq!((done.persisted.len(), writer.waiting().count()), (2, 2));
        disk.set_capacity(1 << 30);
        let done = writer.commit(Vec::new()).unwrap().unwrap();
        assert_eq!((done.persisted.len(), writer.waiting().count()), (2, 0));
        let indexes: Vec<u64> = all_entries(&writer.store).iter().map(|e| e.index.0).collect();
        assert_eq!(indexes, [1, 2, 3, 4]);
    }

    /// R20: a sealed replica writes nothing more, so there may never be a commit that finds it out.
    #[test]
    fn a_disk_that_fails_under_an_order_ends_its_thread_at_once() {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, 1000);
        append_batches(&mut store, 3, b"v");
        let (orders, commands) = mpsc::channel();
        let (done, _) = async_mpsc::unbounded_channel();
        disk.fail_sync("/data");
        let [mut first, mut second] = [2, 3].map(|epoch| {
            let (reply, answer) = oneshot::channel();
            let epoch = HomeEpoch::new(epoch).unwrap();
            orders.send(Command::Seal(partition(0), epoch, reply)).unwrap();
            answer
        });
        drop(orders);
        let ended = Disk::new(0, store, commands, done, || Duration::ZERO).run();
        assert!(ended.is_err());
        assert!(first.try_recv().unwrap().is_err());
        assert!(second.try_recv().is_err(), "nobody got to it any more");
    }
}
