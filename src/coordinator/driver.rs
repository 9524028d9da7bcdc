//! One task a shard: moves requests, time and the fate of writes into the core, and its effects
//! out. It ends when it is given up (`Handle::resigned`, or the last handle is dropped), or when
//! its replica says that it leads no longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::batch;
use super::group::record::RecordError;
use super::group::{AppendError, Effect, Now, Response, Shard, Ticket};
use super::handle::{Seams, Seat};
use super::partition::{Partition, ReadError};
use super::writer::{Writer, Written};
use crate::model::batch::Header;

/// Bytes read at once while loading: enough that a disk streams, little beside what is kept.
const READ_BYTES: usize = 4 << 20;

/// Pauses between attempts to read what cannot be read yet, doubling from the first to the last.
/// There is no last attempt: as long as this replica leads, nobody else can serve the groups.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Requests that are handled before deadlines and writes get their turn.
const MESSAGES_MAX: usize = 1024;

/// Answered tickets are forgotten at once; those whose client went away when the waiting ones
/// have doubled since the last look, and are at least this many.
const WAITING_SWEEP_MIN: usize = 256;

/// Hands a request to the shard; the number becomes a member id, where one is needed.
type Run = Box<dyn FnOnce(&mut Shard, Now, Ticket, u128) + Send>;

pub(super) enum Message {
    Request { run: Run, reply: oneshot::Sender<Response> },
    Query { run: Box<dyn FnOnce(&Shard) + Send> },
}

/// Why a shard stopped before its mailbox was dropped.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the replica is no longer the leader")]
    NotLeader,
    #[error("at offset {offset}: {source}")]
    Batch { offset: i64, source: batch::Error },
    #[error("at offset {offset}: {source}")]
    Record { offset: i64, source: RecordError },
}

pub(super) struct Actor<P> {
    shard: Shard,
    partition: Arc<P>,
    mailbox: mpsc::Receiver<Message>,
    seams: Seams,
    started: Instant,
    next_ticket: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Response>>,
    waiting_at_sweep: usize,
    writer: Writer,
}

impl<P: Partition> Actor<P> {
    pub fn new(
        shard: Shard,
        partition: Arc<P>,
        mailbox: mpsc::Receiver<Message>,
        seams: Seams,
    ) -> Self {
        Self {
            shard,
            partition,
            mailbox,
            seams,
            started: Instant::now(),
            next_ticket: 0,
            waiting: BTreeMap::new(),
            waiting_at_sweep: 0,
            writer: Writer::default(),
        }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.started.elapsed(), unix_ms: (self.seams.unix_ms)() }
    }

    /// `given_up` ends when the shard is not to be served any more.
    pub async fn run(mut self, seat: Seat, mut given_up: oneshot::Receiver<()>) {
        let (partition, epoch) = (seat.partition, seat.epoch);
        let loaded = tokio::select! {
            biased;
            loaded = load(&mut self.shard, &*self.partition) => loaded,
            _ = &mut given_up => return,
        };
        match loaded {
            Ok(log_bytes) => {
                tracing::info!(partition, epoch, log_bytes, "group coordinator loaded");
                self.writer.handle_loaded(log_bytes);
            }
            Err(LoadError::NotLeader) => return seat.resigned(),
            Err(error) => {
                tracing::error!(partition, epoch, %error, "group coordinator cannot load");
                return seat.load_failed();
            }
        }
        self.shard.handle_loaded(self.now());
        if !seat.loaded() {
            return;
        }
        self.serve(given_up).await;
        // First, so that whoever is answered and asks again is not sent here.
        seat.resigned();
        self.shard.handle_resigned(self.now());
        self.take_effects();
        tracing::info!(partition, epoch, "group coordinator resigned");
    }

    /// Returns when the shard is given up, or when the replica says that it leads no longer.
    async fn serve(&mut self, mut given_up: oneshot::Receiver<()>) {
        loop {
            self.take_effects();
            self.snapshot_if_due();
            self.writer.submit(&self.partition, (self.seams.unix_ms)());
            let due = self.shard.poll_timeout().map(|due| self.started + due);
            tokio::select! {
                // Writes before requests, requests before deadlines: a heartbeat that waits here
                // has arrived, and must not lose against its own session's end.
                biased;
                _ = &mut given_up => return,
                written = self.writer.next(), if !self.writer.is_idle() => {
                    if self.handle_written(written).is_err() {
                        return;
                    }
                }
                message = self.mailbox.recv() => {
                    let Some(message) = message else { return };
                    self.handle_messages(message);
                }
                () = until(due), if due.is_some() => {}
            }
            self.shard.handle_timeout(self.now());
        }
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Append { id, records } => self.writer.push(id, records),
                Effect::Respond { ticket, response } => {
                    // Swept away, or dropped just now: the client is gone.
                    let Some(reply) = self.waiting.remove(&ticket) else { continue };
                    let _ = reply.send(response);
                }
            }
        }
    }

    /// All that is in the mailbox now, up to a limit.
    fn handle_messages(&mut self, first: Message) {
        self.handle_message(first);
        for _ in 1..MESSAGES_MAX {
            let Ok(message) = self.mailbox.try_recv() else { return };
            self.handle_message(message);
        }
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Request { run, reply } => {
                let ticket = self.ticket(reply);
                let (now, random) = (self.now(), (self.seams.random)());
                run(&mut self.shard, now, ticket, random);
            }
            Message::Query { run } => run(&self.shard),
        }
    }

    fn ticket(&mut self, reply: oneshot::Sender<Response>) -> Ticket {
        if self.waiting.len() >= WAITING_SWEEP_MIN.max(2 * self.waiting_at_sweep) {
            self.waiting.retain(|_, reply| !reply.is_closed());
            self.waiting_at_sweep = self.waiting.len();
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, reply);
        ticket
    }

    /// # Errors
    /// The replica is no longer the leader.
    fn handle_written(&mut self, written: Written) -> Result<(), AppendError> {
        match written {
            Written::Appends(ids, result) => {
                let now = self.now();
                for id in ids {
                    self.shard.handle_appended(now, id, result);
                }
                match result {
                    Err(AppendError::NotLeader) => Err(AppendError::NotLeader),
                    Ok(()) | Err(AppendError::Unavailable | AppendError::TooLarge) => Ok(()),
                }
            }
            Written::Snapshot(Ok(offset)) => {
                let partition = Arc::clone(&self.partition);
                // Nobody waits for it, and one that fails is made up for by the next.
                tokio::spawn(async move {
                    if let Err(error) = partition.advance_log_start(offset).await {
                        tracing::info!(%offset, %error, "group coordinator kept its old log");
                    }
                });
                Ok(())
            }
            Written::Snapshot(Err(AppendError::NotLeader)) => Err(AppendError::NotLeader),
            Written::Snapshot(Err(error)) => {
                tracing::info!(%error, "group coordinator snapshot failed");
                Ok(())
            }
        }
    }

    fn snapshot_if_due(&mut self) {
        if self.writer.is_drained() {
            self.writer.push_snapshot(self.shard.snapshot());
        } else if self.writer.is_snapshot_due(self.shard.state_bytes()) {
            self.writer.drain();
        }
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// Reads all committed records into the shard; returns how many bytes they took in the log.
async fn load<P: Partition>(shard: &mut Shard, partition: &P) -> Result<usize, LoadError> {
    let range = retry(|| partition.committed()).await?;
    let mut next = range.start;
    let mut log_bytes = 0;
    while next < range.end {
        let batches = retry(|| partition.read(next, READ_BYTES)).await?;
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            let offset = next.0;
            let header =
                Header::parse(&batch).map_err(|e| LoadError::Batch { offset, source: e.into() })?;
            let records =
                batch::decode(&batch).map_err(|source| LoadError::Batch { offset, source })?;
            for record in records {
                shard.load(record).map_err(|source| LoadError::Record { offset, source })?;
            }
            log_bytes += header.size_bytes;
            next = next.max(header.next_offset());
        }
        // Loading a large partition must not starve the other tasks of this thread.
        tokio::task::yield_now().await;
    }
    Ok(log_bytes)
}

async fn retry<T, F: Future<Output = Result<T, ReadError>>>(
    read: impl Fn() -> F,
) -> Result<T, LoadError> {
    let [mut pause, pause_max] = RETRY_PAUSES;
    loop {
        match read().await {
            Ok(read) => return Ok(read),
            Err(ReadError::NotLeader) => return Err(LoadError::NotLeader),
            Err(ReadError::Unavailable) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(pause_max);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::{Config, Join, MemberId, Protocol};
    use super::*;
    use crate::model::Offset;

    struct Never;

    impl Partition for Never {
        async fn append(&self, _: bytes::Bytes) -> Result<Offset, AppendError> {
            std::future::pending().await
        }

        async fn committed(&self) -> Result<std::ops::Range<Offset>, ReadError> {
            std::future::pending().await
        }

        async fn read(&self, _: Offset, _: usize) -> Result<Vec<bytes::Bytes>, ReadError> {
            std::future::pending().await
        }

        async fn advance_log_start(&self, _: Offset) -> Result<(), AppendError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn requests_whose_clients_have_gone_are_forgotten() {
        let (_sender, mailbox) = mpsc::channel(1);
        let shard = Shard::new(Config::default());
        let mut actor = Actor::new(shard, Arc::new(Never), mailbox, Seams::system());
        for client in 0..4_000 {
            // Joins of a first rebalance, which are not answered before its delay is over.
            let join = Join {
                group: "g".into(),
                member_id: MemberId::default(),
                instance_id: Some(format!("i{client}").into()),
                client_id: String::new(),
                client_host: String::new(),
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 10_000,
                protocol_type: "consumer".into(),
                protocols: vec![Protocol { name: "range".into(), metadata: Default::default() }],
                requires_known_member_id: true,
                skips_assignment: true,
            };
            let (reply, answer) = oneshot::channel();
            drop(answer);
            let run = move |shard: &mut Shard, now, ticket, random| {
                shard.handle_join(now, ticket, join, random);
            };
            actor.handle_messages(Message::Request { run: Box::new(run), reply });
            actor.take_effects();
            assert!(actor.waiting.len() <= WAITING_SWEEP_MIN);
        }
    }

    #[tokio::test]
    async fn no_message_is_lost_when_there_are_more_than_one_turn_takes() {
        let (sender, mailbox) = mpsc::channel(2 * MESSAGES_MAX);
        let shard = Shard::new(Config::default());
        let mut actor = Actor::new(shard, Arc::new(Never), mailbox, Seams::system());
        let (counted, mut count) = mpsc::unbounded_channel();
        let message = || {
            let counted = counted.clone();
            Message::Query { run: Box::new(move |_| counted.send(()).unwrap()) }
        };
        (0..MESSAGES_MAX).for_each(|_| assert!(sender.try_send(message()).is_ok()));
        actor.handle_messages(message());
        actor.handle_messages(message());
        let handled = std::iter::from_fn(|| count.try_recv().ok()).count();
        assert_eq!(handled, MESSAGES_MAX + 2);
    }
}
