//! `isobar log`: a data directory, read without its node.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::log::disk::OsDisk;
use crate::log::{self, Line};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// One line a batch up to the high watermark; the same on every node that holds the log
    Dump(Dump),
}

#[derive(Debug, clap::Args)]
pub struct Dump {
    /// Of a stopped node, or of one that runs; all of them, if it has several
    #[arg(long, value_name = "DIR", required = true)]
    data_dir: Vec<PathBuf>,
    /// A topic's name or uuid; `__meta` too
    #[arg(long)]
    topic: String,
    /// From 0
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Dump(Dump { data_dir, topic, partition, json }) = command;
    let dump = |dir: &PathBuf| log::dump(Arc::new(OsDisk), dir, &topic, partition);
    let (last, others) = data_dir.split_last().expect("clap requires one");
    // What the others have not, the last one says in its error.
    let found = others.iter().find_map(|dir| dump(dir).ok());
    let lines = found.map_or_else(|| dump(last), Ok)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines {
        let line = line?;
        let written =
            if json { writeln!(out, "{}", object(&line)) } else { writeln!(out, "{line}") };
        if let Err(error) = written {
            return gone(error);
        }
    }
    out.flush().or_else(gone)
}

/// A reader that has gone (`| head`) is no error.
pub(super) fn gone(error: std::io::Error) -> anyhow::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.into()) }
}

pub(super) fn object(line: &Line) -> serde_json::Value {
    let sha256: String = line.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({
        "base_offset": line.base_offset.0,
        "last_offset": line.last_offset.0,
        "leader_epoch": line.leader_epoch,
        "base_timestamp": line.base_timestamp,
        "max_timestamp": line.max_timestamp,
        "codec": line.codec,
        "crc": line.crc,
        "sha256": sha256,
    })
}
