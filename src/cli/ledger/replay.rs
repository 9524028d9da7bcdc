//! `isobar ledger replay`: records of a suffix are sent to their topic again, each with a mark of where it
//! comes from. What `diff` finds in the log is left out, a mark of an earlier replay included.
//!
//! One request is in flight at a time, under a producer id of the replay's own. What it is goes to the
//! suffix's `replays.toml` before it is sent: a replay that died is gone on with by sending that request
//! again with the same sequences, which the leader takes for the same if it has it.

use std::io::{BufRead as _, Write as _};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};

use super::diff::{self, Diff};
use super::{Chosen, text};
use crate::cli::kafka::{self, Refused};
use crate::cli::output;
use crate::kafka::wire::ErrorCode;
use crate::log::{Comparison, MARK_HEADER, Pending, Place, Replay, Replays, Stored, Suffix};
use crate::model::batch::{self, Codec, Header};
use crate::model::record::{self, Full};
use crate::model::{Offset, Term};

/// Records of a request are as many as make up so much: a quarter of Kafka's `max.message.bytes`, and few
/// requests for a gigabyte. A topic that takes less is sent less.
const REQUEST_BYTES: usize = 256 << 10;

/// Progress is told so often.
const SAY_EVERY_SECONDS: u64 = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// The Kafka port of any node of the cluster
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// Show what would be sent, and send nothing
    #[arg(long, conflicts_with = "yes")]
    plan: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Also where the log has lost what came after the cut, so that records that were there may be sent again
    #[arg(long)]
    accept_duplicates: bool,
    #[arg(long)]
    json: bool,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// The largest of the suffixes of one move, term before index (R16): the old home's canonical one, if a
/// majority of its voters is among them. Those whose replica had lost its standing do not count (R23).
fn largest(found: Vec<Suffix>) -> anyhow::Result<(Suffix, Vec<Suffix>)> {
    let epoch = found[0].manifest.new_home_epoch;
    anyhow::ensure!(
        found.iter().all(|suffix| suffix.manifest.new_home_epoch == epoch),
        "suffixes of several moves; say which with --epoch or --suffix:\n{}",
        text(&found)
    );
    let size = |s: &Suffix| (!s.manifest.installing, s.manifest.last.1, s.manifest.last.0);
    let mut found = found;
    found.sort_by_key(size);
    let largest = found.pop().expect("there is one at least");
    Ok((largest, found))
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let (suffix, others) = largest(args.chosen.suffixes()?)?;
    let mut log = diff::open(&suffix, &args.bootstrap)?;
    let (diff, mut comparison) = diff::compare(&suffix, &mut log)?;
    let mut plan = diff.text();
    plan += &format!(
        "to be sent again, to where the topic is led now: {} records\n",
        diff.counts.absent()
    );
    for other in &others {
        plan += &format!("left for the larger one: {}\n", other.dir.display());
    }
    if others.is_empty() {
        plan += "the suffix of another replica may be longer: `isobar dc history` counts the longest and names the nodes; \
                 with several --data-dir the longest is taken\n";
    }
    // With --json, standard output is the report's alone.
    match (args.json, args.plan) {
        (true, true) => return output::print_json(&diff.object()),
        (true, false) => eprint!("{plan}"),
        (false, _) => output::print(&plan)?,
    }
    if args.plan {
        return Ok(());
    }
    anyhow::ensure!(
        !diff.is_cut_short || args.accept_duplicates,
        "nothing is sent: the log begins at {} and has lost what came right after the cut; what of the suffix was there would \
         be sent again. --accept-duplicates sends it all the same",
        diff.compared.0
    );
    let mut sent = None;
    if diff.counts.absent() > 0 {
        anyhow::ensure!(args.yes || confirmed()?, "nothing is sent: it takes \"yes\", or --yes");
        let mut replays = suffix.begin_replays()?;
        let sender = Sender::begin(&suffix, &comparison, &diff, &mut log, &mut replays)?;
        sender
            .send_all(&suffix, &comparison)
            .context("what was sent is in the log with its marks; run the same again to go on")?;
        sent = replays.all.last().cloned();
        // What was acknowledged is looked for, rather than believed.
        let (_, end) = log.bounds()?;
        log.read(diff.compared.1, end, |batch| Ok(comparison.add(batch)?))?;
    }
    report(args, &suffix, &comparison, sent.as_ref())
}

fn report(
    args: &Args,
    suffix: &Suffix,
    comparison: &Comparison,
    sent: Option<&Replay>,
) -> anyhow::Result<()> {
    let (mut places, mut absent) = (comparison.places(), 0);
    for stored in suffix.batches()? {
        absent += places.of(&stored?)?.into_iter().filter(|place| place.is_absent()).count();
    }
    let records = sent.map_or(0, |sent| sent.records);
    let (first, last) = (sent.and_then(|s| s.first_offset), sent.and_then(|s| s.last_offset));
    if args.json {
        output::print_json(&serde_json::json!({
            "sent": records,
            "first_offset": first,
            "last_offset": last,
            "absent": absent,
        }))?;
    } else {
        let at = match first.zip(last) {
            Some((first, last)) => format!(", at offsets from {first} to {last}"),
            None => String::new(),
        };
        output::print(&format!(
            "{records} records sent{at}; {absent} of the suffix are not in the log\n"
        ))?;
    }
    anyhow::ensure!(
        absent == 0,
        "{absent} records of the suffix are not in the log: part of a compressed batch, or lost again by another move; \
         `isobar ledger diff` names them"
    );
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    eprint!("send these? [yes/no] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}

/// What goes into one request.
enum Group {
    Records(Vec<Full>),
    /// A compressed batch, as its client made it.
    Whole(Bytes),
}

struct Sender<'a> {
    log: &'a mut kafka::Partition,
    replays: &'a mut Replays,
    sequence: i32,
    /// Of a replay that died: the first request has to be this one.
    resumed: Option<Pending>,
    total: u64,
    request_bytes: usize,
    said: Instant,
    /// Waiting to be sent, with the first one's name.
    group: Vec<Full>,
    group_bytes: usize,
    group_at: Option<(Term, Offset)>,
}

impl<'a> Sender<'a> {
    fn begin(
        suffix: &Suffix,
        comparison: &Comparison,
        diff: &Diff,
        log: &'a mut kafka::Partition,
        replays: &'a mut Replays,
    ) -> anyhow::Result<Self> {
        let died = replays.all.last().filter(|last| last.ended_ms.is_none()).cloned();
        let mut resumed = died.as_ref().and_then(|died| died.pending);
        // What it was about to send must be the first that is to be sent: then nothing of it is in the log as
        // far as that shows, and the leader may have it all the same.
        let first = first_absent(suffix, comparison)?;
        resumed = resumed.filter(|p| first.is_some_and(|(term, offset)| p.is_at(term, offset)));
        let (producer_id, producer_epoch) = match (&died, resumed) {
            (Some(died), Some(_)) => (died.producer_id, died.producer_epoch),
            _ => log.init_producer_id()?,
        };
        replays.all.push(Replay {
            began_ms: now_ms(),
            ended_ms: None,
            producer_id,
            producer_epoch,
            records: 0,
            first_offset: None,
            last_offset: None,
            pending: resumed,
        });
        // Before anything is sent: who cannot write here is told now.
        replays.save()?;
        Ok(Self {
            log,
            replays,
            sequence: resumed.map_or(0, |pending| pending.base_sequence),
            resumed,
            total: diff.counts.absent(),
            request_bytes: REQUEST_BYTES,
            said: Instant::now(),
            group: Vec::new(),
            group_bytes: 0,
            group_at: None,
        })
    }

    fn replay(&mut self) -> &mut Replay {
        self.replays.all.last_mut().expect("this replay was begun")
    }

    fn send_all(mut self, suffix: &Suffix, comparison: &Comparison) -> anyhow::Result<()> {
        let mut places = comparison.places();
        for stored in suffix.batches()? {
            let stored = stored?;
            let places = places.of(&stored)?;
            if places.iter().any(|place| place.is_absent()) {
                self.take(&stored, &places, comparison)?;
            }
        }
        self.flush()?;
        let replay = self.replay();
        replay.ended_ms = Some(now_ms());
        Ok(self.replays.save()?)
    }

    fn take(
        &mut self,
        stored: &Stored,
        places: &[Place],
        comparison: &Comparison,
    ) -> anyhow::Result<()> {
        let header = Header::parse(&stored.batch)?;
        anyhow::ensure!(!header.is_control(), "a control batch at offset {}", stored.base_offset);
        if header.codec()? != Codec::None {
            self.flush()?;
            // One that is there in part cannot be cut; the report counts it.
            if places.iter().all(|place| place.is_absent()) {
                self.send(&Group::Whole(stored.batch.clone()), (stored.term, stored.base_offset))?;
            }
            return Ok(());
        }
        let records = record::parse_with_headers(&stored.batch)?;
        for ((placed, mut headers), place) in records.into_iter().zip(places) {
            if !place.is_absent() {
                continue;
            }
            let mark = comparison
                .mark(stored.term, stored.base_offset.plus(placed.offset.0 - header.base_offset.0));
            headers.push((MARK_HEADER.into(), Some(mark.to_string().into())));
            let stamped = header.is_log_append_time().then_some(header.max_timestamp);
            let timestamp_ms = stamped.unwrap_or(placed.timestamp_ms);
            let full = Full { timestamp_ms, record: placed.record, headers };
            let is_full = match self.resumed {
                Some(pending) => self.group.len() >= pending.records as usize,
                None => self.group_bytes + full.size() > self.request_bytes,
            };
            if is_full {
                self.flush()?;
            }
            self.group_at.get_or_insert((mark.term, mark.offset));
            self.group_bytes += full.size();
            self.group.push(full);
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let group = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        match self.group_at.take() {
            Some(at) => self.send(&Group::Records(group), at),
            None => Ok(()),
        }
    }

    /// One request, or two halves of it if the topic takes no batch as large.
    fn send(&mut self, group: &Group, at: (Term, Offset)) -> anyhow::Result<()> {
        let mut bytes = match group {
            Group::Records(records) => BytesMut::from(&record::build_full(records)[..]),
            Group::Whole(batch) => BytesMut::from(&batch[..]),
        };
        let count = Header::parse(&bytes)?.records.unsigned_abs();
        let (id, epoch) = (self.replay().producer_id, self.replay().producer_epoch);
        batch::assign(&mut bytes, id, epoch, self.sequence);
        let pending =
            Pending { base_sequence: self.sequence, records: count, term: at.0.0, offset: at.1.0 };
        self.replay().pending = Some(pending);
        self.replays.save()?;
        self.resumed = None;
        match (self.log.produce(&bytes.freeze()), group) {
            (Ok(offset), _) => self.acknowledged(offset, &pending),
            (Err(error), Group::Records(records)) if is_too_large(&error) && records.len() > 1 => {
                let (left, right) = records.split_at(records.len() / 2);
                self.request_bytes = left.iter().map(Full::size).sum();
                self.send(&Group::Records(left.to_vec()), at)?;
                let mark = right[0]
                    .headers
                    .last()
                    .and_then(|(_, value)| crate::log::Mark::parse(value.as_ref()?));
                let mark = mark.expect("the last header is the mark");
                self.send(&Group::Records(right.to_vec()), (mark.term, mark.offset))
            }
            (Err(error), _) => Err(error
                .context(format!("sending {count} records from offset {} of the suffix on", at.1))),
        }
    }

    fn acknowledged(&mut self, offset: Offset, pending: &Pending) -> anyhow::Result<()> {
        self.sequence = pending.next_sequence();
        let total = self.total;
        let replay = self.replay();
        replay.pending = None;
        replay.records += u64::from(pending.records);
        replay.first_offset.get_or_insert(offset.0);
        replay.last_offset = Some(offset.0 + i64::from(pending.records) - 1);
        let records = replay.records;
        if self.said.elapsed().as_secs() >= SAY_EVERY_SECONDS {
            self.said = Instant::now();
            eprintln!("{records} of {total} records sent");
        }
        Ok(())
    }
}

fn is_too_large(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<Refused>().map(|refused| refused.code);
    matches!(code, Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge))
}

/// The first record that is to be sent.
fn first_absent(
    suffix: &Suffix,
    comparison: &Comparison,
) -> anyhow::Result<Option<(Term, Offset)>> {
    let mut places = comparison.places();
    for stored in suffix.batches()? {
        let stored = stored?;
        let found = places.of(&stored)?.into_iter().position(Place::is_absent);
        if let Some(delta) = found {
            return Ok(Some((stored.term, stored.base_offset.plus(delta as i64))));
        }
    }
    Ok(None)
}
