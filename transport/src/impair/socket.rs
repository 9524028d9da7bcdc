//! quinn's socket with a [`Wan`] behind it. Only egress is impaired.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use isobar_topology::DcName;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::release::Held;
use super::{Direction, LinkModel, Wan};

/// IPv4 and UDP headers, which a link carries too.
const HEADERS_BYTES: usize = 28;

/// A run of segments that is released at once covers at most this much time of a link with a rate.
const RUN_MAX: Duration = Duration::from_micros(500);

/// Kernel limit of segments in one GSO send.
const SEGMENTS_MAX: usize = 64;

pub(crate) struct ImpairedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    dc: DcName,
    wan: Arc<Wan>,
    /// Direction per destination; `None` inside the DC. An address not registered yet is not cached.
    routes: RwLock<HashMap<SocketAddr, Option<Arc<Direction>>>>,
}

impl ImpairedSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, dc: DcName, wan: Arc<Wan>) -> ImpairedSocket {
        ImpairedSocket { inner, dc, wan, routes: RwLock::default() }
    }

    fn route(&self, destination: &SocketAddr) -> Option<Arc<Direction>> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(destination) {
            return route.clone();
        }
        drop(routes);
        let dc = self.wan.place(destination)?;
        let route = (dc != self.dc).then(|| self.wan.direction(&self.dc, &dc));
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(*destination, route.clone());
        route
    }

    fn impair(&self, direction: &Direction, transmit: &Transmit<'_>) {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let mut model = direction.model.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = runs(&mut model, self.wan.releaser.now_ns(), transmit.contents.len(), segment);
        drop(model);
        for run in runs {
            let contents = &transmit.contents[run.start..run.end];
            let held = Held {
                socket: self.inner.clone(),
                destination: transmit.destination,
                ecn: transmit.ecn,
                src_ip: transmit.src_ip,
                segment_size: (contents.len() > segment).then_some(segment),
                contents: contents.into(),
            };
            self.wan.releaser.hold(run.release_ns, held);
        }
    }
}

/// Neighbouring segments that survived and leave together: one GSO send.
#[derive(Debug, PartialEq)]
struct Run {
    start: usize,
    end: usize,
    release_ns: u64,
}

/// Admits each segment by itself, since a link loses packets and not batches, and joins the
/// survivors. A run leaves when its last segment does.
fn runs(model: &mut LinkModel, now_ns: u64, bytes: usize, segment: usize) -> Vec<Run> {
    let segments_max = if !model.link().jitter.is_zero() {
        1
    } else if let Some(rate) = model.link().rate_bytes_per_second {
        let run_bytes = rate as f64 * RUN_MAX.as_secs_f64();
        ((run_bytes / segment as f64) as usize).clamp(1, SEGMENTS_MAX)
    } else {
        SEGMENTS_MAX
    };
    let mut runs: Vec<Run> = Vec::new();
    for start in (0..bytes).step_by(segment) {
        let end = (start + segment).min(bytes);
        let Some(release_ns) = model.admit(now_ns, end - start + HEADERS_BYTES) else { continue };
        match runs.last_mut() {
            Some(run) if run.end == start && run.end - run.start < segments_max * segment => {
                run.end = end;
                run.release_ns = release_ns;
            }
            _ => runs.push(Run { start, end, release_ns }),
        }
    }
    runs
}

impl AsyncUdpSocket for ImpairedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.route(&transmit.destination) {
            Some(direction) if !direction.clear.load(Ordering::Relaxed) => {
                self.impair(&direction, transmit);
                Ok(())
            }
            _ => self.inner.try_send(transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for ImpairedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImpairedSocket").field("dc", &self.dc).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Link;
    use super::*;

    #[test]
    fn a_clear_batch_stays_one_send() {
        let mut model = LinkModel::new(Link::of_rtt(Duration::from_millis(2)), 1);
        let all = runs(&mut model, 0, 10 * 1200 + 7, 1200);
        assert_eq!(all, [Run { start: 0, end: 12_007, release_ns: 1_000_000 }]);
    }

    #[test]
    fn a_lost_segment_splits_the_batch_and_nothing_else_is_lost() {
        let mut model = LinkModel::new(Link { loss: 0.3, ..Link::default() }, 7);
        let all = runs(&mut model, 0, 40 * 100, 100);
        let survivors: usize = all.iter().map(|run| (run.end - run.start) / 100).sum();
        assert_eq!(survivors as u64, 40 - model.counters().lost);
        assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start));
        assert!(all.len() > 1);
    }

    #[test]
    fn a_rate_bounds_what_leaves_at_once() {
        // 2.4 MB/s: one segment of 1,200 bytes each half millisecond.
        let link = Link { rate_bytes_per_second: Some(2_400_000), ..Link::default() };
        let all = runs(&mut LinkModel::new(link, 1), 0, 10 * 1200, 1200);
        assert_eq!(all.len(), 10);
    }
}
