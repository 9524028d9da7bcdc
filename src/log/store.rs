//! One data directory of one node: its identity, its state journal, and the logs of its partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{LogIndex, NodeId, Offset, Term, TopicPartition};

use super::disk::{self, Disk, Lock};
use super::entry::EntryMeta;
use super::error::{Context, Error, Fatal};
use super::files::Files;
use super::identity::{self, Identity};
use super::journal::Journal;
use super::opening;
use super::partition::Partition;
use super::reader::Reader;
use super::segment::EpochStart;
use super::state::{Change, HighWatermark, Kept, LogStart, ReplicaState};
use super::sync::Syncer;
use super::view::{Corruption, Shared, View};
use super::write::{Config, Space};

/// In each partition's directory, for people and for `dump`: the topic's name.
pub(super) const PARTITION_FILE: &str = "partition.toml";

/// Suffix of a directory that is being removed.
const DELETED: &str = ".deleted";

/// How a data directory is used. Node values; nothing here changes what is in the files.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Files open at once, in all partitions. Default 512: half of the usual soft limit.
    pub files_open_max: usize,
    /// Threads that sync files of one commit side by side, and recover partitions at the start.
    /// Default 8: with 32 dirty files 2.5 ms where one by one takes 6; more gained nothing there.
    pub threads: usize,
    /// Free bytes below which `space` asks to refuse produce. Default 256 MiB.
    pub produce_reserve_bytes: u64,
    /// Free bytes that appends leave alone, for votes, promises and renames. Default 64 MiB.
    pub append_reserve_bytes: u64,
    /// A state journal larger than this, and than four snapshots of itself, is replaced by one: so it
    /// is written five times over at most, and a start reads little. Default 4 MiB.
    pub journal_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            files_open_max: 512,
            threads: 8,
            produce_reserve_bytes: 256 << 20,
            append_reserve_bytes: 64 << 20,
            journal_bytes: 4 << 20,
        }
    }
}

/// A partition as a restart found it.
#[derive(Debug, Clone)]
pub struct Recovered {
    pub partition: TopicPartition,
    pub topic_name: String,
    /// `term` at least that of the last entry, `applied` at most its index.
    pub state: ReplicaState,
    pub start: LogStart,
    pub last: (LogIndex, Term),
    pub next_offset: Offset,
    /// The last checkpoint, not beyond `last`.
    pub hw: HighWatermark,
    pub epochs: Vec<EpochStart>,
    /// Entries after `hw`.
    pub tail: Vec<EntryMeta>,
    /// The newest producer snapshot: `Reader::headers` from the entry after it gives the rest.
    pub producer_snapshot: Option<(LogIndex, Bytes)>,
    /// Unsynced bytes after the durable mark that were cut. Expected after a power cut.
    pub torn_bytes: u64,
    /// Damage before the durable mark. The log ends before it until it is truncated or reset.
    pub corruption: Option<Corruption>,
}

/// One data directory, and the only one that writes it. Synchronous: it belongs on a thread that
/// may wait for the disk.
#[derive(Debug)]
pub struct Store {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) files: Arc<Files>,
    identity: Identity,
    pub(super) journal: Journal,
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    pub(super) syncer: Syncer,
    pub(super) free_bytes: u64,
    /// A write failed: nothing more is written (R20).
    pub(super) is_poisoned: bool,
    _lock: Box<dyn Lock>,
}

pub(super) fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

pub(super) fn partitions_dir(dir: &Path) -> PathBuf {
    dir.join("partitions")
}

pub(super) fn partition_dir(dir: &Path, id: TopicPartition) -> PathBuf {
    partitions_dir(dir).join(id.to_string())
}

/// The partition in a directory's name, `<topic uuid>-<partition>`.
pub(super) fn partition_of(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.split_at_checked(36)?;
    let partition = partition.strip_prefix('-')?.parse().ok()?;
    let id = TopicPartition { topic: topic.parse().ok()?, partition };
    (id.to_string() == name).then_some(id)
}

impl Store {
    /// Opens the data directory `dir` of `node`, making it if there is none, and recovers its
    /// partitions. `fresh_uuid` becomes the id of a new directory, and is ignored otherwise: the
    /// log draws no random numbers.
    ///
    /// Refuses a directory of another node, one that another process has, one whose journal is
    /// damaged where it had been synced. Damage in a log is that partition's (`Recovered`).
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        fresh_uuid: [u8; 16],
        options: Options,
    ) -> Result<(Self, Vec<Recovered>), Error> {
        identity::make_dirs(&*disk, dir, &[journal_dir(dir), partitions_dir(dir)])?;
        let lock = lock(&*disk, dir, node)?;
        let identity = identify(&*disk, dir, node, fresh_uuid)?;
        let uuid = identity.disk_uuid;
        let scratch = dir.join(super::mend::DIR);
        if disk.exists(&scratch).context("look for", &scratch)? {
            disk.remove_dir_all(&scratch).context("remove", &scratch)?;
        }
        let loaded = Journal::load(&*disk, &journal_dir(dir), uuid, true)?;
        let names = finish_removals(&*disk, dir)?;
        let (generation, mut states) = match loaded {
            Some((generation, states)) => (generation + 1, states),
            None if names.present.is_empty() => (1, BTreeMap::new()),
            None => return Err(Error::JournalMissing { dir: dir.to_owned() }),
        };
        states.retain(|id, _| !names.removed.contains(id));
        remove_unborn(&*disk, dir, &names.present, &states)?;
        let files = Arc::new(Files::new(disk.clone(), options.files_open_max));
        let threads = if disk.is_parallel() { options.threads } else { 1 };
        let opened = opening::all(&files, dir, states, threads)?;
        let kept = opened.iter().map(|(p, _)| (p.shared.id, &p.kept));
        let journal = Journal::begin(disk.clone(), &journal_dir(dir), uuid, generation, kept)?;
        let free_bytes = disk.free_bytes(dir).context("measure free space of", dir)?;
        let (partitions, mut recovered): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        let mut store = Self {
            disk,
            dir: dir.to_owned(),
            options,
            files,
            identity,
            journal,
            partitions: partitions.into_iter().map(|p| (p.shared.id, p)).collect(),
            syncer: Syncer::new(threads),
            free_bytes,
            is_poisoned: false,
            _lock: lock,
        };
        store.finish_cuts(&mut recovered)?;
        Ok((store, recovered))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Records the cluster that this directory belongs to, for ever.
    pub fn set_cluster_id(&mut self, cluster_id: &str) -> Result<(), Error> {
        match &self.identity.cluster_id {
            Some(found) if found == cluster_id => Ok(()),
            Some(found) => Err(Error::OtherCluster {
                dir: self.dir.clone(),
                found: found.clone(),
                wanted: cluster_id.to_owned(),
            }),
            None => {
                self.identity.cluster_id = Some(cluster_id.to_owned());
                self.identity.save(&*self.disk, &self.dir)
            }
        }
    }

    /// Records which data directories the node has.
    pub fn set_disks(&mut self, disks: &[[u8; 16]]) -> Result<(), Error> {
        if self.identity.disks != disks {
            self.identity.disks = disks.to_vec();
            self.identity.save(&*self.disk, &self.dir)?;
        }
        Ok(())
    }

    /// Makes an empty log for a replica; durable on return. A `__meta` or topic name is for people:
    /// the partition's id is what counts.
    pub fn create(
        &mut self,
        partition: TopicPartition,
        topic_name: &str,
        state: ReplicaState,
        config: Config,
    ) -> Result<(), Error> {
        self.check_alive()?;
        if self.partitions.contains_key(&partition) {
            return Err(Error::Exists(partition));
        }
        let dir = partition_dir(&self.dir, partition);
        let made = make_partition_dir(&*self.disk, &dir, topic_name);
        // Without room nothing has happened; otherwise nobody knows what is on the disk (R20).
        self.is_poisoned |= made.as_ref().is_err_and(|error| !error.is_out_of_space());
        made?;
        let kept = Kept {
            topic_name: topic_name.to_owned(),
            state,
            start: LogStart::default(),
            hw: HighWatermark::default(),
            durable: LogIndex::ZERO,
            resetting: None,
        };
        let change = Change::Keep(partition, Box::new(kept.clone()));
        let written = self.journal.append_synced(&[change]);
        self.poison_on_error(written)?;
        let view = View::empty(LogStart::default());
        let shared = Arc::new(Shared::new(partition, dir.into(), self.files.clone(), view));
        self.partitions.insert(partition, Partition::new(shared, config, kept, LogIndex::ZERO));
        Ok(())
    }

    /// Changes where segments end, from the next entry on. After `open` every partition has the
    /// defaults until this is called: configurations are `__meta`'s to keep.
    pub fn set_config(&mut self, partition: TopicPartition, config: Config) -> Result<(), Error> {
        let unknown = Error::UnknownPartition(partition);
        self.partitions.get_mut(&partition).ok_or(unknown)?.config = config;
        Ok(())
    }

    /// Removes a replica with all but its ledger; durable on return. Readers get `Error::Removed`.
    ///
    /// The directory is renamed first, then the journal forgets it, then the files go: after a crash
    /// the name says what to finish, and no half of a log is ever taken for a log.
    pub fn remove(&mut self, partition: TopicPartition) -> Result<(), Error> {
        self.check_alive()?;
        let Some(gone) = self.partitions.remove(&partition) else {
            return Err(Error::UnknownPartition(partition));
        };
        {
            let mut view = gone.shared.view_mut();
            view.removed = true;
            view.version += 1;
        }
        let removed = self.remove_files(partition, &gone.shared.dir);
        self.poison_on_error(removed)
    }

    fn remove_files(&mut self, partition: TopicPartition, dir: &Path) -> Result<(), Error> {
        self.rescue(partition)?;
        let parent = partitions_dir(&self.dir);
        let mut name = dir.as_os_str().to_owned();
        name.push(DELETED);
        let deleted = PathBuf::from(name);
        if self.disk.exists(&deleted).context("look for", &deleted)? {
            self.disk.remove_dir_all(&deleted).context("remove", &deleted)?;
        }
        self.disk.rename(dir, &deleted).context("rename", dir)?;
        self.disk.sync_dir(&parent).context("sync", &parent)?;
        self.journal.append_synced(&[Change::Remove(partition)])?;
        self.disk.remove_dir_all(&deleted).context("remove", &deleted)
    }

    pub fn contains(&self, partition: TopicPartition) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// A reader of the partition's log, which stays good until the partition is removed.
    pub fn reader(&self, partition: TopicPartition) -> Result<Reader, Error> {
        let found = self.partitions.get(&partition);
        found.map(Partition::reader).ok_or(Error::UnknownPartition(partition))
    }

    /// Room on the disk, as the last commit saw it.
    pub fn space(&self) -> Space {
        if self.free_bytes < self.options.append_reserve_bytes {
            Space::RefuseAll
        } else if self.free_bytes < self.options.produce_reserve_bytes {
            Space::RefuseProduce
        } else {
            Space::Ample
        }
    }

    pub(super) fn check_alive(&self) -> Result<(), Error> {
        if self.is_poisoned {
            return Err(Error::Poisoned { dir: self.dir.clone() });
        }
        Ok(())
    }

    pub(super) fn poison_on_error<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.is_poisoned |= result.is_err();
        result
    }

    pub(super) fn fatal(&mut self, source: Error) -> Fatal {
        self.is_poisoned = true;
        Fatal { dir: self.dir.clone(), source }
    }
}

fn lock(disk: &dyn Disk, dir: &Path, node: NodeId) -> Result<Box<dyn Lock>, Error> {
    let path = dir.join("lock");
    let owner = format!("node {node}, process {}", std::process::id());
    disk.lock(&path, &owner).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => {
            Error::Locked { dir: dir.to_owned(), owner: source.to_string() }
        }
        _ => Error::Io { what: "lock", path, source },
    })
}

fn identify(
    disk: &dyn Disk,
    dir: &Path,
    node: NodeId,
    fresh_uuid: [u8; 16],
) -> Result<Identity, Error> {
    match Identity::load(disk, dir)? {
        Some(identity) if identity.node == node => Ok(identity),
        Some(Identity { node: found, .. }) => {
            Err(Error::OtherNode { dir: dir.to_owned(), found, wanted: node })
        }
        None => {
            // What lies here without an identity is somebody's, and not ours to take over.
            for inner in [journal_dir(dir), partitions_dir(dir)] {
                if !disk.list(&inner).context("list", &inner)?.is_empty() {
                    let reason = "missing, beside data that it should name the owner of".to_owned();
                    return Err(Error::Malformed { path: dir.join(identity::FILE), reason });
                }
            }
            let identity =
                Identity { cluster_id: None, node, disk_uuid: fresh_uuid, disks: Vec::new() };
            identity.save(disk, dir)?;
            Ok(identity)
        }
    }
}

/// What `partitions/` holds.
struct Names {
    present: BTreeSet<TopicPartition>,
    /// Whose removal a crash interrupted.
    removed: BTreeSet<TopicPartition>,
}

fn finish_removals(disk: &dyn Disk, dir: &Path) -> Result<Names, Error> {
    let parent = partitions_dir(dir);
    let mut names = Names { present: BTreeSet::new(), removed: BTreeSet::new() };
    for name in disk.list(&parent).context("list", &parent)? {
        match name.strip_suffix(DELETED) {
            Some(of) => names.removed.extend(partition_of(of)),
            None => names.present.extend(partition_of(&name)),
        }
    }
    // Deleted and made anew: the new one counts.
    names.removed.retain(|id| !names.present.contains(id));
    Ok(names)
}

/// Removes directories of partitions whose creation or removal a crash interrupted.
fn remove_unborn(
    disk: &dyn Disk,
    dir: &Path,
    present: &BTreeSet<TopicPartition>,
    states: &BTreeMap<TopicPartition, Kept>,
) -> Result<(), Error> {
    let parent = partitions_dir(dir);
    for id in present.iter().filter(|id| !states.contains_key(id)) {
        let dir = partition_dir(dir, *id);
        let names = disk.list(&dir).context("list", &dir)?;
        // Entries are appended only after the journal knows the partition.
        if names.iter().any(|name| name.ends_with(".log")) {
            return Err(Error::Orphan { dir });
        }
        disk.remove_dir_all(&dir).context("remove", &dir)?;
    }
    for name in disk.list(&parent).context("list", &parent)? {
        if name.ends_with(DELETED) {
            let path = parent.join(name);
            disk.remove_dir_all(&path).context("remove", &path)?;
        }
    }
    disk.sync_dir(&parent).context("sync", &parent)
}

pub(super) fn make_partition_dir(
    disk: &dyn Disk,
    dir: &Path,
    topic_name: &str,
) -> Result<(), Error> {
    disk.create_dir_all(dir).context("create", dir)?;
    let path = dir.join(PARTITION_FILE);
    let text = format!("version = 1\ntopic = {}\n", identity::quoted(topic_name));
    disk::replace(disk, &path, text.as_bytes()).context("write", &path)?;
    let parent = dir.parent().expect("a partition's directory is in another");
    disk.sync_dir(parent).context("sync", parent)
}
