//! What the loop keeps beside each core: its view, its durable state, and how its writes are made.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::restart;
use super::spec::{Policy, Spec};
use crate::log::{self, HighWatermark, Kind, LogStart, ReplicaState, Write};
use crate::model::{LogIndex, Offset, TopicPartition};
use crate::replica::View;
use crate::replica::core::Core;
use crate::replica::core::effect::Persist;

pub struct Slot {
    pub view: Arc<View>,
    pub topic_name: String,
    pub policy: Policy,
    state: ReplicaState,
    /// With how far the disk had the log by then.
    checkpointed: (HighWatermark, LogIndex),
    /// Entries after which the disk has the producers' state.
    snapshots: BTreeSet<LogIndex>,
}

impl Slot {
    pub fn new(view: Arc<View>, topic_name: String, policy: Policy, state: ReplicaState) -> Self {
        let (checkpointed, snapshots) = (Default::default(), BTreeSet::new());
        Self { view, topic_name, policy, state, checkpointed, snapshots }
    }

    /// What it was opened as, with what has changed since.
    pub fn spec(&self, core: &Core) -> Spec {
        let config = core.config();
        Spec {
            group: config.group,
            topic_name: self.topic_name.clone(),
            me: config.me,
            home: config.home.clone(),
            members: config.members.clone(),
            preferred: config.preferred,
            placement_generation: config.placement_generation,
            fork: self.state.fork,
            lossy_cut: config.lossy_cut,
            stands_in: self.state.installing,
            began: self.state.mode,
            recorded: core.recorded_mode(),
            timing: config.timing,
            policy: self.policy,
        }
    }

    /// The write for a Persist effect. The batches in it can be read from memory from here on.
    pub fn write(&mut self, at: TopicPartition, core: &Core, persist: Persist) -> Write {
        let mut write = Write::to(at);
        write.sync = self.policy.flush;
        let changes_epochs = persist.reset.is_some()
            || persist.truncate_from.is_some()
            || persist.entries.iter().any(|e| e.kind == Kind::Empty);
        if changes_epochs {
            self.view.set_epochs(core.log().epochs());
        }
        // What is replaced is not read any more, also where what replaces it has no records or begins later.
        if persist.reset.is_some() {
            self.view.cut_recent(Offset::ZERO);
        } else if let Some(first) = persist.entries.first()
            && persist.truncate_from.is_some()
        {
            self.view.cut_recent(first.base_offset);
        }
        for entry in persist.entries.iter().filter(|e| e.kind == Kind::Batch) {
            let (base, next) = (entry.base_offset, entry.next_offset());
            self.view.push_recent(base, next, entry.payload.clone());
        }
        let mut state = self.state.clone();
        if let Some((term, vote)) = persist.vote {
            state.term = term;
            state.vote = (vote.0 != raft::INVALID_ID).then_some(vote);
        }
        if let Some(conf) = &persist.conf_state {
            state.conf = restart::from_raft(conf);
            state.placement_generation = core.conf_generation();
        }
        if let Some(mode) = persist.mode {
            state.mode = mode;
        }
        if persist.caught_up {
            state.installing = false;
        }
        if let Some(applied) = persist.applied {
            state.applied = applied;
        }
        if let Some(reset) = &persist.reset {
            let start = reset.start;
            write.reset =
                Some(LogStart { index: start.index, term: start.term, offset: start.offset });
            write.producer_snapshot = Some((start.index, reset.producers.clone()));
            self.snapshots = BTreeSet::from([start.index]);
            state.applied = start.index;
            state.mode = reset.mode;
            state.conf = restart::from_raft(core.log().conf_state());
        }
        if let Some(snapshot) = persist.producers.last() {
            write.producer_snapshot = Some(snapshot.clone());
            self.snapshots.insert(snapshot.0);
        }
        if let Some(offset) = persist.log_start {
            write.start = self.start_for(offset, state.applied);
        }
        write.truncate_from = persist.truncate_from;
        write.entries = persist.entries;
        if state != self.state {
            self.state = state.clone();
            write.state = Some(state);
        }
        write
    }

    /// Where the log must begin for `offset` to be the first that is read. It begins only where the
    /// disk has the producers' state, which a restart and a lagging replica need to begin from; after
    /// a restart that is some segments later.
    fn start_for(&mut self, offset: Offset, applied: LogIndex) -> Option<LogStart> {
        let reader = self.view.reader();
        match reader.start_for(offset, applied) {
            Ok(wanted) => {
                let old = reader.start();
                let segments = reader.segments();
                let starts = segments.iter().map(|s| s.base_index.prev());
                let known = |at: &LogIndex| *at <= wanted.index && self.snapshots.contains(at);
                let index = starts.filter(known).max().unwrap_or(old.index).max(old.index);
                let term = reader.term_at(index).expect("the log holds where it begins");
                self.snapshots.retain(|at| *at >= index);
                Some(LogStart { index, term, offset })
            }
            // Already beyond it, after a snapshot.
            Err(log::Error::OutOfRange { .. }) => None,
            Err(error) => {
                tracing::warn!(partition = %self.view.partition, %error, "log start not moved");
                None
            }
        }
    }

    /// A lazy write of how far this replica had come, if it has come further since the last; the log's durable mark goes
    /// with it, also where nothing is acknowledged for a while.
    pub fn checkpoint(&mut self, at: TopicPartition, core: &Core) -> Option<Write> {
        let (index, offset) = core.watermark();
        let persisted = core.log().persisted();
        let hw = HighWatermark { index: index.min(persisted), offset };
        let reached = (hw, persisted);
        if persisted == LogIndex::ZERO || reached == self.checkpointed || hw.index < index {
            return None;
        }
        self.checkpointed = reached;
        let mut write = Write::to(at);
        write.sync = false;
        write.checkpoint = Some(hw);
        let applied = core.log().applied();
        if applied > self.state.applied {
            self.state.applied = applied;
            write.state = Some(self.state.clone());
        }
        Some(write)
    }
}
