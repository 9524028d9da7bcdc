//! What was acknowledged and is beyond a cut is in a ledger, whole, with the bytes that it had; and
//! what `__meta` says of it is exact, once all have come back.

use std::collections::BTreeSet;

use isobar::metadata::moves::{Account, Moved};
use isobar::model::{HomeEpoch, ReplicaId};

use super::{Violation, hold, n};
use crate::oracle::History;

const KEPT: (&str, &str) = ("every lost acknowledgement is in the ledger", "I5, R15, G11");
const NAMES: (&str, &str) = ("(term, index) names one entry, in the ledger too", "I2, R2");
const BACK: (&str, &str) = ("what is in the log again is not told as lost", "R16, G11");
const EXACT: (&str, &str) = ("what a move cost is counted exactly", "I5, R16, G11");

/// One suffix as it was read from a node's disk.
pub struct Found {
    pub node: usize,
    pub replica: ReplicaId,
    /// That wrote the last of it, and that it was cut for: a replica that was away may have skipped some.
    pub old_epoch: HomeEpoch,
    pub new_epoch: HomeEpoch,
    /// The log's last entry, term before index.
    pub last: (u64, u64),
    pub records: u64,
    pub ids: BTreeSet<u64>,
    /// Term, base offset, bytes.
    pub batches: Vec<(u64, i64, u64)>,
}

pub fn check(history: &History, moved: &[&Moved], found: &[Found]) -> Result<(), Violation> {
    for suffix in found {
        for (term, base, hash) in &suffix.batches {
            let known = history.batches.get(&(*term, *base));
            hold(known == Some(hash), NAMES, || {
                format!(
                    "{} has other bytes at offset {base} of term {term} in its ledger",
                    n(suffix.node)
                )
            })?;
        }
    }
    for ((id, epoch), next) in &history.lost {
        let is_there = found.iter().any(|s| s.new_epoch > *epoch && s.ids.contains(id));
        // Who acknowledged it lost its disks, or it was deleted.
        let is_gone = history.had_wiped(*id, *epoch) || history.was_deleted(*id, *epoch);
        let is_back = history.came_back(*id, *epoch, *next);
        hold(is_there || is_gone || is_back, KEPT, || {
            format!(
                "record {id:#x}, acknowledged in epoch {epoch} and cut off for {next}, is in no ledger"
            )
        })?;
        let all = || moved.iter().copied();
        let tells =
            all().filter(|m| m.home_epoch == *next).any(|m| m.brought_back(all()).is_some());
        hold(!is_back || tells, BACK, || {
            format!(
                "record {id:#x}, cut off for epoch {next}, is in the log again, and nobody says so"
            )
        })?;
    }
    moved.iter().try_for_each(|one| check_account(history, one, found))
}

fn check_account(history: &History, moved: &Moved, found: &[Found]) -> Result<(), Violation> {
    let said = match moved.account() {
        Account::Nothing => return Ok(()),
        // Of so many that the rest is no majority the disks are gone: what it cost is known by its bound
        // only.
        Account::Open => {
            let has_told = |id: &ReplicaId| moved.suffixes.iter().any(|s| s.replica == *id);
            let tells = |id: &&ReplicaId| has_told(id) || !history.is_gone(**id);
            let may_tell = moved.old_voters.iter().filter(tells).count();
            return hold(may_tell <= moved.old_voters.len() / 2, EXACT, || {
                let told = moved.suffixes.iter().map(|s| s.replica.0).collect::<Vec<_>>();
                let old = moved.old_voters.iter().map(|r| r.0).collect::<Vec<_>>();
                format!(
                    "the move of {} to epoch {} is not accounted for: of {old:?} has told {told:?}",
                    moved.at, moved.home_epoch
                )
            });
        }
        Account::Exact { records } => records,
    };
    let of_this = |id: &&(u64, HomeEpoch)| {
        history.lost[*id] == moved.home_epoch
            && !history.was_deleted(id.0, id.1)
            && !history.came_back(id.0, id.1, moved.home_epoch)
    };
    let lost: BTreeSet<u64> = history.lost.keys().filter(of_this).map(|(id, _)| *id).collect();
    hold(lost.len() as u64 <= said, EXACT, || {
        format!(
            "the move of {} to epoch {} is said to have cost {said} records; {} that were acknowledged are gone",
            moved.at,
            moved.home_epoch,
            lost.len()
        )
    })?;
    check_held(history, moved, found, said)
}

/// Every disk that is still there has what was said of it, and the canonical suffix is the largest log over
/// the old home's voters (R16).
fn check_held(
    history: &History,
    moved: &Moved,
    found: &[Found],
    said: u64,
) -> Result<(), Violation> {
    let before = history.began.iter().map(|b| b.epoch).filter(|e| *e < moved.home_epoch).max();
    let before = before.unwrap_or(HomeEpoch::FIRST);
    let of = |replica| {
        found.iter().filter(move |s| {
            let is_of_this = s.old_epoch < moved.home_epoch && s.new_epoch > before;
            s.replica == replica && is_of_this
        })
    };
    let held = |replica| of(replica).map(|s| s.records).sum::<u64>();
    for told in &moved.suffixes {
        let (has, told_of) = (held(told.replica), told.records);
        hold(has == told_of || history.is_gone(told.replica), EXACT, || {
            format!(
                "{} tells of {told_of} records that the move of {} to epoch {} cut off; its ledger has {has}",
                n(history.nodes[&told.replica]),
                moved.at,
                moved.home_epoch
            )
        })?;
    }
    let end = |replica: &ReplicaId| {
        let told = moved.suffixes.iter().filter(|s| s.replica == *replica);
        let told = told.map(|s| (s.last.term.0, s.last.index.0));
        told.chain(of(*replica).map(|s| s.last)).max()
    };
    let largest = moved.old_voters.iter().map(end).max().flatten();
    let mut canonical = moved.old_voters.iter().filter(|id| end(id) == largest);
    // What was told from a disk that is lost since is in no ledger any more.
    hold(canonical.any(|id| held(*id) == said || history.is_gone(*id)), EXACT, || {
        let held: Vec<_> = moved.old_voters.iter().map(|id| (id.0, end(id), held(*id))).collect();
        format!(
            "the move of {} to epoch {} is said to have cost {said} records; the ledgers have {held:?}",
            moved.at, moved.home_epoch
        )
    })
}
