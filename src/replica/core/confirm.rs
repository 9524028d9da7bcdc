//! Whether this replica still leads, as a majority says (read index: Raft thesis §6.4). A leader that slept or was cut
//! off knows what was true then, and nobody tells it first that another leads.

use std::collections::VecDeque;
use std::time::Duration;

use raft::ReadState;

use super::effect::{Effect, Ticket};
use super::{Core, Now};
use crate::model::LeaderEpoch;
use crate::replica::ProduceError;

/// Who waits for a majority's word, in the order in which they asked.
#[derive(Debug, Default)]
pub(super) struct Confirming(VecDeque<(Ticket, Duration)>);

impl Core {
    /// Whether it leads and has applied an entry of its own term (Raft §5.4.2): what it knows to be committed then is
    /// what is.
    pub fn is_ready_to_lead(&self) -> bool {
        self.is_leader() && self.ready_to_lead
    }
}

impl Confirming {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Core {
    /// Asks a majority. What this leader knew when it asked held then, if the answer is its epoch.
    pub fn confirm(&mut self, now: Now, ticket: Ticket, deadline: Duration) {
        if !self.is_leader() || !self.ready_to_lead {
            self.effects.push_back(Effect::Confirmed(ticket, Err(ProduceError::NotLeader)));
            return;
        }
        self.confirming.0.push_back((ticket, deadline));
        self.raw.read_index(ticket.0.to_be_bytes().to_vec());
        self.process(now);
    }

    /// A majority has answered a heartbeat that left after this was asked, and by that all that was asked before.
    pub(super) fn confirmed(&mut self, read: &ReadState) {
        let epoch = self.term().leader_epoch();
        let is_of = |(ticket, _): &(Ticket, Duration)| read.request_ctx == ticket.0.to_be_bytes();
        if let Some(at) = self.confirming.0.iter().position(is_of) {
            self.answer_confirming(at + 1, Ok(epoch));
        }
    }

    pub(super) fn expire_confirming(&mut self, now: Duration) {
        // Whoever asked later may wait less; it gives up by itself.
        let late = self.confirming.0.iter().take_while(|(_, deadline)| *deadline <= now).count();
        self.answer_confirming(late, Err(ProduceError::TimedOut));
    }

    /// This replica leads no more.
    pub(super) fn fail_confirming(&mut self) {
        self.answer_confirming(self.confirming.0.len(), Err(ProduceError::NotLeader));
    }

    fn answer_confirming(&mut self, count: usize, answer: Result<LeaderEpoch, ProduceError>) {
        for (ticket, _) in self.confirming.0.drain(..count) {
            self.effects.push_back(Effect::Confirmed(ticket, answer));
        }
    }
}
