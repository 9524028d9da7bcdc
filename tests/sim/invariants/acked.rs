//! Every acknowledged record is in the log, once, at the offset that was told, in the order of real
//! time; what was refused is not; an idempotent producer's record is there at most once.

use std::collections::BTreeMap;

use super::{Violation, hold};
use crate::oracle::{Acked, History};

const STAYS: (&str, &str) = ("an acknowledged record stays at its offset", "I1; lost-write");
const ONCE: (&str, &str) = ("each (producer, sequence) at most once", "I10, KIP-98; duplicate");
const REFUSED: (&str, &str) = ("what was refused is not there", "G1a");
const ORDER: (&str, &str) = ("acknowledged before sent means a smaller offset", "real-time order");

/// `log` is what a replica holds at the end from `start` on: record ids by offset.
pub fn check(history: &History, start: i64, log: &BTreeMap<i64, u64>) -> Result<(), Violation> {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for (offset, id) in log {
        *times.entry(*id).or_default() += 1;
        hold(!history.refused.contains(id), REFUSED, || {
            format!("record {id:#x} was refused and is at offset {offset}")
        })?;
    }
    for (id, times) in &times {
        hold(*times == 1, ONCE, || format!("record {id:#x} is there {times} times"))?;
    }
    for acked in stays(history) {
        for (offset, id) in (acked.base..).zip(&acked.ids) {
            let found = log.get(&offset);
            hold(offset < start || found == Some(id), STAYS, || {
                format!("record {id:#x} was acknowledged at offset {offset}, where {found:x?} is")
            })?;
        }
    }
    order(history)
}

/// Whoever was acknowledged before another was sent is before it.
fn order(history: &History) -> Result<(), Violation> {
    let promised = || stays(history);
    let mut by_ack: Vec<&Acked> = promised().collect();
    by_ack.sort_by_key(|a| a.acked);
    let mut by_invocation: Vec<&Acked> = promised().collect();
    by_invocation.sort_by_key(|a| a.invoked);
    let mut done = by_ack.into_iter().peekable();
    let mut highest = -1;
    for next in by_invocation {
        while let Some(before) = done.next_if(|before| before.acked < next.invoked) {
            highest = highest.max(before.base);
        }
        hold(next.base > highest, ORDER, || {
            format!("offset {} was sent after offset {highest} was acknowledged", next.base)
        })?;
    }
    Ok(())
}

/// Promises that hold: not those that a move has given up, which `cut` allows only where its verdict
/// said so.
fn stays(history: &History) -> impl Iterator<Item = &Acked> {
    let is_lost = |a: &Acked| history.lost.contains_key(&(a.ids[0], a.epoch));
    history.acked.iter().filter(move |a| a.is_promised && !is_lost(a))
}
