//! Bits that rot on disks (R21), one disk of a partition at a time, and the product's own menders: they look more often
//! here than on a node, and call each other as moves do.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use isobar::broker::mend::{Error, Mending, Peers, SourceError};
use isobar::broker::scrub;
use isobar::log::disk::Disk;
use isobar::log::disk::sim::SimDisk;
use isobar::log::{self, Reader, SegmentMeta};
use isobar::model::{GroupId, NodeId, ReplicaId, TopicPartition, batch};
use isobar::replica::core::Standing;
use isobar::replica::core::effect::RangeWanted;
use isobar::replica::{RangeError, View};
use isobar_transport::RpcError;
use rand::Rng;
use tokio::sync::oneshot;

use crate::calls::{Answer, Answered, Ask, Call, Waiter};
use crate::event::Event;
use crate::jobs::Done;
use crate::node::DIR;
use crate::oracle::Log;
use crate::paused::{Shared, locked};
use crate::scenario::{Micros, Partition, SECOND, node_of};
use crate::show;
use crate::world::World;

/// Between two looks for what waits to be mended, as on a node, and between two reads of all closed segments.
const LOOK: Micros = SECOND;
const PASS: Micros = 10 * SECOND;

/// As `docs/log-format.md` has it.
const SEGMENT_HEADER_BYTES: u64 = 56;

/// How long an operator takes to empty a disk. What rested on it when its node ended has been acknowledged by then.
const EMPTIED: Micros = 5 * SECOND;

/// As it is counted.
pub const MENDED: &str = "logs and segments mended";
const GIVEN_UP: &str = "disks given up";

/// What came of a look at a node's logs: what is not mended yet, and why.
pub type NotMended = Vec<(TopicPartition, Error)>;

/// The way to other nodes.
#[derive(Clone, Default)]
pub struct Ways(Shared<Vec<Asked>>);

struct Asked {
    to: NodeId,
    group: GroupId,
    ask: Ask,
    reply: oneshot::Sender<Answered>,
}

impl Ways {
    async fn ask(&self, to: NodeId, group: GroupId, ask: Ask) -> Result<Answer, SourceError> {
        let (reply, answer) = oneshot::channel();
        locked(&self.0).push(Asked { to, group, ask, reply });
        let answer = answer.await.unwrap_or_else(|_| Err("lost".to_owned()));
        answer.map_err(|message| SourceError::Call(RpcError::Refused { code: 0, message }))
    }
}

impl Peers for Ways {
    async fn range(&self, wanted: RangeWanted) -> Result<Bytes, SourceError> {
        let RangeWanted { source, group, from, to } = wanted;
        match self.ask(source, group, Ask::Entries(from, to)).await? {
            Answer::Range(bytes) => Ok(bytes),
            Answer::Deleted => Err(SourceError::Deleted),
            other => panic!("entries were asked for, and {other:?} came back"),
        }
    }

    async fn standing(
        &self,
        node: NodeId,
        group: GroupId,
        of: ReplicaId,
    ) -> Result<Standing, SourceError> {
        match self.ask(node, group, Ask::Standing(of)).await? {
            Answer::Standing(standing) => Ok(standing),
            other => panic!("a standing was asked for, and {other:?} came back"),
        }
    }
}

/// Bytes of the segment that is written before the durable mark, the most that are known to be: damage beyond it looks
/// like a write that a crash has torn. Its header, which only a start reads, is not among them.
fn marked(disk: &SimDisk, partition: usize, content: &[u8]) -> Option<Range<u64>> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (topic, number) = (format!("topic-{partition}"), partition as i32);
    let last =
        log::dump(disk, Path::new(DIR), &topic, number).ok()?.map_while(Result::ok).last()?;
    let base = last.base_offset.0.to_be_bytes();
    let begins = |at: &usize| {
        content[*at..].starts_with(&base) && content[at + 17..].starts_with(&last.crc.to_be_bytes())
    };
    let at = (0..content.len().saturating_sub(batch::HEADER_BYTES)).find(begins)?;
    Some(SEGMENT_HEADER_BYTES..(at + batch::HEADER_BYTES) as u64)
}

/// Whether all that a log has can be read.
fn is_whole(reader: &Reader) -> bool {
    let closed = |s: &SegmentMeta| !s.is_closed || reader.check(s.base_index).is_ok();
    reader.corruption().is_none()
        && reader.segments().iter().all(closed)
        && Log::read(reader).is_some_and(|log| log.last() == reader.last().0.0)
}

impl World {
    /// A bit rots in some log, of a node that is down by then or goes on.
    pub fn rot(&mut self, node: usize) {
        let n = self.rng.gen_range(0..self.scenario.partitions.len());
        // What the others have deleted meanwhile cannot be mended.
        let Partition { deletes, policy, .. } = &self.scenario.partitions[n];
        let keeps = !deletes && policy.retention == log::Retention::default();
        if !keeps
            || self.wiped.is_some()
            || self.oracle.partitions[n].replicas.iter().any(|replica| replica.rots)
        {
            return;
        }
        if self.rng.gen_bool(0.5) {
            let power = self.rng.gen_bool(0.5);
            self.end_process(node, power, None);
        }
        let dir = Path::new(DIR).join("partitions");
        let dir = dir.join(self.scenario.partitions[n].at.to_string());
        let disk = self.nodes[node].disk.clone();
        let is_segment =
            |path: &PathBuf| path.starts_with(&dir) && path.extension().is_some_and(|e| e == "log");
        let mut files: Vec<PathBuf> = disk.files().into_iter().filter(is_segment).collect();
        let Some(active) = files.pop() else { return };
        let all_of = |path: PathBuf| {
            let len = disk.content(&path).len() as u64;
            (path, 0..len)
        };
        let mut places: Vec<(PathBuf, Range<u64>)> = files.into_iter().map(all_of).collect();
        places.extend(marked(&disk, n, &disk.content(&active)).map(|bytes| (active, bytes)));
        if places.is_empty() {
            return;
        }
        let (path, bytes) = &places[self.rng.gen_range(0..places.len())];
        let (byte, bit) = (self.rng.gen_range(bytes.clone()), 1 << self.rng.gen_range(0..8));
        disk.flip(path, byte, bit);
        show::line(self.now, node, || format!("byte {byte} of {} rots", path.display()));
        self.oracle.partitions[n].replicas[node].rots = true;
        self.count("bits rotten");
    }

    fn count(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// What a node does against it, now and then.
    pub fn look_for_rot(&mut self, node: usize, life: u64) {
        if self.alive(node, life).is_none()
            || self.is_paused(node, Event::LookForRot(node, life)).is_none()
        {
            return;
        }
        self.after(LOOK, Event::LookForRot(node, life));
        let waits = self.alive(node, life).is_some_and(|r| !r.replicas.damaged().is_empty());
        if waits {
            // It takes no part.
            self.touch(node);
        }
        for n in 0..self.scenario.partitions.len() {
            if self.oracle.partitions[n].replicas[node].rots && self.is_whole(node, n) {
                show::line(self.now, node, || format!("p{n} is whole again"));
                self.oracle.partitions[n].replicas[node].rots = false;
            }
        }
        let partitions: Vec<_> = self.scenario.partitions.iter().map(|p| p.at).collect();
        let (now, passes) = (self.now, self.now / PASS);
        let Some(running) = self.alive(node, life) else { return };
        if std::mem::replace(&mut running.mends, true) {
            return;
        }
        let all = std::mem::replace(&mut running.passes, passes) < passes;
        let waiting = running.replicas.damaged();
        let views: Vec<Arc<View>> =
            partitions.iter().filter_map(|at| running.replicas.view(*at).cloned()).collect();
        let mending = running.mending.clone();
        let before = mended(&mending);
        self.job_of(node, async move {
            let mut not_mended = NotMended::new();
            for damaged in waiting {
                let at = damaged.spec.group.partition;
                if let Err(error) = mending.mend(damaged).await {
                    not_mended.push((at, error));
                }
            }
            for view in views {
                scrub::look_at_suspect(&mending, &view).await;
                let segments = view.reader().segments().into_iter();
                for segment in segments.filter(|segment| all && segment.is_closed) {
                    scrub::look_at(&mending, &view, &segment).await;
                }
            }
            Done::Mended(mended(&mending) - before, not_mended)
        });
        self.trace.note((now, node, "looks for rot"));
    }

    pub fn has_looked_for_rot(&mut self, node: usize, mended: u64, not_mended: NotMended) {
        if let Some(running) = &mut self.nodes[node].running {
            running.mends = false;
        }
        *self.faults.entry(MENDED).or_default() += mended;
        for (at, error) in not_mended {
            show::line(self.now, node, || format!("{at} is not mended yet: {error}"));
            if matches!(error, Error::BeyondCut { .. }) {
                // An operator does as it says, and takes his time.
                self.count(GIVEN_UP);
                self.end_process(node, false, Some(2 * EMPTIED));
                self.after(EMPTIED, Event::Emptied(node));
                return;
            }
        }
    }

    fn is_whole(&self, node: usize, partition: usize) -> bool {
        let at = self.scenario.partitions[partition].at;
        let running = self.nodes[node].running.as_ref();
        running.is_some_and(|r| r.writer.store.reader(at).is_ok_and(|reader| is_whole(&reader)))
    }

    /// Whether no disk has anything that is to be mended.
    pub fn is_mended(&self) -> bool {
        let replicas = self.oracle.partitions.iter().flat_map(|p| &p.replicas);
        replicas.into_iter().all(|replica| !replica.rots)
    }

    /// Sends what the menders of a node ask of others.
    pub fn ask_for_menders(&mut self, node: usize) {
        let Some(running) = &self.nodes[node].running else { return };
        let asked = std::mem::take(&mut *locked(&running.mending.peers.0));
        let life = self.nodes[node].life;
        for Asked { to, group, ask, reply } in asked {
            let waiter = Waiter::Mender(node, life, reply);
            self.call((node, node_of(to)), group.partition, group.home_epoch, ask, waiter);
        }
    }

    /// Answers another node's menders, as `broker::ranges` and `broker::mend` do.
    pub fn serve_mender(&self, call: &Call) -> Answered {
        let running = self.nodes[call.to].running.as_ref().ok_or("gone")?;
        match call.ask {
            Ask::Entries(from, to) => {
                let view = running.replicas.view(call.at).ok_or("no replica")?;
                let group = GroupId { partition: call.at, home_epoch: call.epoch };
                match view.range(group, from, to) {
                    Err(RangeError::Log(log::Error::Compacted { .. })) => Ok(Answer::Deleted),
                    range => range.map(Answer::Range).map_err(|error| error.to_string()),
                }
            }
            Ask::Standing(of) => {
                let core = running.replicas.host.core(call.at).ok_or("no open replica here")?;
                Ok(Answer::Standing(core.standing(of)))
            }
            _ => unreachable!("not asked by a mender"),
        }
    }
}

fn mended(mending: &Mending<Ways>) -> u64 {
    mending.counters.mended.load(std::sync::atomic::Ordering::Relaxed)
}
