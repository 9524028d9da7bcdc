//! Consumers, each the only one of its group: they read in their datacenter, commit how far they are, and now and then
//! begin anew where the group has committed.

use std::collections::BTreeMap;

use isobar::coordinator::group::{
    CommitOffsets, FetchOffsets, FetchedOffset, Id, MemberId, OffsetToCommit, TopicPartition, clamp,
};
use isobar::model::{HomeEpoch, LeaderEpoch, Offset};
use isobar::replica::{ReadError, Role};
use rand::Rng;
use rand::rngs::SmallRng;

use super::{Answer, Ask, Told};
use crate::clients::ids_at;
use crate::event::Event;
use crate::invariants::{Violation, committed};
use crate::scenario::{MILLI, Micros, NODES, NODES_PER_DC, SECOND, Scenario, dc_of, node_of};
use crate::world::World;

/// A client waits longer than a coordinator may take.
const PATIENCE: Micros = 12 * SECOND;

/// Requests or answers that a broken connection swallows.
const LOST: f64 = 0.005;

const READ_BYTES: usize = 64 << 10;

/// The topic, as groups know it.
const TOPIC: &str = "topic";

/// One commit that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// In its record, which nothing else shares.
    pub id: u64,
    pub offset: i64,
    /// In which it was acknowledged.
    pub acked: Option<LeaderEpoch>,
}

#[derive(Debug)]
enum Asked {
    /// By its number.
    Commit(usize),
    /// How many commits there were.
    Fetch(usize),
}

#[derive(Debug)]
pub struct Consumer {
    index: usize,
    pub group: Id,
    pub partition: usize,
    dc: usize,
    node: usize,
    /// The next to read, and the epoch of the last that was.
    position: i64,
    epoch: LeaderEpoch,
    /// It does not know where to begin.
    begins: bool,
    /// Records that the group has had, by offset.
    pub had: BTreeMap<i64, u64>,
    /// It ends here: what it has committed may be cut off later.
    stops: Micros,
    /// What was deleted before it was read.
    pub passed_over: i64,
    pub commits: Vec<Commit>,
    asked: Option<(u64, Asked)>,
    attempts: u64,
    coordinator: Option<usize>,
    /// What it was told at the end, and where it would go on.
    pub last: Option<(FetchedOffset, i64)>,
}

impl Consumer {
    pub fn new(index: usize, group: Id, scenario: &Scenario, rng: &mut SmallRng) -> Self {
        let (dc, partition) = (rng.gen_range(0..3), index % scenario.plain());
        let last = scenario.faulty_until + 2 * SECOND;
        let stops = if rng.gen_bool(0.5) { last } else { rng.gen_range(10 * SECOND..last) };
        Self {
            index,
            group,
            partition,
            dc,
            node: dc * NODES_PER_DC + rng.gen_range(0..NODES_PER_DC),
            position: 0,
            epoch: -1,
            begins: true,
            had: Default::default(),
            stops,
            passed_over: 0,
            commits: Vec::new(),
            asked: None,
            attempts: 0,
            coordinator: None,
            last: None,
        }
    }

    fn read_of(&self) -> TopicPartition {
        TopicPartition::new(TOPIC, self.partition as i32)
    }

    /// What keeps it waiting, in words.
    pub fn waits(&self) -> Option<String> {
        let Self { group, asked, .. } = self;
        self.last.is_none().then(|| format!("group {group} has not been told ({asked:?}); "))
    }

    fn commit(&mut self) -> Ask {
        let number = self.commits.len();
        let id = 1 << 63 | (self.index as u64) << 32 | number as u64;
        self.commits.push(Commit { id, offset: self.position, acked: None });
        self.asked = Some((self.attempts, Asked::Commit(number)));
        Ask::Commit(CommitOffsets {
            group: self.group.clone(),
            generation: -1,
            member_id: MemberId::default(),
            instance_id: None,
            retention_ms: None,
            offsets: vec![OffsetToCommit {
                partition: self.read_of(),
                offset: self.position,
                leader_epoch: self.epoch,
                metadata: id.to_string(),
            }],
        })
    }

    fn fetch(&mut self) -> Ask {
        self.asked = Some((self.attempts, Asked::Fetch(self.commits.len())));
        let partitions = Some(vec![self.read_of()]);
        Ask::Fetch(FetchOffsets { group: self.group.clone(), partitions })
    }
}

impl World {
    fn consumer(&mut self, index: usize) -> &mut Consumer {
        &mut self.groups.as_mut().expect("a run with groups").consumers[index]
    }

    pub fn consumer_delay(&mut self, index: usize, node: usize) -> Micros {
        let dc = self.consumer(index).dc;
        self.network.delay(dc, dc_of(node), &mut self.rng)
    }

    /// A consumer does what comes next.
    pub fn consume(&mut self, index: usize) {
        let pause = self.rng.gen_range(50 * MILLI..500 * MILLI);
        self.after(pause, Event::Consume(index));
        let now = self.now;
        let closing = self.groups.as_ref().is_some_and(|groups| groups.closing);
        let draw = self.rng.gen_range(0..100);
        let consumer = self.consumer(index);
        let is_over = now > consumer.stops;
        let is_free = consumer.asked.is_none() && consumer.last.is_none();
        let (begins, has_read) = (consumer.begins, consumer.position > 0);
        if is_over {
            if is_free && closing {
                self.ask_coordinator(index, Consumer::fetch);
            }
        } else if is_free && begins {
            self.ask_coordinator(index, Consumer::fetch);
        } else if !begins {
            self.read_on(index);
            match draw {
                0..40 if is_free && has_read => self.ask_coordinator(index, Consumer::commit),
                40..43 if is_free => self.consumer(index).begins = true,
                _ => {}
            }
        }
    }

    fn ask_coordinator(&mut self, index: usize, make: fn(&mut Consumer) -> Ask) {
        let at = self.groups.as_ref().expect("a run with groups").at;
        let (asked, any) = (self.rng.gen_range(0..NODES), self.rng.gen_range(0..NODES));
        let running = self.nodes[asked].running.as_ref();
        let leads = running.and_then(|r| r.leaders.of(at)).map(|l| node_of(l.node));
        let consumer = self.consumer(index);
        let node = *consumer.coordinator.get_or_insert(leads.unwrap_or(any));
        consumer.attempts += 1;
        let attempt = consumer.attempts;
        let ask = make(consumer);
        self.trace.note((self.now, index, node, format!("{ask:?}")));
        crate::show::line(self.now, node, || format!("is asked by consumer {index}: {ask:?}"));
        self.after(PATIENCE, Event::Impatience(index, attempt));
        if !self.rng.gen_bool(LOST) {
            let delay = self.consumer_delay(index, node);
            self.after(delay, Event::Coordinate(node, index, attempt, Box::new(ask)));
        }
    }

    /// A coordinator is asked.
    pub fn coordinate(&mut self, node: usize, consumer: usize, attempt: u64, ask: Ask) {
        if self.nodes[node].running.is_none() {
            let delay = self.consumer_delay(consumer, node);
            return self.after(delay, Event::Impatience(consumer, attempt));
        }
        let again = Event::Coordinate(node, consumer, attempt, Box::new(ask));
        if let Some(Event::Coordinate(.., ask)) = self.is_paused(node, again)
            && let Some(groups) = &mut self.groups
        {
            groups.ask((node, consumer, attempt), *ask);
        }
    }

    /// It hears nothing of what it asked.
    pub fn give_up(&mut self, index: usize, attempt: u64) {
        let consumer = self.consumer(index);
        if consumer.asked.as_ref().is_some_and(|(asked, _)| *asked == attempt) {
            (consumer.asked, consumer.coordinator) = (None, None);
        }
    }

    /// As the handler of OffsetFetch does on that node (R25).
    pub fn led_back(&mut self, node: usize, consumer: usize, answer: &Answer) -> (i64, HomeEpoch) {
        let partition = self.consumer(consumer).partition;
        let at = self.scenario.partitions[partition].at;
        let placed = self.meta.image(node).partition(at);
        let known = placed.map_or(HomeEpoch::FIRST, |placed| placed.home_epoch);
        let Answer::Fetched(Ok(FetchedOffset { committed: Some(committed), .. })) = answer else {
            return (0, known);
        };
        let epoch = committed.leader_epoch;
        let running = self.nodes[node].running.as_ref();
        let view = running.and_then(|running| running.replicas.view(at));
        let end = placed
            .and_then(|placed| placed.end_of_epoch(epoch))
            .or_else(|| view?.settled_end_of_epoch(epoch));
        let clamped = clamp(committed.offset, end.map(|end| end.0));
        (clamped.offset, known)
    }

    /// It hears what came of what it asked.
    pub fn told(&mut self, index: usize, attempt: u64, told: Told) -> Result<(), Violation> {
        self.trace.note((self.now, index, attempt, format!("{told:?}")));
        crate::show::line(self.now, 0, || format!("consumer {index} hears {told:?}"));
        let Told { answer, from, known, epoch } = told;
        let Some(groups) = &mut self.groups else { return Ok(()) };
        let (closing, n) = (groups.closing, groups.at.partition as usize);
        let consumer = &mut groups.consumers[index];
        let Some((_, asked)) = consumer.asked.take_if(|(asked, _)| *asked == attempt) else {
            return Ok(());
        };
        match (answer, asked) {
            (Answer::Committed(Ok(())), Asked::Commit(number)) => {
                consumer.commits[number].acked = Some(epoch.unwrap_or(LeaderEpoch::MAX));
                let commit = consumer.commits[number];
                *groups.counts.entry("commits").or_default() += 1;
                committed::check_acked(&self.oracle.partitions[n], &consumer.group, commit)?;
            }
            (Answer::Fetched(Ok(fetched)), Asked::Fetch(before)) => {
                let history = &self.oracle.partitions[n];
                committed::check_fetched(history, consumer, before, (epoch, &fetched))?;
                let read = &self.oracle.partitions[consumer.partition];
                committed::check_led_back(read, &consumer.group, &fetched, (from, known))?;
                *groups.counts.entry("told").or_default() += 1;
                if fetched.committed.as_ref().is_some_and(|committed| committed.offset > from) {
                    *groups.counts.entry("led back").or_default() += 1;
                }
                if closing {
                    consumer.last = Some((fetched, from));
                } else if consumer.begins {
                    let committed = fetched.committed.as_ref();
                    consumer.position = from;
                    consumer.epoch = committed.map_or(-1, |committed| committed.leader_epoch);
                    consumer.begins = false;
                }
            }
            (Answer::Committed(Err(_)) | Answer::Fetched(Err(_)), _) => consumer.coordinator = None,
            (answer, asked) => unreachable!("{asked:?} was answered with {answer:?}"),
        }
        Ok(())
    }

    /// As a client of KIP-320 reads: it notices where the log parted from what it has read.
    fn read_on(&mut self, index: usize) {
        let moves = self.rng.gen_bool(0.02).then(|| self.rng.gen_range(0..NODES_PER_DC));
        let groups = self.groups.as_mut().expect("a run with groups");
        let consumer = &mut groups.consumers[index];
        if let Some(to) = moves {
            consumer.node = consumer.dc * NODES_PER_DC + to;
        }
        let at = self.scenario.partitions[consumer.partition].at;
        let running = self.nodes[consumer.node].running.as_ref();
        let Some(view) = running.and_then(|r| r.replicas.view(at)) else { return };
        let progress = view.progress();
        let is_ahead = progress.high_watermark.0 < consumer.position;
        if is_ahead && progress.role != Role::Leader {
            return;
        }
        if let Some((epoch, end)) = view.parted_from(consumer.epoch, Offset(consumer.position))
            && progress.log_start.0 <= consumer.position
        {
            (consumer.epoch, consumer.position) = (epoch, end.0.min(consumer.position));
            *groups.counts.entry("parted").or_default() += 1;
            return;
        }
        let records = match view.read(Offset(consumer.position), READ_BYTES) {
            Ok(records) => records.unwrap_or_default(),
            Err(ReadError::OutOfRange { log_start, .. }) => {
                consumer.passed_over = consumer.passed_over.max(log_start.0);
                consumer.position = consumer.position.max(log_start.0);
                return;
            }
            Err(ReadError::Log(_))
                if self.oracle.partitions[consumer.partition].replicas[consumer.node].rots =>
            {
                return;
            }
            Err(ReadError::Log(error)) => panic!("consumer {index} cannot read: {error}"),
        };
        for bytes in &records.batches {
            for (offset, epoch, id) in ids_at(bytes) {
                if offset.0 >= consumer.position {
                    consumer.had.insert(offset.0, id);
                    (consumer.position, consumer.epoch) = (offset.0 + 1, epoch);
                }
            }
        }
    }
}
