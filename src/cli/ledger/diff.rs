//! `isobar ledger diff`: what of a suffix is in the topic's log as it is now (R16).
//!
//! The log is read through the Kafka port: what clients see there, up to the high watermark, whichever
//! node leads. The log in a data directory may be behind, cut, or of a node that has been away.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Chosen, range};
use crate::cli::kafka;
use crate::cli::output::{self, Table};
use crate::log::{Comparison, Place, Suffix};
use crate::model::Offset;
use crate::model::batch::Header;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// The Kafka port of any node of the cluster
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut objects = Vec::new();
    for suffix in args.chosen.suffixes()? {
        let (diff, _) = compare(&suffix, &mut open(&suffix, &args.bootstrap)?)?;
        match args.json {
            true => objects.push(diff.object()),
            false => output::print(&diff.text())?,
        }
    }
    if args.json { output::print_json(&objects) } else { Ok(()) }
}

pub fn open(suffix: &Suffix, bootstrap: &str) -> anyhow::Result<kafka::Partition> {
    let m = &suffix.manifest;
    kafka::Partition::open(bootstrap, &m.topic_name, m.partition.topic, m.partition.partition)
}

/// Records by where they are.
#[derive(Debug, Default, Clone)]
pub struct Counts(BTreeMap<Place, u64>);

impl Counts {
    pub fn of(&self, place: Place) -> u64 {
        self.0.get(&place).copied().unwrap_or(0)
    }

    fn all(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn absent(&self) -> u64 {
        self.of(Place::Missing) + self.of(Place::Unmatched)
    }
}

/// What of one suffix is in the log.
pub struct Diff<'a> {
    suffix: &'a Suffix,
    /// Offsets of the log that it was compared with, end exclusive.
    pub compared: (Offset, Offset),
    /// The log has lost what came right after the cut: nothing tells what of it was there.
    pub is_cut_short: bool,
    /// By producer id and epoch; `None` are those without.
    producers: BTreeMap<Option<(i64, i16)>, Counts>,
    pub counts: Counts,
    /// What is not known to be in the log: its offsets in the suffix, both inclusive, its batches' bytes
    /// and times.
    pub offsets: Vec<(Offset, Offset)>,
    pub bytes: u64,
    pub times: Option<(i64, i64)>,
}

pub fn compare<'a>(
    suffix: &'a Suffix,
    log: &mut kafka::Partition,
) -> anyhow::Result<(Diff<'a>, Comparison)> {
    suffix.verify()?;
    let mut comparison = Comparison::new(suffix)?;
    let (start, end) = log.bounds()?;
    // Before it the two logs are one.
    let parted = suffix.manifest.first_offset.min(suffix.manifest.fork.offset);
    log.read(parted.max(start), end, |batch| Ok(comparison.add(batch)?))?;
    let mut diff = Diff {
        suffix,
        compared: (parted.max(start), end),
        is_cut_short: start > parted,
        producers: BTreeMap::new(),
        counts: Counts::default(),
        offsets: Vec::new(),
        bytes: 0,
        times: None,
    };
    let mut places = comparison.places();
    for stored in suffix.batches()? {
        let stored = stored?;
        let header = Header::parse(&stored.batch)?;
        let producer =
            header.is_idempotent().then_some((header.producer_id, header.producer_epoch));
        let counts = diff.producers.entry(producer).or_default();
        let mut is_absent = false;
        for (place, delta) in places.of(&stored)?.into_iter().zip(0..) {
            *counts.0.entry(place).or_default() += 1;
            *diff.counts.0.entry(place).or_default() += 1;
            if place.is_absent() {
                is_absent = true;
                let offset = stored.base_offset.plus(delta);
                match diff.offsets.last_mut() {
                    Some((_, last)) if last.plus(1) == offset => *last = offset,
                    _ => diff.offsets.push((offset, offset)),
                }
            }
        }
        if is_absent {
            diff.bytes += stored.batch.len() as u64;
            let (first, last) = (header.base_timestamp, header.max_timestamp);
            let (least, most) = diff.times.unwrap_or((first, last));
            diff.times = Some((least.min(first), most.max(last)));
        }
    }
    Ok((diff, comparison))
}

impl Diff<'_> {
    pub fn object(&self) -> Value {
        let m = &self.suffix.manifest;
        let counts = |counts: &Counts| {
            json!({
                "records": counts.all(),
                "in_log": counts.of(Place::InLog),
                "replayed": counts.of(Place::Replayed),
                "same_bytes": counts.of(Place::SameBytes),
                "missing": counts.of(Place::Missing),
                "unmatched": counts.of(Place::Unmatched),
            })
        };
        let producer = |(producer, found): (&Option<(i64, i16)>, &Counts)| {
            let mut object = counts(found);
            object["id"] = producer.map(|p| p.0).into();
            object["epoch"] = producer.map(|p| p.1).into();
            object
        };
        json!({
            "topic": m.topic_name,
            "topic_id": m.partition.topic.to_string(),
            "partition": m.partition.partition,
            "suffix": self.suffix.name(),
            "dir": self.suffix.dir,
            "node": m.node.to_string(),
            "new_home_epoch": m.new_home_epoch.as_u32(),
            "compared_from": self.compared.0.0,
            "compared_to": self.compared.1.0,
            "is_cut_short": self.is_cut_short,
            "total": counts(&self.counts),
            "producers": self.producers.iter().map(producer).collect::<Vec<_>>(),
            "absent": {
                "records": self.counts.absent(),
                "offsets": self.offsets.iter().map(|(a, b)| [a.0, b.0]).collect::<Vec<_>>(),
                "bytes": self.bytes,
                "first_timestamp": self.times.map(|t| t.0),
                "last_timestamp": self.times.map(|t| t.1),
            },
        })
    }

    pub fn text(&self) -> String {
        let m = &self.suffix.manifest;
        let mut out = format!(
            "{}-{}, suffix {} of node {}: {} records at offsets {}\ncompared with the topic's log, offsets {}\n",
            m.topic_name,
            m.partition.partition,
            self.suffix.name(),
            m.node,
            m.content.records,
            range(Some((m.first_offset, m.next_offset))),
            range(Some(self.compared)),
        );
        let mut table = Table::new([
            "PRODUCER",
            "EPOCH",
            "RECORDS",
            "IN THE LOG",
            "REPLAYED",
            "SAME BYTES",
            "MISSING",
            "UNMATCHED",
        ]);
        let mut row = |id: String, epoch: String, found: &Counts| {
            let [a, b, c, d, e] =
                [Place::InLog, Place::Replayed, Place::SameBytes, Place::Missing, Place::Unmatched]
                    .map(|place| found.of(place).to_string());
            table.row([id, epoch, found.all().to_string(), a, b, c, d, e]);
        };
        for (producer, found) in &self.producers {
            let id = producer.map_or("without an id".to_owned(), |p| p.0.to_string());
            row(id, output::or_dash(producer.map(|p| p.1)), found);
        }
        row("all".into(), "-".into(), &self.counts);
        out += &table.render();
        // Writing to a String cannot fail.
        if let (Some((first, _)), Some((_, last)), Some((from, to))) =
            (self.offsets.first(), self.offsets.last(), self.times)
        {
            let _ = writeln!(
                out,
                "not known to be in the log: {} records between the suffix's offsets {first} and {last}, in batches of {}, \
                 of the times {from} to {to} (ms)",
                self.counts.absent(),
                output::bytes(self.bytes),
            );
        }
        if self.counts.of(Place::Unmatched) > 0 {
            let _ = writeln!(
                out,
                "{} are unmatched: their producer has no id, so nothing tells whether it sent them again after the move",
                self.counts.of(Place::Unmatched)
            );
        }
        if self.is_cut_short {
            let _ = writeln!(
                out,
                "the log begins at {} by now: what was there before it, after the cut, could not be compared",
                self.compared.0
            );
        }
        out
    }
}
