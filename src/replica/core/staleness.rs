//! How old the newest moment is at which a replica had all that its leader had acknowledged: what
//! the receiving end of a link knows of exposure, while the leader's side knows of
//! [`super::Exposure`]. It grows with the clock when nothing is heard, whether anything was
//! acknowledged meanwhile or not.
//!
//! A claim has two times. Its age here counts from when it was heard. What a failover may cost counts from
//! when it was said, by the leader's clock: what was acknowledged while it was on its way is not covered by it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::LogIndex;

/// Claims remembered until the log has reached them. A leader makes one with every message; when
/// there are more, new ones are left out, so that staleness is over- and never understated.
const CLAIMS_MAX: usize = 1024;

/// Of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When it was heard, on the local clock.
    pub here: Duration,
    /// When it was said: the leader's Unix time.
    pub there_ms: i64,
}

#[derive(Debug, Default)]
pub struct Staleness {
    /// Of the newest claim that this replica has reached.
    current: Option<Moment>,
    /// That the leader's watermark was where this replica is not yet, oldest first.
    claims: VecDeque<(Moment, LogIndex)>,
}

impl Staleness {
    /// The leader says that its watermark is at `index`; ours is at `reached`.
    pub fn claimed(&mut self, at: Moment, index: LogIndex, reached: LogIndex) {
        if index <= reached {
            self.current = Some(at);
        } else if let Some(newest) = self.claims.back_mut().filter(|(_, i)| *i == index) {
            newest.0 = at;
        } else if self.claims.len() < CLAIMS_MAX {
            self.claims.push_back((at, index));
        }
    }

    /// Our watermark is at `index` now.
    pub fn reached(&mut self, index: LogIndex) {
        while let Some((at, _)) = self.claims.front().copied().filter(|(_, i)| *i <= index) {
            self.current = self.current.filter(|newest| newest.here > at.here).or(Some(at));
            self.claims.pop_front();
        }
    }

    /// The newest moment, by the leader's clock, at which nothing was acknowledged that is not here.
    pub fn known_until_ms(&self) -> Option<i64> {
        self.current.map(|newest| newest.there_ms)
    }

    /// `None` until the replica has once had everything, since its start.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.current.map(|newest| now.saturating_sub(newest.here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Half a second after it was said.
    fn heard(second: u64) -> Moment {
        let there_ms = second as i64 * 1000 - 500;
        Moment { here: Duration::from_secs(second), there_ms }
    }

    #[test]
    fn it_grows_with_the_clock_while_the_log_does_not_reach_what_was_claimed() {
        let mut staleness = Staleness::default();
        assert_eq!(staleness.age(SECOND), None);
        staleness.claimed(heard(1), LogIndex(5), LogIndex(5));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND * 3));
        staleness.claimed(heard(2), LogIndex(7), LogIndex(5));
        staleness.claimed(heard(3), LogIndex(9), LogIndex(5));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND * 3), "hearing is not having");
        staleness.reached(LogIndex(8));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND * 2));
        staleness.reached(LogIndex(9));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND));
        assert_eq!(
            staleness.known_until_ms(),
            Some(2500),
            "when it was said, not when it was heard"
        );
    }

    #[test]
    fn a_claim_repeated_counts_from_its_last_time() {
        let mut staleness = Staleness::default();
        staleness.claimed(heard(1), LogIndex(5), LogIndex(0));
        staleness.claimed(heard(6), LogIndex(5), LogIndex(0));
        staleness.reached(LogIndex(5));
        assert_eq!(staleness.age(SECOND * 7), Some(SECOND));
    }

    #[test]
    fn too_many_claims_overstate() {
        let mut staleness = Staleness::default();
        for n in 1..=CLAIMS_MAX as u64 + 10 {
            staleness.claimed(heard(n), LogIndex(n), LogIndex(0));
        }
        staleness.reached(LogIndex(u64::MAX));
        assert_eq!(staleness.age(SECOND * 2000), Some(SECOND * (2000 - CLAIMS_MAX as u32)));
    }
}
