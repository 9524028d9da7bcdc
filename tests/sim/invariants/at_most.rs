//! What a verdict bounds by a number is not exceeded by what was lost: records, bytes, and the time between the
//! moments at which the first and the last of it were accepted. Counted at the end, when whoever was cut off has
//! acknowledged what it would.

use std::collections::BTreeSet;
use std::time::Duration;

use isobar::metadata::moves::{Moved, Verdict};

use super::{Violation, hold};
use crate::oracle::{Ack, History};

const WITHIN: (&str, &str) = ("what is lost is at most what the verdict says", "G8, R16, ADR 0021");

pub fn check(history: &History, moved: &[&Moved]) -> Result<(), Violation> {
    for one in moved {
        let Verdict::AtMost { bound, .. } = one.verdict else { continue };
        let is_of_this = |ack: &&Ack| {
            ack.ids.iter().any(|id| history.lost.get(&(*id, ack.epoch)) == Some(&one.home_epoch))
        };
        let (mut ids, mut batches) = (BTreeSet::<u64>::new(), BTreeSet::new());
        for ack in history.acks.iter().filter(is_of_this) {
            // One whose entry had left its log by then is not found; it is counted as a record.
            let found = ack.ids.iter().filter_map(|id| {
                let term = ack.term?;
                history.first_ids.get(&(term, *id)).map(|index| (term, *index))
            });
            batches.extend(found);
            ids.extend(&ack.ids);
        }
        let accepted: Vec<_> =
            batches.iter().filter_map(|name| history.accepted.get(name)).collect();
        let bytes: u64 = accepted.iter().map(|(_, bytes)| bytes).sum();
        let newest = accepted.iter().map(|(at, _)| *at).max().unwrap_or_default();
        let oldest = accepted.iter().map(|(at, _)| *at).min().unwrap_or_default();
        let span = Duration::from_micros(newest - oldest);
        let within = bound.span.is_none_or(|most| span <= most)
            && bound.bytes.is_none_or(|most| bytes <= most)
            && bound.records.is_none_or(|most| ids.len() as u64 <= u64::from(most));
        hold(within, WITHIN, || {
            format!(
                "the move of {} to epoch {} lost {} records, {bytes} bytes of {} batches, {span:?} of writes; it said {bound:?}",
                one.at,
                one.home_epoch,
                ids.len(),
                batches.len()
            )
        })?;
    }
    Ok(())
}
