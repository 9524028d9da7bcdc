//! The one thread that releases held packets, whatever the number of sockets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use quinn::AsyncUdpSocket;
use quinn::udp::{EcnCodepoint, Transmit};

use super::Lateness;
use crate::limits::IMPAIRED_BYTES_MAX;

/// A run of segments of one transmit, on its way.
pub(super) struct Held {
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    pub(super) destination: SocketAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) src_ip: Option<IpAddr>,
    pub(super) segment_size: Option<usize>,
    pub(super) contents: Box<[u8]>,
}

/// Handle; the thread starts with the first packet and ends with the handle.
pub(super) struct Releaser {
    shared: Arc<Shared>,
    started: OnceLock<()>,
}

struct Shared {
    epoch: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    heap: BinaryHeap<Reverse<Entry>>,
    held_bytes: usize,
    sequence: u64,
    stopped: bool,
    released: u64,
    late_total: Duration,
    late_max: Duration,
    overflowed: u64,
}

/// Ordered by release time, then by arrival: equal times keep their order.
struct Entry {
    release_ns: u64,
    sequence: u64,
    held: Held,
}

impl Releaser {
    pub(super) fn new() -> Releaser {
        let shared =
            Shared { epoch: Instant::now(), state: Mutex::default(), changed: Condvar::new() };
        Releaser { shared: Arc::new(shared), started: OnceLock::new() }
    }

    /// The clock that release times are read from.
    pub(super) fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    pub(super) fn hold(&self, release_ns: u64, held: Held) {
        self.started.get_or_init(|| start(self.shared.clone()));
        let mut state = self.shared.lock();
        if state.held_bytes + held.contents.len() > IMPAIRED_BYTES_MAX {
            state.overflowed += 1;
            return;
        }
        state.held_bytes += held.contents.len();
        state.sequence += 1;
        let sooner = state.heap.peek().is_none_or(|Reverse(first)| release_ns < first.release_ns);
        let sequence = state.sequence;
        state.heap.push(Reverse(Entry { release_ns, sequence, held }));
        drop(state);
        if sooner {
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn lateness(&self) -> Lateness {
        let state = self.shared.lock();
        let packets = u32::try_from(state.released).unwrap_or(u32::MAX);
        Lateness {
            packets: state.released,
            mean: state.late_total.checked_div(packets).unwrap_or_default(),
            max: state.late_max,
            overflowed: state.overflowed,
        }
    }
}

impl Drop for Releaser {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(shared: Arc<Shared>) {
    let thread = std::thread::Builder::new().name("wan-release".to_owned());
    if let Err(error) = thread.spawn(move || run(&shared)) {
        tracing::error!(%error, "no thread to release impaired packets; they are lost");
    }
}

fn run(shared: &Shared) {
    crate::socket::precise_timers();
    let mut state = shared.lock();
    while !state.stopped {
        let Some(Reverse(first)) = state.heap.peek() else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let wait_ns = first.release_ns.saturating_sub(shared.now_ns());
        if wait_ns > 0 {
            let wait = Duration::from_nanos(wait_ns);
            let woken = shared.changed.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let Some(Reverse(entry)) = state.heap.pop() else { continue };
        state.held_bytes -= entry.held.contents.len();
        let late = Duration::from_nanos(shared.now_ns().saturating_sub(entry.release_ns));
        state.released += 1;
        state.late_total += late;
        state.late_max = state.late_max.max(late);
        drop(state);
        let sent = send(&entry.held);
        state = shared.lock();
        state.overflowed += u64::from(!sent);
    }
}

/// A full socket buffer is waited for briefly, since the sender was told that the packet is out.
fn send(held: &Held) -> bool {
    const TRIES_MAX: usize = 20;
    const PAUSE: Duration = Duration::from_micros(100);
    let transmit = Transmit {
        destination: held.destination,
        ecn: held.ecn,
        contents: &held.contents,
        segment_size: held.segment_size,
        src_ip: held.src_ip,
    };
    for _ in 0..TRIES_MAX {
        match held.socket.try_send(&transmit) {
            Ok(()) => return true,
            // tidy: a thread of its own; a raw socket tells nobody when it has room again
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(_) => return false,
        }
    }
    false
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.release_ns, self.sequence) == (other.release_ns, other.sequence)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.release_ns, self.sequence).cmp(&(other.release_ns, other.sequence))
    }
}
