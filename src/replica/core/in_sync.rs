//! Who is in sync, as a leader reports it: information, as acknowledgements wait for other things.

use super::Core;
use super::config;
use super::effect::{Effect, Lead};
use crate::model::{LogIndex, ReplicaId};

impl Core {
    /// Recomputes who is in sync, and says so when it changed.
    pub(super) fn watch_in_sync(&mut self) {
        // Not before it takes produce: who hears of a leader may use it at once.
        if !self.is_leader() || !self.ready_to_lead {
            return;
        }
        let in_sync = self.lagging_less_than_the_bound();
        if in_sync != self.in_sync {
            self.in_sync = in_sync.clone();
            self.effects.push_back(Effect::Lead(Lead { term: self.term(), in_sync }));
        }
    }

    pub(super) fn is_silent(&self, replica: ReplicaId) -> bool {
        let me = replica == self.config.me;
        let heard = self.heard.get(&replica).copied();
        !me && heard.is_none_or(|at| self.ticks - at > config::SILENT_TICKS)
    }

    fn lagging_less_than_the_bound(&self) -> Vec<ReplicaId> {
        let behind = self.samples.index_before(self.ticks.saturating_sub(config::LAG_TICKS_MAX));
        let in_sync = |id: &&ReplicaId| {
            let matched = self.raw.raft.prs().get(id.0).map(|p| LogIndex(p.matched));
            **id == self.config.me || !self.is_silent(**id) && matched.is_some_and(|m| m >= behind)
        };
        self.config.members.keys().filter(in_sync).copied().collect()
    }
}
