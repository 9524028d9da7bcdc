//! What `__meta` knows of moves of homes: one that is under way, what it came to, and what old
//! homes turned out to have had beyond the cut.
//!
//! ```text
//!   Active(e) ──Begin──▶ Sealing(e + 1) ──────────────Activate(F, home, voters, verdict)──▶ Active(e + 1)
//!                           │     ▲ │                                     ▲
//!                           └─────┘ └──Choose(F)──▶ Sealing(e + 1, F) ────┘ of this F only
//!           Begin again: forced, ◀──Begin again── │
//!           or to another DC     Sealing(e + 2)  ◀┘
//! ```
//!
//! Each step is a compare-and-set on (home epoch, phase) (R10, R13); a coordinator that is late, or
//! one of two, changes nothing (H12).
//!
//! Invariant: no sealed log is changed for an epoch before its F is written down here, and for one epoch
//! there is one F. Else a late coordinator could cut what another one has just counted as holding
//! its own F. So where the target must be made to hold F, it is chosen first; and whoever wants another
//! F after that has everybody promise another epoch.

mod apply;
pub mod carrier;
mod owed;
#[cfg(test)]
mod tests;
pub mod topics;
pub mod wire;

use std::sync::Arc;

use isobar_topology::home_move::Found;

use super::budgets::Bound;
use super::image::Partition;
use crate::log::{Fork, Position};
use crate::model::{DcName, HomeEpoch, NodeId, Offset, ReplicaId, TopicPartition};

pub use owed::{owed, word};

pub(super) use apply::{activate, begin, choose, refuse_begin, report};

/// Ended moves that the image keeps, the oldest go first: three moves a day of a topic of 30
/// partitions for eleven days, at about 200 bytes each.
pub const KEPT_MAX: usize = 1000;

/// Terms that a fork spells out at most. With more elections in what the log still has, a replica
/// whose log ends before the first of them begins anew from a snapshot; at 24 bytes each this stays
/// below a command's bound.
pub const FORK_TERMS_MAX: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Planned: the leader hands off, nothing is lost at any distance (R18).
    Switchover,
    /// Forced, after a loss.
    Failover,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    pub kind: Kind,
    pub to: DcName,
    /// The operator's word that what cannot be proven may be lost (R11); on record.
    pub accept_loss: bool,
    /// Nobody asked for it: its policy does (`metadata::automatic`).
    pub automatic: bool,
    /// Unix time, for people and for what may be waited for; nothing that is safe depends on it.
    pub began_ms: i64,
}

/// A move that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    pub aim: Aim,
    /// What the replicas promise: the home epoch that begins.
    pub epoch: HomeEpoch,
    pub chosen: Option<Chosen>,
}

/// The cut of a home epoch that has not begun, written down before a log is made to end there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub fork: Arc<Fork>,
    /// By the seals that it was chosen by.
    pub verdict: Verdict,
}

/// What a move claims at the moment when it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that was acknowledged is beyond the cut (R11, R13).
    Lossless,
    /// What the old home acknowledged after this time may be beyond the cut; how much is not known
    /// until its disks have been read (R16). When, by the old home's clock, it said the last word that reached
    /// a replica which the cut was chosen from.
    UnboundedSince { ms: i64 },
    /// Of what the old home acknowledged after this time no more than its budget is beyond the cut.
    AtMost { bound: Bound, ms: i64 },
}

impl Verdict {
    /// Of every node, before a command counts on a word that must still stand.
    pub const WORD_FEATURE_LEVEL: u32 = 7;

    /// Of every node, before one is claimed that is a number.
    pub const AT_MOST_FEATURE_LEVEL: u32 = 6;

    /// Of seals that prove nothing. `bound` as [`super::budgets::to_claim`] has it, `ms` as the variants do.
    ///
    /// A budget bounds what its home epoch has accepted. What the epoch began with may be in its home alone too, as
    /// much as there is, until another datacenter has something of the epoch.
    pub fn unproven(found: &Found, placed: &Partition, bound: Option<Bound>, ms: i64) -> Self {
        let holds = |cut| placed.is_beginning_in(cut);
        let is_bounded = found.is_bounded_by_budget(&placed.home) && found.cut.is_some_and(holds);
        match bound.filter(|_| is_bounded) {
            Some(bound) => Self::AtMost { bound, ms },
            None => Self::UnboundedSince { ms },
        }
    }

    /// That a node needs to apply it.
    pub(super) fn feature_level(self, by_word: bool) -> u32 {
        match self {
            _ if by_word => Self::WORD_FEATURE_LEVEL,
            Self::Lossless | Self::UnboundedSince { .. } => 3,
            Self::AtMost { .. } => Self::AT_MOST_FEATURE_LEVEL,
        }
    }
}

/// What one replica of the old home, or any other, had beyond the cut, and has put into its ledger
/// (R15, R16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suffix {
    pub replica: ReplicaId,
    pub node: NodeId,
    pub records: u64,
    pub bytes: u64,
    /// Of the last entry before the cut was made, term before index: which suffix is the longest.
    pub last: Position,
}

/// A move that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub at: TopicPartition,
    /// As it was called then.
    pub topic: Arc<str>,
    pub kind: Kind,
    pub from: DcName,
    pub to: DcName,
    /// Of the new home.
    pub home_epoch: HomeEpoch,
    pub cut: Position,
    pub verdict: Verdict,
    pub accept_loss: bool,
    pub automatic: bool,
    pub began_ms: i64,
    pub ended_ms: i64,
    /// The voters of the old home.
    pub old_voters: Vec<ReplicaId>,
    /// One a replica that has come back, in the order in which they told.
    pub suffixes: Vec<Suffix>,
}

/// What is known of what a move cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Nothing, by proof.
    Nothing,
    /// The old home's disks have not been read: only the verdict is known (R16).
    Open,
    /// A majority of the old home's voters has been read: so many records are in the ledger and not
    /// in the log.
    Exact { records: u64 },
}

/// Records that are in the log again, after they had been counted as lost. `to` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BroughtBack {
    /// That began with them.
    pub home_epoch: HomeEpoch,
    pub from: Offset,
    pub to: Offset,
}

impl Moved {
    pub fn account(&self) -> Account {
        if self.verdict == Verdict::Lossless {
            return Account::Nothing;
        }
        match self.longest().next() {
            None => Account::Open,
            Some(longest) => Account::Exact { records: longest.records },
        }
    }

    /// What this move was cut without and a later one of `all` began with again: the newest log that that one
    /// found was of a home before this move (R12).
    pub fn brought_back<'a>(&self, all: impl Iterator<Item = &'a Moved>) -> Option<BroughtBack> {
        let later = all.filter(|m| m.at == self.at && m.home_epoch > self.home_epoch);
        let before = later.filter(|m| m.cut.term.home_epoch() < self.home_epoch);
        let longer = before.filter(|m| m.cut.offset > self.cut.offset);
        let by = longer.min_by_key(|m| m.home_epoch)?;
        let (from, to) = (self.cut.offset, by.cut.offset);
        Some(BroughtBack { home_epoch: by.home_epoch, from, to })
    }

    /// The canonical suffix: the largest log over a majority of the old home's voters (R16), and each
    /// voter that has it. None until such a majority has told.
    pub fn longest(&self) -> impl Iterator<Item = &Suffix> {
        let read = self.suffixes.iter().filter(|s| self.old_voters.contains(&s.replica));
        let is_open = read.clone().count() < self.old_voters.len() / 2 + 1;
        let end = |s: &Suffix| (s.last.term, s.last.index);
        let largest = read.clone().map(end).max().filter(|_| !is_open);
        read.filter(move |s| Some(end(s)) == largest)
    }
}

/// Begins a move, if the partition still is where this was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    pub at: TopicPartition,
    pub home_epoch: HomeEpoch,
    pub aim: Aim,
}

/// Fixes the cut of the epoch that is being sealed (R12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub at: TopicPartition,
    /// The one that is left.
    pub home_epoch: HomeEpoch,
    pub fork: Fork,
    pub verdict: Verdict,
    /// Nobody could prove that nothing is lost of what was sync: it counts on the operator's word, which must still stand.
    pub by_word: bool,
}

/// Ends a move: the next home epoch begins (R13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    pub at: TopicPartition,
    /// The one that is left.
    pub home_epoch: HomeEpoch,
    pub home: DcName,
    /// Replicas there that hold F; the first is the preferred leader.
    pub voters: Vec<ReplicaId>,
    pub fork: Fork,
    pub verdict: Verdict,
    /// Nobody could prove that nothing is lost of what was sync: it counts on the operator's word, which must still stand.
    pub by_word: bool,
    pub ended_ms: i64,
}

/// Why a target cannot hold F: its logs end before the one that ends there begins, and nobody has what was between.
pub fn cannot_fetch(to: &DcName, source: NodeId, too_old: &[NodeId]) -> String {
    let nodes = too_old.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "in {to} the logs of nodes {nodes} end before the log of node {source} begins, which has \
         the most, and retention has deleted what was between: choose another target, such \
         as the datacenter of node {source}; {to} becomes its learner"
    )
}

/// A replica's word of what it had beyond the cut of a home epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub at: TopicPartition,
    /// Of the new home.
    pub home_epoch: HomeEpoch,
    pub suffix: Suffix,
}
