//! A sync topic that may degrade: when it weakens, and how it gets strong again (R7, R8, R9).
//!
//! ```text
//!            nothing gets through the gate for sync_timeout
//!   sync ───────────────────────────────▶ Ask ··▶ __meta: (sid + 1, degraded)
//!    ▲                                                 : the grant comes with the image
//!    : __meta: (sid, sync)                             ▼
//!   Ask ◀── recovering: k is enforced ◀── caught up ── degraded, once the entry is committed at home
//!            from this entry on
//! ```
//!
//! Weaker: on record first, then in force. Stronger: in force first, then on record. So whenever
//! `__meta` says sync, whoever can lead in this home epoch has the entry in its log that enforces it (I7).
//!
//! Whether the gate is starved is told by what the other DCs have *persisted*, never by who is heard
//! of (H14). Silence only makes a leader that has nothing on its way append a probe, so that there is
//! something to wait for.
//!
//! Invariants: a leader obeys its log; a grant counts for this home epoch only, and only if it is newer than
//! the log (a replayed one is not); an entry that strengthens binds from its append on, one that weakens
//! from its commit on.

use std::collections::VecDeque;
use std::time::Duration;

use raft::eraftpb::Entry;

use super::effect::{Effect, Persist};
use super::{Core, Now, control, watermark};
use crate::log::{self, Kind};
use crate::model::{HomeEpoch, LogIndex, Mode, TopicPartition};

/// A request that was not answered is made again after so long: an election of `__meta` takes a few
/// seconds.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long enough DCs may take to get all that the log had when that was looked at, to count as caught
/// up: what was not acknowledged yet when the gate closes again waits so long at most (Raft thesis §4.2.1).
const ROUND_MAX: Duration = Duration::from_secs(2);

/// What `__meta` is asked to record, if it still has what the asker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub partition: TopicPartition,
    pub home_epoch: HomeEpoch,
    /// The `sid` that it was decided on.
    pub expected: u64,
    pub mode: Mode,
}

/// What a sync topic promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Sync,
    /// As an async topic with acks=all.
    Degraded,
    /// Acknowledgements wait as for sync again, but `__meta` has not recorded it, so what counts in a
    /// failover is what it has: as degraded.
    Recovering,
}

#[derive(Debug)]
pub(super) struct Modes {
    /// By the entries that are applied.
    applied: Mode,
    /// In the log and not applied, oldest first.
    pending: VecDeque<(LogIndex, Mode)>,
    /// The last entry of these that was appended in this replica's life.
    newest_at: LogIndex,
    /// In `__meta`, as far as is known here.
    recorded: Mode,
    /// Where the gate stands while something waits at it, and since when.
    stalled: Option<(LogIndex, Duration)>,
    /// What the log had when a round began, and when that was.
    round: Option<(LogIndex, Duration)>,
    asked_at: Option<Duration>,
}

impl Modes {
    pub fn new(applied: Mode, recorded: Mode) -> Self {
        Self {
            applied,
            pending: VecDeque::new(),
            newest_at: LogIndex::ZERO,
            recorded,
            stalled: None,
            round: None,
            asked_at: None,
        }
    }

    fn is_degraded(&self) -> bool {
        self.applied.degraded && self.pending.iter().all(|(_, mode)| mode.degraded)
    }

    fn sid(&self) -> u64 {
        self.pending.back().map_or(self.applied.sid, |(_, mode)| mode.sid)
    }

    /// A grant that counts (R7).
    fn is_granted(&self) -> bool {
        self.recorded.degraded && self.recorded.sid > self.sid()
    }

    /// `__meta` has recorded that it is sync, and nothing that was in the log before that.
    fn is_confirmed(&self) -> bool {
        !self.recorded.degraded && self.recorded.sid >= self.sid()
    }

    /// No entry of these is under way or due.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.is_granted()
    }

    fn next_sid(&self) -> u64 {
        self.sid().max(self.recorded.sid) + 1
    }

    /// Entries in the place of those from `cut` on.
    pub fn note(&mut self, epoch: HomeEpoch, entries: &[log::Entry], cut: Option<LogIndex>) {
        if let Some(cut) = cut {
            self.pending.retain(|(index, _)| *index < cut);
        }
        // Another home's say nothing here: this one began with what `__meta` had.
        let ours = entries.iter().filter(|e| e.term.home_epoch() == epoch);
        for entry in ours.filter(|e| e.kind == Kind::Control(control::MODE)) {
            self.pending.push_back((entry.index, control::mode(entry)));
            self.newest_at = entry.index;
        }
    }

    /// Begun anew where all before had been applied.
    pub fn reset(&mut self, mode: Mode) {
        self.applied = self.applied.max(mode);
        self.pending.clear();
    }

    /// Another role or term.
    pub fn forget_looks(&mut self) {
        self.stalled = None;
        self.round = None;
        self.asked_at = None;
    }

    /// Whether all that the log had a short while ago is through the gate.
    fn caught_up(&mut self, now: Duration, gate: LogIndex, last: LogIndex) -> bool {
        let (target, began) = *self.round.get_or_insert((last, now));
        if gate < target {
            return false;
        }
        self.round = Some((last, now));
        now.saturating_sub(began) <= ROUND_MAX
    }

    /// For how long nothing has got through, if something waits.
    fn stalled_for(&mut self, now: Duration, gate: LogIndex, last: LogIndex) -> Duration {
        if gate >= last {
            self.stalled = None;
            return Duration::ZERO;
        }
        let since = self.stalled.filter(|(at, _)| *at == gate).map_or(now, |(_, since)| since);
        self.stalled = Some((gate, since));
        now.saturating_sub(since)
    }
}

impl Core {
    /// How many remote DCs acknowledgements wait for at present; 0 on an async topic, and on one that is
    /// degraded.
    pub fn sync_to(&self) -> usize {
        if self.modes.is_degraded() { 0 } else { self.config.ack.sync_to }
    }

    /// By the entries of this log that are applied.
    pub fn mode(&self) -> Mode {
        self.modes.applied
    }

    /// `None` for an async topic.
    pub fn promise(&self) -> Option<Promise> {
        (self.config.ack.sync_to > 0).then(|| {
            match (self.modes.is_degraded(), self.modes.is_confirmed()) {
                (true, _) => Promise::Degraded,
                (false, false) => Promise::Recovering,
                (false, true) => Promise::Sync,
            }
        })
    }

    /// What `__meta` has, as far as is known here.
    pub fn recorded_mode(&self) -> Mode {
        self.modes.recorded
    }

    /// What `__meta` has on record of this partition. One of another home epoch is none (R7).
    pub fn handle_recorded(&mut self, now: Now, epoch: HomeEpoch, recorded: Mode) {
        if epoch != self.config.group.home_epoch || recorded.sid <= self.modes.recorded.sid {
            return;
        }
        self.modes.recorded = recorded;
        self.modes.asked_at = None;
        self.watch_mode(now);
        self.process(now);
    }

    /// From time to time, on the leader.
    pub(super) fn watch_mode(&mut self, now: Now) {
        let k = self.config.ack.sync_to;
        let leads = self.is_leader() && self.raw.raft.lead_transferee.is_none();
        if k == 0 || !leads || !self.ready_to_lead || self.handing_off.is_some() {
            return;
        }
        let gate = watermark::at_least(&mut self.safe_by_remote_dc(), k);
        let last = self.log().last();
        let caught_up = self.modes.caught_up(now.mono, gate, last);
        let after = self.config.ack.degrade_after;
        if self.modes.is_degraded() {
            // A policy that blocks by now does so at once.
            if caught_up || after.is_none() {
                self.strengthen(now);
            }
            return;
        }
        let stalled = self.modes.stalled_for(now.mono, gate, last);
        if after.is_some_and(|after| stalled >= after) {
            if self.modes.is_granted() {
                self.propose_mode(now, self.modes.recorded);
            } else if self.modes.pending.is_empty() {
                // Else what was granted is about to be used, and one more would have the number of what comes after it.
                self.ask(now, Mode { sid: self.modes.next_sid(), degraded: true });
            }
        } else if self.modes.is_granted() {
            // A grant that came too late to be of use: nothing was acknowledged by it.
            if caught_up {
                self.strengthen(now);
            }
        } else if self.modes.recorded.degraded && self.is_enforced(gate) {
            self.ask(now, Mode { sid: self.modes.sid(), degraded: false });
        } else if after.is_some() && gate >= last && self.current_remote_dcs() < k {
            self.propose_control(now, control::PROBE, 0);
        }
    }

    /// R8: the entry that strengthens, or one after it that is of the leader's own term, is committed and
    /// through the gate.
    fn is_enforced(&self, gate: LogIndex) -> bool {
        let own = self.own_entry.unwrap_or(LogIndex(u64::MAX));
        let index = own.max(self.modes.newest_at);
        self.modes.pending.is_empty() && gate >= index && self.committed() >= index
    }

    fn strengthen(&mut self, now: Now) {
        let mode = Mode { sid: self.modes.next_sid(), degraded: false };
        self.propose_mode(now, mode);
    }

    fn ask(&mut self, now: Now, mode: Mode) {
        if self.modes.asked_at.is_some_and(|at| now.mono.saturating_sub(at) < ASK_EVERY) {
            return;
        }
        self.modes.asked_at = Some(now.mono);
        let (group, expected) = (self.config.group, self.modes.recorded.sid);
        let (partition, home_epoch) = (group.partition, group.home_epoch);
        self.effects.push_back(Effect::AskMode(Ask { partition, home_epoch, expected, mode }));
    }

    fn propose_mode(&mut self, now: Now, mode: Mode) {
        self.propose_control_of(now, control::MODE, control::mode_payload(mode));
    }

    pub(super) fn apply_mode(&mut self, raft: &Entry, entry: &log::Entry, persist: &mut Persist) {
        while self.modes.pending.front().is_some_and(|(index, _)| index.0 <= raft.index) {
            self.modes.pending.pop_front();
        }
        let mode = control::mode(entry);
        let is_ours = entry.term.home_epoch() == self.config.group.home_epoch;
        // An older one is in the state that this replica began with.
        if !is_ours || mode.sid <= self.modes.applied.sid {
            return;
        }
        self.modes.applied = mode;
        self.modes.forget_looks();
        persist.mode = Some(mode);
        if !self.is_leader() {
            return;
        }
        let (partition, sid, home) = (self.config.group.partition, mode.sid, &self.config.home);
        let sync_to = self.config.ack.sync_to;
        if mode.degraded {
            tracing::warn!(
                %partition, sid, %home, sync_to,
                "a sync topic is degraded: acknowledgements wait for the home datacenter alone and may be lost with it; \
                 bring the links or nodes of the other datacenters back, and it is sync again by itself"
            );
        } else {
            tracing::info!(%partition, sid, sync_to, "acknowledgements wait for other datacenters again");
        }
    }
}
