//! A node's data directories: which of them has which partition, and the way to the thread of each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use tokio::sync::oneshot;

use super::disk::Command;
use super::orders::Refused;
use crate::log::{self, Mend, Reader, Recovered, Spare};
use crate::model::{LogIndex, TopicPartition};

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disks {
    senders: Vec<mpsc::Sender<Command>>,
    of: Arc<Mutex<BTreeMap<TopicPartition, usize>>>,
}

impl Disks {
    pub fn new(senders: Vec<mpsc::Sender<Command>>, of: BTreeMap<TopicPartition, usize>) -> Self {
        assert!(!senders.is_empty(), "a node has a data directory");
        Self { senders, of: Arc::new(Mutex::new(of)) }
    }

    pub fn numbers(&self) -> Range<usize> {
        0..self.senders.len()
    }

    pub fn of(&self, at: TopicPartition) -> Option<usize> {
        self.known().get(&at).copied()
    }

    pub fn put(&self, at: TopicPartition, number: usize) {
        self.known().insert(at, number);
    }

    pub fn forget(&self, at: TopicPartition) {
        self.known().remove(&at);
    }

    /// Where the next partition goes: to the disk that has the fewest, as Kafka does it.
    pub fn least_used(&self) -> usize {
        let mut counts = vec![0usize; self.senders.len()];
        for number in self.known().values() {
            counts[*number] += 1;
        }
        let least = counts.iter().enumerate().min_by_key(|(number, count)| (**count, *number));
        least.expect("a node has a data directory").0
    }

    /// A write, or a word, for the disk that has the partition; lost if none has it any more.
    pub fn tell(&self, at: TopicPartition, command: Command) {
        if let Some(number) = self.of(at) {
            // A disk thread ends only with the process.
            let _ = self.senders[number].send(command);
        }
    }

    /// Waits for a disk's thread between two commits. The loop, where it asks, stands still meanwhile,
    /// for as long as one commit takes; it asks when replicas come and go only.
    pub async fn ask<T>(
        &self,
        number: usize,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.senders[number].send(command(reply)).map_err(|_| Refused::ShuttingDown)?;
        answer.await.map_err(|_| Refused::ShuttingDown)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, usize>> {
        // Nothing is half done under this lock.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the disks for whoever mends damaged logs, past the loop, which must not wait for it.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mender {
    disks: Disks,
}

impl Mender {
    pub(super) fn new(disks: Disks) -> Self {
        Self { disks }
    }

    /// Begins to mend a damaged log; `None` if it is not damaged.
    pub async fn begin(
        &self,
        at: TopicPartition,
        config: log::Config,
    ) -> Result<Option<Mend>, Refused> {
        self.ask(at, |reply| Command::Mend(at, config, reply)).await
    }

    /// Reads a log again, from the disk, where a read has met damage at `index`.
    pub async fn doubt(
        &self,
        at: TopicPartition,
        index: LogIndex,
    ) -> Result<(Box<Recovered>, Reader), Refused> {
        self.ask(at, |reply| Command::Doubt(at, index, reply)).await
    }

    /// Puts what was gathered in the place of what is damaged.
    pub async fn adopt(&self, mend: Mend) -> Result<(Box<Recovered>, Reader), Refused> {
        let at = mend.wants().partition;
        self.ask(at, |reply| Command::Adopt(Box::new(mend), reply)).await
    }

    /// Puts a segment in the place of the rotten one that it was before.
    pub async fn swap(&self, spare: Spare) -> Result<bool, Refused> {
        let at = spare.partition();
        self.ask(at, |reply| Command::Swap(Box::new(spare), reply)).await
    }

    async fn ask<T>(
        &self,
        at: TopicPartition,
        command: impl FnOnce(oneshot::Sender<Result<T, log::Error>>) -> Command,
    ) -> Result<T, Refused> {
        let number = self.disks.of(at).ok_or(log::Error::UnknownPartition(at))?;
        Ok(self.disks.ask(number, command).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::partition;

    #[test]
    fn partitions_spread_evenly_and_one_that_goes_leaves_its_room_to_the_next() {
        let senders = (0..3).map(|_| mpsc::channel().0).collect();
        let disks = Disks::new(senders, BTreeMap::from([(partition(0), 1)]));
        let mut chosen = Vec::new();
        for n in 1..6 {
            let number = disks.least_used();
            disks.put(partition(n), number);
            chosen.push(number);
        }
        assert_eq!(chosen, [0, 2, 0, 1, 2]);
        disks.forget(partition(2));
        assert_eq!(disks.least_used(), 2);
        assert_eq!((disks.of(partition(0)), disks.of(partition(2))), (Some(1), None));
    }
}
