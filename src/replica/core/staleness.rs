//! How old the newest moment is at which a replica had all that its leader had acknowledged: what
//! the receiving end of a link knows of exposure, while the leader's side knows of
//! [`super::Exposure`]. It grows with the clock when nothing is heard, whether anything was
//! acknowledged meanwhile or not.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::LogIndex;

/// Claims remembered until the log has reached them. A leader makes one with every message; when
/// there are more, new ones are left out, so that staleness is over- and never understated.
const CLAIMS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Staleness {
    /// When the leader said what this replica has reached since, on the local clock.
    current_at: Option<Duration>,
    /// When the leader said that its watermark was where this replica is not yet, oldest first.
    claims: VecDeque<(Duration, LogIndex)>,
}

impl Staleness {
    /// The leader says that its watermark is at `index`; ours is at `reached`.
    pub fn claimed(&mut self, at: Duration, index: LogIndex, reached: LogIndex) {
        if index <= reached {
            self.current_at = Some(at);
        } else if let Some(newest) = self.claims.back_mut().filter(|(_, i)| *i == index) {
            newest.0 = at;
        } else if self.claims.len() < CLAIMS_MAX {
            self.claims.push_back((at, index));
        }
    }

    /// Our watermark is at `index` now.
    pub fn reached(&mut self, index: LogIndex) {
        while let Some((at, _)) = self.claims.front().copied().filter(|(_, i)| *i <= index) {
            self.current_at = self.current_at.max(Some(at));
            self.claims.pop_front();
        }
    }

    /// `None` until the replica has once had everything, since its start.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.current_at.map(|at| now.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_grows_with_the_clock_while_the_log_does_not_reach_what_was_claimed() {
        let mut staleness = Staleness::default();
        assert_eq!(staleness.age(SECOND), None);
        staleness.claimed(SECOND, LogIndex(5), LogIndex(5));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND * 3));
        staleness.claimed(SECOND * 2, LogIndex(7), LogIndex(5));
        staleness.claimed(SECOND * 3, LogIndex(9), LogIndex(5));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND * 3), "hearing is not having");
        staleness.reached(LogIndex(8));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND * 2));
        staleness.reached(LogIndex(9));
        assert_eq!(staleness.age(SECOND * 4), Some(SECOND));
    }

    #[test]
    fn a_claim_repeated_counts_from_its_last_time() {
        let mut staleness = Staleness::default();
        staleness.claimed(SECOND, LogIndex(5), LogIndex(0));
        staleness.claimed(SECOND * 6, LogIndex(5), LogIndex(0));
        staleness.reached(LogIndex(5));
        assert_eq!(staleness.age(SECOND * 7), Some(SECOND));
    }

    #[test]
    fn too_many_claims_overstate() {
        let mut staleness = Staleness::default();
        for n in 1..=CLAIMS_MAX as u64 + 10 {
            staleness.claimed(SECOND * n as u32, LogIndex(n), LogIndex(0));
        }
        staleness.reached(LogIndex(u64::MAX));
        assert_eq!(staleness.age(SECOND * 2000), Some(SECOND * (2000 - CLAIMS_MAX as u32)));
    }
}
