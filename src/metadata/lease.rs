//! Leases from the `__meta` leader: how long an isolated node may go on acknowledging on async
//! topics with `on_isolation = "fence"` (R17). Pure; time is a monotonic clock's reading since any
//! fixed start, and each side uses its own.
//!
//! ```text
//!  holder   ──Renew(id)──▶ grantor        the holder counts from its own send,
//!           ◀─Granted(id)─                the grantor from receipt, which is later:
//!                                         what the grantor thinks over is over at the holder
//! ```
//!
//! Nothing that is safe depends on a lease: the seal fences, with no clock in it (R10, R17). A lease
//! bounds how much an *async* home adds to a suffix that is already lost.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use prost::Message;

use crate::model::{LeaderEpoch, NodeId};

/// L: how long a lease lasts. It must outlast an election of `__meta` across the slowest WAN that we
/// promise to serve, or every such election would stop all async topics: at 300 ms of round trip an
/// election takes up to about 5 s, and the renewal before it may be a third of L old. It is also
/// what an automatic failover of an async topic waits for, so not longer than that.
pub const LEASE: Duration = Duration::from_secs(9);

/// A lease survives the loss of two renewals in a row.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How much longer than L the grantor waits, in percent: the two clocks may run at rates that
/// differ by a tenth.
const DRIFT_PERCENT: u32 = 10;

/// Renewals that wait for their answer. Older ones would have expired: L / [`RENEW_EVERY`].
const PENDING_MAX: usize = 4;

/// Of both frames.
const VERSION: u32 = 1;

/// From a node to the leader of `__meta`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Renew {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The holder's own count; comes back in the answer.
    #[prost(uint64, tag = "2")]
    pub id: u64,
}

/// And back.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Granted {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// Of the leader of `__meta` that granted.
    #[prost(int32, tag = "3")]
    pub leader_epoch: LeaderEpoch,
}

/// A frame that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a lease frame of version {0}, this software knows {VERSION}")]
    Version(u32),
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
}

impl Renew {
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let frame = Self::decode(bytes)?;
        if frame.version == VERSION { Ok(frame) } else { Err(Error::Version(frame.version)) }
    }
}

impl Granted {
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let frame = Self::decode(bytes)?;
        if frame.version == VERSION { Ok(frame) } else { Err(Error::Version(frame.version)) }
    }
}

/// A node's side.
#[derive(Debug, Clone, Default)]
pub struct Holder {
    next_id: u64,
    /// (id, when it was sent), oldest first.
    pending: VecDeque<(u64, Duration)>,
    last_sent: Option<Duration>,
    valid_until: Option<Duration>,
}

impl Holder {
    /// The renewal to send to the leader of `__meta` now, if one is due. Every call that returns one
    /// counts as sent.
    pub fn poll_renew(&mut self, now: Duration) -> Option<Renew> {
        if now < self.poll_timeout() {
            return None;
        }
        Some(self.renew(now))
    }

    /// As [`Holder::poll_renew`], due or not: for when a new leader of `__meta` is known.
    pub fn renew(&mut self, now: Duration) -> Renew {
        self.next_id += 1;
        self.last_sent = Some(now);
        self.pending.push_back((self.next_id, now));
        if self.pending.len() > PENDING_MAX {
            self.pending.pop_front();
        }
        Renew { version: VERSION, id: self.next_id }
    }

    /// When [`Holder::poll_renew`] will have something.
    pub fn poll_timeout(&self) -> Duration {
        self.last_sent.map_or(Duration::ZERO, |sent| sent + RENEW_EVERY)
    }

    pub fn handle_granted(&mut self, granted: Granted) {
        let Some(at) = self.pending.iter().position(|(id, _)| *id == granted.id) else {
            return;
        };
        let (_, sent) = self.pending[at];
        self.pending.drain(..=at);
        self.valid_until = self.valid_until.max(Some(sent + LEASE));
    }

    pub fn is_valid(&self, now: Duration) -> bool {
        self.valid_until.is_some_and(|until| now < until)
    }

    /// `None` before the first grant.
    pub fn valid_until(&self) -> Option<Duration> {
        self.valid_until
    }
}

/// The side of the leader of `__meta`; made anew at every election.
#[derive(Debug, Clone)]
pub struct Grantor {
    leader_epoch: LeaderEpoch,
    elected_at: Duration,
    granted_at: BTreeMap<NodeId, Duration>,
}

impl Grantor {
    /// At `now` this node became the leader. The leader before it may have granted to anyone until
    /// just now, so everybody counts as granted now.
    pub fn elected(now: Duration, leader_epoch: LeaderEpoch) -> Self {
        Self { leader_epoch, elected_at: now, granted_at: BTreeMap::new() }
    }

    pub fn handle_renew(&mut self, now: Duration, from: NodeId, renew: Renew) -> Granted {
        self.granted_at.insert(from, now);
        Granted { version: VERSION, id: renew.id, leader_epoch: self.leader_epoch }
    }

    /// When a lease of this node was last possibly granted.
    pub fn last_grant(&self, node: NodeId) -> Duration {
        self.granted_at.get(&node).copied().unwrap_or(self.elected_at)
    }

    /// When its lease is over by any clock that runs within a tenth of this one: an async home whose
    /// voters are all past it acknowledges nothing any more.
    pub fn over_at(&self, node: NodeId) -> Duration {
        self.last_grant(node) + LEASE + LEASE * DRIFT_PERCENT / 100
    }

    /// Forgets nodes that have left the cluster.
    pub fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.granted_at.retain(|node, _| is_member(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn node() -> NodeId {
        NodeId::new(4).unwrap()
    }

    #[test]
    fn a_lease_counts_from_the_send_not_from_the_answer() {
        let mut holder = Holder::default();
        assert!(!holder.is_valid(s(0.0)));
        let renew = holder.poll_renew(s(1.0)).unwrap();
        let mut grantor = Grantor::elected(s(500.0), 7);
        holder.handle_granted(grantor.handle_renew(s(502.0), node(), renew));
        assert_eq!(holder.valid_until(), Some(s(10.0)));
        assert!(holder.is_valid(s(9.99)));
        assert!(!holder.is_valid(s(10.0)));
        assert_eq!(grantor.over_at(node()), s(502.0) + LEASE.mul_f64(1.1));
    }

    #[test]
    fn renewals_leave_every_third_of_a_lease_and_two_may_be_lost() {
        let mut holder = Holder::default();
        let mut grantor = Grantor::elected(s(0.0), 7);
        let first = holder.poll_renew(s(0.0)).unwrap();
        holder.handle_granted(grantor.handle_renew(s(0.1), node(), first));
        assert_eq!(holder.poll_renew(s(2.9)), None);
        assert_eq!(holder.poll_timeout(), s(3.0));
        assert!(holder.poll_renew(s(3.0)).is_some());
        assert!(holder.poll_renew(s(6.0)).is_some());
        assert!(holder.is_valid(s(8.9)));
        let fourth = holder.poll_renew(s(8.9));
        assert_eq!(fourth, None, "the next is due at 9");
    }

    #[test]
    fn an_answer_to_nothing_that_was_sent_grants_nothing() {
        let mut holder = Holder::default();
        holder.handle_granted(Granted { version: 1, id: 9, leader_epoch: 7 });
        assert_eq!(holder.valid_until(), None);
    }

    #[test]
    fn a_late_answer_to_an_early_renewal_does_not_shorten_a_lease() {
        let mut holder = Holder::default();
        let first = holder.renew(s(0.0));
        let second = holder.renew(s(3.0));
        let mut grantor = Grantor::elected(s(0.0), 7);
        holder.handle_granted(grantor.handle_renew(s(3.1), node(), second));
        holder.handle_granted(grantor.handle_renew(s(3.2), node(), first));
        assert_eq!(holder.valid_until(), Some(s(12.0)));
    }

    #[test]
    fn an_answer_that_comes_after_a_pause_longer_than_the_lease_is_worth_nothing() {
        let mut holder = Holder::default();
        let renew = holder.renew(s(0.0));
        let mut grantor = Grantor::elected(s(0.0), 7);
        let granted = grantor.handle_renew(s(0.1), node(), renew);
        holder.handle_granted(granted);
        assert!(!holder.is_valid(s(30.0)), "stopped in between, and the clock went on");
    }

    #[test]
    fn a_new_leader_assumes_a_grant_to_everyone_at_its_election() {
        let grantor = Grantor::elected(s(100.0), 8);
        assert_eq!(grantor.last_grant(node()), s(100.0));
        assert_eq!(grantor.over_at(node()), s(109.9));
    }

    #[test]
    fn renewals_without_an_answer_do_not_pile_up() {
        let mut holder = Holder::default();
        (0..100).for_each(|i| drop(holder.renew(s(f64::from(i)))));
        assert_eq!(holder.pending.len(), PENDING_MAX);
    }

    #[test]
    fn frames_come_back_as_they_left_and_other_versions_are_refused() {
        let renew = Renew { version: VERSION, id: 300 };
        assert_eq!(Renew::parse(&renew.encode_to_vec()), Ok(renew));
        let newer = Renew { version: 2, id: 300 };
        assert_eq!(Renew::parse(&newer.encode_to_vec()), Err(Error::Version(2)));
        assert!(Granted::parse(b"\xff\xff").is_err());
    }
}
