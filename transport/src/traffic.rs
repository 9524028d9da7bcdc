//! What has passed over one lane of one peer, over all its connections so far.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::Connection;

#[derive(Default)]
pub(crate) struct Traffic {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Of connections that are gone.
    past: Totals,
    dialled: Option<Connection>,
    accepted: Option<Connection>,
    last_rtt: Option<Duration>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Totals {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) lost_packets: u64,
}

/// Which end opened the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Dialled,
    Accepted,
}

impl Traffic {
    /// A connection begins; its predecessor's figures are kept.
    pub(crate) fn begin(&self, end: End, connection: &Connection) {
        let mut inner = self.lock();
        inner.retire(end);
        *inner.slot(end) = Some(connection.clone());
    }

    /// A connection has ended, unless another one has taken its place.
    pub(crate) fn end(&self, end: End, connection: &Connection) {
        let mut inner = self.lock();
        let current = inner.slot(end).as_ref().map(Connection::stable_id);
        if current == Some(connection.stable_id()) {
            inner.retire(end);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let inner = self.lock();
        let live = [&inner.dialled, &inner.accepted].into_iter().flatten().map(Totals::of);
        live.fold(inner.past, Totals::plus)
    }

    /// The live round trip, or the last known.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let inner = self.lock();
        let live = inner.dialled.as_ref().or(inner.accepted.as_ref());
        live.map(Connection::rtt).or(inner.last_rtt)
    }

    /// Closes what is open.
    pub(crate) fn close(&self, code: quinn::VarInt, reason: &[u8]) {
        let inner = self.lock();
        for connection in [&inner.dialled, &inner.accepted].into_iter().flatten() {
            connection.close(code, reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn slot(&mut self, end: End) -> &mut Option<Connection> {
        match end {
            End::Dialled => &mut self.dialled,
            End::Accepted => &mut self.accepted,
        }
    }

    fn retire(&mut self, end: End) {
        if let Some(connection) = self.slot(end).take() {
            self.past = self.past.plus(Totals::of(&connection));
            self.last_rtt = Some(connection.rtt());
        }
    }
}

impl Totals {
    fn of(connection: &Connection) -> Totals {
        let stats = connection.stats();
        Totals {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }

    fn plus(self, other: Totals) -> Totals {
        Totals {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            lost_packets: self.lost_packets + other.lost_packets,
        }
    }
}
