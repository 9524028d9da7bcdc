//! BBR for paths between datacenters, on a path whose round trip may grow.
//!
//! quinn's BBR takes the shortest round trip of a connection's whole life for the path's (its estimate never
//! expires). Once a path has become longer, by another route say, the window is too small for it by the same
//! factor; the rate that is measured falls to what such a window lets through, and with it the window: from 50 MB/s
//! to 50 kB/s within seconds, for as long as the connection lives. So where the round trips of the last ten seconds
//! are all much longer than the shortest one, the window is what BBR means it to be, by these: twice the bandwidth ×
//! delay (draft-cardwell-iccrg-bbr-congestion-control-00, §4.2.3.2; its min_rtt filter is of ten seconds, §4.1.2.3).

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// For how long at least a round trip counts, and at most twice as long.
const RECENT: Duration = Duration::from_secs(10);

/// A path is longer than it was from here on; below is what queues and busy machines add.
const LONGER: f64 = 1.5;

/// BBR's gain of the window over bandwidth × delay.
const WINDOW_GAIN: f64 = 2.0;

/// The shortest of recent round trips.
#[derive(Debug, Clone, Copy)]
struct Shortest {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl Shortest {
    fn new(now: Instant) -> Self {
        Self { since: now, now: Duration::MAX, before: Duration::MAX }
    }

    fn add(&mut self, now: Instant, rtt: Duration) {
        if now.saturating_duration_since(self.since) >= RECENT {
            *self = Self { since: now, now: Duration::MAX, before: self.now };
        }
        self.now = self.now.min(rtt);
    }

    fn get(&self) -> Duration {
        self.now.min(self.before)
    }
}

/// The window of a path whose recent round trips are all `recent`, when BBR takes `ever` for it and measures
/// this rate.
fn window(bbrs: u64, bytes_per_second: Option<u64>, ever: Duration, recent: Duration) -> u64 {
    let Some(rate) = bytes_per_second else { return bbrs };
    if recent == Duration::MAX || recent < ever.mul_f64(LONGER) {
        return bbrs;
    }
    bbrs.max((WINDOW_GAIN * rate as f64 * recent.as_secs_f64()) as u64)
}

struct PathBbr {
    bbr: Box<dyn Controller>,
    /// Of the connection's whole life.
    ever: Duration,
    recent: Shortest,
}

impl Controller for PathBbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.bbr.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.ever = rtt.min();
        self.recent.add(now, rtt.get());
        self.bbr.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.bbr.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.bbr.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.bbr.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let rate = self.bbr.metrics().pacing_rate.map(|bits| bits / 8);
        window(self.bbr.window(), rate, self.ever, self.recent.get())
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.bbr.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { bbr: self.bbr.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.bbr.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes a controller for each connection.
#[derive(Debug, Default)]
pub(crate) struct PathBbrConfig(Arc<BbrConfig>);

impl ControllerFactory for PathBbrConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let bbr = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(PathBbr { bbr, ever: Duration::MAX, recent: Shortest::new(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_round_trip_is_forgotten_after_ten_to_twenty_seconds() {
        let start = Instant::now();
        let mut recent = Shortest::new(start);
        assert_eq!(recent.get(), Duration::MAX);
        recent.add(start, ms(1));
        recent.add(start + ms(5_000), ms(100));
        assert_eq!(recent.get(), ms(1));
        recent.add(start + ms(10_000), ms(100));
        assert_eq!(recent.get(), ms(1), "it may be of a moment ago");
        recent.add(start + ms(20_000), ms(100));
        assert_eq!(recent.get(), ms(100));
        recent.add(start + ms(20_001), ms(50));
        assert_eq!(recent.get(), ms(50), "a shorter one counts at once");
    }

    #[test]
    fn a_longer_path_has_the_window_that_its_round_trip_needs() {
        let rate = Some(10_000_000);
        assert_eq!(window(20_000, rate, ms(1), ms(100)), 2_000_000);
        assert_eq!(window(3_000_000, rate, ms(1), ms(100)), 3_000_000, "never less than BBR's own");
        assert_eq!(window(20_000, rate, ms(100), ms(140)), 20_000, "queues, not another path");
        assert_eq!(window(20_000, rate, ms(1), Duration::MAX), 20_000, "nothing measured yet");
        assert_eq!(window(20_000, None, ms(1), ms(100)), 20_000);
    }
}
