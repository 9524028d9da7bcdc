//! A term and an index name one entry, for ever and everywhere: Raft's log matching property (§5.3),
//! which disjoint terms carry across homes.

use std::collections::BTreeMap;

use super::{Violation, hold};
use crate::oracle::Seen;

const RULE: (&str, &str) = ("(term, index) names one entry", "I2, R2; Raft §5.3");

pub fn check(
    names: &mut BTreeMap<(u64, u64), u64>,
    index: u64,
    seen: Seen,
) -> Result<(), Violation> {
    let known = *names.entry((seen.term, index)).or_insert(seen.hash);
    hold(known == seen.hash, RULE, || {
        format!("entry {index} of term {} is not what it was elsewhere", seen.term)
    })
}
