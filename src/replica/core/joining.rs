//! A replica that came in the place of a lost one, until it has what its group had (R23).
//!
//! The lost one had acknowledged; this one has not, and a DC that counts it for a seal would speak of
//! entries that it does not have. So it says `installing`, on disk, until it has everything that a
//! leader had shown after it came: all that was acknowledged before that is below it.

use super::effect::Persist;
use super::{Core, Term};
use crate::model::LogIndex;

#[derive(Debug, Default)]
pub(super) struct Joining {
    joins: bool,
    /// The first watermark that a leader claimed here, which only an entry of its own term makes
    /// worth anything (R6).
    target: Option<(Term, LogIndex)>,
}

impl Joining {
    pub(super) fn new(joins: bool) -> Self {
        Self { joins, target: None }
    }

    pub(super) fn joins(&self) -> bool {
        self.joins
    }
}

impl Core {
    pub(super) fn watch_joining(&mut self) {
        if !self.joining.joins {
            return;
        }
        let claimed = Some(self.claimed).filter(|(_, index)| *index > LogIndex::ZERO);
        let Some((term, index)) = self.joining.target.or(claimed) else { return };
        self.joining.target = Some((term, index));
        if self.log().persisted() < index {
            return;
        }
        if self.term_of(index) != Some(term) {
            // A new leader may claim less than the one before had shown: a later claim counts.
            self.joining.target = None;
            return;
        }
        self.joining.joins = false;
        self.persist_alone(Persist { caught_up: true, ..Persist::default() });
    }

    fn term_of(&self, index: LogIndex) -> Option<Term> {
        let epochs = self.log().epochs();
        let past = epochs.partition_point(|(_, first, _)| *first <= index);
        epochs.get(past.checked_sub(1)?).map(|(term, ..)| *term)
    }
}
