//! Liveness: once all is healed, every replica has the leader's log, and every producer its answers.

use super::Violation;

const RULE: (&str, &str) =
    ("what is healed converges", "VOPR's liveness mode; I5 without a failover");

/// It did not, in all the time that it had.
pub fn failed(what: String) -> Violation {
    let (invariant, source) = RULE;
    Violation { invariant, source, what }
}
