//! Accepts connections, within limits that are on by default.

mod admission;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::admission::{Admission, Admitted, Limits, Refused};
use super::Session;
use super::connection::{self, Closed, Room, Service};
use super::metrics::Metrics;

/// New connections a second that a listener takes; more wait in the kernel's backlog. A client
/// library that reconnects in a hot loop makes 1,000 a second (KafkaJS, measured).
pub const ACCEPTS_PER_SECOND: u32 = 1_000;

/// New connections that may come at once after a pause: a fleet that reconnects after a restart.
pub const ACCEPT_BURST: u32 = 2_000;

/// How long a listener waits after the system had no file or memory for a connection (EMFILE,
/// ENFILE, ENOBUFS, ENOMEM). Trying at once would spin: the connection stays in the backlog.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener of a node, bound.
pub struct Listener {
    name: Arc<str>,
    socket: TcpListener,
}

/// What all listeners of a node share.
pub struct Shared<S> {
    pub service: Arc<S>,
    pub admission: Admission,
    pub room: Room,
    pub metrics: Arc<Metrics>,
    /// Turns true, or closes, when the node shuts down.
    pub shutdown: watch::Receiver<bool>,
}

impl Listener {
    pub async fn bind(name: &str, address: &str) -> io::Result<Self> {
        Ok(Self { name: name.into(), socket: TcpListener::bind(address).await? })
    }

    /// A socket that was bound elsewhere.
    pub fn new(name: &str, socket: TcpListener) -> Self {
        Self { name: name.into(), socket }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves connections until the node shuts down; returns once the last of them has ended,
    /// which takes [`connection::DRAIN_DEADLINE`] at most.
    pub async fn serve<S: Service>(self, shared: Arc<Shared<S>>) {
        let mut connections = JoinSet::new();
        let refusals = Arc::<Refusals>::default();
        let mut pace = Pace::new(Instant::now());
        let mut shutdown = shared.shutdown.clone();
        loop {
            let accept = async {
                tokio::time::sleep_until(pace.next(Instant::now())).await;
                self.socket.accept().await
            };
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => break,
                Some(_) = connections.join_next() => {}
                accepted = accept => match accepted {
                    Ok((stream, peer)) => {
                        pace.took(Instant::now());
                        match shared.admission.admit(&self.name, peer.ip()) {
                            Ok(admitted) => {
                                let session = Session::new(self.name.clone(), peer);
                                let refusals = refusals.clone();
                                connections.spawn(serve(stream, session, shared.clone(), admitted, refusals));
                            }
                            Err(refused) => shared.metrics.refused(refused),
                        }
                    }
                    Err(error) => {
                        tracing::warn!(listener = %self.name, %error, "accept failed");
                        if is_exhausted(&error) {
                            tokio::time::sleep(EXHAUSTED_PAUSE).await;
                        }
                    }
                },
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }
}

/// Returns when the node shuts down. Keeps nothing of the channel borrowed.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A closed channel is a node that is gone.
    drop(shutdown.wait_for(|down| *down).await);
}

/// One connection, from its first byte to its last.
async fn serve<S: Service>(
    stream: TcpStream,
    session: Session,
    shared: Arc<Shared<S>>,
    admitted: Admitted,
    refusals: Arc<Refusals>,
) {
    let (peer, listener) = (session.peer, session.listener.clone());
    // Answers are whole frames: waiting for more to send with them only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "no TCP_NODELAY");
    }
    let (read, write) = stream.into_split();
    let Shared { service, room, metrics, shutdown, .. } = &*shared;
    metrics.opened();
    let (service, room, shutdown) = (service.clone(), room.clone(), shutdown.clone());
    let closed = connection::serve(read, write, session, service, room, shutdown).await;
    metrics.closed(&closed);
    drop(admitted);
    match closed {
        Closed::ByPeer | Closed::Idle | Closed::ShuttingDown | Closed::Io(_) => {
            tracing::debug!(%listener, %peer, why = %closed, "connection closed");
        }
        Closed::FrameLength(_)
        | Closed::FrameDeadline { .. }
        | Closed::WriteStalled
        | Closed::Refused(_) => {
            if let Some(unsaid) = refusals.say(Instant::now()) {
                tracing::info!(%listener, %peer, why = %closed, unsaid, "connection refused");
            }
        }
        Closed::Panicked => tracing::error!(%listener, %peer, why = %closed, "connection closed"),
    }
}

/// Which refusals are logged: one a second and listener, because a client that does not understand
/// reconnects at once, a thousand times a second. The metrics count them all.
#[derive(Default)]
struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    const INTERVAL: Duration = Duration::from_secs(1);

    /// Whether to log this one, and how many before it were not.
    fn say(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().expect("no panic while held");
        let (said_at, unsaid) = &mut *state;
        if said_at.is_some_and(|at| now < at + Self::INTERVAL) {
            *unsaid += 1;
            return None;
        }
        *said_at = Some(now);
        Some(std::mem::take(unsaid))
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// A token bucket, kept as the time at which it would be full again.
struct Pace {
    full_at: Instant,
}

impl Pace {
    const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / ACCEPTS_PER_SECOND as u64);

    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// When the next connection may be taken.
    fn next(&self, now: Instant) -> Instant {
        let burst = Self::INTERVAL * (ACCEPT_BURST - 1);
        self.full_at.checked_sub(burst).map_or(now, |at| at.max(now))
    }

    fn took(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + Self::INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_refusals_is_one_line_a_second() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.say(start), Some(0));
        assert_eq!(refusals.say(start), None);
        assert_eq!(refusals.say(start + Refusals::INTERVAL / 2), None);
        assert_eq!(refusals.say(start + Refusals::INTERVAL), Some(2));
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_an_interval() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..ACCEPT_BURST {
            assert_eq!(pace.next(now), now);
            pace.took(now);
        }
        assert_eq!(pace.next(now), now + Pace::INTERVAL);
        let later = now + Duration::from_secs(10);
        assert_eq!(pace.next(later), later);
    }
}
