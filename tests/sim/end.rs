//! The end of a run: whether all is as it should be, and what the logs say then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use isobar::coordinator::batch;
use isobar::coordinator::group::{Config, FetchOffsets, FetchedOffset, Shard};
use isobar::log::{Ledger, Reader};
use isobar::metadata::moves::Moved;
use isobar::model::batch::Header;
use isobar::model::{Offset, TopicPartition};
use isobar::replica::core::Core;

use crate::clients::{ids_at, ids_of};
use crate::groups::Groups;
use crate::invariants::{
    Violation, acked, at_most, committed, converged, exposed_stays, fenced, ledger, same_files,
};
use crate::meta::{Proposal, Proposer};
use crate::node::DIR;
use crate::oracle::{Log, hash_of_bytes};
use crate::scenario::NODES;
use crate::world::World;

impl World {
    pub fn core(&self, node: usize, partition: usize) -> Option<&Core> {
        let at = self.scenario.partitions[partition].at;
        self.nodes[node].running.as_ref()?.replicas.host.core(at)
    }

    /// For the oracle's own reading of a node's disk.
    fn log_of(&self, node: usize, at: TopicPartition) -> Option<Reader> {
        self.nodes[node].running.as_ref()?.writer.store.reader(at).ok()
    }

    pub fn has_converged(&self) -> bool {
        self.meta_is_quiet()
            && self.all_is_sync()
            && self.is_mended()
            && self.reports_are_heard()
            && self.is_all_told()
            && self.producers.iter().all(|p| p.unacked.is_empty())
            && self.groups.as_ref().is_none_or(Groups::has_settled)
            && (0..self.scenario.partitions.len()).all(|n| self.is_level(n))
            && self.check_shared().is_ok()
    }

    /// One leader, and all replicas where it stands, on disk.
    fn is_level(&self, partition: usize) -> bool {
        let cores: Vec<&Core> = (0..NODES).filter_map(|n| self.core(n, partition)).collect();
        let mut leaders = cores.iter().filter(|core| core.is_leader());
        let (Some(leader), None) = (leaders.next(), leaders.next()) else { return false };
        let stands = |core: &Core| (core.watermark(), core.log().last(), core.log().persisted());
        let start = |core: &Core| core.progress().log_start.0;
        let starts: Vec<_> = cores.iter().map(|core| start(core)).enumerate().collect();
        let (watermark, last, ..) = stands(leader);
        let newest = self.oracle.partitions[partition].epoch();
        cores.len() == NODES
            && cores.iter().all(|core| core.config().group.home_epoch == newest)
            && watermark.0 == last
            && cores.iter().all(|c| stands(c) == stands(leader))
            && self.oracle.partitions[partition].begin_alike(&starts)
    }

    pub fn not_converged(&self) -> Violation {
        let mut what: String = self.producers.iter().filter_map(|p| p.waits()).collect();
        what += &self.groups.as_ref().map(Groups::waits).unwrap_or_default();
        what += &self.moves_wait();
        let all_run = (0..NODES).all(|node| self.nodes[node].running.is_some());
        if let Some(violation) = all_run.then(|| self.check_shared().err()).flatten() {
            what += &format!("{violation}; ");
        }
        let whole = [
            (self.meta_is_quiet(), "`__meta` is not quiet"),
            (self.all_is_sync(), "something is degraded"),
            (self.is_mended(), "something is not mended"),
            (self.reports_are_heard(), "reports are not heard"),
        ];
        for (_, why) in whole.iter().filter(|(holds, _)| !holds) {
            what += &format!("{why}; ");
        }
        for partition in (0..self.scenario.partitions.len()).filter(|n| !self.is_level(*n)) {
            for node in 0..NODES {
                let Some(core) = self.core(node, partition) else {
                    what += &format!("n{} is down; ", node + 1);
                    continue;
                };
                let log = core.log();
                let role = if core.is_leader() { " leads" } else { "" };
                what += &format!(
                    "p{partition} n{}{role} term {} start {} applied {} committed {} persisted {} last {} watermark {:?} log start {}; ",
                    node + 1,
                    core.term().0,
                    log.start().index,
                    log.applied(),
                    core.committed(),
                    log.persisted(),
                    log.last(),
                    core.watermark(),
                    core.progress().log_start,
                );
            }
        }
        converged::failed(what)
    }

    /// Reads every log from its disk and holds it against the history.
    pub fn check_end(&mut self) -> Result<(), Violation> {
        for partition in 0..self.scenario.partitions.len() {
            let at = self.scenario.partitions[partition].at;
            let mut shapes = Vec::new();
            for node in 0..NODES {
                let reader = self.log_of(node, at).expect("all nodes run");
                let core = self.core(node, partition).expect("all nodes run");
                let history = &self.oracle.partitions[partition];
                shapes.push(same_files::Shape::of(node, core, &reader, history));
                let (watermark, end) = core.watermark();
                let start = core.progress().log_start;
                let log = Log::read(&reader).expect("a log that can be read");
                exposed_stays::check_end(node, watermark.0, &history.exposed, &log)?;
                let records = records(&reader, start, end);
                acked::check(history, start.0, &records)?;
            }
            same_files::check(&shapes)?;
            let found = self.suffixes(at);
            let moved: Vec<&Moved> = self.meta.truth().moved.iter().map(|m| &**m).collect();
            let moved: Vec<&Moved> = moved.into_iter().filter(|m| m.at == at).collect();
            ledger::check(&self.oracle.partitions[partition], &moved, &found)?;
            at_most::check(&self.oracle.partitions[partition], &moved)?;
        }
        self.check_groups()
    }

    /// What groups were told at the end, by their log and by what they read.
    fn check_groups(&self) -> Result<(), Violation> {
        let Some(groups) = &self.groups else { return Ok(()) };
        let shard = self.replayed(groups.at);
        for team in &groups.teams {
            for (partition, track) in &team.tracks {
                let at = self.scenario.partitions[*partition].at;
                let reader = self.log_of(0, at).expect("all nodes run");
                let core = self.core(0, *partition).expect("all nodes run");
                let (start, (_, end)) = (core.progress().log_start, core.watermark());
                let log = records(&reader, start, end);
                let (said, from) = track.last.as_ref().expect("it has been told");
                let partitions = Some(vec![said.partition.clone()]);
                let fetch = FetchOffsets { group: team.id.clone(), partitions };
                let replayed: FetchedOffset =
                    shard.fetch_offsets(&fetch).pop().expect("of the one asked for");
                let log = (start.0, end.0, &log);
                committed::check_end((&team.id, track), (said, *from), &replayed, log)?;
            }
        }
        Ok(())
    }

    /// What members of groups believe, by the log. Who waits for an answer may not have heard yet that it is one no longer.
    fn check_shared(&self) -> Result<(), Violation> {
        let Some(groups) = &self.groups else { return Ok(()) };
        let shard = self.replayed(groups.at);
        groups.shared().try_for_each(|(team, members)| {
            let said = shard.describe(&team.id).ok();
            fenced::check_end(&team.id, said.as_ref(), &members, self.scenario.plain())
        })
    }

    /// A coordinator's state, from a log.
    fn replayed(&self, at: TopicPartition) -> Shard {
        let reader = self.log_of(0, at).expect("all nodes run");
        let core = self.core(0, self.partition_of(at)).expect("all nodes run");
        let (mut from, (_, end)) = (core.progress().log_start, core.watermark());
        let mut shard = Shard::new(Config::default());
        while from < end {
            for bytes in reader.read(from, 1 << 20, end).expect("a log that can be read") {
                from = Header::parse(&bytes).expect("a batch of ours").next_offset();
                for record in batch::decode(&bytes).expect("records of a coordinator") {
                    shard.load(record).expect("a record of a coordinator");
                }
            }
        }
        shard
    }

    /// Whether no report of a suffix is under way.
    fn reports_are_heard(&self) -> bool {
        let reports = |p: &Proposal| matches!(p.who, Proposer::Reporter(..));
        !self.meta.proposals.values().any(reports)
    }

    /// Everything in the ledgers of all nodes, read from their disks.
    fn suffixes(&self, at: TopicPartition) -> Vec<ledger::Found> {
        let mut found = Vec::new();
        for node in 0..NODES {
            let disk: Arc<dyn isobar::log::disk::Disk> = Arc::new(self.nodes[node].disk.clone());
            let all = Ledger::list(&disk, Path::new(DIR)).expect("a ledger that can be read");
            for suffix in all.into_iter().filter(|s| s.manifest.partition == at) {
                suffix.verify().expect("a suffix that is what its manifest says");
                let batches = suffix.batches().expect("a suffix that is whole");
                let (mut ids, mut seen) = (BTreeSet::new(), Vec::new());
                for stored in batches {
                    let stored = stored.expect("a batch that can be read");
                    ids.extend(ids_of(std::slice::from_ref(&stored.batch)));
                    seen.push((stored.term.0, stored.base_offset.0, hash_of_bytes(&stored.batch)));
                }
                let (index, term) = suffix.manifest.last;
                found.push(ledger::Found {
                    node,
                    replica: suffix.manifest.replica,
                    old_epoch: suffix.manifest.old_home_epoch,
                    new_epoch: suffix.manifest.new_home_epoch,
                    last: (term.0, index.0),
                    records: suffix.manifest.content.records,
                    ids,
                    batches: seen,
                });
            }
        }
        found
    }
}

/// Record ids by offset.
fn records(reader: &Reader, start: Offset, end: Offset) -> BTreeMap<i64, u64> {
    let mut found = BTreeMap::new();
    let mut from = start;
    while from < end {
        let batches = reader.read(from, 1 << 20, end).expect("a log that can be read");
        assert!(!batches.is_empty(), "nothing at {from}, below the watermark {end}");
        for bytes in batches {
            for (offset, _, id) in ids_at(&bytes) {
                from = offset.plus(1);
                if offset >= start {
                    found.insert(offset.0, id);
                }
            }
        }
    }
    found
}
