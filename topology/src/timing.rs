//! Raft's timing, derived from the round trips between the voters of a group, so that a partition
//! inside a DC and a `__meta` across 200 ms each get their own.
//!
//! A host ticks all of its groups together every [`TICK`]; everything here is in ticks.
//!
//! ```text
//!  heartbeat        = max(150 ms, 1 RTT)      a heartbeat a round trip is as fresh as it gets
//!  election, least  = max(election_timeout, 10 RTT)   what silence it takes before anybody campaigns
//!  election, most   = 2 × least               redrawn in [least, most) at every role change
//! ```
//!
//! *Least* is ten round trips (etcd's tuning guide: ten times the RTT): three heartbeats may be
//! lost, and a packet lost on the way needs 1.5 RTT to be repaired by QUIC, before it is reached.
//! Inside a DC it is 500 ms unless the topology says otherwise, because a busy machine stalls a process for tens
//! of milliseconds and an election nobody needed costs more than a heartbeat missed.
//!
//! The *spread* (most − least) is that of the Raft paper (§9.3: T to 2T). An election with pre-vote
//! takes two round trips, so that two candidates collide when their draws lie closer than that; ten
//! RTTs of spread are five elections, above the two vote RTTs that design §7 asks for.
//!
//! From a leader's death to the first acknowledgement, three voters inside a DC: the last heartbeat
//! is 75 ms old on average; the earlier of two draws from [600, 1000) has its median at 717 ms; a
//! tick of rounding adds 25 ms, pre-vote, vote and the first commit a few more: p50 ≈ 0.67 s after
//! the death. A client adds its back-off to that; a second is what we promise.

use std::time::Duration;

/// What all groups of a host tick at. Short enough that rounding up to ticks is small beside the
/// 500 ms of the shortest election, long enough that 5,000 groups tick in 0.1 % of a core.
pub const TICK: Duration = Duration::from_millis(50);

const HEARTBEAT_LEAST: Duration = Duration::from_millis(150);
/// `election_timeout` of the topology, where it says none; and its limits: below, three heartbeats do not fit, above,
/// nobody could call it detection.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
pub const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(500);
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Round trips of silence before anybody campaigns.
const ELECTION_ROUND_TRIPS: u32 = 10;

/// What a group's Raft is configured with. `election_ticks_min` is raft-rs's `election_tick`, and
/// the others are its `heartbeat_tick`, `min_election_tick` and `max_election_tick`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Timing {
    #[serde(serialize_with = "crate::unit::serialize_duration")]
    pub tick: Duration,
    pub heartbeat_ticks: u32,
    /// Inclusive.
    pub election_ticks_min: u32,
    /// Exclusive, as in raft-rs.
    pub election_ticks_max: u32,
}

impl Timing {
    pub fn heartbeat(&self) -> Duration {
        self.tick * self.heartbeat_ticks
    }

    pub fn election_min(&self) -> Duration {
        self.tick * self.election_ticks_min
    }

    pub fn election_max(&self) -> Duration {
        self.tick * self.election_ticks_max
    }

    /// Two round trips of pre-vote and vote must fit into the spread with room; see the module.
    pub fn spread(&self) -> Duration {
        self.tick * (self.election_ticks_max - self.election_ticks_min)
    }
}

/// The timing of a group whose farthest two voters are `max_rtt_between_voters` apart (zero inside
/// a DC: what a LAN takes is far below a tick).
pub fn timing(max_rtt_between_voters: Duration, election_timeout: Duration) -> Timing {
    let heartbeat = HEARTBEAT_LEAST.max(max_rtt_between_voters);
    let election = election_timeout.max(max_rtt_between_voters * ELECTION_ROUND_TRIPS);
    let election_ticks_min = ticks(election);
    Timing {
        tick: TICK,
        heartbeat_ticks: ticks(heartbeat),
        election_ticks_min,
        election_ticks_max: 2 * election_ticks_min,
    }
}

/// A node's lease from the `__meta` leader (rule R17), derived from `__meta`'s own timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Lease {
    /// From the holder's send; the grantor waits 1.1 times as long from its receipt.
    #[serde(serialize_with = "crate::unit::serialize_duration")]
    pub length: Duration,
    /// How often the holder asks again.
    #[serde(serialize_with = "crate::unit::serialize_duration")]
    pub renew_every: Duration,
}

/// A lease outlives one failed and one successful election of `__meta`, so that the death of its
/// leader stops no async home; it is asked for often enough to miss three answers in a row in half
/// of it.
pub fn lease(meta: &Timing) -> Lease {
    let length = meta.election_max() * 2 + meta.heartbeat() * 2;
    Lease { length, renew_every: length / 8 }
}

/// Rounded up: a timeout is never shorter than derived.
fn ticks(duration: Duration) -> u32 {
    let ticks = duration.as_micros().div_ceil(TICK.as_micros());
    u32::try_from(ticks).expect("durations are at most a year, so ten of them fit 2^32 ticks")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_partition_inside_a_dc_and_meta_across_220_ms() {
        let inside = timing(Duration::ZERO, ELECTION_TIMEOUT);
        assert_eq!((inside.heartbeat_ticks, inside.election_ticks_min), (3, 10));
        assert_eq!(inside.election_max(), Duration::from_secs(1));
        let across = timing(Duration::from_millis(220), ELECTION_TIMEOUT);
        assert_eq!(across.heartbeat(), Duration::from_millis(250));
        assert_eq!(across.election_min(), Duration::from_millis(2200));
        assert_eq!(across.election_max(), Duration::from_millis(4400));
        let patient = timing(Duration::from_millis(90), Duration::from_secs(2));
        assert_eq!((patient.election_min(), patient.heartbeat_ticks), (Duration::from_secs(2), 3));
    }

    proptest! {
        #[test]
        fn elections_wait_for_lost_heartbeats_and_spread_above_two_votes(ms in 0u64..5_000) {
            let rtt = Duration::from_millis(ms);
            let timing = timing(rtt, ELECTION_TIMEOUT);
            prop_assert!(timing.election_ticks_min >= 3 * timing.heartbeat_ticks);
            prop_assert!(timing.election_min() >= 10 * rtt);
            prop_assert!(timing.spread() > 2 * 2 * rtt, "two elections of pre-vote and vote");
            let lease = lease(&timing);
            prop_assert!(lease.length >= timing.election_max() * 2);
            prop_assert!(lease.renew_every < lease.length / 4);
        }
    }
}
