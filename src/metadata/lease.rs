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
//!
//! L comes from [`isobar_topology::timing::lease`]: two elections of `__meta` and two heartbeats
//! (9.3 s where its voters are 220 ms apart), so that the death of its leader stops no async home;
//! renewed every L/8. A renewal states the L that its holder counts with, because the two ends may be a topology
//! apart.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use isobar_topology::timing::Lease;
use prost::Message;

use super::image::Image;
use super::moves::Kind;
use crate::model::{HomeEpoch, LeaderEpoch, NodeId, Offset, TopicPartition};

/// How much longer than L the grantor waits, in percent: the two clocks may run at rates that
/// differ by a tenth.
const DRIFT_PERCENT: u32 = 10;

/// Renewals that wait for their answer: one is sent every eighth of L, and an answer to one that is
/// older than L grants nothing; the rest is for renewals out of turn, at news of a leader.
const PENDING_MAX: usize = 16;

/// The longest lease that is granted, whoever asks: it is what a failover would wait for. Voters of
/// `__meta` a second apart would get 42 s.
const LENGTH_MAX: Duration = Duration::from_secs(60);

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
    /// L, as the holder counts.
    #[prost(uint64, tag = "3")]
    pub length_ms: u64,
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
    /// The end of its log of `__meta`. The lease counts once the holder's image is as new: it must know which homes
    /// have moved while it had none.
    #[prost(int64, tag = "4")]
    pub as_of: i64,
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

    /// Whether an image up to here knows all that the grantor knew.
    pub fn counts_at(&self, next_offset: Offset) -> bool {
        next_offset.0 >= self.as_of
    }
}

/// A node's side.
#[derive(Debug, Clone)]
pub struct Holder {
    lease: Lease,
    next_id: u64,
    /// (id, when it was sent, L at the time), oldest first.
    pending: VecDeque<(u64, Duration, Duration)>,
    last_sent: Option<Duration>,
    valid_until: Option<Duration>,
}

impl Holder {
    pub fn new(lease: Lease) -> Self {
        let pending = VecDeque::new();
        Self { lease, next_id: 0, pending, last_sent: None, valid_until: None }
    }

    /// After another topology. What was granted stays granted.
    pub fn set_lease(&mut self, lease: Lease) {
        self.lease = lease;
    }

    /// The renewal to send to the leader of `__meta` now, if one is due. Every call that returns one
    /// counts as sent.
    pub fn poll_renew(&mut self, now: Duration) -> Option<Renew> {
        (now >= self.poll_timeout()).then(|| self.renew(now))
    }

    /// As [`Holder::poll_renew`], due or not: for when a new leader of `__meta` is known.
    pub fn renew(&mut self, now: Duration) -> Renew {
        let length = self.lease.length.min(LENGTH_MAX);
        self.next_id += 1;
        self.last_sent = Some(now);
        self.pending.push_back((self.next_id, now, length));
        if self.pending.len() > PENDING_MAX {
            self.pending.pop_front();
        }
        let length_ms = u64::try_from(length.as_millis()).expect("a lease is below a minute");
        Renew { version: VERSION, id: self.next_id, length_ms }
    }

    /// When [`Holder::poll_renew`] will have something.
    pub fn poll_timeout(&self) -> Duration {
        self.last_sent.map_or(Duration::ZERO, |sent| sent + self.lease.renew_every)
    }

    /// The image is as new as the grant.
    pub fn handle_granted(&mut self, granted: Granted) {
        let Some(at) = self.pending.iter().position(|(id, ..)| *id == granted.id) else {
            return;
        };
        let (_, sent, length) = self.pending[at];
        self.pending.drain(..=at);
        self.valid_until = self.valid_until.max(Some(sent + length));
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
///
/// A leader that was cut off and does not know it yet may grant for up to another election timeout
/// (check-quorum): a new one counts that in with what it takes for granted. The seal does not care.
#[derive(Debug, Clone)]
pub struct Grantor {
    leader_epoch: LeaderEpoch,
    /// When a lease is over that an earlier leader granted until this one's election.
    inherited_over_at: Duration,
    over_at: BTreeMap<NodeId, Duration>,
}

impl Grantor {
    /// At `now` this node became the leader. The leader before it may go on granting to anyone until it
    /// notices, so everybody counts as granted then.
    pub fn elected(now: Duration, leader_epoch: LeaderEpoch, lease: Lease) -> Self {
        // L is two elections and two heartbeats: half of it is more than one election.
        let inherited_over_at = now + with_drift(lease.length + lease.length / 2);
        Self { leader_epoch, inherited_over_at, over_at: BTreeMap::new() }
    }

    /// `as_of`: the end of `__meta`'s log here. `None` for a lease longer than any that is granted.
    pub fn handle_renew(
        &mut self,
        now: Duration,
        from: NodeId,
        renew: Renew,
        as_of: Offset,
    ) -> Option<Granted> {
        let length = Duration::from_millis(renew.length_ms);
        if length > LENGTH_MAX {
            return None;
        }
        let over_at = self.over_at.entry(from).or_default();
        *over_at = (*over_at).max(now + with_drift(length));
        let leader_epoch = self.leader_epoch;
        Some(Granted { version: VERSION, id: renew.id, leader_epoch, as_of: as_of.0 })
    }

    /// When the node's lease is over by any clock that runs within a tenth of this one: an async
    /// home whose voters are all past it acknowledges nothing any more.
    pub fn over_at(&self, node: NodeId) -> Duration {
        let granted = self.over_at.get(&node).copied().unwrap_or_default();
        granted.max(self.inherited_over_at)
    }

    /// Forgets nodes that have left the cluster.
    pub fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.over_at.retain(|node, _| is_member(*node));
    }
}

/// Partitions whose home has moved, or is being moved by force, and the epoch from which on a lease is one for them.
pub fn left(image: &Image) -> BTreeMap<TopicPartition, HomeEpoch> {
    let mut left = BTreeMap::new();
    for (topic, of) in &image.topics {
        for (partition, placed) in (0..).zip(&of.partitions) {
            let forced = placed.moving().filter(|m| m.aim.kind == Kind::Failover);
            let from = forced.map_or(placed.home_epoch, |moving| moving.epoch);
            if from > HomeEpoch::FIRST {
                left.insert(TopicPartition { topic: *topic, partition }, from);
            }
        }
    }
    left
}

/// What a move waits for before its verdict may be one with a loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    nodes: Vec<NodeId>,
    replaced: Vec<NodeId>,
    replaced_over_at: Option<Duration>,
}

impl Wait {
    /// For the leases of these nodes. Those of which the disk was `replaced` go on renewing under another:
    /// what acknowledges with the old one, if there still is anything, was granted its lease
    /// before the first look here.
    pub fn new(nodes: Vec<NodeId>, replaced: Vec<NodeId>) -> Self {
        Self { nodes, replaced, replaced_over_at: None }
    }

    pub fn is_for_nobody(&self) -> bool {
        self.nodes.is_empty() && self.replaced.is_empty()
    }

    /// When it is over, as far as is known now: a renewal may come in between.
    pub fn over_at(&mut self, grantor: &Grantor) -> Duration {
        let last = |nodes: &[NodeId]| nodes.iter().map(|node| grantor.over_at(*node)).max();
        let replaced = last(&self.replaced).unwrap_or_default();
        let replaced_over_at = *self.replaced_over_at.get_or_insert(replaced);
        last(&self.nodes).unwrap_or_default().max(replaced_over_at)
    }
}

fn with_drift(length: Duration) -> Duration {
    length + length * DRIFT_PERCENT / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::command::Command;
    use crate::metadata::fixture::{World, topic};
    use crate::metadata::moves::{Aim, Begin};

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn node() -> NodeId {
        NodeId::new(4).unwrap()
    }

    fn lease() -> Lease {
        Lease { length: s(9.0), renew_every: s(3.0) }
    }

    fn grantor(at: f64) -> Grantor {
        Grantor::elected(s(at), 7, lease())
    }

    #[test]
    fn a_lease_counts_from_the_send_not_from_the_answer() {
        let mut holder = Holder::new(lease());
        assert!(!holder.is_valid(s(0.0)));
        let renew = holder.poll_renew(s(1.0)).unwrap();
        let mut grantor = grantor(500.0);
        holder.handle_granted(grantor.handle_renew(s(502.0), node(), renew, Offset::ZERO).unwrap());
        assert_eq!(holder.valid_until(), Some(s(10.0)));
        assert!(holder.is_valid(s(9.99)));
        assert!(!holder.is_valid(s(10.0)));
        assert_eq!(
            grantor.over_at(node()),
            s(500.0 + 14.85),
            "an older leader may have granted later"
        );
    }

    #[test]
    fn renewals_leave_on_time_and_some_may_be_lost() {
        let mut holder = Holder::new(lease());
        let mut grantor = grantor(0.0);
        let first = holder.poll_renew(s(0.0)).unwrap();
        holder.handle_granted(grantor.handle_renew(s(0.1), node(), first, Offset::ZERO).unwrap());
        assert_eq!(holder.poll_renew(s(2.9)), None);
        assert_eq!(holder.poll_timeout(), s(3.0));
        assert!(holder.poll_renew(s(3.0)).is_some());
        assert!(holder.poll_renew(s(6.0)).is_some());
        assert!(holder.is_valid(s(8.9)));
        assert_eq!(holder.poll_renew(s(8.9)), None, "the next is due at 9");
    }

    #[test]
    fn an_answer_to_nothing_that_was_sent_grants_nothing() {
        let mut holder = Holder::new(lease());
        holder.handle_granted(Granted { version: VERSION, id: 9, leader_epoch: 7, as_of: 0 });
        assert_eq!(holder.valid_until(), None);
    }

    #[test]
    fn a_late_answer_to_an_early_renewal_does_not_shorten_a_lease() {
        let mut holder = Holder::new(lease());
        let first = holder.renew(s(0.0));
        let second = holder.renew(s(3.0));
        let mut grantor = grantor(0.0);
        holder.handle_granted(grantor.handle_renew(s(3.1), node(), second, Offset::ZERO).unwrap());
        holder.handle_granted(grantor.handle_renew(s(3.2), node(), first, Offset::ZERO).unwrap());
        assert_eq!(holder.valid_until(), Some(s(12.0)));
    }

    #[test]
    fn an_answer_that_comes_after_a_pause_longer_than_the_lease_is_worth_nothing() {
        let mut holder = Holder::new(lease());
        let renew = holder.renew(s(0.0));
        let granted = grantor(0.0).handle_renew(s(0.1), node(), renew, Offset::ZERO).unwrap();
        holder.handle_granted(granted);
        assert!(!holder.is_valid(s(30.0)), "stopped in between, and the clock went on");
    }

    #[test]
    fn a_new_leader_assumes_a_grant_to_everyone_at_its_election() {
        let mut grantor = grantor(100.0);
        assert_eq!(grantor.over_at(node()), s(114.85));
        let short = Renew { version: VERSION, id: 1, length_ms: 1_000 };
        grantor.handle_renew(s(101.0), node(), short, Offset::ZERO).unwrap();
        assert_eq!(grantor.over_at(node()), s(114.85), "the old leader's grant still stands");
    }

    #[test]
    fn the_holder_is_always_through_before_the_grantor_thinks_so() {
        for delay in [0.0, 0.2, 5.0] {
            for rate in [0.91, 1.0, 1.09] {
                let mut holder = Holder::new(lease());
                let mut grantor = grantor(0.0);
                let renew = holder.renew(s(0.0));
                holder.handle_granted(
                    grantor.handle_renew(s(delay), node(), renew, Offset::ZERO).unwrap(),
                );
                let over_in_true_time = holder.valid_until().unwrap().div_f64(rate);
                assert!(over_in_true_time <= grantor.over_at(node()), "{delay} {rate}");
            }
        }
    }

    #[test]
    fn a_wait_ends_though_nodes_with_other_disks_go_on_renewing() {
        let other = NodeId::new(5).unwrap();
        let mut grantor = grantor(0.0);
        let renew = |id| Renew { version: VERSION, id, length_ms: 9_000 };
        let mut wait = Wait::new(vec![other], vec![node()]);
        grantor.handle_renew(s(10.0), node(), renew(1), Offset::ZERO).unwrap();
        assert_eq!(wait.over_at(&grantor), s(19.9), "it may hold that one still");
        grantor.handle_renew(s(18.0), node(), renew(2), Offset::ZERO).unwrap();
        assert_eq!(wait.over_at(&grantor), s(19.9), "this one has the new disk");
        grantor.handle_renew(s(18.0), other, renew(1), Offset::ZERO).unwrap();
        assert_eq!(wait.over_at(&grantor), s(27.9));
    }

    #[test]
    fn a_grant_counts_for_an_image_that_is_as_new_as_its_grantors_log() {
        let renew = Holder::new(lease()).renew(s(0.0));
        let granted = grantor(0.0).handle_renew(s(0.1), node(), renew, Offset(7)).unwrap();
        let granted = Granted::parse(&granted.encode_to_vec()).unwrap();
        let at = [0, 6, 7, 8].map(|next| granted.counts_at(Offset(next)));
        assert_eq!(at, [false, false, true, true], "what is on its way may be an activation");
    }

    #[test]
    fn a_lease_without_end_is_not_granted() {
        let forever = Renew { version: VERSION, id: 1, length_ms: u64::MAX };
        assert_eq!(grantor(0.0).handle_renew(s(0.0), node(), forever, Offset::ZERO), None);
    }

    #[test]
    fn renewals_without_an_answer_do_not_pile_up() {
        let mut holder = Holder::new(lease());
        for i in 0..100 {
            holder.renew(s(f64::from(i)));
        }
        assert_eq!(holder.pending.len(), PENDING_MAX);
    }

    #[test]
    fn frames_come_back_as_they_left_and_other_versions_are_refused() {
        let renew = Renew { version: VERSION, id: 300, length_ms: 9_300 };
        assert_eq!(Renew::parse(&renew.encode_to_vec()), Ok(renew));
        let newer = Renew { version: 2, ..renew };
        assert_eq!(Renew::parse(&newer.encode_to_vec()), Err(Error::Version(2)));
        assert!(Granted::parse(b"\xff\xff").is_err());
    }

    #[test]
    fn a_lease_is_none_for_a_home_that_is_moved_by_force() {
        let mut world = World::new();
        world.create(topic("t", 2, &[])).unwrap();
        let at = |partition| {
            let topic = world.image.topic("t").unwrap().id;
            TopicPartition { topic, partition }
        };
        let (first, second) = (at(0), at(1));
        assert_eq!(left(&world.image), BTreeMap::new());
        for (at, kind) in [(first, Kind::Failover), (second, Kind::Switchover)] {
            let to = "iad".parse().unwrap();
            let aim = Aim { kind, to, accept_loss: false, automatic: false, began_ms: 1 };
            let begin = Begin { at, home_epoch: HomeEpoch::FIRST, aim };
            world.apply(Command::BeginMove(begin)).unwrap();
        }
        let next = HomeEpoch::new(2).unwrap();
        assert_eq!(left(&world.image), BTreeMap::from([(first, next)]), "the other hands off");
    }
}
