//! At most one replica leads a term.

use std::collections::BTreeMap;

use super::{Violation, hold, n};

const RULE: (&str, &str) = ("at most one leader a term", "Raft §5.2");

pub fn check(leaders: &mut BTreeMap<u64, usize>, term: u64, node: usize) -> Result<(), Violation> {
    let known = *leaders.entry(term).or_insert(node);
    hold(known == node, RULE, || format!("{} and {} both lead term {term}", n(known), n(node)))
}
