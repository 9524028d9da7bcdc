//! In a group one generation follows another: none has two owners of a partition, and who is of an older one commits
//! nothing more.

use isobar::coordinator::group::{DescribedMember, Description, Id, MemberId, State};
use isobar::model::{LeaderEpoch, Term};

use super::{Violation, hold};
use crate::oracle::History;
use crate::scenario::Micros;

const ONE_OWNER: (&str, &str) = ("a partition has one owner in a generation", "KIP-62, KIP-345");
const FENCED: (&str, &str) = ("who is of an older generation commits nothing more", "KIP-62, R25");
const GROWS: (&str, &str) = ("generations of a group only grow", "KIP-62, R25");
const SETTLED: (&str, &str) =
    ("a group that is left in peace settles, as its log says", "KIP-62, R25");

/// A process was told that it is of this generation, and what it owns in it.
#[derive(Debug, Clone)]
pub struct Owner {
    pub process: usize,
    pub generation: i32,
    pub partitions: Vec<usize>,
    /// In which the node that said so led all the while.
    pub epoch: LeaderEpoch,
    pub at: Micros,
}

#[derive(Debug, Default)]
pub struct Told {
    owners: Vec<Owner>,
}

/// Whether who led in the second epoch must know all that was acknowledged in the first: it comes later, and no home
/// began without something that had been acknowledged, if it is another one.
fn follows(history: &History, first: LeaderEpoch, then: LeaderEpoch) -> bool {
    let home = |epoch: LeaderEpoch| Term(epoch as u64).home_epoch();
    first <= then && (home(first) == home(then) || history.lost.is_empty())
}

impl Told {
    /// One more was told.
    pub fn add(&mut self, history: &History, group: &Id, owner: Owner) -> Result<(), Violation> {
        let is_known = |other: &&Owner| {
            other.generation == owner.generation
                && (follows(history, other.epoch, owner.epoch)
                    || follows(history, owner.epoch, other.epoch))
        };
        for other in self.owners.iter().filter(is_known) {
            let both = owner.partitions.iter().any(|p| other.partitions.contains(p));
            hold(!both || other.process == owner.process, ONE_OWNER, || {
                format!("group {group}: {owner:?} and {other:?}")
            })?;
        }
        self.check_grows(history, group, (owner.generation, owner.at, owner.epoch))?;
        self.owners.push(owner);
        Ok(())
    }

    /// Of what a process asked at `asked` a node that led in `epoch` all the while said that the group is of this generation.
    pub fn check_grows(
        &self,
        history: &History,
        group: &Id,
        (generation, asked, epoch): (i32, Micros, LeaderEpoch),
    ) -> Result<(), Violation> {
        self.check_newest((history, asked, epoch), |newer| {
            hold(newer.generation <= generation, GROWS, || {
                format!(
                    "group {group} is of generation {generation} in epoch {epoch}, after {newer:?}"
                )
            })
        })
    }

    /// A commit that a process of this generation sent at `sent` was acknowledged.
    pub fn check_commit(
        &self,
        history: &History,
        group: &Id,
        (process, generation): (usize, i32),
        (sent, epoch): (Micros, LeaderEpoch),
    ) -> Result<(), Violation> {
        self.check_newest((history, sent, epoch), |newer| {
            hold(newer.generation <= generation, FENCED, || {
                format!(
                    "group {group}: process {process} of generation {generation} committed in epoch {epoch} what it sent at {sent}, after {newer:?}"
                )
            })
        })
    }

    /// Holds what must be known by then against what has been told.
    fn check_newest(
        &self,
        (history, by, epoch): (&History, Micros, LeaderEpoch),
        check: impl Fn(&Owner) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let is_known = |owner: &&Owner| owner.at < by && follows(history, owner.epoch, epoch);
        let known = self.owners.iter().filter(is_known);
        known.max_by_key(|owner| owner.generation).map_or(Ok(()), check)
    }
}

/// At the end: `members` are the processes that live, by what they believe to be and to own. Others may not have been
/// missed yet; they own nothing.
pub fn check_end(
    group: &Id,
    said: Option<&Description>,
    members: &[(MemberId, Vec<usize>)],
    partitions: usize,
) -> Result<(), Violation> {
    let told = || format!("group {group}: the log says {said:?}, and the members {members:?}");
    let Some(said) = said.filter(|said| said.state == State::Stable) else {
        return hold(false, SETTLED, told);
    };
    let part = |id: &MemberId| members.iter().find(|(member, _)| member == id);
    let is_so = |m: &DescribedMember| {
        let owned = part(&m.member_id).map_or(&[][..], |(_, owned)| owned);
        m.assignment.iter().map(|partition| usize::from(*partition)).eq(owned.iter().copied())
    };
    let is_in = |(id, _): &(MemberId, _)| said.members.iter().any(|m| m.member_id == *id);
    hold(said.members.iter().all(is_so) && members.iter().all(is_in), SETTLED, told)?;
    let mut owned: Vec<usize> = members.iter().flat_map(|(_, owned)| owned.clone()).collect();
    owned.sort_unstable();
    hold(owned.into_iter().eq(0..partitions), ONE_OWNER, told)
}
