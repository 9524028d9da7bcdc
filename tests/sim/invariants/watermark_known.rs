//! Whoever leads, and says that it knows the high watermark, knows of everything that was ever
//! acknowledged: a ListOffsets of its never goes behind an acknowledgement (KIP-207).

use isobar::replica::Progress;

use super::{Violation, hold, n};

const RULE: (&str, &str) = ("a leader's HW is beyond every acknowledgement", "R6, H1, KIP-207");

/// `node` leads the newest term that there is; `acked` is the end of what was acknowledged.
pub fn check(node: usize, progress: &Progress, acked: i64) -> Result<(), Violation> {
    let hw = progress.high_watermark.0;
    hold(!progress.watermark_known || hw >= acked, RULE, || {
        format!("{} says its watermark is {hw}; offsets up to {acked} were acknowledged", n(node))
    })
}
