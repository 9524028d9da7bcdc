//! Liveness, bounded: two voters of three that nothing has touched for a while have a leader that
//! commits, whatever happens to the third; three keep the one that they have; and a client that
//! comes after all is healed gets its answer.

use super::{Violation, hold};
use crate::scenario::{Micros, SECOND};

/// Untouched for so long. An election needs two timeouts of at most a second and some milliseconds;
/// the rest is for candidates that meet several times in a row.
pub const QUIET: Micros = 10 * SECOND;

/// A client that sends so long after the end of all faults
pub const LATE: Micros = 5 * SECOND;
/// has its answer after so long: when the learners whose DCs a policy asks for have what they
/// lacked, some seconds after their disks and connections are back.
pub const ANSWERED: Micros = 20 * SECOND;

const LED: (&str, &str) = ("a majority left alone has a leader", "Raft §5.6; R6");
const KEPT: (&str, &str) = ("no election without a cause", "Raft §9.6, check-quorum");
const ANSWERS: (&str, &str) = ("what is healed takes produce", "R5, R6");

pub fn check_led(
    partition: usize,
    is_led: bool,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    hold(is_led, LED, || format!("p{partition} has had no leader for {QUIET} µs: {}", what()))
}

pub fn check_kept(partition: usize, before: u64, now: u64) -> Result<(), Violation> {
    hold(before == now, KEPT, || {
        format!("p{partition} was led in term {before}, and is in term {now}; nothing had happened")
    })
}

/// `waits` is what a late client says of its batch.
pub fn check_answered(waits: Option<String>) -> Result<(), Violation> {
    hold(waits.is_none(), ANSWERS, || waits.unwrap_or_default())
}
