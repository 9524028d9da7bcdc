//! A node's replicas without queues, threads or a runtime: the steps of the loop, as calls.
//!
//! The driver puts the world's queues round it; the simulator puts its own. Each round ends with an
//! [`Outcome`], whose parts may be carried out in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_topology::NodeId;
use isobar_transport::Frame;

use super::PRODUCER_EXPIRATION;
use super::disk::Done;
use super::orders::Refused;
use super::restart;
use super::slot::Slot;
use super::spec::{Policy, Spec};
use crate::log::{self, LogStart, Reader, ReplicaState, Space, Write};
use crate::model::{HomeEpoch, LeaderEpoch, LogIndex, TopicPartition, batch};
use crate::replica::core::effect::{RangeWanted, Ticket};
use crate::replica::core::mode::Ask;
use crate::replica::core::raft_log::{ENTRY_OVERHEAD_BYTES, Wanted};
use crate::replica::core::{Core, Now, Queued, Restart, config};
use crate::replica::host::{Answers, Append, Host, Round};
use crate::replica::{ProduceError, Progress, Role, View, wire};

// An append's entries are a frame's chunks.
const _: () = assert!(
    config::APPEND_BYTES_MAX as usize / ENTRY_OVERHEAD_BYTES
        <= isobar_transport::limits::CHUNKS_MAX
);

/// The replicas that are open on a node, and those that its disk has and nobody has opened yet.
pub struct Replicas {
    node: NodeId,
    seed: u64,
    pub host: Host,
    logger: slog::Logger,
    /// Ordered, as all that a loop goes over is, so that a run repeats.
    pub(super) slots: BTreeMap<TopicPartition, Slot>,
    pub(super) recovered: BTreeMap<TopicPartition, log::Recovered>,
    pub(super) readers: BTreeMap<TopicPartition, Reader>,
    /// To be opened when their logs are whole again.
    pub(super) closed: BTreeMap<TopicPartition, Spec>,
    /// Sealed for their next home epoch, and what they go on showing (R10).
    pub(super) sealed: BTreeMap<TopicPartition, Arc<View>>,
    /// What the loop has promised of replicas that it has not opened since: the disk may yet give back
    /// what it read of one before it heard of that.
    pub(super) promised: BTreeMap<TopicPartition, HomeEpoch>,
    /// Replicas opened so far: no two draw the same random numbers.
    opened: u64,
    /// By disk; one that has not said yet has room.
    spaces: BTreeMap<usize, Space>,
    /// Of replicas that are opened from here on; smaller in the simulator.
    pub append_bytes_max: u64,
    /// What a replica must lack at least to catch up on the bulk lane.
    pub catch_up_bytes_min: u64,
}

/// What a replica is opened from.
pub struct Opening {
    state: ReplicaState,
    restart: Restart,
    reader: Reader,
}

/// Entries for one replica, as they leave.
#[derive(Debug)]
pub struct Replicate {
    pub to: NodeId,
    /// The partition's stream.
    pub key: u64,
    pub of_meta: bool,
    pub frame: Frame,
}

/// What a round wants done.
#[derive(Default)]
pub struct Outcome {
    pub replication: Vec<Replicate>,
    pub control: Vec<(NodeId, Frame)>,
    /// For every node, this one among them.
    pub leads: Vec<wire::Lead>,
    /// To be made durable in this order; [`Replicas::done`] wants to know.
    pub writes: Vec<Write>,
    /// To be answered with [`Replicas::fetched`].
    pub reads: Vec<(TopicPartition, Wanted, Reader)>,
    /// To be asked of other nodes, and answered with [`Replicas::ranged`].
    pub ranges: Vec<RangeWanted>,
    /// To be asked of `__meta`.
    pub asks: Vec<Ask>,
    pub answers: Answers,
    /// Elections that replicas here have won.
    pub elected: Vec<(TopicPartition, LeaderEpoch)>,
}

/// What a frame said beside its group messages, which have been handled.
pub struct Heard {
    pub leads: Vec<wire::Lead>,
    /// Group messages that were for nobody here (R1).
    pub dropped: usize,
}

impl Opening {
    /// A replica that has never been: `reader` is of its empty log.
    pub fn fresh(state: ReplicaState, reader: Reader) -> Self {
        let restart = restart::fresh(&state);
        Self { state, restart, reader }
    }
}

impl Replicas {
    /// `recovered` with a reader each, as the store gave them back.
    pub fn new(
        node: NodeId,
        seed: u64,
        logger: slog::Logger,
        recovered: Vec<(log::Recovered, Reader)>,
    ) -> Self {
        let (recovered, readers): (Vec<_>, Vec<_>) =
            recovered.into_iter().map(|(r, reader)| ((r.partition, r), reader)).unzip();
        let readers = recovered.iter().map(|(at, _)| *at).zip(readers).collect();
        Self {
            node,
            seed,
            host: Host::new(),
            logger,
            slots: BTreeMap::new(),
            recovered: recovered.into_iter().collect(),
            readers,
            closed: BTreeMap::new(),
            sealed: BTreeMap::new(),
            promised: BTreeMap::new(),
            opened: 0,
            spaces: BTreeMap::new(),
            append_bytes_max: config::APPEND_BYTES_MAX,
            catch_up_bytes_min: config::CATCH_UP_BYTES_MIN,
        }
    }

    pub fn is_open(&self, at: TopicPartition) -> bool {
        self.slots.contains_key(&at)
    }

    pub fn view(&self, at: TopicPartition) -> Option<&Arc<View>> {
        self.slots.get(&at).map(|slot| &slot.view)
    }

    /// Of the replica that is open here.
    pub fn home_epoch(&self, at: TopicPartition) -> Option<HomeEpoch> {
        Some(self.host.core(at)?.config().group.home_epoch)
    }

    /// Partitions that the disk has, open or not.
    pub fn on_disk(&self) -> Vec<TopicPartition> {
        let known = self.slots.keys().chain(self.recovered.keys()).chain(self.sealed.keys());
        known.copied().collect()
    }

    /// What the disk has of a replica; `None` if it must begin empty.
    pub fn resume(&mut self, spec: &Spec) -> Result<Option<Opening>, Refused> {
        let partition = spec.group.partition;
        if self.slots.contains_key(&partition) {
            return Err(Refused::Exists(partition));
        }
        let Some(recovered) = self.recovered.get(&partition) else { return Ok(None) };
        let state = &recovered.state;
        if state.promised > spec.group.home_epoch {
            return Err(Refused::Sealed { partition, promised: state.promised });
        }
        if (state.replica, state.home_epoch) != (spec.me, spec.group.home_epoch) {
            let (found, epoch) = (state.replica, state.home_epoch);
            return Err(Refused::OtherReplica { partition, found, epoch, wanted: spec.me });
        }
        if let Some(corruption) = &recovered.corruption {
            return Err(Refused::Corrupt { partition, corruption: *corruption });
        }
        let reader = self.readers.get(&partition).ok_or(log::Error::UnknownPartition(partition))?;
        let restart = restart::recovered(recovered, reader)?;
        let opening = Opening { state: state.clone(), restart, reader: reader.clone() };
        self.recovered.remove(&partition);
        Ok(Some(opening))
    }

    /// Takes a replica in.
    pub fn open(&mut self, now: Now, spec: Spec, opening: Opening) -> Arc<View> {
        let Opening { state, restart, reader } = opening;
        let at = spec.group.partition;
        let config = config::Config {
            group: spec.group,
            me: spec.me,
            home: spec.home,
            members: spec.members,
            placement_generation: spec.placement_generation,
            preferred: spec.preferred,
            lossy_cut: spec.lossy_cut,
            ack: spec.policy.ack,
            recorded: spec.recorded,
            timing: spec.timing,
            append_bytes_max: self.append_bytes_max,
        };
        self.opened += 1;
        self.promised.remove(&at);
        let seed =
            self.seed ^ self.opened.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash(at, self.node);
        let start = restart.log.start;
        let core = Core::new(config, restart, seed, &self.logger);
        let epochs = core.log().epochs().to_vec();
        let view = match self.sealed.remove(&at) {
            // Whoever reads or follows it goes on with the log that the new epoch begins with.
            Some(view) => {
                view.begin_anew(core.progress(), &epochs, reader);
                view
            }
            None => Arc::new(View::new(at, core.progress(), epochs, reader)),
        };
        view.set_home(state.home_epoch, state.fork.map_or(LogIndex::ZERO, |fork| fork.index));
        self.slots.insert(at, Slot::new(Arc::clone(&view), spec.topic_name, spec.policy, state));
        tracing::debug!(node = %self.node, partition = %at, ?start, "replica opened");
        self.host.insert(now, core);
        view
    }

    /// Lets a replica go; what the disk has of it is the caller's to remove.
    pub fn remove(&mut self, at: TopicPartition) -> Round {
        if let Some(slot) = self.slots.remove(&at) {
            // Whoever waits on the view sees that it leads nothing and ends where it stands.
            let progress = slot.view.progress();
            slot.view.publish(Progress { role: Role::Learner, ..progress });
        }
        self.readers.remove(&at);
        self.recovered.remove(&at);
        self.closed.remove(&at);
        self.sealed.remove(&at);
        self.promised.remove(&at);
        self.host.remove(at)
    }

    /// `false` if there is no such replica here.
    pub fn policy(&mut self, now: Now, at: TopicPartition, policy: Policy) -> bool {
        let Some(slot) = self.slots.get_mut(&at) else { return false };
        slot.policy = policy;
        self.host.policy(now, at, policy.ack);
        true
    }

    /// Whether a disk has room for more than what is already acknowledged elsewhere (R22).
    pub fn has_room(&self, disk: usize) -> bool {
        self.spaces.get(&disk).is_none_or(|space| *space == Space::Ample)
    }

    /// Queues a produce for the end of the round.
    pub fn produce(&mut self, at: TopicPartition, queued: Queued) -> Result<(), ProduceError> {
        if !self.slots.contains_key(&at) {
            return Err(ProduceError::UnknownPartition);
        }
        self.host.produce(at, queued);
        Ok(())
    }

    /// Takes in a peer's frame.
    pub fn receive(&mut self, now: Now, from: NodeId, frame: Frame) -> Result<Heard, wire::Error> {
        let envelope = wire::Envelope::from_header(frame.header)?;
        let wire::Envelope { groups, leads, beat, answer, .. } = envelope;
        let dropped = self.host.handle_groups(now, from, groups, frame.payloads.into())?;
        if let Some(beat) = beat {
            self.host.handle_beat(now, from, &beat)?;
        }
        if let Some(answer) = answer {
            self.host.handle_answer(from, &answer)?;
        }
        Ok(Heard { leads, dropped })
    }

    /// A commit has ended.
    pub fn done(&mut self, now: Now, done: Done) {
        if let Some(space) = done.space {
            let before = self.spaces.insert(done.disk, space).unwrap_or(Space::Ample);
            if space != before {
                tracing::warn!(node = %self.node, disk = done.disk, ?space, "room on the disk changed");
            }
        }
        // Segments first: their first entries are not applied before the write is done.
        for (at, first) in done.rolled {
            self.host.segment_began(at, first);
        }
        for (at, epoch) in done.persisted {
            if self.home_epoch(at) == Some(epoch) {
                self.host.persisted(now, at);
            }
        }
        for (at, start, producers) in done.started {
            self.host.start_moved(at, start, &producers);
        }
    }

    /// The answer to a read.
    pub fn fetched(
        &mut self,
        now: Now,
        at: TopicPartition,
        wanted: Wanted,
        read: Result<Vec<log::Entry>, log::Error>,
    ) {
        let entries = read.unwrap_or_else(|error| {
            // Compacted meanwhile: Raft asks again and gets a snapshot. Anything else is told.
            if !matches!(error, log::Error::Compacted { .. } | log::Error::Removed(_)) {
                tracing::error!(partition = %at, %error, "entries for a lagging replica not read");
            }
            Vec::new()
        });
        self.host.fetched(now, at, wanted, &entries);
    }

    /// Ends the round, and publishes what it changed.
    pub fn end_round(&mut self, now: Now) -> Outcome {
        let round = self.host.take_round(now);
        let Round { control, appends, leads, writes, reads, ranges, .. } = round;
        let Round { beats, beat_answers, asks, answers, progress, .. } = round;
        let mut outcome = Outcome { leads, answers, ranges, asks, ..Outcome::default() };
        for append in appends {
            let header = wire::Envelope::of(vec![append.group], Vec::new()).to_header();
            let Append { to, key, of_meta, chunks: payloads, .. } = append;
            // What its producer has compressed becomes no smaller.
            let compressible = !payloads.iter().all(|batch| batch::is_compressed(batch));
            let frame = Frame { header, payloads, compressible };
            outcome.replication.push(Replicate { to, key, of_meta, frame });
        }
        for (to, mut groups) in control {
            while !groups.is_empty() {
                let rest = groups.split_off(groups.len().min(wire::GROUPS_MAX));
                let header = wire::Envelope::of(groups, Vec::new()).to_header();
                outcome.control.push((to, Frame::of_header(header)));
                groups = rest;
            }
        }
        let beats = beats.into_iter().map(|(to, beat)| (to, wire::Envelope::of_beat(beat)));
        let answered = beat_answers.into_iter();
        let beats = beats.chain(answered.map(|(to, of)| (to, wire::Envelope::of_answer(of))));
        for (to, envelope) in beats {
            outcome.control.push((to, Frame::of_header(envelope.to_header())));
        }
        for (at, persist) in writes {
            if let (Some(slot), Some(core)) = (self.slots.get_mut(&at), self.host.core(at)) {
                outcome.writes.push(slot.write(at, core, *persist));
            }
        }
        for (at, progress) in progress {
            if let Some(slot) = self.slots.get(&at) {
                if slot.view.progress().is_won_by(progress) {
                    outcome.elected.push((at, progress.leader_epoch));
                }
                if let Some(core) = self.host.core(at) {
                    slot.view.set_committed(core.committed());
                }
                slot.view.publish(progress);
            }
        }
        for (at, wanted) in reads {
            let Some(slot) = self.slots.get(&at) else { continue };
            let reader = slot.view.reader();
            if !self.catches_up(at, &wanted, &reader) {
                outcome.reads.push((at, wanted, reader));
            }
        }
        outcome
    }

    /// Whether whoever needs these entries is so far behind that they do not travel as appends.
    fn catches_up(&mut self, at: TopicPartition, wanted: &Wanted, reader: &Reader) -> bool {
        let Some(core) = self.host.core(at) else { return false };
        let lacks = reader.bytes_between(wanted.low, core.watermark().0.next());
        lacks >= self.catch_up_bytes_min && self.host.begin_catch_up(at, wanted)
    }

    /// The answer to a range that was wanted; nothing if none came, or none that is whole.
    pub fn ranged(&mut self, now: Now, wanted: &RangeWanted, entries: Option<Vec<log::Entry>>) {
        self.host.ranged(now, wanted.group.partition, wanted.from, entries);
    }

    /// How far the replicas had come, for a restart; nobody waits for these writes.
    pub fn checkpoint(&mut self) -> Vec<Write> {
        let host = &self.host;
        let slots = self.slots.iter_mut();
        slots.filter_map(|(at, slot)| slot.checkpoint(*at, host.core(*at)?)).collect()
    }

    /// Lets go what the policies no longer keep, by logged entries, where this node leads.
    pub fn retain(&mut self, now: Now) {
        let mut moves = Vec::new();
        for (at, slot) in &self.slots {
            let Some(core) = self.host.core(*at).filter(|core| core.is_leader()) else { continue };
            let reader = slot.view.reader();
            let keep_from = core.watermark().0.next();
            let retention = slot.policy.retention;
            let to: Option<LogStart> = log::log_start(
                &reader.segments(),
                reader.start(),
                retention,
                now.wall_ms,
                keep_from,
            );
            moves.extend(to.map(|start| (*at, start.offset)));
        }
        let deadline = now.mono;
        for (at, before) in moves {
            // Nobody waits for the answer: the ticket has no owner.
            self.host.delete_records(now, at, Ticket(0), before, deadline);
        }
        let idle_since = now.wall_ms - PRODUCER_EXPIRATION.as_millis() as i64;
        self.host.expire_producers(now, idle_since);
    }
}

/// Frames with a leader's news.
pub fn lead_frames(leads: &[wire::Lead]) -> impl Iterator<Item = Frame> + '_ {
    leads
        .chunks(wire::GROUPS_MAX)
        .map(|some| Frame::of_header(wire::Envelope::of(Vec::new(), some.to_vec()).to_header()))
}

/// So that replicas of one partition on different nodes never draw the same timeouts.
fn hash(at: TopicPartition, node: NodeId) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (at, node).hash(&mut hasher);
    hasher.finish()
}
