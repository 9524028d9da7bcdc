//! No frame is larger than the transport takes: it would be dropped, and asked for again for ever.

use isobar::replica::core::raft_log::ENTRY_OVERHEAD_BYTES;
use isobar_transport::Frame;

use super::{Violation, hold, n};

const RULE: (&str, &str) =
    ("an append keeps its bound", "transport::limits, config::APPEND_BYTES_MAX");

pub fn check(node: usize, frame: &Frame, append_bytes_max: u64) -> Result<(), Violation> {
    let bytes: usize = frame.payloads.iter().map(|p| p.len() + ENTRY_OVERHEAD_BYTES).sum();
    hold(frame.payloads.len() < 2 || bytes as u64 <= append_bytes_max, RULE, || {
        format!("{} sends {bytes} bytes in {} chunks", n(node), frame.payloads.len())
    })
}
