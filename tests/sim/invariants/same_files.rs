//! Segments end and leader epochs begin at the same entries on every replica: so segments can be
//! compared and fetched across DCs, and every replica answers OffsetForLeaderEpoch alike.

use isobar::log::Reader;
use isobar::replica::core::Core;

use super::{Violation, hold, n};
use crate::oracle::History;

const FILES: (&str, &str) = ("a segment is the same file in every DC", "docs/log-format.md");
const EPOCHS: (&str, &str) = ("the epoch table is the same in every DC", "R2, KIP-320");

/// One replica's files and epochs.
pub struct Shape {
    pub node: usize,
    start: u64,
    /// A move has cut it back to where it begins: its next segment begins there, and that of others went on.
    is_bare: bool,
    /// Epochs before it begin there, as in Kafka, once the files have been read again.
    log_start: i64,
    /// First indexes of its segments.
    segments: Vec<u64>,
    /// Term, first index, first offset.
    epochs: Vec<(u64, u64, i64)>,
}

impl Shape {
    pub fn of(node: usize, core: &Core, reader: &Reader, history: &History) -> Self {
        let start = reader.start().index;
        let epochs = core.log().epochs().iter();
        Self {
            node,
            start: start.0,
            is_bare: history.began.iter().any(|began| began.fork.at.index == start),
            log_start: core.progress().log_start.0,
            segments: reader.segments().iter().map(|s| s.base_index.0).collect(),
            epochs: epochs.map(|(term, index, offset)| (term.0, index.0, offset.0)).collect(),
        }
    }
}

/// Replicas begin at different entries; what all of them have is compared.
pub fn check(shapes: &[Shape]) -> Result<(), Violation> {
    let Some(first) = shapes.first() else { return Ok(()) };
    let from = shapes.iter().map(|s| s.start + 1).max().unwrap_or_default();
    let log_start = shapes.iter().map(|s| s.log_start).max().unwrap_or_default();
    let segments = |s: &Shape| s.segments.iter().copied().filter(|i| *i > from).collect::<Vec<_>>();
    let epochs = |s: &Shape| {
        s.epochs
            .iter()
            .copied()
            .filter(|(_, i, at)| *i > from && *at > log_start)
            .collect::<Vec<_>>()
    };
    for other in shapes {
        let (mut a, mut b) = (segments(first), segments(other));
        if first.is_bare || other.is_bare {
            let shared = a.iter().find(|i| b.contains(i)).copied().unwrap_or(u64::MAX);
            a.retain(|i| *i >= shared);
            b.retain(|i| *i >= shared);
        }
        hold(a == b, FILES, || {
            format!("{} has segments at {a:?}, {} at {b:?}", n(first.node), n(other.node))
        })?;
        hold(epochs(first) == epochs(other), EPOCHS, || {
            let (a, b) = (epochs(first), epochs(other));
            format!("{} has {a:?}, {} has {b:?}", n(first.node), n(other.node))
        })?;
    }
    Ok(())
}
