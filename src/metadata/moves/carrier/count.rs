//! What the seals of an attempt amount to (R11, R12).

use std::collections::BTreeSet;

use isobar_topology::home_move::{Found, LastEntry, Seat, Survey, may_force, survey};

use super::{Carrier, Course, Seal, Told};
use crate::log::{EpochStart, Position};
use crate::metadata::image::Replica;
use crate::metadata::moves::{Kind, Verdict};
use crate::model::{DcName, LogIndex, NodeId, ReplicaId};

impl Carrier {
    /// Replicas of the target.
    pub(super) fn there(&self) -> Vec<(ReplicaId, NodeId)> {
        let Course { placed, dcs, aim, .. } = &self.course;
        let there = placed.replicas.iter().filter(|r| dcs.get(&r.node) == Some(&aim.to));
        there.map(|r| (r.id, r.node)).collect()
    }

    /// Who has F, and where its terms begin (R12).
    pub(super) fn longest(&self, found: &Found) -> (NodeId, Position, &[EpochStart]) {
        let cut = found.cut.map(|cut| (cut.term, cut.index));
        let of = self.counted(found).find(|told| {
            let last = (told.seal.last.term.0, told.seal.last.index.0);
            Some(last) == cut
        });
        let of = of.expect("the cut is the end of a sealed log");
        (of.node, of.seal.last, &of.seal.epochs)
    }

    /// Who has the cut; another one in each attempt, as one of them may be unable to give it.
    pub(super) fn holder(&self, cut: Position) -> Option<NodeId> {
        let all: Vec<_> = self.told.values().filter(|told| told.seal.last == cut).collect();
        let turn = (self.attempt.0 as usize).checked_rem(all.len())?;
        Some(all[turn].node)
    }

    /// Who takes part in the choice of the cut: replicas that count, in datacenters that are sealed.
    fn counted(&self, found: &Found) -> impl Iterator<Item = &Told> {
        self.told.values().filter(|told| {
            let dc = self.course.dcs.get(&told.node);
            !told.seal.uncounted && dc.is_some_and(|dc| found.sealed.contains(dc))
        })
    }

    /// The time, by the old home's clock, up to which all that it had acknowledged is known to be below the
    /// cut; 0 if no replica can say. The cut is no smaller than the log of any that it was chosen from. Others
    /// may have more than that.
    fn known_until_ms(&self, found: &Found) -> i64 {
        self.counted(found).filter_map(|told| told.seal.known_until_ms).max().unwrap_or(0)
    }

    pub(super) fn unproven(&self, found: &Found) -> Verdict {
        let Course { placed, bound, .. } = &self.course;
        Verdict::unproven(found, placed, *bound, self.known_until_ms(found))
    }

    pub(super) fn count(&self) -> Found {
        let seat = |replica: &Replica| {
            let seal = self.told.get(&replica.id).map(|told| &told.seal).filter(|s| !s.uncounted);
            let last = |s: &Seal| LastEntry { term: s.last.term.0, index: s.last.index.0 };
            let dc = self.course.dcs.get(&replica.node)?.clone();
            Some(Seat { dc, voter: replica.voter, sealed: seal.map(last) })
        };
        let seats: Vec<Seat> = self.course.placed.replicas.iter().filter_map(seat).collect();
        survey(self.about(&seats)).with_beginning(|cut| self.course.placed.is_beginning_in(cut))
    }

    fn about<'a>(&'a self, seats: &'a [Seat]) -> Survey<'a> {
        let Course { placed, aim, .. } = &self.course;
        Survey {
            home: &placed.home,
            to: &aim.to,
            sync_to: placed.replication.sync_to() as usize,
            ever_sync: placed.ever_sync,
            degraded: placed.mode.degraded,
            seats,
        }
    }

    pub(super) fn is_enough(&self, found: &Found, all_said: bool) -> bool {
        let Course { placed, aim, chosen, .. } = &self.course;
        if let Some(chosen) = chosen {
            let has = self.told.values().any(|told| told.seal.last == chosen.fork.at);
            return found.can_take_over(&aim.to) && (has || all_said);
        }
        match aim.kind {
            // Planned is lossless or it is not done: the home itself must be sealed (R18).
            Kind::Switchover => found.sealed.contains(&placed.home) && found.can_take_over(&aim.to),
            Kind::Failover if found.proven => found.can_take_over(&aim.to),
            Kind::Failover => all_said && may_force(&self.about(&[]), found, aim.accept_loss),
        }
    }

    /// The last entry before the log that ends at F begins.
    pub(super) fn begins_after(&self, found: &Found) -> LogIndex {
        let (_, last, epochs) = self.longest(found);
        epochs.first().map_or(last.index, |first| first.index.prev())
    }

    pub(super) fn missing(&self, found: &Found) -> String {
        let names = |dcs: &BTreeSet<DcName>| match dcs.len() {
            0 => "none".to_owned(),
            _ => dcs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let Course { aim, placed, dcs, .. } = &self.course;
        let mut why: Vec<(NodeId, &str)> =
            self.silent.iter().map(|(node, why)| (*node, why.as_str())).collect();
        let uncounted = self.told.values().filter(|told| told.seal.uncounted);
        why.extend(
            uncounted
                .map(|told| (told.node, "its replica is damaged, or stands in for a lost one")),
        );
        why.sort_by_key(|(node, _)| (dcs.get(node) != Some(&aim.to), *node));
        let why = why.iter().take(5).map(|(node, why)| format!("node {node}: {why}"));
        let why = why.collect::<Vec<_>>().join("; ");
        let word = match aim.kind {
            Kind::Switchover => {
                "a switchover needs a majority at home and one in the target; `isobar dc failover` \
                 does not need the home"
                    .to_owned()
            }
            Kind::Failover if !found.can_take_over(&aim.to) => format!(
                "a majority of the replicas in {} must answer, with a whole log each; `isobar dc failover {} --to` \
                 names another target",
                aim.to, placed.home
            ),
            Kind::Failover => {
                "a topic that was ever sync needs a proof that nothing is lost, or --accept-loss"
                    .to_owned()
            }
        };
        let (sealed, missing) = (names(&found.sealed), names(&found.missing));
        format!("sealed: {sealed}; missing: {missing} ({why}). {word}")
    }
}
