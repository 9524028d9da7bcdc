//! Replicas between two homes: sealed, cut, and begun anew.
//!
//! ```text
//!   open in e ──seal──▶ sealed for e + 1 ──cut, extend──▶ a prefix of F ──begin──▶ open in e + 1
//!               core goes,                what F lacks is in the ledger     another core (R1, R14)
//!               then the promise is on disk, then it reports (R10)
//! ```
//!
//! The loop only lets the core go and takes the new one in; everything between is the disk's, in the
//! order of its commands, so a promise comes after every write of the core that went.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use tokio::sync::mpsc as async_mpsc;

use super::disk::Command;
use super::disks::{Disks, Mender};
use super::orders::{Order, Orders, Refused};
use super::replicas::Replicas;
use super::restart;
use super::spec::Spec;
use crate::log::{self, Cut, Entry, Fork, Manifest, Position, Sealed, Suffix};
use crate::model::{HomeEpoch, LogIndex, TopicPartition};
use crate::replica::core::Now;
use crate::replica::host::Round;
use crate::replica::{Progress, Role, View};

/// What the loop knew when it let a core go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetGo {
    /// The leader's Unix time up to which the replica had all that it had acknowledged, as far as it had
    /// heard; `None` where it never had, or was not open.
    pub known_until_ms: Option<i64>,
}

impl Replicas {
    /// Lets the core of an older epoch go, for good: whatever waited for it hears that it does not
    /// lead. What it showed can be read on. Done twice it is done once.
    pub fn seal(
        &mut self,
        now: Now,
        at: TopicPartition,
        epoch: HomeEpoch,
    ) -> Result<(LetGo, Round), Refused> {
        if let Some(here) = self.epoch_of(at)
            && here >= epoch
        {
            return Err(Refused::MovedOn { partition: at, here });
        }
        // As its state will be: it must not be opened for what it was.
        let promised = self.promised.entry(at).or_insert(epoch);
        *promised = epoch.max(*promised);
        if let Some(recovered) = self.recovered.get_mut(&at) {
            recovered.state.promised = recovered.state.promised.max(epoch);
        }
        self.host.wake(at);
        let known_until_ms = self.host.core(at).and_then(|core| core.known_until_ms(now));
        let last = self.host.remove(at);
        if let Some(slot) = self.slots.remove(&at) {
            let progress = slot.view.progress();
            slot.view.publish(Progress { role: Role::Learner, ..progress });
            self.sealed.insert(at, Arc::clone(&slot.view));
        } else if !self.sealed.contains_key(&at) {
            // It may be the only one that has what others are to fetch, and may not be opened before a later epoch.
            self.open_sealed(at);
        }
        self.closed.remove(&at);
        Ok((LetGo { known_until_ms }, last))
    }

    /// The home epoch that a replica is in, open or not.
    fn epoch_of(&self, at: TopicPartition) -> Option<HomeEpoch> {
        let on_disk = || self.recovered.get(&at).map(|recovered| recovered.state.home_epoch);
        // Let go, and its disk is not read yet.
        let closed = || self.closed.get(&at).map(|spec| spec.group.home_epoch);
        self.home_epoch(at).or_else(on_disk).or_else(closed)
    }

    /// What a sealed replica shows.
    pub fn sealed_view(&self, at: TopicPartition) -> Option<&Arc<View>> {
        self.sealed.get(&at)
    }

    /// A replica that is not open, and has promised: it shows what it showed, and takes no part.
    pub fn open_sealed(&mut self, at: TopicPartition) -> Option<Arc<View>> {
        let (recovered, reader) = (self.recovered.get(&at)?, self.readers.get(&at)?);
        let progress = Progress {
            role: Role::Learner,
            hands_over: false,
            handed_off: false,
            leader_epoch: recovered.last.1.leader_epoch(),
            log_start: recovered.start.offset,
            high_watermark: recovered.hw.offset.max(recovered.start.offset),
            watermark_known: true,
            log_end: recovered.next_offset,
        };
        let epochs: Vec<_> = recovered.epochs.iter().map(|e| (e.term, e.index, e.offset)).collect();
        let view = match self.sealed.get(&at) {
            // Sealed again before it was opened.
            Some(view) => {
                view.begin_anew(progress, &epochs, reader.clone());
                Arc::clone(view)
            }
            None => Arc::new(View::new(at, progress, epochs, reader.clone())),
        };
        let state = &recovered.state;
        view.set_home(state.home_epoch, state.fork.map_or(LogIndex::ZERO, |fork| fork.index));
        self.sealed.insert(at, Arc::clone(&view));
        Some(view)
    }
}

/// Where the log ended, what was cut off, and what the disk has now.
type BegunOnDisk = (Sealed, Option<Suffix>, (Box<log::Recovered>, log::Reader));

/// The way to a node's replicas for whoever moves homes. Cheap to clone.
#[derive(Clone)]
pub struct Mover {
    orders: Orders,
    disks: Disks,
}

/// Where a mover's words arrive that has no loop and no disk thread of its own.
pub struct Desk {
    pub orders: async_mpsc::UnboundedReceiver<Order>,
    pub commands: mpsc::Receiver<Command>,
}

impl Mover {
    pub(super) fn new(orders: Orders, disks: Disks) -> Self {
        Self { orders, disks }
    }

    /// For whoever carries its words out himself, on one disk with these partitions: the simulator.
    pub fn apart(partitions: impl Iterator<Item = TopicPartition>) -> (Self, Desk) {
        let (orders_in, orders) = async_mpsc::unbounded_channel();
        let (commands_in, commands) = mpsc::channel();
        let disks =
            Disks::new(vec![commands_in], partitions.map(|at| (at, 0)).collect::<BTreeMap<_, _>>());
        (Self::new(Orders::new(orders_in), disks), Desk { orders, commands })
    }

    /// Whoever mends by the same ways.
    pub fn menders(&self) -> (Orders, Mender) {
        (self.orders.clone(), Mender::new(self.disks.clone()))
    }

    /// R10: from here on nothing of an epoch before `epoch` is taken, and that is on disk; then, where
    /// the log ends.
    pub async fn seal(
        &self,
        at: TopicPartition,
        epoch: HomeEpoch,
    ) -> Result<(Sealed, LetGo), Refused> {
        let gone = self.orders.seal(at, epoch).await?;
        let sealed = self.ask(at, |reply| Command::Seal(at, epoch, reply)).await?;
        Ok((sealed, gone))
    }

    /// Lets a sealed log end where it leaves the one that ends at F; what is beyond is in the ledger.
    async fn cut(&self, at: TopicPartition, fork: &Arc<Fork>) -> Result<Cut, Refused> {
        let fork = Arc::clone(fork);
        self.ask(at, |reply| Command::Cut(at, fork, reply)).await
    }

    /// Adds a peer's entries to a sealed log, up to F.
    async fn extend(
        &self,
        at: TopicPartition,
        fork: &Arc<Fork>,
        entries: Vec<Entry>,
    ) -> Result<Cut, Refused> {
        let fork = Arc::clone(fork);
        self.ask(at, |reply| Command::Extend(at, fork, entries, reply)).await
    }

    /// Makes the log here end exactly at F (R13): cut where it differs, and fetched where it is short:
    /// `range` asks who has it for the entries from one index up to before another. `false` if nothing
    /// came. Begun again it goes on where it was.
    ///
    /// `config` is the topic's: a replica that was sealed when its node started has no policy yet, and
    /// segments end where they do in every DC.
    pub async fn hold<E, F>(
        &self,
        at: TopicPartition,
        fork: &Arc<Fork>,
        config: log::Config,
        mut range: impl FnMut(LogIndex, LogIndex) -> F,
    ) -> Result<bool, E>
    where
        E: From<Refused> + From<log::BadRange>,
        F: Future<Output = Result<Bytes, E>>,
    {
        self.disks.tell(at, Command::SetConfig(at, config));
        let mut cut = self.cut(at, fork).await?;
        while !cut.holds {
            let bytes = range(cut.last.0.next(), fork.at.index.next()).await?;
            let entries = log::parse_range(at, &bytes)?;
            if entries.is_empty() {
                return Ok(false);
            }
            cut = self.extend(at, fork, entries).await?;
        }
        Ok(true)
    }

    /// Lets the replica here, of an older epoch, begin the one of `spec` with what its log has in
    /// common with F (R1, R15). Repeated after a crash it goes on where it was.
    pub async fn begin_epoch(
        &self,
        spec: Spec,
        fork: &Arc<Fork>,
    ) -> Result<(Sealed, Option<Suffix>), Refused> {
        let (sealed, suffix, (recovered, reader)) = self.begin_on_disk(&spec, fork).await?;
        self.orders.begun(recovered, reader, spec).await?;
        Ok((sealed, suffix))
    }

    /// As [`Self::begin_epoch`], and the replica stays closed: for a process that ends, because what it has
    /// read of the log is the log's no more.
    pub async fn begin_epoch_closed(
        &self,
        spec: &Spec,
        fork: &Arc<Fork>,
    ) -> Result<Option<Suffix>, Refused> {
        self.begin_on_disk(spec, fork).await.map(|(_, suffix, _)| suffix)
    }

    async fn begin_on_disk(&self, spec: &Spec, fork: &Arc<Fork>) -> Result<BegunOnDisk, Refused> {
        let at = spec.group.partition;
        let (sealed, _) = self.seal(at, spec.group.home_epoch).await?;
        let whole = Arc::clone(fork);
        let cut = self.ask(at, |reply| Command::SetAside(at, whole, reply)).await;
        if let Err(Refused::Log(log::Error::Damaged { .. })) = &cut {
            self.orders.keep_damaged(spec.clone());
        }
        let cut = cut?;
        let mut state = restart::new_state(spec);
        state.fork = Some(Position { ..fork.at });
        // What it had not caught up with it still has not.
        state.installing = sealed.installing || lacks_all(fork, &cut);
        let begun = self.ask(at, |reply| Command::BeginEpoch(at, Box::new(state), reply)).await?;
        Ok((sealed, cut.suffix, begun))
    }

    /// What the ledger has of this partition, oldest epoch first.
    pub async fn ledger(&self, at: TopicPartition) -> Result<Vec<Manifest>, Refused> {
        self.ask(at, |reply| Command::Ledger(at, reply)).await
    }

    async fn ask<T>(
        &self,
        at: TopicPartition,
        command: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, log::Error>>) -> Command,
    ) -> Result<T, Refused> {
        let number = self.disks.of(at).ok_or(log::Error::UnknownPartition(at))?;
        Ok(self.disks.ask(number, command).await??)
    }
}

/// Whether a log was set aside whole: it has nothing of its group's until that gives it a snapshot, and must not speak
/// for its datacenter before (R23). A home that began with such a log would have lost everything.
fn lacks_all(fork: &Fork, cut: &Cut) -> bool {
    cut.last.0 < fork.start()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::disk::Writer;
    use super::super::spec::Policy;
    use super::*;
    use crate::log::EpochStart;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::home::{begun, epoch, fork_at_end};
    use crate::log::tests::{append_batches, files, node, open, partition, store_with};
    use crate::model::{DcName, GroupId, Mode, Offset, ReplicaId};
    use crate::replica::core::config::{Member, Timing};
    use crate::replica::core::tests::ASYNC;

    /// A node that starts with a promise on its disk opens no core, so nobody tells it the topic's policy.
    #[tokio::test]
    async fn a_replica_that_was_sealed_when_its_node_started_cuts_segments_where_all_do() {
        let (disk, peer) = (SimDisk::new(1), SimDisk::new(2));
        let (mut store, mut whole) = (store_with(&disk, 400), store_with(&peer, 400));
        append_batches(&mut whole, 12, &[b'v'; 60]);
        append_batches(&mut store, 3, &[b'v'; 60]);
        store.seal(partition(0), epoch(2)).unwrap();
        drop(store);
        let (store, _) = open(&disk);

        let reader = whole.reader(partition(0)).unwrap();
        let (index, term) = reader.last();
        let at = Position { index, term, offset: reader.next_offset() };
        let fork = Arc::new(Fork { home_epoch: epoch(2), at, epochs: reader.epochs() });
        let (mover, Desk { commands, .. }) = Mover::apart([partition(0)].into_iter());
        let writing = std::thread::spawn(move || {
            let mut writer = Writer::new(store);
            commands.iter().for_each(|command| writer.obey(command));
        });
        let range = |from, to| {
            let range = reader.range(from, to, 1 << 20).map_err(Refused::Log);
            async { Ok::<_, Box<dyn std::error::Error>>(range?) }
        };
        let config = log::Config { segment_bytes: 400, ..log::Config::default() };
        assert!(mover.hold(partition(0), &fork, config, range).await.unwrap());
        drop(mover);
        writing.join().unwrap();
        assert!(files(&peer, ".log").len() > 3);
        assert_eq!(files(&disk, ".log"), files(&peer, ".log"));
    }

    /// The replica of the store's partition in one of its home epochs; alone in its group.
    pub fn spec(home_epoch: HomeEpoch) -> Spec {
        let (me, home) = (ReplicaId(1), "fra".parse::<DcName>().unwrap());
        let member = Member { node: node(), dc: home.clone(), voter: true };
        Spec {
            group: GroupId { partition: partition(0), home_epoch },
            topic_name: "orders".to_owned(),
            me,
            home,
            members: BTreeMap::from([(me, member)]),
            preferred: true,
            placement_generation: 1,
            fork: None,
            lossy_cut: None,
            stands_in: false,
            began: Mode::default(),
            recorded: Mode::default(),
            timing: Timing { heartbeat_ticks: 1, election_ticks_min: 5, election_ticks_max: 10 },
            policy: Policy {
                ack: ASYNC,
                flush: true,
                log: log::Config::default(),
                retention: log::Retention::default(),
            },
        }
    }

    /// It is of an older epoch than the image's, so it is not opened before it begins that one.
    #[test]
    fn a_replica_that_promises_before_it_was_opened_shows_what_it_has() {
        let (now, at) = (Now { mono: Duration::ZERO, wall_ms: 0 }, partition(0));
        let disk = SimDisk::new(1);
        append_batches(&mut store_with(&disk, 400), 3, b"v");
        let (store, recovered) = open(&disk);
        let readers = recovered.into_iter().map(|r| (r, store.reader(at).unwrap()));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut replicas = Replicas::new(node(), 1, logger, readers.collect());
        replicas.seal(now, at, epoch(3)).unwrap();
        let view = Arc::clone(replicas.sealed_view(at).unwrap());
        assert!(!view.sealed_range(LogIndex(1), LogIndex(4)).unwrap().is_empty());
        // The home of before is told of, too late.
        replicas.seal(now, at, epoch(2)).unwrap();
        assert!(matches!(replicas.resume(&spec(epoch(2))), Err(Refused::Sealed { .. })));
        assert!(Arc::ptr_eq(replicas.sealed_view(at).unwrap(), &view));
    }

    #[test]
    fn a_log_that_was_set_aside_whole_has_no_standing() {
        for (begins, lacks) in [(1, false), (3, false), (10, true)] {
            let (disk, at) = (SimDisk::new(1), partition(0));
            append_batches(&mut store_with(&disk, 400), 3, b"v");
            let (mut store, _) = open(&disk);
            let sealed = store.seal(at, epoch(2)).unwrap();
            let (term, index) = (sealed.last.1, LogIndex(20));
            let first =
                EpochStart { term, index: LogIndex(begins), offset: Offset(begins as i64 - 1) };
            let ends = Position { index, term, offset: Offset(19) };
            let fork = Fork { home_epoch: epoch(2), at: ends, epochs: vec![first] };
            let cut = store.set_aside(at, &fork).unwrap();
            assert_eq!(
                (lacks_all(&fork, &cut), cut.suffix.is_some()),
                (lacks, lacks),
                "from {begins} on"
            );
        }
    }

    /// The disk has begun an epoch, the loop has not heard of it, and the seal for the one after comes.
    #[test]
    fn a_replica_that_is_sealed_while_its_epoch_begins_does_not_open() {
        let (now, at) = (Now { mono: Duration::ZERO, wall_ms: 0 }, partition(0));
        for sealed_meanwhile in [false, true] {
            let disk = SimDisk::new(1);
            append_batches(&mut store_with(&disk, 400), 3, b"v");
            let (mut store, recovered) = open(&disk);
            let readers = recovered.into_iter().map(|r| (r, store.reader(at).unwrap()));
            let logger = slog::Logger::root(slog::Discard, slog::o!());
            let mut replicas = Replicas::new(node(), 1, logger, readers.collect());
            let first = spec(HomeEpoch::default());
            let opening = replicas.resume(&first).unwrap().unwrap();
            let view = replicas.open(now, first, opening);

            replicas.seal(now, at, epoch(2)).unwrap();
            store.seal(at, epoch(2)).unwrap();
            let fork = fork_at_end(&store, 2);
            store.set_aside(at, &fork).unwrap();
            let (recovered, reader) = store.begin_epoch(at, begun(&fork)).unwrap();
            if sealed_meanwhile {
                replicas.seal(now, at, epoch(3)).unwrap();
            }
            replicas.put_back(recovered, reader);

            let resumed = replicas.resume(&spec(epoch(2)));
            if sealed_meanwhile {
                let refused = resumed.err().unwrap().to_string();
                assert!(refused.contains("home epoch 3"), "{refused}");
                assert!(
                    Arc::ptr_eq(&replicas.open_sealed(at).unwrap(), &view),
                    "its readers go on"
                );
            } else {
                let again = replicas.open(now, spec(epoch(2)), resumed.unwrap().unwrap());
                assert!(Arc::ptr_eq(&again, &view));
                replicas.seal(now, at, epoch(3)).unwrap();
            }
            assert!(!replicas.is_open(at) && replicas.sealed_view(at).is_some());
        }
    }
}
