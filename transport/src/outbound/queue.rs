//! What waits for one lane of one peer: ordered streams under one bound. Pure.

use std::collections::VecDeque;

use crate::limits::{QueueLimit, WRITE_BYTES_MAX, WRITE_FRAMES_MAX};
use crate::wire::frame::Envelope;

pub(crate) struct Queue {
    limit: QueueLimit,
    streams: Vec<Stream>,
    /// Waiting and being written, of all streams.
    frames: usize,
    bytes: usize,
}

#[derive(Default)]
struct Stream {
    waiting: VecDeque<Envelope>,
    has_writer: bool,
}

/// Whom a push wakes.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Wake {
    /// The writer of the stream.
    Writer,
    /// Whoever opens streams, or the connection.
    Opener,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Full;

/// What one write takes; to be given back to [`Queue::written`].
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) bytes: usize,
}

/// A frame costs memory beyond its bytes.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// After a burst a stream's queue gives its memory back.
const CAPACITY_KEPT: usize = 64;

fn cost(envelope: &Envelope) -> usize {
    envelope.bytes() + FRAME_OVERHEAD_BYTES
}

impl Queue {
    pub(crate) fn new(streams: usize, limit: QueueLimit) -> Queue {
        let streams = std::iter::repeat_with(Stream::default).take(streams).collect();
        Queue { limit, streams, frames: 0, bytes: 0 }
    }

    pub(crate) fn push(&mut self, stream: usize, envelope: Envelope) -> Result<Wake, Full> {
        let cost = cost(&envelope);
        // A single frame may exceed the byte bound if nothing else waits, or it could never leave.
        let full = self.frames >= self.limit.frames_max
            || self.frames > 0 && self.bytes + cost > self.limit.bytes_max;
        if full {
            return Err(Full);
        }
        self.frames += 1;
        self.bytes += cost;
        let stream = &mut self.streams[stream];
        stream.waiting.push_back(envelope);
        Ok(if stream.has_writer { Wake::Writer } else { Wake::Opener })
    }

    /// A writer that is there before its first frame.
    pub(crate) fn claim(&mut self, stream: usize) {
        self.streams[stream].has_writer = true;
    }

    /// Streams with frames and no writer yet; from now on they have one.
    pub(crate) fn claim_writers(&mut self) -> Vec<usize> {
        let idle = |stream: &Stream| !stream.waiting.is_empty() && !stream.has_writer;
        let claimed: Vec<usize> =
            (0..self.streams.len()).filter(|index| idle(&self.streams[*index])).collect();
        claimed.iter().for_each(|index| self.streams[*index].has_writer = true);
        claimed
    }

    /// The next write of a stream, in order. It stays in the accounts until it is written.
    pub(crate) fn take(&mut self, stream: usize) -> Batch {
        let waiting = &mut self.streams[stream].waiting;
        let mut batch = Batch::default();
        while batch.envelopes.len() < WRITE_FRAMES_MAX && batch.bytes < WRITE_BYTES_MAX {
            let Some(envelope) = waiting.pop_front() else { break };
            batch.bytes += cost(&envelope);
            batch.envelopes.push(envelope);
        }
        if waiting.is_empty() && waiting.capacity() > CAPACITY_KEPT {
            waiting.shrink_to(CAPACITY_KEPT);
        }
        batch
    }

    /// QUIC has a batch of this size.
    pub(crate) fn written(&mut self, frames: usize, bytes: usize) {
        self.frames -= frames;
        self.bytes -= bytes;
    }

    /// The connection is gone, and with it the streams and their order. Returns how many frames were lost,
    /// those being written included.
    pub(crate) fn clear(&mut self) -> usize {
        for stream in &mut self.streams {
            *stream = Stream::default();
        }
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::Frame;

    fn envelope(id: u32, bytes: usize) -> Envelope {
        let payloads = vec![Bytes::from(vec![0; bytes])];
        let header = Bytes::copy_from_slice(&id.to_be_bytes());
        Envelope::Direct(Frame { header, payloads, compressible: false })
    }

    fn id(envelope: &Envelope) -> u32 {
        let Envelope::Direct(frame) = envelope else { panic!("only direct frames here") };
        u32::from_be_bytes(frame.header[..].try_into().unwrap())
    }

    const LIMIT: QueueLimit = QueueLimit { frames_max: 50, bytes_max: 20_000 };

    #[test]
    fn the_first_frame_of_a_stream_asks_for_a_writer_and_later_ones_wake_it() {
        let mut queue = Queue::new(4, LIMIT);
        assert_eq!(queue.push(2, envelope(1, 0)), Ok(Wake::Opener));
        assert_eq!(queue.claim_writers(), [2]);
        assert_eq!(queue.claim_writers(), [] as [usize; 0]);
        assert_eq!(queue.push(2, envelope(2, 0)), Ok(Wake::Writer));
        assert_eq!(queue.clear(), 2);
        assert_eq!(queue.push(2, envelope(3, 0)), Ok(Wake::Opener));
    }

    #[test]
    fn what_is_being_written_still_counts() {
        let mut queue = Queue::new(1, QueueLimit { frames_max: 1, bytes_max: 1000 });
        queue.push(0, envelope(1, 10)).unwrap();
        let batch = queue.take(0);
        assert_eq!(queue.push(0, envelope(2, 10)), Err(Full));
        queue.written(batch.envelopes.len(), batch.bytes);
        assert_eq!(queue.push(0, envelope(2, 10)), Ok(Wake::Opener));
    }

    proptest! {
        #[test]
        fn bounds_hold_order_holds_and_the_accounts_balance(
            steps in prop::collection::vec((0usize..4, 0usize..3000, any::<bool>()), 1..300),
        ) {
            let mut queue = Queue::new(4, LIMIT);
            let (mut pushed, mut taken) = (vec![Vec::new(); 4], vec![Vec::new(); 4]);
            for (number, (stream, bytes, take)) in steps.into_iter().enumerate() {
                if take {
                    let batch = queue.take(stream);
                    taken[stream].extend(batch.envelopes.iter().map(id));
                    queue.written(batch.envelopes.len(), batch.bytes);
                } else if queue.push(stream, envelope(number as u32, bytes)).is_ok() {
                    pushed[stream].push(number as u32);
                }
                prop_assert!(queue.frames <= LIMIT.frames_max);
                prop_assert!(queue.bytes <= LIMIT.bytes_max);
            }
            for (stream, taken) in taken.iter_mut().enumerate() {
                loop {
                    let batch = queue.take(stream);
                    if batch.envelopes.is_empty() {
                        break;
                    }
                    taken.extend(batch.envelopes.iter().map(id));
                    queue.written(batch.envelopes.len(), batch.bytes);
                }
            }
            prop_assert_eq!(pushed, taken);
            prop_assert_eq!((queue.frames, queue.bytes), (0, 0));
        }
    }
}
