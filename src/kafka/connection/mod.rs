//! One client connection: frames in, answers out in the same order.
//!
//! ```text
//!   frames ─▶ begin (in order, each polled once here) ─▶ task a request ─┐
//!                                                        task a request ─┤ concurrently
//!                                                        task a request ─┘
//!   socket ◀─ writer: awaits the tasks in request order ◀─ bounded queue ┘
//! ```
//!
//! A WAN produce takes a round trip, so requests of a connection are processed concurrently
//! (design §7). Yet two produces to one partition must append in the order in which they came, and
//! the same goes for a commit and the leave after it. Hence the rule: **every request's future is
//! polled once, here, before the next frame is looked at**. What a handler puts into an inbox
//! before its first real wait is therefore in request order; and because inboxes are fair queues,
//! a send that has to wait for room keeps its place too.
//!
//! The number and the bytes of requests in flight are bounded; at the bound the connection stops
//! reading, and TCP tells the client.

mod frame;
mod write;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

pub use self::frame::{FRAME_BYTES_MAX, FRAME_DEADLINE, FRAME_STEP_BYTES};
use self::frame::{FrameReader, Incoming};
use super::listener::stopped;
use super::{Session, wire};

/// Requests of one connection that may be processed at once. librdkafka pipelines without a limit
/// of its own; at 16 KiB a request and a round trip of 200 ms this still moves 20 MB/s.
pub const IN_FLIGHT_REQUESTS_MAX: usize = 256;

/// Bytes of requests of one connection in flight; a larger frame comes alone. Half of what a partition takes beyond
/// its gate (`UNGATED_BYTES_MAX`): one that waits for acks=all and outruns the disks is made to wait; refused, it would
/// reorder its records, where it has no idempotence. With a round trip of 250 ms it still moves 134 MB/s.
pub const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;

/// Bytes of requests in flight over all connections of a node. A frame takes its share as its
/// bytes arrive; without room it waits, until its deadline. 256 MiB keeps 256 producers with a
/// 1 MiB request each going; Kafka's `queued.max.request.bytes` is its like (off by default there).
pub const NODE_REQUEST_BYTES_MAX: usize = 256 << 20;

/// A connection without a request in flight is closed after this long: Kafka's
/// `connections.max.idle.ms`. Clients close theirs after nine minutes, so they come first.
pub const IDLE_MAX: Duration = Duration::from_secs(600);

/// How long answers in flight may still take after the last request was read: at a shutdown, and
/// when the peer has stopped sending.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// An answer: a whole frame in chunks, and what is released once its last byte was handed to the
/// socket.
#[derive(Default)]
pub struct Reply {
    pub chunks: Vec<Bytes>,
    pub held: Vec<OwnedSemaphorePermit>,
}

/// `None`: the request asks for no answer (acks=0).
pub type Answer = Pin<Box<dyn Future<Output = Result<Option<Reply>, Refusal>> + Send>>;

/// Why a request gets no answer but a closed connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not decode, or its API or version is not served; or its answer does not encode.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// A produce with acks=0 failed: a closed connection is the only way to say so, and makes the
    /// client look for the leader anew, as in Kafka.
    #[error("a produce that asked for no answer failed")]
    Unacknowledged,
}

/// What turns frames into answers.
pub trait Service: Send + Sync + 'static {
    /// Begins a request. May replace the session when the client names itself differently.
    fn begin(&self, session: &mut Arc<Session>, frame: Bytes) -> Result<Answer, Refusal>;
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    #[error("the peer closed it")]
    ByPeer,
    #[error("idle for {IDLE_MAX:?}")]
    Idle,
    #[error("the node is shutting down")]
    ShuttingDown,
    #[error("frame length {0} is outside 1..={FRAME_BYTES_MAX}")]
    FrameLength(i32),
    #[error("a frame did not arrive in time ({received} of {length} bytes)")]
    FrameDeadline { length: usize, received: usize },
    #[error("the peer took none of an answer for {:?}", write::STALL_MAX)]
    WriteStalled,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the handler of a request panicked")]
    Panicked,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Room for requests, shared by all connections of a node.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self::new(NODE_REQUEST_BYTES_MAX)
    }
}

impl Room {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

/// A request between its frame and its answer. Dropping it abandons the wait for the answer.
struct Pending {
    answer: Stage,
    _room: Vec<OwnedSemaphorePermit>,
}

enum Stage {
    Ready(Result<Option<Reply>, Refusal>),
    Running(Running),
}

/// A task that ends with its connection.
struct Running(JoinHandle<Result<Option<Reply>, Refusal>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pending {
    async fn answer(&mut self) -> Result<Option<Reply>, Closed> {
        match &mut self.answer {
            Stage::Ready(answer) => Ok(std::mem::replace(answer, Ok(None))?),
            Stage::Running(task) => match (&mut task.0).await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(Closed::Panicked),
            },
        }
    }
}

/// Serves a connection until it ends, and says why it did.
pub async fn serve<R, W, S>(
    read: R,
    write: W,
    session: Session,
    service: Arc<S>,
    room: Room,
    shutdown: watch::Receiver<bool>,
) -> Closed
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    S: Service,
{
    let (answers, queue) = mpsc::channel(IN_FLIGHT_REQUESTS_MAX);
    let mut writer = std::pin::pin!(write_answers(write, queue));
    let reader = read_requests(FrameReader::new(read, room), session, service, answers, shutdown);
    tokio::select! {
        Err(closed) = &mut writer => closed,
        // The reader has dropped its end of the queue, so the writer ends after the last answer.
        closed = reader => match tokio::time::timeout(DRAIN_DEADLINE, writer).await {
            Ok(Err(sooner)) => sooner,
            Ok(Ok(())) | Err(_) => closed,
        },
    }
}

async fn read_requests<R, S>(
    mut frames: FrameReader<R>,
    session: Session,
    service: Arc<S>,
    answers: mpsc::Sender<Pending>,
    mut shutdown: watch::Receiver<bool>,
) -> Closed
where
    R: AsyncRead + Unpin,
    S: Service,
{
    let mut session = Arc::new(session);
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX));
    loop {
        let incoming = async {
            let slot = answers.reserve().await.map_err(|_| Closed::ByPeer)?;
            let idle = || answers.capacity() + 1 == answers.max_capacity();
            Ok((slot, frames.next(&in_flight, idle).await?))
        };
        let (slot, Incoming { frame, room }) = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => return Closed::ShuttingDown,
            incoming = incoming => match incoming {
                Ok(incoming) => incoming,
                Err(closed) => return closed,
            },
        };
        session.request_came();
        let answer = match service.begin(&mut session, frame) {
            Ok(answer) => start(answer).await,
            Err(refusal) => return refusal.into(),
        };
        slot.send(Pending { answer, _room: room });
    }
}

/// Polls a request once, so that what it sends is sent now, and leaves the rest to a task.
///
/// Unconstrained, because tokio's cooperative budget could otherwise make this poll return before
/// the handler has queued for its inbox, and a later request would be there first.
async fn start(mut answer: Answer) -> Stage {
    let once = std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx)));
    match tokio::task::unconstrained(once).await {
        Poll::Ready(answer) => Stage::Ready(answer),
        Poll::Pending => Stage::Running(Running(tokio::spawn(answer))),
    }
}

async fn write_answers<W: AsyncWrite + Unpin>(
    mut socket: W,
    mut queue: mpsc::Receiver<Pending>,
) -> Result<(), Closed> {
    while let Some(mut pending) = queue.recv().await {
        if let Some(reply) = pending.answer().await? {
            write::reply(&mut socket, reply).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
