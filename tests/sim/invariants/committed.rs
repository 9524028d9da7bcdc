//! What a group has committed is what it is told, and it never goes on beyond what it has not read.

use std::collections::BTreeMap;

use isobar::coordinator::group::{FetchedOffset, Id};
use isobar::model::{HomeEpoch, LeaderEpoch, Term};

use super::{Violation, hold};
use crate::groups::{Commit, Team, Track};
use crate::oracle::History;

const ACKED: (&str, &str) = ("a commit is answered once its record is acknowledged", "I12, R25");
const NEWEST: (&str, &str) = ("a coordinator knows every commit of its epochs", "R25, H20");
const HAD: (&str, &str) = ("a group goes on after what it has had", "I12, R25, H18, H19");
const LOG: (&str, &str) = ("what a coordinator says is what its log says", "R25");

fn is_lost(history: &History, id: u64) -> bool {
    let of = (id, HomeEpoch::FIRST)..(id + 1, HomeEpoch::FIRST);
    history.lost.range(of).next().is_some()
}

/// A commit was answered with success.
pub fn check_acked(history: &History, group: &Id, commit: Commit) -> Result<(), Violation> {
    let is_there = history.acked.iter().rev().any(|acked| acked.ids.contains(&commit.id));
    hold(is_there, ACKED, || {
        format!(
            "group {group} was told that {commit:?} is done, of which no record was acknowledged"
        )
    })
}

/// A coordinator that led in `epoch` all the while said what the group has committed of a partition; `before` commits had
/// been sent.
pub fn check_fetched(
    history: &History,
    team: &Team,
    (partition, before): (usize, usize),
    (epoch, fetched): (Option<LeaderEpoch>, &FetchedOffset),
) -> Result<(), Violation> {
    let Some(epoch) = epoch else { return Ok(()) };
    let group = &team.id;
    let sent = &team.tracks[&partition].commits[..before];
    let is_known = |commit: &&Commit| {
        commit.acked.is_some_and(|acked| acked <= epoch) && !is_lost(history, commit.id)
    };
    let least = sent.iter().rfind(is_known);
    let Some(committed) = &fetched.committed else {
        return hold(least.is_none(), NEWEST, || {
            format!(
                "group {group} was told in epoch {epoch} that it has committed nothing; it has {least:?}"
            )
        });
    };
    let found = sent.iter().find(|commit| commit.id.to_string() == committed.metadata);
    hold(found.is_some_and(|found| found.offset == committed.offset), NEWEST, || {
        format!("group {group} was told of {committed:?}, which it has not sent")
    })?;
    hold(found.map(|c| c.id) >= least.map(|c| c.id), NEWEST, || {
        format!("group {group} was told of {found:?} in epoch {epoch}, and not of {least:?}")
    })
}

/// A node that knows of the home `known` said where the group goes on: not beyond where that began, if what it has
/// committed is of a home before.
pub fn check_led_back(
    history: &History,
    group: &Id,
    fetched: &FetchedOffset,
    (from, known): (i64, HomeEpoch),
) -> Result<(), Violation> {
    // Without an epoch nobody can tell (R25).
    let committed = fetched.committed.as_ref().filter(|committed| committed.leader_epoch >= 0);
    let Some(committed) = committed else { return Ok(()) };
    let home = Term(committed.leader_epoch as u64).home_epoch();
    let Some(began) = history.began.iter().rfind(|began| began.epoch <= known) else {
        return Ok(());
    };
    let cut = began.fork.at.offset.0;
    hold(home >= began.epoch || from <= cut, HAD, || {
        format!(
            "group {group} goes on at offset {from} after {committed:?}; the home of epoch {known} began at {cut}"
        )
    })
}

/// At the end: `said` is what a coordinator said, and `from` where the group would go on; `log` are the ids of the
/// records there are in what it reads, and `start` and `end` the offsets of the first and after the last.
pub fn check_end(
    (group, track): (&Id, &Track),
    (said, from): (&FetchedOffset, i64),
    replayed: &FetchedOffset,
    (start, end, log): (i64, i64, &BTreeMap<i64, u64>),
) -> Result<(), Violation> {
    hold(said == replayed, LOG, || {
        format!("group {group} is told {said:?}, and the log says {replayed:?}")
    })?;
    hold(from <= end, HAD, || {
        format!("group {group} would go on at offset {from}, and the log ends at {end}")
    })?;
    let first = start.max(track.passed_over).min(from);
    for (offset, id) in log.range(first..from) {
        let had = || track.had.range((*offset, 0)..(*offset + 1, 0)).collect::<Vec<_>>();
        hold(track.had.contains(&(*offset, *id)), HAD, || {
            format!(
                "group {group} would go on at offset {from} ({said:?}); at {offset} it had {:x?}, where {id:#x} is",
                had()
            )
        })?;
    }
    Ok(())
}
