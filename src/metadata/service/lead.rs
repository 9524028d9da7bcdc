//! The leader's loop: decides requests one at a time, and keeps house (the first topology,
//! repairs, snapshots). On a node that does not lead it only says so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::log::{AppendError, Log, Position};
use super::{Applied, Call, Options};
use crate::metadata::apply::Outcome;
use crate::metadata::command::{AdmitDisk, COMMAND_BYTES_MAX, Command};
use crate::metadata::controller::{self, Context, Decision};
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{Reply, Request};
use crate::metadata::snapshot;
use crate::model::record::{self, Record};
use crate::model::{LeaderEpoch, Offset};
use crate::replica::ProduceError;

/// How long house-keeping waits for its append; also how long it rests after a failure. An append
/// takes one round trip to a majority, of which this is many.
const CHORE_TIMEOUT: Duration = Duration::from_secs(10);
const CHORE_REST: Duration = Duration::from_secs(1);

/// Bytes of commands in one batch, unless a single one is larger.
const BATCH_BYTES: usize = 512 << 10;

pub(super) struct Lead<L> {
    log: Arc<L>,
    applied: watch::Receiver<Applied>,
    options: Options,
    /// No house-keeping before this.
    rest_until: Option<Instant>,
    /// Log start was moved here; where the log only drops whole segments it may stay behind.
    log_start_asked: Option<Offset>,
}

/// Why nothing came of a request, before or after something was appended.
enum Stopped {
    NotLeader,
    /// It took too long before anything was appended.
    Late,
    /// Appended, perhaps.
    Unknown,
    Refused(Refusal),
}

pub(super) async fn run<L: Log>(mut lead: Lead<L>, mut queue: mpsc::Receiver<Call>) {
    loop {
        let seen = lead.log.position();
        let rest = lead.rest_until;
        tokio::select! {
            call = queue.recv() => match call {
                Some(call) => lead.answer(call).await,
                None => return,
            },
            () = lead.log.moved_from(seen) => {}
            changed = lead.applied.changed() => if changed.is_err() { return },
            () = rested(rest) => lead.rest_until = None,
        }
        lead.keep_house().await;
    }
}

async fn rested(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl<L: Log> Lead<L> {
    pub fn new(log: Arc<L>, applied: watch::Receiver<Applied>, options: Options) -> Self {
        Self { log, applied, options, rest_until: None, log_start_asked: None }
    }

    async fn answer(&mut self, call: Call) {
        let Call { request, deadline, mut reply } = call;
        // Half-way it may be dropped: what was appended stays, and the next request waits for it.
        let decided = tokio::select! {
            biased;
            () = reply.closed() => return,
            decided = self.decide(request, deadline) => decided,
        };
        let answer = match decided {
            Ok(reply) => reply,
            Err(Stopped::NotLeader) => Reply::NotLeader { hint: self.log.leader() },
            Err(Stopped::Late) => Reply::Busy,
            Err(Stopped::Unknown) => Reply::Unknown,
            Err(Stopped::Refused(refusal)) => Reply::Refused(refusal),
        };
        // Who asked may have gone; what was done stays done.
        let _ = reply.send(answer);
    }

    async fn decide(&mut self, request: Request, deadline: Instant) -> Result<Reply, Stopped> {
        let (applied, epoch) = self.settle(deadline).await?;
        let settled = applied.image.next_offset;
        let decision = match self.consult(&applied, request) {
            Ok(decision) if !decision.commands.is_empty() => decision,
            // No append tells whether this leader was one still when it looked.
            other => {
                self.still_leads(epoch, deadline).await?;
                let Decision { response, .. } = other.map_err(Stopped::Refused)?;
                return Ok(Reply::Done { response, visible_at: settled });
            }
        };
        let commands: Vec<&Command> = decision.commands.iter().map(|(_, c)| c).collect();
        let (outcomes, visible_at) = self.apply(&commands, deadline).await?;
        if visible_at != settled.plus(commands.len() as i64) {
            // Another leader was in between; what was refused was refused by what is old.
            return Err(Stopped::Unknown);
        }
        for command in &commands {
            if let Command::AdmitDisk(AdmitDisk { node, expected: Some(_), .. }) = command {
                tracing::warn!(%node, "it comes with another disk; the one that it had is retired");
            }
        }
        let response = controller::answer(decision, outcomes).map_err(Stopped::Refused)?;
        Ok(Reply::Done { response, visible_at })
    }

    fn consult(&mut self, applied: &Applied, request: Request) -> Result<Decision, Refusal> {
        let live = (self.options.live)();
        let (image, new_topic_id) = (&*applied.image, &mut *self.options.new_topic_id);
        controller::decide(&mut Context { image, live: &live, new_topic_id }, request)
    }

    /// Waits until everything that is in this leader's log is applied: what stands there from before
    /// its election, and what an earlier request left there without hearing the end of it.
    async fn settle(&mut self, deadline: Instant) -> Result<(Applied, LeaderEpoch), Stopped> {
        loop {
            let seen = self.log.position();
            let position = seen.filter(|p| p.is_leader).ok_or(Stopped::NotLeader)?;
            let applied = self.applied.borrow_and_update().clone();
            let next = applied.image.next_offset;
            if position.watermark_known && applied.is_complete && next == position.log_end {
                return Ok((applied, position.leader_epoch));
            }
            let moved = async {
                tokio::select! {
                    () = self.log.moved_from(seen) => Ok(()),
                    changed = self.applied.changed() => changed,
                }
            };
            match timeout_at(deadline, moved).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Stopped::NotLeader),
                Err(_) => return Err(Stopped::Late),
            }
        }
    }

    /// That this node still led in `epoch` after what was settled: where it slept or was cut off, others may have
    /// led since, and changed what it looked at.
    async fn still_leads(&mut self, epoch: LeaderEpoch, deadline: Instant) -> Result<(), Stopped> {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout_at(deadline, self.log.confirm(left)).await {
            Ok(Ok(confirmed)) if confirmed == epoch => Ok(()),
            Ok(Ok(_) | Err(ProduceError::NotLeader)) => Err(Stopped::NotLeader),
            Ok(Err(_)) | Err(_) => Err(Stopped::Late),
        }
    }

    /// Appends commands and waits until they are applied here.
    async fn apply(
        &mut self,
        commands: &[&Command],
        deadline: Instant,
    ) -> Result<(Vec<Outcome>, Offset), Stopped> {
        let batches = batches(commands, (self.options.now_ms)()).map_err(Stopped::Refused)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let base = self.log.append(batches, left).await.map_err(|error| match error {
            AppendError::Nothing(_) => Stopped::Late,
            AppendError::Unknown(_) => Stopped::Unknown,
        })?;
        let next = base.plus(commands.len() as i64);
        let reached = self.applied.wait_for(|applied| applied.image.next_offset >= next);
        let refused = match timeout_at(deadline, reached).await {
            Ok(Ok(applied)) => applied.refused.clone(),
            Ok(Err(_)) | Err(_) => return Err(Stopped::Unknown),
        };
        let outcome = |offset: Offset| {
            let found = refused.iter().rev().find(|(at, _)| *at == offset);
            found.map_or(Ok(()), |(_, refusal)| Err(refusal.clone()))
        };
        Ok(((0..commands.len() as i64).map(|i| outcome(base.plus(i))).collect(), next))
    }

    /// What a leader does by itself, until nothing is left to do. Every step leaves less: it is in the
    /// image, or it failed, and then there is a rest.
    async fn keep_house(&mut self) {
        while self.rest_until.is_none() {
            let Some((position, applied)) = self.settled() else { return };
            let deadline = Instant::now() + CHORE_TIMEOUT;
            match self.chore(position, &applied, deadline).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    tracing::info!(node = %self.options.node, %why, "metadata house-keeping tries again");
                    self.rest_until = Some(Instant::now() + CHORE_REST);
                }
            }
        }
    }

    /// As [`Lead::settle`], if that is so now.
    fn settled(&self) -> Option<(Position, Applied)> {
        let position = self.log.position().filter(|p| p.is_leader && p.watermark_known)?;
        let applied = self.applied.borrow().clone();
        let all = applied.is_complete && applied.image.next_offset == position.log_end;
        all.then_some((position, applied))
    }

    /// One thing, if there is one to do.
    async fn chore(
        &mut self,
        position: Position,
        applied: &Applied,
        deadline: Instant,
    ) -> Result<bool, Chore> {
        let image = &applied.image;
        let Options { cluster_id, own_topology, founders, .. } = &self.options;
        let mut commands = controller::first_topology(image, cluster_id, own_topology, founders);
        if commands.is_empty() {
            commands.extend(controller::repair(image).into_iter().map(Command::ReplacePlacement));
        }
        if commands.is_empty() && applied.is_snapshot_due {
            commands.extend(snapshot::parts(image).into_iter().map(Command::Snapshot));
        }
        if !commands.is_empty() {
            self.propose(&commands, deadline).await?;
            return Ok(true);
        }
        let behind = applied.last_snapshot.filter(|at| *at > position.log_start);
        let Some(at) = behind.filter(|at| self.log_start_asked != Some(*at)) else {
            return Ok(false);
        };
        self.log.start_at(at).await?;
        self.log_start_asked = Some(at);
        Ok(true)
    }

    async fn propose(&mut self, commands: &[Command], deadline: Instant) -> Result<(), Chore> {
        let commands: Vec<&Command> = commands.iter().collect();
        match self.apply(&commands, deadline).await {
            Ok((outcomes, _)) => outcomes.into_iter().collect::<Outcome>().map_err(Chore::Refused),
            Err(Stopped::Refused(refusal)) => Err(Chore::Refused(refusal)),
            Err(Stopped::NotLeader | Stopped::Late | Stopped::Unknown) => Err(Chore::NotDone),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Chore {
    #[error("{0}")]
    Refused(Refusal),
    #[error("it was not committed in time")]
    NotDone,
    #[error("log start: {0}")]
    LogStart(#[from] AppendError),
}

/// Commands as batches, in order, one record each.
fn batches(commands: &[&Command], now_ms: i64) -> Result<Vec<Bytes>, Refusal> {
    let mut batches = Vec::new();
    let mut records = Vec::new();
    let mut bytes = 0;
    for command in commands {
        let value = command.encode();
        if value.len() > COMMAND_BYTES_MAX {
            let message =
                format!("a command of {} bytes: at most {COMMAND_BYTES_MAX}", value.len());
            return Err(Refusal::new(Reason::LimitExceeded, message));
        }
        if bytes + value.len() > BATCH_BYTES && !records.is_empty() {
            batches.push(record::build(&records, now_ms));
            records.clear();
            bytes = 0;
        }
        bytes += value.len();
        records.push(Record { key: None, value: Some(value) });
    }
    if !records.is_empty() {
        batches.push(record::build(&records, now_ms));
    }
    Ok(batches)
}
