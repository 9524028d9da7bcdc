//! Frames off a socket: a 4-byte length, then that many bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Closed, IDLE_MAX, IN_FLIGHT_BYTES_MAX, Room};

/// Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 << 20;

/// A frame that has begun gets this long for its first MiB, and again for each further one: a
/// client that is slower than 100 KiB/s holds memory for nothing.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// What one [`FRAME_DEADLINE`] is for.
const DEADLINE_STEP_BYTES: usize = 1 << 20;

/// Memory that a frame gets before its bytes are there; from then on it doubles with what came.
pub const FRAME_STEP_BYTES: usize = 64 << 10;

/// Small requests come whole with their length in one read; large ones pass this buffer by. Frames
/// are copied out of it, because a batch that lives on in a cache must not pin its neighbours.
const READ_BUFFER_BYTES: usize = 8 << 10;

pub(super) struct FrameReader<R> {
    socket: BufReader<R>,
    room: Room,
}

/// A frame, and the room it takes until it is answered.
pub(super) struct Incoming {
    pub frame: Bytes,
    pub room: Vec<OwnedSemaphorePermit>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(socket: R, room: Room) -> Self {
        Self { socket: BufReader::with_capacity(READ_BUFFER_BYTES, socket), room }
    }

    /// The next frame, once there is room for it among the connection's requests `in_flight`.
    ///
    /// Not cancel safe: a frame that has begun is lost with the future.
    pub async fn next(
        &mut self,
        in_flight: &Arc<Semaphore>,
        idle: impl Fn() -> bool,
    ) -> Result<Incoming, Closed> {
        let length = self.length(idle).await?;
        let mine = acquire(in_flight, length.min(IN_FLIGHT_BYTES_MAX)).await;
        let deadline = Instant::now() + FRAME_DEADLINE;
        let mut room = vec![mine];
        let frame = self.body(length, deadline, &mut room).await?;
        Ok(Incoming { frame, room })
    }

    async fn length(&mut self, idle: impl Fn() -> bool) -> Result<usize, Closed> {
        let mut length = [0; 4];
        loop {
            match timeout(IDLE_MAX, self.socket.read(&mut length[..1])).await {
                Ok(Ok(0)) => return Err(Closed::ByPeer),
                Ok(Ok(_)) => break,
                Ok(Err(e)) => return Err(e.into()),
                Err(_) if idle() => return Err(Closed::Idle),
                Err(_) => {}
            }
        }
        match timeout(FRAME_DEADLINE, self.socket.read_exact(&mut length[1..])).await {
            Ok(read) => read?,
            Err(_) => return Err(Closed::FrameDeadline { length: 4, received: 1 }),
        };
        let stated = i32::from_be_bytes(length);
        match usize::try_from(stated) {
            Ok(length @ 1..=FRAME_BYTES_MAX) => Ok(length),
            _ => Err(Closed::FrameLength(stated)),
        }
    }

    /// Reads `length` bytes; memory and the node's room are taken as the bytes arrive.
    async fn body(
        &mut self,
        length: usize,
        mut deadline: Instant,
        room: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Closed> {
        let mut frame = BytesMut::new();
        let mut shared: Option<OwnedSemaphorePermit> = None;
        let mut paced = DEADLINE_STEP_BYTES;
        while frame.len() < length {
            let received = frame.len();
            let late = |received| Closed::FrameDeadline { length, received };
            let step = received.max(FRAME_STEP_BYTES).min(length - received);
            let more = timeout_at(deadline, acquire(&self.room.0, step)).await;
            let more = more.map_err(|_| late(received))?;
            match &mut shared {
                Some(shared) => shared.merge(more),
                None => shared = Some(more),
            }
            frame.reserve(step);
            while frame.len() < received + step {
                let want = received + step - frame.len();
                let mut rest = (&mut self.socket).take(want as u64);
                let read = timeout_at(deadline, rest.read_buf(&mut frame)).await;
                if read.map_err(|_| late(frame.len()))?? == 0 {
                    return Err(Closed::ByPeer);
                }
                while frame.len() >= paced {
                    paced += DEADLINE_STEP_BYTES;
                    deadline += FRAME_DEADLINE;
                }
            }
        }
        room.extend(shared);
        Ok(frame.freeze())
    }
}

/// Waits for room. The largest frame fits the room of a connection, and of a node.
async fn acquire(room: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let permits = u32::try_from(bytes).expect("a frame is below 100 MiB");
    let permit = room.clone().acquire_many_owned(permits).await;
    permit.expect("the room is never closed")
}
