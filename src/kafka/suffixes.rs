//! Suffixes of this node's ledgers, open for consumers.
//!
//! Which there are says the image (`metadata::moves::topics`), which of them this node has says its disk.
//! A suffix is opened when it is first asked for, by reading it once, on a thread that may wait for the
//! disk; nothing is done for those that nobody asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::log::disk::Disk;
use crate::log::{self, Ledger, LogStart, Position, Reader, Suffix};
use crate::metadata::image::Image;
use crate::metadata::moves::topics::{Content, Held, SuffixPartition, SuffixTopic, SuffixTopics};
use crate::model::{LeaderEpoch, Offset, ReplicaId, TopicPartition};
use crate::replica::{Progress, Role, View};

/// Suffixes that stay open: the index of one takes 40 bytes for each 64 KiB, so these take 40 MB if each has a
/// gigabyte. Beyond it the one that was asked for longest ago is closed, and read once more if it is
/// asked for again.
const OPEN_MAX: usize = 64;

/// Where the ledgers of this node are.
pub struct Ledgers {
    pub disk: Arc<dyn Disk>,
    pub data_dirs: Vec<PathBuf>,
}

pub(super) struct Suffixes {
    ledgers: Arc<Ledgers>,
    topics: Mutex<(Offset, Arc<SuffixTopics>)>,
    open: Mutex<Shelf>,
}

/// One waits while another opens it; who gives up waiting leaves what was begun to the next.
type Slot = Arc<tokio::sync::Mutex<Option<Opened>>>;

struct Opened {
    parts: Vec<Suffix>,
    view: Arc<View>,
}

impl Opened {
    fn is_there(&self) -> Result<bool, log::Error> {
        self.parts.iter().try_fold(true, |is_there, part| Ok(is_there && part.is_there()?))
    }
}

#[derive(Default)]
struct Shelf {
    clock: u64,
    slots: BTreeMap<TopicPartition, (u64, Slot)>,
}

impl Shelf {
    fn slot(&mut self, at: TopicPartition) -> Slot {
        self.clock += 1;
        let (used, slot) = self.slots.entry(at).or_default();
        *used = self.clock;
        let slot = Arc::clone(slot);
        if self.slots.len() > OPEN_MAX {
            let oldest = self.slots.iter().min_by_key(|(_, (used, _))| *used).map(|(at, _)| *at);
            self.slots.remove(&oldest.expect("there are many"));
        }
        slot
    }
}

impl Suffixes {
    pub fn new(ledgers: Ledgers) -> Self {
        let (topics, open) = Default::default();
        Self { ledgers: Arc::new(ledgers), topics, open }
    }

    /// The topics of that image; made anew where it has changed, and of nothing at all without a move.
    pub fn topics(&self, image: &Image) -> Arc<SuffixTopics> {
        if image.moved.is_empty() {
            return Arc::default();
        }
        let mut made = self.topics.lock().expect("no panic while held");
        if made.0 != image.next_offset {
            *made = (image.next_offset, Arc::new(SuffixTopics::of(&image.moved)));
        }
        Arc::clone(&made.1)
    }

    /// A partition of a suffix topic that this node serves; `None` if it is not in its ledger, or not any more.
    /// The first time this takes as long as the suffix takes to be read.
    pub async fn view(
        &self,
        topic: &SuffixTopic,
        (partition, replica): (&SuffixPartition, ReplicaId),
        disk_reads: &Arc<Semaphore>,
    ) -> Result<Option<Arc<View>>, log::Error> {
        let source = partition.source;
        let at = TopicPartition { topic: topic.id, partition: source.partition };
        let held = match partition.content {
            Content::Open => return Ok(None),
            Content::Nothing { cut } => return Ok(Some(Arc::new(self.nothing(at, cut)))),
            Content::Ledger(held) => held,
        };
        let (slot, ledgers) = (self.open().slot(at), Arc::clone(&self.ledgers));
        let mut opened = slot.lock_owned().await;
        let disk = disk_reads.clone().acquire_owned().await;
        let looking = tokio::task::spawn_blocking(move || {
            let _until_done: Result<OwnedSemaphorePermit, _> = disk;
            if let Some(known) = &*opened
                && known.is_there()?
            {
                return Ok(Some(Arc::clone(&known.view)));
            }
            *opened = find(&ledgers, (at, source), (replica, held))?;
            Ok(opened.as_ref().map(|opened| Arc::clone(&opened.view)))
        });
        // The task fails if it panicked, and panics as this one, or if the runtime ends.
        looking.await.unwrap_or_else(|failed| match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Ok(None),
        })
    }

    fn nothing(&self, at: TopicPartition, cut: Option<Position>) -> View {
        let cut = cut.unwrap_or_default();
        let start = LogStart { index: cut.index, term: cut.term, offset: cut.offset };
        let reader = Reader::of_nothing(at, start, Arc::clone(&self.ledgers.disk));
        let ends = (cut.offset, cut.offset);
        View::new(at, progress(cut.term.leader_epoch(), ends), Vec::new(), reader)
    }

    fn open(&self) -> MutexGuard<'_, Shelf> {
        self.open.lock().expect("no panic while held")
    }
}

/// Looks through the ledgers for what that replica had. Reads all of what it finds.
fn find(
    ledgers: &Ledgers,
    (at, source): (TopicPartition, TopicPartition),
    (replica, held): (ReplicaId, Held),
) -> Result<Option<Opened>, log::Error> {
    let mut found = Vec::new();
    for dir in &ledgers.data_dirs {
        found.extend(Ledger::of_partition(&ledgers.disk, dir, source)?);
    }
    let parts = held.parts(replica, found, |suffix| &suffix.manifest);
    // Anything less than what `__meta` was told of is what somebody has left of it.
    let records: u64 = parts.iter().map(|part| part.manifest.content.records).sum();
    let is_whole = |last: &Suffix| last.manifest.last == (held.last.index, held.last.term);
    let Some(last) = parts.last().filter(|last| is_whole(last) && records == held.records) else {
        return Ok(None);
    };
    let ends = (parts[0].manifest.first_offset, last.manifest.next_offset);
    let progress = progress(held.last.term.leader_epoch(), ends);
    let reader = Ledger::reader(&parts)?;
    let epochs = reader.epochs().into_iter().map(|e| (e.term, e.index, e.offset)).collect();
    let view = Arc::new(View::new(at, progress, epochs, reader));
    Ok(Some(Opened { parts, view }))
}

/// All of it may be read, and nothing comes after it: whoever has it speaks for it as a leader does.
fn progress(leader_epoch: LeaderEpoch, (start, end): (Offset, Offset)) -> Progress {
    Progress {
        role: Role::Leader,
        hands_over: false,
        handed_off: true,
        leader_epoch,
        log_start: start,
        high_watermark: end,
        watermark_known: true,
        log_end: end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    #[test]
    fn the_one_asked_for_longest_ago_is_closed() {
        let at = |partition| TopicPartition { topic: TopicId([7; 16]), partition };
        let mut shelf = Shelf::default();
        let first = shelf.slot(at(0));
        (1..OPEN_MAX as i32).for_each(|n| drop(shelf.slot(at(n))));
        assert!(Arc::ptr_eq(&first, &shelf.slot(at(0))), "there is room for so many");
        drop(shelf.slot(at(1000)));
        assert!(Arc::ptr_eq(&first, &shelf.slot(at(0))), "it was asked for since");
        assert_eq!(shelf.slots.len(), OPEN_MAX);
        assert!(!shelf.slots.contains_key(&at(1)));
    }
}
