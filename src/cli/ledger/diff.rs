//! `isobar ledger diff`: a suffix against the log as it is on the same node.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;

use super::{Chosen, range};
use crate::cli::dc::utc;
use crate::cli::output::{self, Table, or_dash};
use crate::log::disk::OsDisk;
use crate::log::{Comparison, Diff, Kept, Part, Suffix};
use crate::model::Offset;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// A suffix, and the log that it was compared with.
pub struct Compared {
    comparison: Comparison,
    /// What this node has of the log, the end exclusive.
    log: (Offset, Offset),
}

impl Compared {
    /// Reads both. The log is this node's copy, up to the high watermark that it knew a second ago.
    pub fn of(suffix: &Suffix, data_dirs: &[PathBuf]) -> anyhow::Result<Self> {
        let log = log_of(suffix, data_dirs)?;
        let offsets = log.offsets();
        let m = &suffix.manifest;
        let mut comparison =
            Comparison::of(m.partition, m.content.records, suffix.batches()?).context("ledger")?;
        for batch in log {
            let (header, bytes) = batch?;
            // Before it the two logs are one.
            if header.base_offset >= m.first_offset {
                comparison.see(&bytes)?;
            }
        }
        Ok(Self { comparison, log: offsets })
    }

    pub fn log(&self) -> (Offset, Offset) {
        self.log
    }

    pub fn comparison(self) -> Comparison {
        self.comparison
    }
}

/// This node's copy of the log, from the place on where the suffix left it.
pub fn log_of(suffix: &Suffix, data_dirs: &[PathBuf]) -> anyhow::Result<Kept> {
    let m = &suffix.manifest;
    for dir in data_dirs {
        if let Some(mut log) = Kept::of(Arc::new(OsDisk), dir, m.partition)? {
            log.skip_to(m.first_index);
            return Ok(log);
        }
    }
    anyhow::bail!(
        "{}-{} ({}) has no replica in {} any more, so there is no log to compare with: copy the \
         suffix's directory {} under the data directory of a node that has one",
        m.topic_name,
        m.partition.partition,
        m.partition.topic,
        output::list(&data_dirs.iter().map(|dir| dir.display()).collect::<Vec<_>>()),
        suffix.dir.display(),
    )
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let suffix = args.chosen.suffix()?;
    let compared = Compared::of(&suffix, &args.chosen.data_dir)?;
    let log = compared.log;
    let diff = compared.comparison.finish();
    if args.json {
        return output::print_json(&object(&suffix, log, &diff));
    }
    output::print(&text(&suffix, log, &diff))
}

/// The classes, and what each means.
fn parts(diff: &Diff) -> [(&'static str, &'static str, &Part); 4] {
    [
        ("there", "in the log, by producer id, epoch and sequence", &diff.there),
        ("replayed", "in the log, by the mark of a replay", &diff.replayed),
        ("alike", "perhaps in the log: same time, key, value and headers", &diff.alike),
        ("missing", "not in the log", &diff.missing),
    ]
}

/// Ranges that are shown to people.
const RANGES_SHOWN: usize = 5;

fn offsets(part: &Part) -> String {
    let shown: Vec<_> = part
        .offsets
        .iter()
        .take(RANGES_SHOWN)
        .map(|(from, to)| range(Some((*from, *to))))
        .collect();
    match part.offsets.len() {
        0 => "-".to_owned(),
        n if n > RANGES_SHOWN => format!("{} and {} more", output::list(&shown), n - RANGES_SHOWN),
        _ => output::list(&shown),
    }
}

pub fn text(suffix: &Suffix, log: (Offset, Offset), diff: &Diff) -> String {
    let m = &suffix.manifest;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{}-{}, suffix {} of node {}: {} against the log, of which this node has {}\n",
        m.topic_name,
        m.partition.partition,
        suffix.name(),
        m.node,
        output::count(m.content.records as usize, "record"),
        range(Some(log)),
    );
    let mut table = Table::new(["RECORDS", "OFFSETS", "FROM", "TO", "WHAT"]);
    for (name, meaning, part) in parts(diff) {
        table.row([
            part.records.to_string(),
            offsets(part),
            or_dash(part.timestamps.map(|t| utc(t.0))),
            or_dash(part.timestamps.map(|t| utc(t.1))),
            format!("{name}: {meaning}"),
        ]);
    }
    let mut producers =
        Table::new(["PRODUCER ID", "EPOCH", "THERE", "REPLAYED", "ALIKE", "MISSING"]);
    for (producer, counts) in &diff.producers {
        producers.row([
            producer.map_or("none".to_owned(), |p| p.0.to_string()),
            or_dash(producer.map(|p| p.1)),
            counts.there.to_string(),
            counts.replayed.to_string(),
            counts.alike.to_string(),
            counts.missing.to_string(),
        ]);
    }
    let _ = write!(out, "{}\n{}", table.render(), producers.render());
    if diff.missing.records > 0 {
        let _ = writeln!(
            out,
            "\nwhat is missing is in {} {}, {}; their SHA-256 is {}",
            diff.missing_batches,
            if diff.missing_batches == 1 { "batch" } else { "batches" },
            output::bytes(diff.missing_bytes),
            hex(&diff.missing_sha256),
        );
    }
    if diff.producers.contains_key(&None) {
        out.push_str(
            "\nrecords without a producer id cannot be matched by sequence, only by what they say\n",
        );
    }
    if diff.compressed_records > 0 {
        let _ = writeln!(
            out,
            "\n{} in compressed batches: by what they say those are compared as whole batches only",
            output::count(diff.compressed_records as usize, "record"),
        );
    }
    if log.0 > m.first_offset {
        let _ = writeln!(
            out,
            "\nthe log begins at {}: what was in it between {} and there cannot be looked at",
            log.0, m.first_offset
        );
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn object(suffix: &Suffix, log: (Offset, Offset), diff: &Diff) -> serde_json::Value {
    let m = &suffix.manifest;
    let part = |part: &Part| {
        json!({
            "records": part.records,
            "offsets": part.offsets.iter().map(|(from, to)| [from.0, to.0 - 1]).collect::<Vec<_>>(),
            "first_timestamp": part.timestamps.map(|t| t.0),
            "last_timestamp": part.timestamps.map(|t| t.1),
        })
    };
    let producer = |(producer, counts): (&Option<(i64, i16)>, &crate::log::Counts)| {
        json!({
            "id": producer.map(|p| p.0),
            "epoch": producer.map(|p| p.1),
            "there": counts.there,
            "replayed": counts.replayed,
            "alike": counts.alike,
            "missing": counts.missing,
        })
    };
    let mut object = json!({
        "topic": m.topic_name,
        "topic_id": m.partition.topic.to_string(),
        "partition": m.partition.partition,
        "suffix": suffix.name(),
        "node": m.node.as_u32(),
        "records": m.content.records,
        "log_start_offset": log.0.0,
        "log_end_offset": log.1.0,
        "log_records_compared": diff.log_records,
        "missing_batches": diff.missing_batches,
        "missing_bytes": diff.missing_bytes,
        "missing_sha256": hex(&diff.missing_sha256),
        "compressed_records": diff.compressed_records,
        "producers": diff.producers.iter().map(producer).collect::<Vec<_>>(),
    });
    for (name, _, one) in parts(diff) {
        object[name] = part(one);
    }
    object
}
