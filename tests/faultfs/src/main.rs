//! `faultfs SYNC-MS DIRECTORY…` mounts a disk in memory at each directory, says `ready`, and takes commands from its
//! standard input, each answered by one line. At the input's end, so also when whoever started it dies, the disks are
//! unmounted and gone. A sync takes `SYNC-MS`.
//!
//! ```text
//!   command ─► volume (pure: content, names, dice) ◄─ serve ◄─ kernel ◄─ the process whose disk it is
//! ```

mod command;
mod content;
mod dice;
mod names;
mod serve;
#[cfg(test)]
mod tests;
mod volume;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuser::{BackgroundSession, MountOption};
use nix::mount::{MntFlags, umount2};

use command::Command;
use serve::{Served, lock};
use volume::Volume;

/// Requests of one disk that may wait at once for a sync, before others wait for them.
const THREADS: usize = 4;

const DEVICE: &str = "/dev/fuse";

struct Mounted {
    dir: PathBuf,
    volume: Arc<Mutex<Volume>>,
    session: BackgroundSession,
}

fn mount(dir: PathBuf, sync_takes: Duration) -> Result<Mounted, String> {
    let volume = Arc::new(Mutex::new(Volume::default()));
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::FSName("faultfs".into()), MountOption::NoAtime];
    config.n_threads = Some(THREADS);
    let served = Served::new(volume.clone(), sync_takes);
    match fuser::spawn_mount(served, &dir, &config) {
        Ok(session) => Ok(Mounted { dir, volume, session }),
        Err(error) => Err(format!("cannot mount {}: {error}", dir.display())),
    }
}

impl Mounted {
    fn obey(&self, command: &Command) -> String {
        let mut volume = lock(&self.volume);
        match command {
            Command::Cut { seed } => {
                let lost = volume.cut(*seed);
                return format!("ok {} {}", lost.bytes, lost.names);
            }
            Command::On => volume.power_on(),
            Command::FailSyncs => volume.fail_syncs(true),
            Command::MendSyncs => volume.fail_syncs(false),
            Command::Leave { bytes } => volume.leave(*bytes),
            Command::LeaveAll => volume.leave_all(),
            Command::FailedSyncs => return format!("ok {}", volume.failed_syncs()),
        }
        "ok".into()
    }

    /// Also below processes that still have files open: they get errors from here on.
    fn unmount(self) {
        if let Err(error) = umount2(&self.dir, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.dir.display());
        }
        drop(self.session);
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args_os().skip(1);
    let sync_ms = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let sync_takes = sync_ms.map(Duration::from_millis);
    let sync_takes = sync_takes.ok_or("usage: faultfs SYNC-MS DIRECTORY…")?;
    if !Path::new(DEVICE).exists() {
        return Err(format!(
            "there is no {DEVICE} here: these checks need the kernel's fuse module"
        ));
    }
    let disks: Result<Vec<_>, _> = arguments.map(|dir| mount(dir.into(), sync_takes)).collect();
    let disks = disks?;
    answer("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let order =
            command::parse(&line).and_then(|(n, c)| Some((disks.get(n.checked_sub(1)?)?, c)));
        answer(&order.map_or("no such command".into(), |(disk, command)| disk.obey(&command)))?;
    }
    disks.into_iter().for_each(Mounted::unmount);
    Ok(())
}

fn answer(line: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faultfs: {error}");
            ExitCode::FAILURE
        }
    }
}
