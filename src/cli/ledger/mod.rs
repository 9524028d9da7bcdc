//! `isobar ledger`: what home moves cut off, in a data directory, read beside its node or without it.

mod diff;
mod replay;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;

use super::dc::utc;
use super::export;
use super::log::{gone, object};
use super::output::{self, Table};
use crate::log::disk::{Disk, OsDisk};
use crate::log::{Ledger, Line, Progress, Suffix};
use crate::model::TopicId;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What the cuts of home moves have put into the ledger
    List(List),
    /// One line a batch of what was cut off, as `isobar log dump` prints a log
    Show(Show),
    /// Write what was cut off to a file: the batches as they are, or their records as JSON lines
    Export(Export),
    /// Which records of what was cut off are in the log after all, and which are not
    Diff(diff::Args),
    /// Send to the topic again what the log has not; run on the node that has it, beside the node
    Replay(replay::Args),
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Of a stopped node, or of one that runs; all of them, if it has several
    #[arg(long, value_name = "DIR", required = true)]
    data_dir: Vec<PathBuf>,
    #[arg(long)]
    json: bool,
}

/// Which suffixes.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// Of a stopped node, or of one that runs; all of them, if it has several
    #[arg(long, value_name = "DIR", required = true)]
    data_dir: Vec<PathBuf>,
    /// A topic's name or uuid, also of one that was deleted
    #[arg(long)]
    topic: String,
    /// From 0
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// Only what the cut before this home epoch put there
    #[arg(long, value_name = "E")]
    epoch: Option<u32>,
    /// Only the suffix of this name, as `isobar ledger list` says it
    #[arg(long, value_name = "NAME", conflicts_with = "epoch")]
    suffix: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    chosen: Chosen,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    chosen: Chosen,
    /// A new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A JSON object for each record, with keys and values in base64, in place of raw batches
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Export(args) => export(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Replay(args) => replay::run(&args),
    }
}

fn all(data_dirs: &[PathBuf]) -> anyhow::Result<Vec<Suffix>> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut found = Vec::new();
    for dir in data_dirs {
        anyhow::ensure!(
            dir.join(crate::log::IDENTITY_FILE).is_file(),
            "{} is no data directory of a node: it has no {}",
            dir.display(),
            crate::log::IDENTITY_FILE
        );
        found.extend(Ledger::list(&disk, dir)?);
    }
    Ok(found)
}

impl Chosen {
    fn suffixes(&self) -> anyhow::Result<Vec<Suffix>> {
        let all = all(&self.data_dir)?;
        let uuid = self.topic.parse::<TopicId>().ok();
        let mut found = all.clone();
        found.retain(|suffix| {
            let m = &suffix.manifest;
            let is_topic = m.topic_name == self.topic || uuid == Some(m.partition.topic);
            let is_epoch = self.epoch.is_none_or(|epoch| m.new_home_epoch.as_u32() == epoch);
            let is_named = self.suffix.as_ref().is_none_or(|name| suffix.name() == name);
            is_topic && m.partition.partition == self.partition && is_epoch && is_named
        });
        let what = format!("{}-{}", self.topic, self.partition);
        anyhow::ensure!(
            !found.is_empty(),
            "nothing of {what} in the ledger; there is:\n{}",
            text(&all)
        );
        let topic = found[0].manifest.partition;
        anyhow::ensure!(
            found.iter().all(|suffix| suffix.manifest.partition == topic),
            "several topics had the name {what}; say which by its uuid:\n{}",
            text(&found)
        );
        Ok(found)
    }

    /// One after the other several would be several histories of the same offsets.
    fn suffix(&self) -> anyhow::Result<Suffix> {
        let found = self.suffixes()?;
        match <[Suffix; 1]>::try_from(found) {
            Ok([suffix]) => Ok(suffix),
            Err(found) => anyhow::bail!(
                "several suffixes; say which with --epoch or --suffix:\n{}",
                text(&found)
            ),
        }
    }
}

fn text(suffixes: &[Suffix]) -> String {
    if suffixes.is_empty() {
        return "nothing: no home move has cut anything off here\n".to_owned();
    }
    let mut table = Table::new([
        "TOPIC",
        "PARTITION",
        "SUFFIX",
        "OFFSETS",
        "RECORDS",
        "BYTES",
        "KNOWN ACKED",
        "FORK",
        "STATE",
        "REPLAYED",
        "TOPIC UUID",
    ]);
    for suffix in suffixes {
        let m = &suffix.manifest;
        table.row([
            m.topic_name.clone(),
            m.partition.partition.to_string(),
            suffix.name().to_owned(),
            range(Some((m.first_offset, m.next_offset))),
            m.content.records.to_string(),
            output::bytes(m.content.bytes),
            range(m.known_acknowledged()),
            format!("{} (term {})", m.fork.offset, m.fork.term),
            if suffix.is_whole { "whole" } else { "being cut" }.to_owned(),
            replayed(suffix),
            m.partition.topic.to_string(),
        ]);
    }
    table.render()
}

fn replayed(suffix: &Suffix) -> String {
    let progress = match suffix.progress() {
        Ok(None) => return "-".to_owned(),
        Ok(Some(progress)) => progress,
        Err(error) => return error.to_string(),
    };
    let to = progress.first_offset.zip(progress.last_offset);
    format!(
        "{} to {}, {}{}",
        progress.records,
        to.map_or("-".to_owned(), |(first, last)| format!("{first}..{last}")),
        utc(progress.updated_ms),
        if progress.is_done { "" } else { " (interrupted)" }
    )
}

fn progress_object(progress: &Progress) -> serde_json::Value {
    serde_json::json!({
        "records": progress.records,
        "is_done": progress.is_done,
        "began_ms": progress.began_ms,
        "updated_ms": progress.updated_ms,
        "first_offset": progress.first_offset,
        "last_offset": progress.last_offset,
    })
}

/// First and last offset, both inclusive.
fn range(offsets: Option<(crate::model::Offset, crate::model::Offset)>) -> String {
    match offsets {
        Some((from, to)) if from < to => format!("{from}..{}", to.plus(-1)),
        _ => "-".to_owned(),
    }
}

fn list(args: &List) -> anyhow::Result<()> {
    let found = all(&args.data_dir)?;
    if args.json {
        let objects = found.iter().map(manifest_object).collect::<anyhow::Result<Vec<_>>>()?;
        return output::print_json(&objects);
    }
    output::print(&text(&found))
}

fn manifest_object(suffix: &Suffix) -> anyhow::Result<serde_json::Value> {
    let progress = suffix.progress()?;
    let (m, content) = (&suffix.manifest, &suffix.manifest.content);
    let producer = |p: &crate::log::Producer| {
        serde_json::json!({
            "id": p.id,
            "epoch": p.epoch,
            "first_sequence": p.first_sequence,
            "last_sequence": p.last_sequence,
            "batches": p.batches,
            "records": p.records,
        })
    };
    let epoch = |e: &crate::log::EpochStart| serde_json::json!({ "term": e.term.0, "index": e.index.0, "offset": e.offset.0 });
    Ok(serde_json::json!({
        "topic": m.topic_name,
        "topic_id": m.partition.topic.to_string(),
        "partition": m.partition.partition,
        "suffix": suffix.name(),
        "dir": suffix.dir,
        "is_whole": suffix.is_whole,
        "node": m.node.to_string(),
        "replica": m.replica.0,
        "installing": m.installing,
        "old_home_epoch": m.old_home_epoch.as_u32(),
        "new_home_epoch": m.new_home_epoch.as_u32(),
        "fork": { "index": m.fork.index.0, "term": m.fork.term.0, "offset": m.fork.offset.0 },
        "first_index": m.first_index.0,
        "last_index": m.last.0.0,
        "last_term": m.last.1.0,
        "first_offset": m.first_offset.0,
        "next_offset": m.next_offset.0,
        "high_watermark": { "index": m.hw.index.0, "offset": m.hw.offset.0 },
        "entries": content.entries,
        "batches": content.batches,
        "records": content.records,
        "bytes": content.bytes,
        "first_timestamp": content.timestamps.map(|t| t.0),
        "last_timestamp": content.timestamps.map(|t| t.1),
        "sha256": m.sha256_text(),
        "epochs": content.epochs.iter().map(epoch).collect::<Vec<_>>(),
        "producers": content.producers.iter().map(producer).collect::<Vec<_>>(),
        "producers_left_out": content.producers_left_out,
        "replayed": progress.as_ref().map(progress_object),
    }))
}

fn show(args: &Show) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for suffix in args.chosen.suffixes()? {
        for stored in suffix.batches()? {
            let line = Line::of(&stored?.batch)?;
            let written = match args.json {
                true => writeln!(out, "{}", object(&line)),
                false => writeln!(out, "{line}"),
            };
            if let Err(error) = written {
                return gone(error);
            }
        }
    }
    out.flush().or_else(gone)
}

fn export(args: &Export) -> anyhow::Result<()> {
    let suffix = args.chosen.suffix()?;
    suffix.verify().context("what is in the ledger is not what its manifest says")?;
    let path = args.out.display();
    let file = File::create_new(&args.out).with_context(|| format!("create {path}"))?;
    let mut out = BufWriter::new(file);
    let (mut batches, mut compressed) = (0u64, 0u64);
    for stored in suffix.batches()? {
        let batch: Bytes = stored?.batch;
        batches += 1;
        if !args.json {
            out.write_all(&batch)?;
            continue;
        }
        for line in export::lines(&batch, &mut compressed)? {
            writeln!(out, "{line}")?;
        }
    }
    out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    let m = &suffix.manifest;
    let (records, sha256) = (m.content.records, m.sha256_text());
    let mut told = format!("{batches} batches with {records} records written to {path}");
    if !args.json {
        told += &format!("; their SHA-256 is {sha256}");
    }
    output::print(&(told + "\n"))?;
    if compressed > 0 {
        eprintln!(
            "{compressed} of the batches are compressed. This binary does not decompress what \
             clients sent: each of them is one line, with the whole batch in base64"
        );
    }
    Ok(())
}
