//! Catching up from far behind: the entries come as ranges on the bulk lane instead of as appends.
//!
//! ```text
//!   leader                                    replica                       source
//!   its reads miss memory, and it lacks
//!   more than CATCH_UP_BYTES_MIN
//!     ── Notice: after, target, terms ──────▶ ─── range of entries? ─────▶  leader, or a learner
//!   (no appends; heartbeats go on)            ◀── frames, checked ────────  of the same DC
//!     ◀───── append answers ───────────────── steps them as an append, commits
//!   at `target`: probes, appends go on
//! ```
//!
//! Raft knows nothing of it. To the leader's raft-rs the replica is one that a snapshot is on its way
//! to, so it sends no appends; to the replica's the range is an append of its leader, so log matching,
//! the write and the answer are Raft's own. What makes that true: only entries up to the leader's high
//! watermark travel so, and the leader says which terms they have. An (index, term) pair names one
//! entry (R2), so a range whose terms are those of the notice is a part of the leader's log, whoever
//! sent it. A range is no word of the leader: it does not put off an election.
//!
//! It needs no state of its own on disk. A cut, a restart or a new leader ends it; the next probe finds
//! where the replica stands, and what is missing then begins there.

use std::collections::BTreeMap;

use raft::eraftpb::{Message, MessageType};
use raft::{ProgressState, SnapshotStatus, StateRole, Storage as _};

use super::effect::{Effect, Outgoing, RangeWanted};
use super::raft_log::Wanted;
use super::{Core, Now, entry};
use crate::log;
use crate::model::{LogIndex, ReplicaId, Term};

/// Terms that one notice spells out. A log with more changes of the leader in the part that is missing
/// is caught up in as many notices; at 16 bytes each this stays far below a control frame's bound.
const TERMS_MAX: usize = 1024;

/// Ticks after which a leader repeats a notice that nothing came of: the frame was lost, or the source
/// has gone. Two WAN round trips at the worst.
const NOTICE_AGAIN_TICKS: u64 = 20;

/// Ticks without any progress after which the leader takes the replica itself for the source.
const OTHER_SOURCE_TICKS: u64 = 60;

/// Ticks without any progress after which the leader goes back to appends: 20 s, in which a range comes
/// through on a link of 2 Mbit/s.
const GIVE_UP_TICKS: u64 = 400;

/// A leader's word to a replica that is far behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub term: Term,
    /// Up to here the replica's log is known to be the leader's.
    pub after: LogIndex,
    /// To be caught up to from elsewhere; not beyond the leader's high watermark.
    pub target: LogIndex,
    /// Whom to ask first.
    pub source: ReplicaId,
    /// Which term the entries from `after` to `target` have: where each begins, ascending. The first is
    /// at `after` itself.
    pub terms: Vec<(Term, LogIndex)>,
}

impl Notice {
    fn term_at(&self, index: LogIndex) -> Option<Term> {
        let past = self.terms.partition_point(|(_, first)| *first <= index);
        Some(self.terms.get(past.checked_sub(1)?)?.0)
    }
}

/// What a replica knows of another, and of itself, for one whose disk has lost the end of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub leads: bool,
    pub term: Term,
    /// What is committed at home, once an entry of the leader's own term is: nothing else that was ever committed.
    pub committed: Option<LogIndex>,
    /// Up to where the leader counts the other one's disk.
    pub matched: LogIndex,
    /// The end of its own log.
    pub last: LogIndex,
}

/// A replica that this leader lets catch up.
#[derive(Debug)]
struct Feed {
    target: LogIndex,
    matched: LogIndex,
    /// The tick at which `matched` last grew, and that of the last notice.
    moved_at: u64,
    told_at: u64,
}

/// Of a leader.
#[derive(Debug, Default)]
pub(super) struct Feeds(BTreeMap<ReplicaId, Feed>);

/// Of a replica that is being caught up.
#[derive(Debug)]
pub(super) struct Catching {
    notice: Notice,
    leader: ReplicaId,
    /// The first entry of the range that is under way.
    asked: Option<LogIndex>,
    /// The last entry before the newest range: the next one is asked for when this is on disk, so that
    /// no more than two ranges wait for it.
    before_newest: LogIndex,
}

impl Core {
    /// Whether a read for lagging replicas is not made, since they catch up otherwise from here on.
    /// For the driver, which knows that what they lack is more than the named limit.
    pub fn begin_catch_up(&mut self, wanted: &Wanted) -> bool {
        if !self.is_leader() || wanted.low > self.watermark {
            return false;
        }
        let me = self.config.me.0;
        let lags = |(id, p): &(&u64, &raft::Progress)| {
            **id != me && p.state == ProgressState::Replicate && p.next_idx == wanted.low.0
        };
        let lagging = self.raw.raft.prs().iter().filter(lags).map(|(id, _)| ReplicaId(*id));
        let is_member = |id: &ReplicaId| self.config.members.contains_key(id);
        let lagging: Vec<ReplicaId> = lagging.filter(is_member).collect();
        let mut began = false;
        for replica in lagging {
            let Some(notice) = self.notice(replica, false) else { continue };
            let feed = Feed {
                target: notice.target,
                matched: self.matched_of(replica),
                moved_at: self.ticks,
                told_at: self.ticks,
            };
            let progress = self.raw.raft.mut_prs().get_mut(replica.0).expect("it lags");
            progress.become_snapshot(notice.target.0);
            self.feeds.0.insert(replica, feed);
            self.send_notice(replica, notice);
            began = true;
        }
        began
    }

    pub fn standing(&self, of: ReplicaId) -> Standing {
        Standing {
            leads: self.is_leader(),
            term: self.term(),
            committed: self.is_ready_to_lead().then(|| self.committed()),
            matched: self.matched_of(of),
            last: self.log().last(),
        }
    }

    /// Replicas that are being caught up, on their leader.
    pub fn catching_up(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.feeds.0.keys().copied()
    }

    pub(super) fn forget_feeds(&mut self) {
        self.feeds.0.clear();
    }

    fn notice(&self, to: ReplicaId, from_leader: bool) -> Option<Notice> {
        let after = self.matched_of(to);
        let log = self.log();
        let first = Term(log.term(after.0).ok()?);
        let later = log.epochs().iter().filter(|(_, index, _)| *index > after);
        let mut terms = vec![(first, after)];
        terms.extend(later.map(|(term, index, _)| (*term, *index)));
        let mut target = self.watermark;
        if let Some((_, beyond)) = terms.get(TERMS_MAX) {
            target = target.min(beyond.prev());
        }
        terms.retain(|(_, first)| *first <= target);
        let source = if from_leader { self.config.me } else { self.source_for(to, target) };
        (target > after).then_some(Notice { term: self.term(), after, target, source, terms })
    }

    /// Another learner in the same DC that has it all, so that the WAN is crossed once; else this leader.
    fn source_for(&self, to: ReplicaId, target: LogIndex) -> ReplicaId {
        let me = self.config.me;
        let Some(member) = self.config.members.get(&to) else { return me };
        let near = self.config.members.iter().find(|(id, other)| {
            let there = other.dc == member.dc && !other.voter && **id != to;
            there && !self.is_silent(**id) && self.matched_of(**id) >= target
        });
        near.filter(|_| member.dc != self.config.home).map_or(me, |(id, _)| *id)
    }

    fn send_notice(&mut self, to: ReplicaId, notice: Notice) {
        let watermark = Some((self.term(), self.watermark));
        let catch_up = Some(Box::new(notice));
        self.effects.push_back(Effect::Send(Outgoing { to, raft: None, watermark, catch_up }));
    }

    /// Looks at how the replicas that catch up get on.
    pub(super) fn watch_feeds(&mut self) {
        for replica in self.feeds.0.keys().copied().collect::<Vec<_>>() {
            let progress = self.raw.raft.prs().get(replica.0);
            let Some(progress) = progress.filter(|p| p.state == ProgressState::Snapshot) else {
                // It has arrived, or its leader began to probe it.
                self.feeds.0.remove(&replica);
                continue;
            };
            let matched = LogIndex(progress.matched);
            // Retention has overtaken it: the next probe leads to a log-start snapshot.
            let is_overtaken = matched < self.log().start().index;
            let feed = self.feeds.0.get_mut(&replica).expect("a key of the map");
            if matched > feed.matched {
                (feed.matched, feed.moved_at) = (matched, self.ticks);
            }
            let still = self.ticks - feed.moved_at;
            if still > GIVE_UP_TICKS || is_overtaken {
                self.feeds.0.remove(&replica);
                self.raw.report_snapshot(replica.0, SnapshotStatus::Failure);
            } else if still >= NOTICE_AGAIN_TICKS && self.ticks - feed.told_at >= NOTICE_AGAIN_TICKS
            {
                (feed.told_at, feed.matched) = (self.ticks, matched);
                let target = feed.target;
                if let Some(notice) = self.notice(replica, still >= OTHER_SOURCE_TICKS) {
                    self.send_notice(replica, Notice { target, ..notice });
                }
            }
        }
    }

    /// The leader says that entries are to be had elsewhere.
    pub fn handle_notice(&mut self, now: Now, from: ReplicaId, notice: Notice) {
        if self.is_leader() || notice.term != self.term() || self.leader() != Some(from) {
            return;
        }
        let goes_on = self.catching.as_ref().is_some_and(|c| {
            let same = |n: &Notice| (n.term, n.target, n.source);
            c.asked.is_some() && same(&c.notice) == same(&notice)
        });
        if !goes_on {
            let before_newest = self.catching.as_ref().map_or(LogIndex::ZERO, |c| c.before_newest);
            self.catching = Some(Catching { notice, leader: from, asked: None, before_newest });
            self.process(now);
        }
    }

    /// What came of an [`Effect::Fetch`]: entries from the one that was asked for on, or nothing.
    /// Their checksums have been checked.
    pub fn handle_range(&mut self, now: Now, from: LogIndex, entries: Option<Vec<log::Entry>>) {
        let Some(catching) = self.catching.as_mut().filter(|c| c.asked == Some(from)) else {
            return;
        };
        catching.asked = None;
        let entries = entries.filter(|e| !e.is_empty()).filter(|e| is_part_of(&catching.notice, e));
        match entries {
            Some(entries) => {
                let before = self.known_to_match();
                self.step_range(entries);
                self.drain_ready(now);
                if self.known_to_match() == before {
                    // Raft did not take them; asking again would bring the same. The leader says more.
                    self.catching = None;
                }
            }
            // The leader has everything, and says it again if it does not answer either.
            None if catching.notice.source != catching.leader => {
                catching.notice.source = catching.leader;
            }
            None => self.catching = None,
        }
        self.process(now);
    }

    /// Takes the entries in as an append of the leader.
    fn step_range(&mut self, mut entries: Vec<log::Entry>) {
        let known = self.known_to_match();
        entries.retain(|e| e.index > known);
        let Some(catching) =
            self.catching.as_mut().filter(|_| self.raw.raft.state == StateRole::Follower)
        else {
            return;
        };
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let prev = first.index.prev();
        let Some(prev_term) = catching.notice.term_at(prev) else { return };
        let mut append = Message::default();
        append.set_msg_type(MessageType::MsgAppend);
        append.from = catching.leader.0;
        append.to = self.config.me.0;
        append.term = self.raw.raft.term;
        (append.index, append.log_term) = (prev.0, prev_term.0);
        append.commit = last.index.0;
        append.set_entries(entries.iter().map(entry::to_raft).collect::<Vec<_>>().into());
        catching.before_newest = prev;
        let elapsed = self.raw.raft.election_elapsed;
        // An error is a message from a peer that this configuration no longer has.
        let _ = self.raw.step(append);
        self.raw.raft.election_elapsed = elapsed;
    }

    /// Up to where this log is the leader's.
    fn known_to_match(&self) -> LogIndex {
        let (term, verified) = self.verified;
        let of_term = if term == self.term() { verified } else { LogIndex::ZERO };
        let after = self.catching.as_ref().map_or(LogIndex::ZERO, |c| c.notice.after);
        after.max(of_term).max(self.committed())
    }

    /// Asks for the next range, if there is one and the disk keeps up.
    pub(super) fn continue_catch_up(&mut self) {
        let Some(catching) = &self.catching else { return };
        let Notice { term, target, source, .. } = catching.notice;
        let holds = term == self.term() && self.leader() == Some(catching.leader);
        let known = self.known_to_match();
        if !holds || known >= target {
            self.catching = None;
            return;
        }
        let waits = catching.asked.is_some() || self.log().persisted() < catching.before_newest;
        let (from, group) = (known.next(), self.config.group);
        let node = self.config.members.get(&source).map(|m| m.node);
        if waits || self.is_installing() {
            return;
        }
        let Some(node) = node else {
            self.catching = None;
            return;
        };
        self.catching.as_mut().expect("looked at above").asked = Some(from);
        let wanted = RangeWanted { source: node, group, from, to: target.next() };
        self.effects.push_back(Effect::Fetch(wanted));
    }
}

/// Whether these are entries of the leader's log, each after the one before it.
fn is_part_of(notice: &Notice, entries: &[log::Entry]) -> bool {
    let dense = entries.windows(2).all(|two| {
        two[1].index == two[0].index.next() && two[1].base_offset == two[0].next_offset()
    });
    let is_known = |e: &log::Entry| {
        e.index > notice.after
            && e.index <= notice.target
            && notice.term_at(e.index) == Some(e.term)
    };
    dense && entries.iter().all(is_known)
}
