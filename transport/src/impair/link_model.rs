//! One direction of a path as a pure function of time: loss, then rate with a tail-drop queue, then
//! delay with jitter that keeps order.
//!
//! In that order because a packet that is lost on the way has not occupied the bottleneck's queue
//! in front of others (netem's order too), and order is kept because QUIC takes a packet that arrives three
//! places late for lost.

use std::time::Duration;

use crate::rng::Rng;

/// Settings of one direction.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Link {
    /// One way: half of the round trip when both directions are alike.
    pub delay: Duration,
    /// Standard deviation of the delay. Packets never overtake, so the mean shifts up with the packet rate.
    pub jitter: Duration,
    /// Probability that a packet is lost, 0 to 1.
    pub loss: f64,
    /// Bottleneck; `None` is unlimited.
    pub rate_bytes_per_second: Option<u64>,
    /// Nothing passes.
    pub cut: bool,
}

impl Link {
    /// Half of a symmetric path with this round trip, and nothing else wrong with it.
    pub fn of_rtt(rtt: Duration) -> Link {
        Link { delay: rtt / 2, ..Link::default() }
    }

    /// Leaves packets as they are.
    pub fn is_clear(&self) -> bool {
        *self == Link::default()
    }
}

/// The bottleneck's queue, as time at its rate. A packet that would wait longer is dropped.
pub const QUEUE_MAX: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub queue_dropped: u64,
    pub cut_dropped: u64,
}

/// What the model remembers between packets.
#[derive(Debug)]
pub struct LinkModel {
    link: Link,
    counters: Counters,
    /// When the bottleneck has sent all that it holds.
    free_at_ns: u64,
    last_release_ns: u64,
    rng: Rng,
}

impl LinkModel {
    pub fn new(link: Link, seed: u64) -> LinkModel {
        LinkModel {
            link,
            counters: Counters::default(),
            free_at_ns: 0,
            last_release_ns: 0,
            rng: Rng(seed),
        }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// From now on. Packets already admitted keep their release time.
    pub fn set(&mut self, link: Link) {
        self.link = link;
    }

    pub fn set_cut(&mut self, cut: bool) {
        self.link.cut = cut;
    }

    /// When a packet of `bytes` on the wire leaves the other end; `None` if it never does.
    pub fn admit(&mut self, now_ns: u64, bytes: usize) -> Option<u64> {
        self.counters.packets += 1;
        self.counters.bytes += bytes as u64;
        if self.link.cut {
            self.counters.cut_dropped += 1;
            return None;
        }
        if self.link.loss > 0.0 && self.rng.uniform() < self.link.loss {
            self.counters.lost += 1;
            return None;
        }
        let sent_ns = self.through_bottleneck(now_ns, bytes)?;
        let release_ns = sent_ns.saturating_add(self.delay_ns()).max(self.last_release_ns);
        self.last_release_ns = release_ns;
        Some(release_ns)
    }

    fn through_bottleneck(&mut self, now_ns: u64, bytes: usize) -> Option<u64> {
        let Some(rate) = self.link.rate_bytes_per_second.filter(|rate| *rate > 0) else {
            return Some(now_ns);
        };
        let start_ns = self.free_at_ns.max(now_ns);
        if start_ns - now_ns > QUEUE_MAX.as_nanos() as u64 {
            self.counters.queue_dropped += 1;
            return None;
        }
        let busy_ns = (bytes as u128 * 1_000_000_000 / u128::from(rate)) as u64;
        self.free_at_ns = start_ns.saturating_add(busy_ns);
        Some(self.free_at_ns)
    }

    fn delay_ns(&mut self) -> u64 {
        let delay = self.link.delay.as_nanos() as f64;
        if self.link.jitter.is_zero() {
            return delay as u64;
        }
        // A float cast saturates at 0, so a draw below "at once" is at once.
        (delay + self.rng.normal() * self.link.jitter.as_nanos() as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn loss_is_within_three_sigma_of_what_was_asked() {
        for (seed, loss) in [(1, 0.001), (2, 0.01), (3, 0.05), (4, 0.5)] {
            let mut model = LinkModel::new(Link { loss, ..Link::default() }, seed);
            let n = 200_000;
            let lost = (0..n).filter(|i| model.admit(*i, 1200).is_none()).count() as f64;
            let sigma = (n as f64 * loss * (1.0 - loss)).sqrt();
            assert!((lost - n as f64 * loss).abs() < 3.0 * sigma, "{loss}: lost {lost} of {n}");
            assert_eq!(model.counters().lost, lost as u64);
        }
    }

    #[test]
    fn a_rate_holds_and_what_exceeds_it_by_more_than_the_queue_is_dropped() {
        let rate = 1_000_000;
        let link = Link { rate_bytes_per_second: Some(rate), ..Link::default() };
        let mut model = LinkModel::new(link, 1);
        // Twice the rate for ten seconds: 1,000 bytes every half millisecond.
        let released: Vec<u64> =
            (0..20_000).filter_map(|i| model.admit(i * MS / 2, 1000)).collect();
        let last_ns = *released.last().unwrap();
        let measured = released.len() as f64 * 1000.0 / (last_ns as f64 / 1e9);
        assert!((measured / rate as f64 - 1.0).abs() < 0.01, "{measured}");
        let queued_ns = last_ns - 19_999 * MS / 2;
        assert!(queued_ns <= QUEUE_MAX.as_nanos() as u64 + 2 * MS, "{queued_ns}");
        assert_eq!(model.counters().queue_dropped, 20_000 - released.len() as u64);
    }

    #[test]
    fn a_cut_passes_nothing_and_a_healed_link_passes_all() {
        let mut model = LinkModel::new(Link::of_rtt(Duration::from_millis(80)), 1);
        assert_eq!(model.admit(0, 100), Some(40 * MS));
        model.set_cut(true);
        assert_eq!(model.admit(1, 100), None);
        model.set_cut(false);
        assert_eq!(model.admit(2, 100), Some(40 * MS + 2));
        assert_eq!(model.counters().cut_dropped, 1);
    }

    proptest! {
        #[test]
        fn packets_never_overtake_and_never_arrive_before_they_were_sent(
            seed: u64, delay in 0u64..100, jitter in 0u64..30, gaps in prop::collection::vec(0u64..5 * MS, 1..200),
        ) {
            let link = Link {
                delay: Duration::from_millis(delay),
                jitter: Duration::from_millis(jitter),
                ..Link::default()
            };
            let mut model = LinkModel::new(link, seed);
            let (mut now, mut last) = (0, 0);
            for gap in gaps {
                now += gap;
                let release = model.admit(now, 1200).unwrap();
                prop_assert!(release >= now && release >= last);
                last = release;
            }
        }

        #[test]
        fn the_same_seed_loses_the_same_packets(seed: u64) {
            let link = Link { loss: 0.3, jitter: Duration::from_millis(1), ..Link::default() };
            let run = || {
                let mut model = LinkModel::new(link.clone(), seed);
                (0..100).map(|i| model.admit(i * MS, 100)).collect::<Vec<_>>()
            };
            prop_assert_eq!(run(), run());
        }
    }
}
