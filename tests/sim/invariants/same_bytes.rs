//! Below the high watermark every replica in every DC shows the same bytes.

use std::collections::BTreeMap;

use super::{Violation, hold, n};
use crate::oracle::{Log, Seen};

const RULE: (&str, &str) = ("offset < HW means the same bytes everywhere", "I9, R27");

/// `node` shows its entry at `index`: the first to do so decides what it is.
pub fn check(
    node: usize,
    exposed: &mut BTreeMap<u64, Seen>,
    index: u64,
    log: &Log,
) -> Result<Seen, Violation> {
    let Some(seen) = log.entries.get(&index).copied() else {
        let what =
            || format!("{} shows entry {index}, and its log ends at {}", n(node), log.last());
        return hold(false, RULE, what).map(|()| unreachable!("it does not hold"));
    };
    let known = *exposed.entry(index).or_insert(seen);
    hold(known == seen, RULE, || {
        format!("{} shows {seen:?} as entry {index}; another replica showed {known:?}", n(node))
    })?;
    Ok(seen)
}

/// A reader got the batch at `base`; others must have got the same.
pub fn check_read(
    node: usize,
    read: &mut BTreeMap<i64, u64>,
    base: i64,
    hash: u64,
) -> Result<(), Violation> {
    let known = *read.entry(base).or_insert(hash);
    hold(known == hash, RULE, || {
        format!("{} gave a reader other bytes at offset {base} than were read before", n(node))
    })
}

/// The batch that a reader gets at `due` holds that offset: nothing is skipped or told twice.
pub fn check_follows(node: usize, due: i64, (base, next): (i64, i64)) -> Result<(), Violation> {
    hold(base <= due && due < next, RULE, || {
        format!("{} gave a reader that was at offset {due} the batch {base}..{next}", n(node))
    })
}
