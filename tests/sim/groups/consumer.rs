//! Consumers: they read in their datacenter, commit how far they are, and now and then begin anew where the group has
//! committed. Some are the only one of their group and choose what they read; others share it.

use std::collections::BTreeMap;

use isobar::coordinator::group::{
    CommitOffsets, FetchOffsets, FetchedOffset, MemberId, OffsetToCommit, TopicPartition, clamp,
};
use isobar::model::{HomeEpoch, LeaderEpoch, Offset};
use isobar::replica::{ReadError, Role};
use rand::Rng;
use rand::rngs::SmallRng;

use super::member::Member;
use super::team::{Commit, Team};
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

/// What waits for an answer.
#[derive(Debug)]
pub enum Asked {
    Join,
    /// Of a generation.
    Sync(i32),
    Beat,
    Leave,
    /// Of a partition, by its number; and in which generation.
    Commit(usize, usize, Option<i32>),
    /// Of a partition, and how many commits there were.
    Fetch(usize, usize),
}

/// Where it is in a partition that it reads.
#[derive(Debug)]
pub struct Reading {
    /// The next to read, and the epoch of the last that was.
    position: i64,
    epoch: LeaderEpoch,
    /// It does not know where to begin.
    pub begins: bool,
}

impl Reading {
    pub fn new() -> Self {
        Self { position: 0, epoch: -1, begins: true }
    }

    pub fn has_read(&self) -> bool {
        !self.begins && self.position > 0
    }
}

#[derive(Debug)]
pub struct Consumer {
    /// Of its group.
    pub team: usize,
    pub member: Option<Member>,
    dc: usize,
    node: usize,
    /// By partition.
    pub readings: BTreeMap<usize, Reading>,
    /// It ends here: what it has committed may be cut off later.
    pub stops: Micros,
    /// By its number, and when.
    asked: Option<(u64, Micros, Asked)>,
    attempts: u64,
    coordinator: Option<usize>,
}

impl Consumer {
    /// One that is alone in its group, and reads this partition.
    pub fn alone(team: usize, partition: usize, scenario: &Scenario, rng: &mut SmallRng) -> Self {
        let dc = rng.gen_range(0..3);
        let last = scenario.faulty_until + 2 * SECOND;
        let stops = if rng.gen_bool(0.5) { last } else { rng.gen_range(10 * SECOND..last) };
        let node = dc * NODES_PER_DC + rng.gen_range(0..NODES_PER_DC);
        let readings = BTreeMap::from([(partition, Reading::new())]);
        Self { readings, ..Self::at(team, node, stops) }
    }

    /// One of several.
    pub fn member(team: usize, member: Member, scenario: &Scenario, rng: &mut SmallRng) -> Self {
        let stops = scenario.faulty_until + 2 * SECOND;
        Self { member: Some(member), ..Self::at(team, rng.gen_range(0..NODES), stops) }
    }

    fn at(team: usize, node: usize, stops: Micros) -> Self {
        Self {
            team,
            member: None,
            dc: dc_of(node),
            node,
            readings: BTreeMap::new(),
            stops,
            asked: None,
            attempts: 0,
            coordinator: None,
        }
    }

    pub fn is_free(&self) -> bool {
        self.asked.is_none()
    }

    /// Of which generation it is, as whom, and what it owns.
    pub fn owned(&self) -> Option<(i32, (MemberId, Vec<usize>))> {
        let member = self.member.as_ref()?;
        let owned = self.readings.keys().copied().collect();
        Some((member.generation()?, (member.id.clone(), owned)))
    }

    /// Its connections are gone.
    pub fn disconnect(&mut self) {
        (self.asked, self.coordinator) = (None, None);
    }

    /// What it waits for, in words.
    pub fn waits(&self) -> Option<String> {
        let Self { member, asked, .. } = self;
        member.as_ref().map(|m| format!("{} is {:?}, asked {asked:?}; ", m.process, m.stage))
    }
}

/// Commits how far a consumer is in a partition.
pub fn commit(team: &mut Team, consumer: &Consumer, partition: usize) -> (Ask, Asked) {
    let reading = &consumer.readings[&partition];
    let track = team.tracks.get_mut(&partition).expect("a partition of the group");
    let number = track.commits.len();
    let id = 1 << 63 | (consumer.team as u64) << 40 | (partition as u64) << 32 | number as u64;
    track.commits.push(Commit { id, offset: reading.position, acked: None });
    let member = consumer.member.as_ref();
    let generation = member.and_then(Member::generation);
    let ask = Ask::Commit(CommitOffsets {
        group: team.id.clone(),
        generation: generation.unwrap_or(-1),
        member_id: member.map_or_else(MemberId::default, |member| member.id.clone()),
        instance_id: member.and_then(|member| member.instance.clone()),
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            partition: TopicPartition::new(TOPIC, partition as i32),
            offset: reading.position,
            leader_epoch: reading.epoch,
            metadata: id.to_string(),
        }],
    });
    (ask, Asked::Commit(partition, number, generation))
}

/// Asks what the group has committed of a partition.
pub fn fetch(team: &mut Team, partition: usize) -> (Ask, Asked) {
    let partitions = Some(vec![TopicPartition::new(TOPIC, partition as i32)]);
    let ask = Ask::Fetch(FetchOffsets { group: team.id.clone(), partitions });
    (ask, Asked::Fetch(partition, team.track(partition).commits.len()))
}

impl World {
    /// With its group.
    pub fn consumer(&mut self, index: usize) -> (&mut Consumer, &mut Team) {
        let groups = self.groups.as_mut().expect("a run with groups");
        let consumer = &mut groups.consumers[index];
        let team = &mut groups.teams[consumer.team];
        (consumer, team)
    }

    pub fn consumer_delay(&mut self, index: usize, node: usize) -> Micros {
        let dc = self.consumer(index).0.dc;
        self.network.delay(dc, dc_of(node), &mut self.rng)
    }

    /// A consumer does what comes next.
    pub fn consume(&mut self, index: usize) {
        let pause = self.rng.gen_range(50 * MILLI..500 * MILLI);
        self.after(pause, Event::Consume(index));
        let now = self.now;
        let closing = self.groups.as_ref().is_some_and(|groups| groups.closing);
        let draw = self.rng.gen_range(0..100);
        let (consumer, team) = self.consumer(index);
        if consumer.member.is_some() {
            return self.attend(index, closing, draw);
        }
        let (partition, reading) =
            consumer.readings.first_key_value().expect("the one that it reads");
        let (partition, begins, has_read) = (*partition, reading.begins, reading.position > 0);
        let is_free = consumer.is_free() && team.tracks[&partition].last.is_none();
        if now > consumer.stops {
            if is_free && closing {
                self.ask_coordinator(index, |_, team| fetch(team, partition));
            }
        } else if is_free && begins {
            self.ask_coordinator(index, |_, team| fetch(team, partition));
        } else if !begins {
            self.read_on(index, partition);
            match draw {
                0..40 if is_free && has_read => {
                    self.ask_coordinator(index, |consumer, team| commit(team, consumer, partition));
                }
                40..43 if is_free => {
                    self.consumer(index).0.readings.insert(partition, Reading::new());
                }
                _ => {}
            }
        }
    }

    pub fn ask_coordinator(
        &mut self,
        index: usize,
        make: impl FnOnce(&mut Consumer, &mut Team) -> (Ask, Asked),
    ) {
        let at = self.groups.as_ref().expect("a run with groups").at;
        let (asked, any) = (self.rng.gen_range(0..NODES), self.rng.gen_range(0..NODES));
        let running = self.nodes[asked].running.as_ref();
        let leads = running.and_then(|r| r.leaders.of(at)).map(|l| node_of(l.node));
        let now = self.now;
        let (consumer, team) = self.consumer(index);
        let node = *consumer.coordinator.get_or_insert(leads.unwrap_or(any));
        consumer.attempts += 1;
        let attempt = consumer.attempts;
        let (ask, asked) = make(consumer, team);
        consumer.asked = Some((attempt, now, asked));
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
        let (consumer, _) = self.consumer(index);
        if consumer.asked.as_ref().is_some_and(|(asked, ..)| *asked == attempt) {
            consumer.disconnect();
        }
    }

    /// As the handler of OffsetFetch does on that node (R25).
    pub fn led_back(&mut self, node: usize, answer: &Answer) -> (i64, HomeEpoch) {
        let Answer::Fetched(Ok(FetchedOffset { partition, committed })) = answer else {
            return (0, HomeEpoch::FIRST);
        };
        let at = self.scenario.partitions[partition.partition as usize].at;
        let placed = self.meta.image(node).partition(at);
        let known = placed.map_or(HomeEpoch::FIRST, |placed| placed.home_epoch);
        let Some(committed) = committed else { return (0, known) };
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
        let Some(groups) = &mut self.groups else { return Ok(()) };
        let (closing, n) = (groups.closing, groups.at.partition as usize);
        let consumer = &mut groups.consumers[index];
        let team = &mut groups.teams[consumer.team];
        let asked = consumer.asked.take_if(|(asked, ..)| *asked == attempt);
        let Some((_, sent, asked)) = asked else { return Ok(()) };
        let history = &self.oracle.partitions[n];
        let Told { answer, from, known, epoch, at } = told;
        match (answer, asked) {
            (Answer::Committed(Ok(())), Asked::Commit(partition, number, generation)) => {
                let commit = &mut team.track(partition).commits[number];
                commit.acked = Some(epoch.unwrap_or(LeaderEpoch::MAX));
                let commit = *commit;
                committed::check_acked(history, &team.id, commit)?;
                groups.counts.add("commits");
                if let (Some(epoch), Some(generation)) = (epoch, generation) {
                    let who = (index, generation);
                    team.told.check_commit(history, &team.id, who, (sent, epoch))?;
                }
            }
            (Answer::Fetched(Ok(fetched)), Asked::Fetch(partition, before)) => {
                committed::check_fetched(history, team, (partition, before), (epoch, &fetched))?;
                let read = &self.oracle.partitions[partition];
                committed::check_led_back(read, &team.id, &fetched, (from, known))?;
                groups.counts.add("told");
                if fetched.committed.as_ref().is_some_and(|committed| committed.offset > from) {
                    groups.counts.add("led back");
                }
                let reading = consumer.readings.get_mut(&partition);
                if closing {
                    team.track(partition).last = Some((fetched, from));
                } else if let Some(reading) = reading.filter(|reading| reading.begins) {
                    let committed = fetched.committed.as_ref();
                    reading.position = from;
                    reading.epoch = committed.map_or(-1, |committed| committed.leader_epoch);
                    reading.begins = false;
                }
            }
            (answer, asked) => {
                let said = super::attend::Said { process: index, sent, epoch, at };
                let partitions = self.scenario.plain();
                let counts = &mut groups.counts;
                return said.hear((consumer, team, counts), (history, partitions), (answer, asked));
            }
        }
        Ok(())
    }

    /// As a client of KIP-320 reads: it notices where the log parted from what it has read.
    pub fn read_on(&mut self, index: usize, partition: usize) {
        let moves = self.rng.gen_bool(0.02).then(|| self.rng.gen_range(0..NODES_PER_DC));
        let groups = self.groups.as_mut().expect("a run with groups");
        let consumer = &mut groups.consumers[index];
        if let Some(to) = moves {
            consumer.node = consumer.dc * NODES_PER_DC + to;
        }
        let node = consumer.node;
        let track = groups.teams[consumer.team].track(partition);
        let reading = consumer.readings.get_mut(&partition).expect("it reads it");
        let at = self.scenario.partitions[partition].at;
        let running = self.nodes[node].running.as_ref();
        let Some(view) = running.and_then(|r| r.replicas.view(at)) else { return };
        let progress = view.progress();
        let is_ahead = progress.high_watermark.0 < reading.position;
        if is_ahead && progress.role != Role::Leader {
            return;
        }
        if let Some((epoch, end)) = view.parted_from(reading.epoch, Offset(reading.position))
            && progress.log_start.0 <= reading.position
        {
            (reading.epoch, reading.position) = (epoch, end.0.min(reading.position));
            groups.counts.add("parted");
            return;
        }
        let records = match view.read(Offset(reading.position), READ_BYTES) {
            Ok(records) => records.unwrap_or_default(),
            Err(ReadError::OutOfRange { log_start, .. }) => {
                track.passed_over = track.passed_over.max(log_start.0);
                reading.position = reading.position.max(log_start.0);
                return;
            }
            Err(ReadError::Log(_)) if self.oracle.partitions[partition].replicas[node].rots => {
                return;
            }
            Err(ReadError::Log(error)) => panic!("consumer {index} cannot read: {error}"),
        };
        for bytes in &records.batches {
            for (offset, epoch, id) in ids_at(bytes) {
                if offset.0 >= reading.position {
                    track.had.insert((offset.0, id));
                    (reading.position, reading.epoch) = (offset.0 + 1, epoch);
                }
            }
        }
    }
}
