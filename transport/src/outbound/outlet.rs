//! One lane towards one peer, as the rest of the node sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinn::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::queue::{Queue, Wake};
use crate::limits::{CALLS_MAX, CONTROL_QUEUE, REPLICATION_QUEUE, REPLICATION_STREAMS};
use crate::traffic::Traffic;
use crate::wire::close;
use crate::wire::frame::Envelope;
use crate::{Dropped, Lane};

pub(crate) struct Outlet {
    pub(crate) lane: Lane,
    pub(crate) traffic: Traffic,
    state: watch::Sender<State>,
    /// Somebody needs the connection, or a stream on it.
    pub(super) wanted: Notify,
    /// The peer has just dialled us: no need to sit out the backoff.
    pub(super) nudged: Notify,
    pub(super) writers: Vec<Notify>,
    queue: Mutex<Queue>,
    calls: AtomicUsize,
    epoch: Instant,
    used_ms: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
}

#[derive(Clone, Debug)]
enum State {
    /// Not connected; `failures` only grows, and counts the attempts that came to nothing.
    Down {
        failures: u64,
    },
    Up {
        connection: Connection,
        incarnation: u64,
    },
}

/// The connection could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotConnected;

impl Outlet {
    pub(crate) fn new(lane: Lane) -> Outlet {
        let (streams, limit) = match lane {
            Lane::Control => (1, CONTROL_QUEUE),
            Lane::Replication => (REPLICATION_STREAMS, REPLICATION_QUEUE),
            Lane::Rpc | Lane::Bulk => (0, CONTROL_QUEUE),
        };
        Outlet {
            lane,
            traffic: Traffic::default(),
            state: watch::Sender::new(State::Down { failures: 0 }),
            wanted: Notify::new(),
            nudged: Notify::new(),
            writers: std::iter::repeat_with(Notify::new).take(streams).collect(),
            queue: Mutex::new(Queue::new(streams, limit)),
            calls: AtomicUsize::new(0),
            epoch: Instant::now(),
            used_ms: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whom this node reaches may have changed: the writer of control looks.
    pub(crate) fn tell_reach(&self) {
        self.writers[0].notify_one();
    }

    /// Queues a frame; the key picks its stream.
    pub(crate) fn push(&self, key: u64, envelope: Envelope) -> Result<(), Dropped> {
        if self.writers.is_empty() {
            return Err(Dropped::WrongLane(self.lane));
        }
        let stream = (key % self.writers.len() as u64) as usize;
        let pushed = self.queue().push(stream, envelope);
        match pushed {
            Ok(Wake::Writer) => self.writers[stream].notify_one(),
            Ok(Wake::Opener) => self.wanted.notify_one(),
            Err(_) => {
                self.count_dropped(1);
                return Err(Dropped::QueueFull);
            }
        }
        Ok(())
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { .. })
    }

    pub(crate) fn queue_bytes(&self) -> u64 {
        self.queue().bytes() as u64
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn count_dropped(&self, frames: usize) {
        self.dropped.fetch_add(frames as u64, Ordering::Relaxed);
    }

    pub(crate) fn nudge(&self) {
        self.nudged.notify_waiters();
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_up(&self, connection: &Connection, incarnation: u64) {
        self.state.send_replace(State::Up { connection: connection.clone(), incarnation });
    }

    /// The peer has said hello as this incarnation: a connection to an earlier one will hear nothing more, and
    /// what is sent on it until it times out would be lost.
    pub(crate) fn close_unless(&self, current: u64) {
        match &*self.state.borrow() {
            State::Up { connection, incarnation } if *incarnation != current => {
                connection.close(close::RESTARTED, b"the peer was restarted");
            }
            State::Up { .. } | State::Down { .. } => {}
        }
    }

    pub(super) fn set_down(&self) {
        let failures = self.failures.load(Ordering::Relaxed);
        self.state.send_replace(State::Down { failures });
    }

    pub(super) fn set_failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.set_down();
    }

    /// Has the connection opened, if it is not.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// The connection, opened if need be. Waits for the attempt under way, or the next one.
    ///
    /// Cancel safe: it only looks and wakes.
    pub(super) async fn connection(&self) -> Result<Connection, NotConnected> {
        let mut state = self.state.subscribe();
        let before = match &*state.borrow_and_update() {
            State::Up { connection, .. } => return Ok(connection.clone()),
            State::Down { failures } => *failures,
        };
        self.want();
        while state.changed().await.is_ok() {
            match &*state.borrow_and_update() {
                State::Up { connection, .. } => return Ok(connection.clone()),
                State::Down { failures } if *failures > before => return Err(NotConnected),
                State::Down { .. } => {}
            }
        }
        Err(NotConnected)
    }

    /// Counts a call while the guard lives, so that its connection is not taken for idle. To be taken before
    /// [`Outlet::connection`].
    pub(super) fn begin_call(&self) -> Option<CallGuard<'_>> {
        let guard = CallGuard { outlet: self };
        (self.calls.fetch_add(1, Ordering::SeqCst) < CALLS_MAX).then_some(guard)
    }

    pub(super) fn touch(&self) {
        self.used_ms.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn idle_for(&self) -> std::time::Duration {
        let used = std::time::Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(used)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > 0 || !self.queue().is_empty()
    }
}

pub(super) struct CallGuard<'a> {
    outlet: &'a Outlet,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.outlet.touch();
        self.outlet.calls.fetch_sub(1, Ordering::SeqCst);
    }
}
