//! The end of a run: whether all is as it should be, and what the logs say then.

use std::collections::BTreeMap;

use isobar::log::Reader;
use isobar::model::{Offset, TopicPartition, record};
use isobar::replica::core::Core;

use crate::invariants::{Violation, acked, converged, exposed_stays, same_files};
use crate::oracle::Log;
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
        self.producers.iter().all(|p| p.unacked.is_empty())
            && (0..self.scenario.partitions.len()).all(|n| self.is_level(n))
    }

    /// One leader, and all replicas where it stands, on disk.
    fn is_level(&self, partition: usize) -> bool {
        let cores: Vec<&Core> = (0..NODES).filter_map(|n| self.core(n, partition)).collect();
        let mut leaders = cores.iter().filter(|core| core.is_leader());
        let (Some(leader), None) = (leaders.next(), leaders.next()) else { return false };
        let stands = |core: &Core| {
            (core.watermark(), core.log().last(), core.log().persisted(), core.progress().log_start)
        };
        let (watermark, last, ..) = stands(leader);
        cores.len() == NODES
            && watermark.0 == last
            && cores.iter().all(|c| stands(c) == stands(leader))
    }

    pub fn not_converged(&self) -> Violation {
        let mut what: String = self.producers.iter().filter_map(|p| p.waits()).collect();
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
                shapes.push(same_files::Shape::of(node, core, &reader));
                let (watermark, end) = core.watermark();
                let start = core.progress().log_start;
                let history = &self.oracle.partitions[partition];
                let log = Log::read(&reader);
                exposed_stays::check_end(node, watermark.0, &history.exposed, &log)?;
                let records = records(&reader, start, end);
                acked::check(history, start.0, &records)?;
            }
            same_files::check(&shapes)?;
        }
        Ok(())
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
            let placed = record::parse(&bytes).expect("a batch that a client made");
            for one in placed {
                from = one.offset.plus(1);
                let value = one.record.value.expect("every record has one");
                let id = u64::from_be_bytes(value[..8].try_into().expect("eight bytes"));
                if one.offset >= start {
                    found.insert(one.offset.0, id);
                }
            }
        }
    }
    found
}
