//! When to dial again.

use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};
use crate::rng::Rng;

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`]. Half of each delay is drawn, so that nodes that lost
/// each other at the same moment do not dial at the same moment for ever.
pub(super) struct Backoff {
    ceiling: Duration,
    rng: Rng,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { ceiling: BACKOFF_MIN, rng: Rng(seed) }
    }

    pub(super) fn reset(&mut self) {
        self.ceiling = BACKOFF_MIN;
    }

    pub(super) fn next(&mut self) -> Duration {
        let delay = self.ceiling.mul_f64(0.5 + self.rng.uniform() / 2.0);
        self.ceiling = (self.ceiling * 2).min(BACKOFF_MAX);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(1);
        let mut ceiling = BACKOFF_MIN;
        for _ in 0..20 {
            let delay = backoff.next();
            assert!(delay >= ceiling / 2 && delay <= ceiling, "{delay:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
