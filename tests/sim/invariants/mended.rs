//! A log is damaged only where a bit has rotted, and once it is mended it has again what its disk had promised: what
//! everybody was shown since may rest on it.

use isobar::log::Corruption;

use super::{Violation, hold, n};
use crate::oracle::{History, Log, Replica, Seen};

const RULE: (&str, &str) = ("a mended log has what its disk had promised", "R21");
const TORN: (&str, &str) = ("what was never acknowledged is no damage", "R21");

/// A node has found a log damaged: it is owed what its disk had from there on.
pub fn owe(node: usize, replica: &mut Replica, damage: Corruption) -> Result<(), Violation> {
    hold(replica.rots, TORN, || {
        format!("{} finds damage, {damage:?}, where none was done", n(node))
    })?;
    replica.owed.retain(|index, _| *index >= damage.first.0);
    let mut lost = replica.durable.entries.split_off(&damage.first.0);
    replica.owed.append(&mut lost);
    Ok(())
}

/// With what it lacked its end may have been replaced, or gone, as far as that was no promise.
pub fn replace(replica: &mut Replica, log: &Log) {
    let entries = std::mem::take(&mut replica.durable.entries);
    let is_there =
        |(index, seen): &(u64, Seen)| *index <= log.start || log.entries.get(index) == Some(seen);
    let (there, replaced): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_there);
    replica.durable.entries.extend(there);
    replica.owed.extend(replaced);
}

/// It is whole again, and this is what it has.
pub fn check(node: usize, history: &mut History, log: &Log) -> Result<(), Violation> {
    let is_sealed = history.epoch() > history.replicas[node].conf.epoch;
    let replica = &mut history.replicas[node];
    for (index, seen) in std::mem::take(&mut replica.owed) {
        if log.has(index, seen.term) {
            continue;
        }
        hold(history.exposed.get(&index) != Some(&seen), RULE, || {
            format!("{} had {seen:?} at {index}; now it has {:?}", n(node), log.entries.get(&index))
        })?;
        if is_sealed {
            // What it said in the home that has ended counts for nobody.
            replica.had.insert((index, seen.term));
        }
    }
    Ok(())
}
