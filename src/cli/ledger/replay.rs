//! `isobar ledger replay`: sends to the topic again what a diff does not find in it.
//!
//! The node's copy of the log must have come as far as the leader's watermark is now: whatever an
//! earlier replay had acknowledged, from here or from another node's ledger, is then in the diff. What
//! it had in flight is sent again first, as the same producer with the same sequence.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use serde_json::json;

use super::Chosen;
use super::diff::{self, Compared};
use crate::admin::api;
use crate::cli::client::Target;
use crate::cli::confirm::confirmed;
use crate::cli::kafka::Connection;
use crate::cli::output;
use crate::kafka::wire::ErrorCode;
use crate::log::{InFlight, Outgoing, Progress, Suffix, outgoing};
use crate::model::Offset;

/// How long one batch is tried: a failover inside a DC takes a second or two, of a home some more.
const BATCH_MAX: Duration = Duration::from_secs(60);

/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// How long this node's copy of the log may take to reach the leader's watermark. It is written down
/// every second.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Between two words on how far it is.
const SAY_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Also send what the log perhaps has: records with the same time, key, value and headers
    #[arg(long)]
    also_alike: bool,
    /// Only show what would be sent
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let suffix = args.chosen.suffix()?;
    suffix.verify().context("what is in the ledger is not what its manifest says")?;
    let cluster = Cluster { target: &args.target, suffix: &suffix };
    let _lock = match args.plan {
        true => None,
        false => Some(suffix.lock("isobar ledger replay").context("is another replay running?")?),
    };
    let mut progress = suffix.progress()?;
    if let Some(progress) = progress.as_mut().filter(|p| p.in_flight.is_some()) {
        match args.plan {
            true => eprintln!(
                "a replay was interrupted; what it had in flight would be sent again first"
            ),
            false => resume(&cluster, progress)?,
        }
    }
    cluster.wait_caught_up(&args.chosen.data_dir)?;
    let compared = Compared::of(&suffix, &args.chosen.data_dir)?;
    let log = compared.log();
    let mut plan = Plan::default();
    let found = compared.comparison().finish_with(|batch, wanted| {
        let mut places = wanted.missing;
        if args.also_alike {
            places.extend(wanted.alike);
            places.sort_unstable();
        }
        plan.add(&suffix, batch.clone(), places);
    });
    if let Some(error) = plan.refused.take() {
        return Err(error);
    }
    let mut shown = diff::text(&suffix, log, &found);
    shown.push_str(&plan.text(&found, args.also_alike));
    if let Some(note) = cluster.note()? {
        let _ = write!(shown, "\n{note}\n");
    }
    let report = |progress: Option<&Progress>, sent: u64| {
        json!({
            "diff": diff::object(&suffix, log, &found),
            "to_send": plan.records,
            "left_compressed": plan.left_compressed,
            "sent": sent,
            "replayed": progress.map(super::progress_object),
        })
    };
    match args.target.json {
        true if args.plan => return output::print_json(&report(progress.as_ref(), 0)),
        true => eprint!("{shown}"),
        false => output::print(&shown)?,
    }
    if args.plan {
        return Ok(());
    }
    if plan.records == 0 {
        if let Some(progress) = progress.as_mut().filter(|p| !p.is_done) {
            finish(&suffix, progress)?;
        }
        if args.target.json {
            return output::print_json(&report(progress.as_ref(), 0));
        }
        return output::print("\nnothing is sent\n");
    }
    anyhow::ensure!(
        args.yes || confirmed("send these?")?,
        "nothing is sent: it takes \"yes\", or --yes"
    );
    let mut progress = progress.unwrap_or_else(|| Progress::begun(now_ms()));
    let before = progress.records;
    send(&cluster, &plan, &mut progress).with_context(|| {
        format!(
            "{} of {} records are acknowledged; the rest is not sent. Ask again: what is in the log is \
             not sent twice",
            progress.records - before,
            plan.records
        )
    })?;
    if args.target.json {
        return output::print_json(&report(Some(&progress), plan.records));
    }
    output::print(&format!(
        "\n{} acknowledged; `isobar ledger list` says so\n",
        output::count(plan.records as usize, "record")
    ))
}

/// What is to be sent, in order.
#[derive(Default)]
struct Plan {
    batches: Vec<Outgoing>,
    records: u64,
    /// Records of compressed batches of which other records are not to be sent.
    left_compressed: u64,
    refused: Option<anyhow::Error>,
}

impl Plan {
    fn add(&mut self, suffix: &Suffix, batch: bytes::Bytes, places: Vec<usize>) {
        if places.is_empty() || self.refused.is_some() {
            return;
        }
        match outgoing(suffix.manifest.partition, &batch, &places) {
            Ok(Some(batches)) => {
                self.records += batches.iter().map(Outgoing::records).sum::<u64>();
                self.batches.extend(batches);
            }
            Ok(None) => self.left_compressed += places.len() as u64,
            Err(error) => self.refused = Some(error.into()),
        }
    }

    fn text(&self, found: &crate::log::Diff, also_alike: bool) -> String {
        let mut out = format!(
            "\nto be sent: {} in {}, to the same partition\n",
            output::count(self.records as usize, "record"),
            match self.batches.len() {
                1 => "1 batch".to_owned(),
                n => format!("{n} batches"),
            },
        );
        // Writing to a String cannot fail.
        if found.alike.records > 0 && !also_alike {
            let _ = writeln!(
                out,
                "not sent: {} that the log perhaps has; --also-alike sends them too",
                output::count(found.alike.records as usize, "record"),
            );
        }
        if self.left_compressed > 0 {
            let _ = writeln!(
                out,
                "not sent: {} in compressed batches of which the log has other records: `isobar ledger \
                 export` writes them",
                output::count(self.left_compressed as usize, "record"),
            );
        }
        out
    }
}

/// The cluster, as its admin port tells of it.
struct Cluster<'a> {
    target: &'a Target,
    suffix: &'a Suffix,
}

impl Cluster<'_> {
    /// The partition as its leader sees it. Refuses a topic that only has the same name.
    fn partition(&self) -> anyhow::Result<api::Partition> {
        let m = &self.suffix.manifest;
        let path = super::super::topic::path(&m.topic_name)?;
        let path = format!("{path}/partitions/{}", m.partition.partition);
        let found: api::Partition = self.target.fetch(&path)?;
        anyhow::ensure!(
            found.topic_id == m.partition.topic.to_string(),
            "the suffix is of a {} that was deleted ({}); the topic of that name now is another one \
             ({}): nothing is sent to it",
            m.topic_name,
            m.partition.topic,
            found.topic_id
        );
        Ok(found)
    }

    fn wait_caught_up(&self, data_dirs: &[PathBuf]) -> anyhow::Result<()> {
        let began = Instant::now();
        let goal = loop {
            let partition = self.partition()?;
            let leads =
                partition.told_by.is_some() && partition.told_by == partition.placement.leader;
            match partition.high_watermark.filter(|_| leads) {
                Some(offset) => break offset,
                None => self.pause(began, "has no leader that answers")?,
            }
        };
        while diff::log_of(self.suffix, data_dirs)?.offsets().1.0 < goal {
            self.pause(began, &format!("has offsets up to {goal}, and this node has not yet"))?;
        }
        Ok(())
    }

    fn pause(&self, began: Instant, what: &str) -> anyhow::Result<()> {
        let m = &self.suffix.manifest;
        anyhow::ensure!(
            began.elapsed() < CATCH_UP_MAX,
            "{}-{} {what}, after {} s; `isobar cluster isr-status` says who lags",
            m.topic_name,
            m.partition.partition,
            CATCH_UP_MAX.as_secs()
        );
        // tidy: neither the admin port nor the disk has an event to wait for; the limit is above.
        std::thread::sleep(RETRY_EVERY);
        Ok(())
    }

    /// Which replica's suffix counts (R16).
    fn note(&self) -> anyhow::Result<Option<String>> {
        let m = &self.suffix.manifest;
        let moves: api::Moves = self.target.fetch("/v1/moves")?;
        let ended = moves.ended.iter().rev().find(|ended| {
            ended.topic == m.topic_name
                && ended.partition == m.partition.partition
                && ended.home_epoch == m.new_home_epoch.as_u32()
        });
        Ok(match ended {
            None => Some("the history of moves knows nothing of this suffix".to_owned()),
            Some(ended) if ended.beyond_records == Some(0) => None,
            Some(ended) if ended.longest.is_empty() => Some(
                "a majority of the old home's disks has not been read yet: another replica may have \
                 more than this one"
                    .to_owned(),
            ),
            Some(ended) if ended.longest.contains(&m.node.as_u32()) => None,
            Some(ended) => Some(format!(
                "this is not the longest suffix: replay that of node {} too, what is sent here is not \
                 sent again there",
                ended.longest[0]
            )),
        })
    }

    /// A connection to the leader. An error is not the last word: there may be another one soon.
    fn connect(&self) -> anyhow::Result<Connection> {
        let leader = self.partition()?.placement.leader.context("no leader")?;
        let nodes: api::Nodes = self.target.fetch("/v1/nodes")?;
        let node = nodes.nodes.iter().find(|node| node.id == leader).context("no such node")?;
        let listener = node.listeners.first().context("the leader has no listener")?;
        Connection::open(listener.rsplit("://").next().unwrap_or(listener))
    }
}

fn resume(cluster: &Cluster<'_>, progress: &mut Progress) -> anyhow::Result<()> {
    let suffix = cluster.suffix;
    let in_flight = progress.in_flight.clone().expect("there is one");
    let again = suffix.in_flight(&in_flight.offsets)?;
    let again = again.context("replay.toml speaks of records that the suffix has not")?;
    eprintln!("a replay was interrupted: what it had in flight is sent again");
    let producer = (in_flight.producer_id, in_flight.producer_epoch);
    let bytes = again.produced_by(producer, in_flight.sequence);
    match deliver(cluster, &mut None, &bytes)? {
        Ok(base) => progress.acknowledged(again.records(), Some(base).filter(|b| b.0 >= 0)),
        // The broker has the records behind this producer's, or has forgotten it: then the marks tell.
        Err(code) if is_forgotten(code) => progress.in_flight = None,
        Err(code) => anyhow::bail!("what was in flight was refused: {}", code.name()),
    }
    progress.updated_ms = now_ms();
    Ok(suffix.set_progress(progress)?)
}

fn is_forgotten(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::DuplicateSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
    )
}

fn send(cluster: &Cluster<'_>, plan: &Plan, progress: &mut Progress) -> anyhow::Result<()> {
    let suffix = cluster.suffix;
    let mut connection = None;
    let (producer_id, producer_epoch) = new_producer(cluster, &mut connection)?;
    let (mut sequence, mut sent) = (0i32, 0);
    let mut said = Instant::now();
    progress.is_done = false;
    for batch in &plan.batches {
        let offsets = batch.offsets.iter().map(|offset| offset.0).collect();
        progress.in_flight = Some(InFlight { producer_id, producer_epoch, sequence, offsets });
        progress.updated_ms = now_ms();
        suffix.set_progress(progress)?;
        let bytes = batch.produced_by((producer_id, producer_epoch), sequence);
        match deliver(cluster, &mut connection, &bytes)? {
            Ok(base) => progress.acknowledged(batch.records(), Some(base).filter(|b| b.0 >= 0)),
            Err(code) => anyhow::bail!(
                "the records from offset {} of the suffix on were refused: {}",
                batch.offsets[0],
                code.name()
            ),
        }
        // A suffix has fewer records than there are sequences.
        sequence += i32::try_from(batch.records())?;
        sent += batch.records();
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            eprintln!("{sent} of {} records acknowledged", plan.records);
        }
    }
    finish(suffix, progress)
}

fn finish(suffix: &Suffix, progress: &mut Progress) -> anyhow::Result<()> {
    (progress.is_done, progress.updated_ms) = (true, now_ms());
    Ok(suffix.set_progress(progress)?)
}

fn new_producer(
    cluster: &Cluster<'_>,
    connection: &mut Option<Connection>,
) -> anyhow::Result<(i64, i16)> {
    let asked = until(cluster, connection, Connection::producer_id)?;
    asked.map_err(|code| anyhow::anyhow!("no producer id: {}", code.name()))
}

/// Until the batch is acknowledged, or refused in a way that trying again does not mend.
fn deliver(
    cluster: &Cluster<'_>,
    connection: &mut Option<Connection>,
    batch: &bytes::Bytes,
) -> anyhow::Result<Result<Offset, ErrorCode>> {
    let m = &cluster.suffix.manifest;
    until(cluster, connection, |connection| {
        connection.produce(&m.topic_name, m.partition.partition, batch.clone())
    })
}

fn until<T>(
    cluster: &Cluster<'_>,
    connection: &mut Option<Connection>,
    mut ask: impl FnMut(&mut Connection) -> anyhow::Result<Result<T, ErrorCode>>,
) -> anyhow::Result<Result<T, ErrorCode>> {
    let began = Instant::now();
    loop {
        let opened = match connection.take() {
            Some(open) => Ok(open),
            None => cluster.connect(),
        };
        let why = match opened.and_then(|mut open| Ok((ask(&mut open)?, open))) {
            Ok((Err(code), _)) if code.is_retriable() => anyhow::anyhow!("{}", code.name()),
            Ok((answer, open)) => {
                *connection = Some(open);
                return Ok(answer);
            }
            Err(error) => error,
        };
        if began.elapsed() >= BATCH_MAX {
            return Err(why.context(format!("not acknowledged in {} s", BATCH_MAX.as_secs())));
        }
        // tidy: the next leader is not announced to this client; the limit is above.
        std::thread::sleep(RETRY_EVERY);
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
