//! Syncing many files at once: the group commit's last step.
//!
//! Group commit is a pool of threads in parallel `fdatasync`, and not `syncfs`, which would also
//! flush what others wrote to the same file system and report their errors.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::DiskFile;
use super::error::{Context, Error};

/// A file that must be durable before a commit returns.
pub(super) struct Dirty {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
}

struct Job {
    dirty: Dirty,
    done: Sender<(PathBuf, io::Result<()>)>,
}

/// The threads, begun when more than one file is dirty for the first time; they end with this.
pub(super) struct Syncer {
    threads: usize,
    jobs: Option<Sender<Job>>,
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncer").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Syncer {
    /// With one thread, or none, files are synced in order by the caller.
    pub(super) fn new(threads: usize) -> Self {
        Self { threads, jobs: None }
    }

    /// Syncs all of `dirty`; the first error if any failed, after all have ended.
    pub(super) fn sync(&mut self, mut dirty: Vec<Dirty>) -> Result<(), Error> {
        let Some(own) = dirty.pop() else { return Ok(()) };
        if self.threads < 2 || dirty.is_empty() {
            dirty.push(own);
            return dirty.iter().try_for_each(|d| d.file.sync_data().context("sync", &d.path));
        }
        let (done, results) = channel();
        let expected = dirty.len();
        let jobs = match &self.jobs {
            Some(jobs) => jobs,
            None => self
                .jobs
                .insert(start(self.threads).context("start a thread for", Path::new("sync"))?),
        };
        for dirty in dirty {
            let job = Job { dirty, done: done.clone() };
            jobs.send(job).expect("sync threads live as long as their queue");
        }
        drop(done);
        // The caller's thread does its share.
        let mut outcome = own.file.sync_data().context("sync", &own.path);
        for _ in 0..expected {
            let (path, result) = results.recv().expect("a sync thread answers every job");
            outcome = outcome.and(result.context("sync", &path));
        }
        outcome
    }
}

fn start(threads: usize) -> io::Result<Sender<Job>> {
    let (jobs, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    for n in 0..threads {
        let queue = queue.clone();
        std::thread::Builder::new().name(format!("sync-{n}")).spawn(move || run(&queue))?;
    }
    Ok(jobs)
}

fn run(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { dirty, done }) = job else { return };
        let result = dirty.file.sync_data();
        // Nobody waits any more only if the waiting thread has panicked.
        let _ = done.send((dirty.path, result));
    }
}
