//! Where a home is cut, as `__meta` decides it: what its verdict claims holds. By proof, nothing that
//! was acknowledged or shown is beyond the cut; without, nothing of what was acknowledged before the
//! time that the verdict names.

use std::collections::BTreeMap;

use isobar::log::Fork;
use isobar::metadata::moves::{Kind, Moved, Verdict};

use super::{Violation, hold, n};
use crate::homes::{keeps, shown_end};
use crate::oracle::{History, Seen};
use crate::scenario::wall_ms;

const PROVEN: (&str, &str) = ("a lossless verdict misses no acknowledgement", "I1, I4, R11, R13");
const WORD: (&str, &str) = ("no loss without a word for it", "R11, R18");
const SHOWN: (&str, &str) = ("what was shown under a proof stays", "I3, R12");
const WITHIN: (&str, &str) = ("the outcome lies within the verdict", "G8, R16");

/// What is moved without a proof was never sync, or degraded by then, or somebody gave his word; and nobody plans
/// a loss.
pub fn check_word(history: &History, moved: &Moved) -> Result<(), Violation> {
    let is_forced = moved.kind == Kind::Failover;
    let is_weak = !history.is_sync || history.mode_in(history.epoch()).degraded;
    let may_lose = is_forced && (is_weak || moved.accept_loss);
    hold(may_lose || moved.verdict == Verdict::Lossless, WORD, || format!("{moved:?}"))
}

pub fn check_shown(
    exposed: &BTreeMap<u64, Seen>,
    fork: &Fork,
    verdict: Verdict,
) -> Result<(), Violation> {
    let (end, _) = shown_end(exposed, fork);
    let beyond = exposed.range(end + 1..).next();
    hold(verdict != Verdict::Lossless || beyond.is_none(), SHOWN, || {
        format!("a cut by proof at {:?}; beyond it was shown {beyond:?}", fork.at)
    })
}

/// `skew_ms`: what the clocks of the old home are ahead of the true time at most. A verdict's time is that of
/// whoever led there.
pub fn check_acks(
    history: &History,
    fork: &Fork,
    moved: &Moved,
    skew_ms: i64,
) -> Result<(), Violation> {
    let lost = |id: u64, epoch| history.lost.contains_key(&(id, epoch));
    let beyond = history.acks.iter().filter(|ack| !keeps(fork, ack.end - 1, ack.term));
    for ack in beyond.filter(|ack| !lost(ack.ids[0], ack.epoch)) {
        let (at, what) = (wall_ms(ack.at) + skew_ms, (ack.node, ack.epoch, ack.end));
        match moved.verdict {
            Verdict::Lossless => hold(false, PROVEN, || {
                let (node, epoch, end) = what;
                let node = n(node);
                format!(
                    "{node} acknowledged up to {end} in epoch {epoch}; the cut is {:?}",
                    fork.at
                )
            })?,
            Verdict::UnboundedSince { ms } | Verdict::AtMost { ms, .. } => {
                hold(at >= ms, WITHIN, || {
                    let (node, epoch, end) = what;
                    let node = n(node);
                    format!(
                        "{node} acknowledged up to {end} in epoch {epoch} at {at}; the cut is {:?}, and nothing \
                     from before {ms} is said to be lost",
                        fork.at
                    )
                })?
            }
        }
    }
    Ok(())
}
