//! The exposure budget of an async topic: a bound on what the loss of the home alone may cost.
//!
//! ```text
//!        safe in some other DC          at stake
//!   ─────────────────────────┬──────────────────────────┬──▶ accepted by this leader
//!                            ▲ oldest                   ▲ newest
//!                            └── span ≤ max_lag, bytes ≤ max_lag_bytes, records ≤ max_lag_records
//! ```
//!
//! *At stake* is what this leader has appended and no other DC has on a majority of its disks: were
//! the home gone, a failover would go on from the DC that has most (R12), so the best of them counts
//! and not the worst. It is counted from the append, acknowledged or not, so it bounds whatever is
//! acknowledged. Its span in time, from the append of the oldest to that of the newest, is what a
//! budget can hold hard: the *age* of the oldest grows on a dead link whatever anybody does.
//!
//! A new leader does not know what its predecessor left unsafe, nor how old that is. It takes nothing
//! until some other DC has its own first entry: then everything before is there too. Only an entry of
//! its own term proves that, as in R5: what a DC has of an older term may lose a failover against
//! another DC's entries of a term in between (H3).
//!
//! Invariant, with throttle or reject: what is at stake never passes the budget.

use std::collections::VecDeque;
use std::time::Duration;

use isobar_topology::policy::OnLag;
use raft::eraftpb::Entry;

use super::effect::Effect;
use super::produce::{Queued, bytes_of, records_of};
use super::{Core, Now};
use crate::model::LogIndex;
use crate::replica::ProduceError;

/// Share of the budget from which on producers are slowed.
const SLOW_FROM: f64 = 0.5;

/// How long a produce waits at the end of the budget before it is looked at again, and what its client
/// is told to pause: Kafka's quota window is a second, and clients are used to pauses of that length.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Bytes of requests that wait for the budget of one partition; more are refused at once. They keep
/// their room among a node's 256 MiB of requests, which other topics need, too: 4 MiB are some
/// requests of the size that clients make, and waiting is all that they do.
const HELD_BYTES_MAX: usize = 4 << 20;

/// Requests that do so; two hundred producers with five each.
const HELD_MAX: usize = 1_000;

/// See the module. Nothing of it counts on a sync topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub lag: Option<Duration>,
    pub bytes: Option<u64>,
    pub records: Option<u32>,
    pub on_lag: OnLag,
}

/// What no other DC has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtStake {
    /// False on a new leader until another DC has its first entry. The numbers are then what it has
    /// added itself, counted from its election: at least so much is at stake.
    pub is_known: bool,
    /// From the append of the oldest to that of the newest.
    pub span: Duration,
    pub records: i64,
    pub bytes: u64,
}

impl Budget {
    pub const NONE: Self = Self { lag: None, bytes: None, records: None, on_lag: OnLag::Continue };

    pub fn is_none(&self) -> bool {
        self.lag.is_none() && self.bytes.is_none() && self.records.is_none()
    }

    pub fn is_bound(&self) -> bool {
        !self.is_none() && self.on_lag != OnLag::Continue
    }

    /// Whether more is at stake than it allows.
    pub fn is_passed_by(&self, at_stake: &AtStake) -> bool {
        self.lag.is_some_and(|lag| at_stake.span > lag)
            || self.bytes.is_some_and(|bytes| at_stake.bytes > bytes)
            || self.records.is_some_and(|records| at_stake.records > i64::from(records))
    }

    /// The largest share, of time, bytes or records; more than 1 is beyond the budget.
    fn used(&self, at_stake: &AtStake) -> f64 {
        let lag = self.lag.map(|lag| at_stake.span.as_secs_f64() / lag.as_secs_f64());
        let bytes = self.bytes.map(|bytes| at_stake.bytes as f64 / bytes as f64);
        let records = self.records.map(|most| at_stake.records as f64 / f64::from(most));
        lag.into_iter().chain(bytes).chain(records).fold(0.0, f64::max)
    }

    /// How long a produce waits that would leave so much at stake: nothing up to half of the budget,
    /// then longer and longer.
    fn pause(&self, at_stake: &AtStake) -> Duration {
        if !at_stake.is_known {
            return PAUSE_MAX;
        }
        let beyond = (self.used(at_stake) - SLOW_FROM) / (1.0 - SLOW_FROM);
        PAUSE_MAX.mul_f64(beyond.clamp(0.0, 1.0))
    }

    fn admits(&self, at_stake: &AtStake) -> bool {
        at_stake.is_known && !self.is_passed_by(at_stake)
    }
}

/// Produce that waits for the budget, in the order in which it came.
#[derive(Debug, Default)]
pub struct Held {
    queue: VecDeque<Waits>,
    bytes: usize,
}

#[derive(Debug)]
struct Waits {
    produce: Queued,
    due: Duration,
    /// What its client is told.
    pause: Duration,
}

impl Held {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push(&mut self, waits: Waits) {
        self.bytes += waits.produce.bytes();
        self.queue.push_back(waits);
    }

    fn pop(&mut self) -> Option<Waits> {
        let waits = self.queue.pop_front()?;
        self.bytes -= waits.produce.bytes();
        Some(waits)
    }

    /// Lets those go whose time is over.
    fn expire(&mut self, now: Duration) -> Vec<Queued> {
        let mut expired = Vec::new();
        for waits in std::mem::take(&mut self.queue) {
            if waits.produce.deadline <= now {
                self.bytes -= waits.produce.bytes();
                expired.push(waits.produce);
            } else {
                self.queue.push_back(waits);
            }
        }
        expired
    }

    pub fn fail_all(&mut self, effects: &mut VecDeque<Effect>) {
        while let Some(waits) = self.pop() {
            effects.push_back(Effect::Reply(waits.produce.ticket, Err(ProduceError::NotLeader)));
        }
    }
}

/// What becomes of a produce.
#[derive(Debug)]
pub enum Ruling {
    /// Append it. Its client is told to pause.
    Take(Queued, Duration),
    /// It waits among the held.
    Held,
    Refuse(Queued, ProduceError),
}

impl Core {
    /// What this leader has accepted and no other DC has. `None` elsewhere, and where acknowledgements
    /// wait for other DCs or there are none.
    pub fn at_stake(&self) -> Option<AtStake> {
        let elsewhere = self.safe_elsewhere()?;
        let asks = self.is_leader() && self.sync_to() == 0;
        asks.then(|| self.accepted.beyond(elsewhere))
    }

    /// Whether more is at stake than the policy allows.
    pub fn is_over_budget(&self) -> bool {
        let budget = self.config.ack.budget;
        !budget.is_none() && self.at_stake().is_some_and(|at_stake| budget.is_passed_by(&at_stake))
    }

    /// What a majority of the replicas of the DC has that has most; `None` without another DC.
    fn safe_elsewhere(&self) -> Option<LogIndex> {
        self.safe_by_remote_dc().into_iter().max()
    }

    /// What would be at stake with `produce`, after `entries` of this round; `None` if nothing bounds
    /// it.
    fn at_stake_with(&self, now: Now, entries: &[Entry], produce: &Queued) -> Option<AtStake> {
        let ack = self.config.ack;
        if !ack.budget.is_bound() || ack.sync_to > 0 {
            return None;
        }
        let elsewhere = self.safe_elsewhere()?;
        let mut at_stake = self.accepted.beyond(elsewhere);
        if let Some(oldest) = self.accepted.oldest_at(elsewhere) {
            at_stake.span = now.mono.saturating_sub(oldest);
        }
        at_stake.bytes += bytes_of(entries) + produce.bytes() as u64;
        at_stake.records += records_of(entries) + produce.records();
        Some(at_stake)
    }

    /// Rules over a produce that would come after `entries` of this round.
    pub(super) fn rule(&mut self, now: Now, produce: Queued, entries: &[Entry]) -> Ruling {
        let budget = self.config.ack.budget;
        let bytes = produce.bytes();
        let Some(at_stake) = self.at_stake_with(now, entries, &produce) else {
            return Ruling::Take(produce, Duration::ZERO);
        };
        if let Err(refused) = self.admit() {
            return Ruling::Refuse(produce, refused);
        }
        // A retry of what is in the log adds nothing to it.
        if self.is_known_already(&produce) {
            return Ruling::Take(produce, Duration::ZERO);
        }
        let records = produce.records();
        if budget.bytes.is_some_and(|most| bytes as u64 > most)
            || budget.records.is_some_and(|most| records > i64::from(most))
        {
            return Ruling::Refuse(produce, ProduceError::LargerThanBudget);
        }
        let admits = budget.admits(&at_stake);
        if budget.on_lag != OnLag::Throttle {
            return match admits {
                true => Ruling::Take(produce, Duration::ZERO),
                false => Ruling::Refuse(produce, self.over_budget(&at_stake, Duration::ZERO)),
            };
        }
        let pause = budget.pause(&at_stake);
        if admits && pause.is_zero() && self.held.is_empty() {
            return Ruling::Take(produce, pause);
        }
        if self.held.bytes + bytes > HELD_BYTES_MAX || self.held.len() == HELD_MAX {
            return Ruling::Refuse(produce, self.over_budget(&at_stake, PAUSE_MAX));
        }
        self.held.push(Waits { produce, due: now.mono + pause, pause });
        Ruling::Held
    }

    fn over_budget(&mut self, at_stake: &AtStake, pause: Duration) -> ProduceError {
        // A new leader knows in a round trip: that is nothing to wake anybody for.
        if at_stake.is_known {
            self.alarm();
        }
        ProduceError::OverBudget { pause }
    }

    /// Answers those that have waited as long as their clients do.
    pub(super) fn expire_held(&mut self, now: Now) {
        for produce in self.held.expire(now.mono) {
            self.refuse(now, &produce, ProduceError::OverBudget { pause: PAUSE_MAX });
        }
    }

    /// The first that waits, if it need not wait any more.
    pub(super) fn release(&mut self, now: Now, entries: &[Entry]) -> Option<(Queued, Duration)> {
        let first = self.held.queue.front()?;
        let is_due = first.due <= now.mono;
        if let Some(at_stake) = self.at_stake_with(now, entries, &first.produce) {
            let budget = self.config.ack.budget;
            if !budget.admits(&at_stake) {
                if is_due {
                    self.alarm();
                }
                return None;
            }
            if !is_due && !budget.pause(&at_stake).is_zero() {
                return None;
            }
        }
        let Waits { produce, pause, .. } = self.held.pop().expect("it is there");
        Some((produce, pause))
    }

    /// Tells once that the end of the budget is reached; [`Core::watch_budget`] tells when it is over.
    fn alarm(&mut self) {
        if std::mem::replace(&mut self.at_budget, true) {
            return;
        }
        let Some(at_stake) = self.at_stake() else { return };
        let node = self.node_of(self.config.me);
        let node = node.map(|node| node.to_string()).unwrap_or_default();
        let AtStake { is_known, span, records, bytes } = at_stake;
        let on_lag = self.config.ack.budget.on_lag;
        let partition = self.config.group.partition;
        tracing::warn!(%node, %partition, %on_lag, is_known, ?span, records, bytes, "the exposure budget is used up");
    }

    /// From time to time, on the leader.
    pub(super) fn watch_budget(&mut self, now: Now) {
        let budget = self.config.ack.budget;
        if budget.is_none() || self.config.ack.sync_to > 0 {
            self.at_budget = false;
            return;
        }
        let Some(elsewhere) = self.safe_elsewhere() else { return };
        let at_stake = self.accepted.beyond(elsewhere);
        let elected_at = self.accepted.oldest_at(elsewhere).filter(|_| !at_stake.is_known);
        let is_stuck = elected_at.is_some_and(|at| now.mono.saturating_sub(at) > PAUSE_MAX);
        if budget.is_passed_by(&at_stake) || budget.is_bound() && is_stuck {
            self.alarm();
        } else if self.at_budget && at_stake.is_known && budget.used(&at_stake) < SLOW_FROM {
            self.at_budget = false;
            let partition = self.config.group.partition;
            tracing::info!(%partition, "the exposure budget has room again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(on_lag: OnLag) -> Budget {
        Budget { lag: Some(SECOND * 4), bytes: Some(1000), records: Some(100), on_lag }
    }

    fn at_stake(seconds: f64, bytes: u64) -> AtStake {
        let span = Duration::from_secs_f64(seconds);
        AtStake { is_known: true, span, records: 1, bytes }
    }

    #[test]
    fn time_bytes_and_records_bound_each_for_itself() {
        let budget = budget(OnLag::Reject);
        for (stake, admits) in [
            (at_stake(0.0, 1), true),
            (at_stake(4.0, 1000), true),
            (at_stake(4.001, 1), false),
            (at_stake(0.0, 1001), false),
            (AtStake { is_known: false, ..at_stake(0.0, 1) }, false),
            (AtStake { records: 100, ..at_stake(0.0, 1) }, true),
            (AtStake { records: 101, ..at_stake(0.0, 1) }, false),
        ] {
            assert_eq!(budget.admits(&stake), admits, "{stake:?}");
        }
        let bytes_only = Budget { lag: None, records: None, ..budget };
        assert!(bytes_only.admits(&at_stake(1e6, 1000)));
        assert!(!Budget::NONE.is_passed_by(&at_stake(1e6, u64::MAX)));
    }

    #[test]
    fn producers_are_slowed_from_half_of_the_budget_on_and_never_less_with_more_at_stake() {
        let pause = |seconds, bytes| budget(OnLag::Throttle).pause(&at_stake(seconds, bytes));
        assert_eq!(pause(2.0, 500), Duration::ZERO);
        assert_eq!(pause(3.0, 0), SECOND / 2);
        assert_eq!(pause(0.0, 750), SECOND / 2);
        let records = AtStake { records: 75, ..at_stake(0.0, 0) };
        assert_eq!(budget(OnLag::Throttle).pause(&records), SECOND / 2);
        assert_eq!((pause(4.0, 0), pause(400.0, 0)), (SECOND, SECOND));
        let pauses: Vec<Duration> = (0..50).map(|n| pause(f64::from(n) / 10.0, 0)).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
    }
}
