//! The ledger: what a log had beyond the cut of a home move, kept whole (R15, R16).
//!
//! ```text
//!  the log        | closed | closed ┆      | closed | active |
//!                                   F'  └───────── suffix ─────────┘    F': the common prefix ends
//!  ledger/<partition>/<epoch>-<first index>/
//!                                   | copy | renamed | renamed |  manifest.toml
//! ```
//!
//! A suffix may hold records that were acknowledged to producers and are in no log any more, and no
//! other node need have it. So it is never thrown away here: not when its topic is deleted, not after
//! any time. Whole segments are renamed, which takes no room (H27); of the segment that the cut goes
//! through the part behind the cut is copied. The files are segments like any others.
//!
//! How a crash is survived is drawn in `docs/log-format.md`: until the directory has its name the log
//! is as it was; after that the cut goes on, now or at the next start, and cannot be taken back.
//!
//! `read.rs` reads a suffix as a log is read, at any offset and by time, for consumers.
//!
//! What of it is in the new log after all a `Comparison` tells; `replay.rs` makes of the rest what can
//! be sent again.

mod diff;
mod manifest;
mod read;
mod replay;
mod save;
mod suffix;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{HomeEpoch, LogIndex, TopicPartition};

use super::disk::Disk;
use super::error::{Context, Error};
use super::fork::Fork;
use super::store;

pub use diff::{Comparison, Counts, Diff, Error as DiffError, Part, Wanted};
pub use manifest::{Content, Manifest, Producer};
pub use replay::{InFlight, MARK, Outgoing, Progress, outgoing};
pub use suffix::{Batches, Stored, Suffix};

/// Under the data directory.
const DIR: &str = "ledger";

/// Of a suffix that is whole.
const MANIFEST: &str = "manifest.toml";

/// The manifest of a suffix whose log is still being cut: the files may be in either place.
const CUTTING: &str = "cutting.toml";

/// Ends the name of a directory that is being written; nothing depends on it.
const UNBORN: &str = ".tmp";

/// The suffixes of one data directory.
pub struct Ledger;

impl Ledger {
    /// Every suffix in the data directory `dir`, also one whose cut a crash has interrupted: by
    /// partition, epoch and first index. Reads beside a running node.
    pub fn list(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<Suffix>, Error> {
        let root = dir.join(DIR);
        let mut found = Vec::new();
        if !disk.exists(&root).context("look for", &root)? {
            return Ok(found);
        }
        for name in disk.list(&root).context("list", &root)? {
            if let Some(id) = store::partition_of(&name) {
                for dir in dirs_of(&**disk, dir, id)? {
                    found.push(Suffix::read(disk.clone(), dir)?);
                }
            }
        }
        Ok(found)
    }

    /// What cuts of one partition put there, oldest epoch first; not what is still being cut.
    pub fn of_partition(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        id: TopicPartition,
    ) -> Result<Vec<Suffix>, Error> {
        let dirs = dirs_of(&**disk, dir, id)?.into_iter();
        let mut found =
            dirs.map(|dir| Suffix::read(disk.clone(), dir)).collect::<Result<Vec<_>, _>>()?;
        found.retain(|suffix| suffix.is_whole);
        Ok(found)
    }
}

fn partition_dir(dir: &Path, id: TopicPartition) -> PathBuf {
    dir.join(DIR).join(id.to_string())
}

/// Name of the `nth` suffix of an epoch that begins at `first`: a second one is there if the move was
/// decided anew, at another F, before the epoch began.
fn name_of(epoch: HomeEpoch, first: LogIndex, nth: u32) -> String {
    let name = format!("{:05}-{:020}", epoch.as_u32(), first.0);
    if nth == 0 { name } else { format!("{name}-{nth}") }
}

/// Directories of the suffixes of one partition, oldest epoch first.
fn dirs_of(disk: &dyn Disk, dir: &Path, id: TopicPartition) -> Result<Vec<PathBuf>, Error> {
    let parent = partition_dir(dir, id);
    if !disk.exists(&parent).context("look for", &parent)? {
        return Ok(Vec::new());
    }
    let names = disk.list(&parent).context("list", &parent)?;
    Ok(names.iter().filter(|n| !n.ends_with(UNBORN)).map(|n| parent.join(n)).collect())
}

/// The suffix of one partition whose cut is not finished.
fn unfinished(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    id: TopicPartition,
) -> Result<Option<Suffix>, Error> {
    for dir in dirs_of(&**disk, dir, id)? {
        let cutting = dir.join(CUTTING);
        if disk.exists(&cutting).context("look for", &cutting)? {
            return Suffix::read(disk.clone(), dir).map(Some);
        }
    }
    Ok(None)
}

/// What the cut of one partition at this fork put into the ledger.
fn cut_off_at(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    id: TopicPartition,
    fork: &Fork,
) -> Result<Option<Suffix>, Error> {
    let of_epoch = format!("{:05}-", fork.home_epoch.as_u32());
    for dir in dirs_of(&**disk, dir, id)?.into_iter().rev() {
        if dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&of_epoch)) {
            let suffix = Suffix::read(disk.clone(), dir)?;
            if suffix.manifest.fork == fork.at {
                return Ok(Some(suffix));
            }
        }
    }
    Ok(None)
}
