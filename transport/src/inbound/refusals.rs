//! Which refusals get a line in the log: a stranger who keeps knocking must not fill it. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The same refusal of the same address is worth a line this often.
const WINDOW: Duration = Duration::from_secs(60);

/// Lines per window, whatever they say.
const LINES_MAX: usize = 20;

#[derive(Default)]
pub(super) struct Refusals {
    since: Option<Instant>,
    seen: BTreeSet<(IpAddr, String)>,
    suppressed: u64,
}

impl Refusals {
    /// If this one gets a line: how many before it did not.
    pub(super) fn line(&mut self, now: Instant, from: IpAddr, what: &str) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) > WINDOW) {
            self.since = Some(now);
            self.seen.clear();
        }
        if self.seen.len() >= LINES_MAX || !self.seen.insert((from, what.to_owned())) {
            self.suppressed += 1;
            return None;
        }
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_gets_one_line_a_window_and_a_flood_a_few() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(refusals.line(begin, one, "no certificate"), Some(0));
        assert_eq!(refusals.line(begin, one, "no certificate"), None);
        assert_eq!(refusals.line(begin, two, "no certificate"), Some(1));
        assert_eq!(refusals.line(begin, one, "expired"), Some(0));
        let flood = (0..100).filter(|n| refusals.line(begin, one, &n.to_string()).is_some());
        assert_eq!(flood.count(), LINES_MAX - 3);
        let later = begin + WINDOW + Duration::from_secs(1);
        assert_eq!(refusals.line(later, one, "no certificate"), Some(83));
    }
}
