//! What must hold, one invariant a file, each with the place that asks for it. I- and R-numbers are
//! the protocol's (`docs/consistency.md`, `docs/invariants.md`).

pub mod acked;
pub mod at_most;
pub mod budget;
pub mod committed;
pub mod converged;
pub mod cut;
pub mod durable;
pub mod exposed_stays;
pub mod fence;
pub mod fenced;
pub mod frame_size;
pub mod gate;
pub mod holds_cut;
pub mod ledger;
pub mod log_start;
pub mod mended;
pub mod one_entry;
pub mod one_home;
pub mod one_leader;
pub mod own_disk;
pub mod own_term;
pub mod progress;
pub mod promised;
pub mod same_bytes;
pub mod same_files;
pub mod sealed_home;
pub mod term;
pub mod watermark;
pub mod watermark_known;

use std::fmt;

/// An invariant that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    pub invariant: &'static str,
    pub source: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.invariant, self.source, self.what)
    }
}

/// Fails with `what` unless `holds`.
fn hold(
    holds: bool,
    (invariant, source): (&'static str, &'static str),
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, source, what: what() }) }
}

/// A node as people name it.
fn n(node: usize) -> String {
    format!("n{}", node + 1)
}
