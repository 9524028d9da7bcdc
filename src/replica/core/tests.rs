//! Cores alone, joined by a network and a disk that do what they are told: the protocol as
//! sentences. Time passes only by ticks.

mod budget;
mod catch_up;
mod confirm;
mod fence;
mod hand_off;
mod log_start;
mod mode;
mod placement;
mod replacement;
mod slow_disks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::config::{APPEND_BYTES_MAX, AckPolicy, Config, Member, Timing};
use super::effect::{Effect, Outgoing, RangeWanted, Ticket};
use super::mode::Ask;
use super::raft_log::Restored;
use super::watermark::Claim;
use super::{Budget, Core, Now, Queued, Restart};
use crate::log;
use crate::model::{
    DcName, GroupId, HomeEpoch, LeaderEpoch, LogIndex, Mode, NodeId, Offset, ReplicaId,
    TopicPartition, batch,
};
use crate::replica::{Acks, ProduceError, Produced, Role};

const TICK: Duration = Duration::from_millis(50);

pub(crate) const ASYNC: AckPolicy = AckPolicy {
    sync_to: 0,
    degrade_after: None,
    min_in_sync: 1,
    fence: false,
    log_append_time: false,
    budget: Budget::NONE,
};

/// Replicas 1 to 3 in `fra`, 4 to 6 in `iad`, 7 to 9 in `sin`; the first three vote.
struct Cluster {
    cores: BTreeMap<ReplicaId, Core>,
    wire: VecDeque<(ReplicaId, Outgoing)>,
    /// Replicas that hear and say nothing.
    cut: BTreeSet<ReplicaId>,
    /// Replicas whose disk does not answer.
    stuck: BTreeSet<ReplicaId>,
    owed: BTreeMap<ReplicaId, usize>,
    /// What was written.
    disks: BTreeMap<ReplicaId, BTreeMap<LogIndex, log::Entry>>,
    /// Calls for entries, and all that were ever made.
    fetches: VecDeque<(ReplicaId, RangeWanted)>,
    fetched: Vec<(ReplicaId, RangeWanted)>,
    /// No call is answered.
    holds: bool,
    /// Entries that travelled as appends, by receiver.
    appended: BTreeMap<ReplicaId, usize>,
    replies: BTreeMap<Ticket, Result<Produced, ProduceError>>,
    deleted: BTreeMap<Ticket, Result<Offset, ProduceError>>,
    handed_off: BTreeMap<Ticket, Result<LogIndex, ProduceError>>,
    confirmed: BTreeMap<Ticket, Result<LeaderEpoch, ProduceError>>,
    /// Replicas that have written down that they have caught up.
    caught_up: BTreeSet<ReplicaId>,
    /// What leaders asked `__meta` for, none of it answered.
    asks: Vec<(ReplicaId, Ask)>,
    now: Now,
    tickets: u64,
}

fn r(id: u64) -> ReplicaId {
    ReplicaId(id)
}

fn dc(of: u64) -> DcName {
    ["fra", "iad", "sin"][(of as usize - 1) / 3].parse().unwrap()
}

impl Cluster {
    fn new(ack: AckPolicy) -> Self {
        Self::without(ack, BTreeSet::new())
    }

    /// Some are not there yet.
    fn without(ack: AckPolicy, cut: BTreeSet<ReplicaId>) -> Self {
        let members: BTreeMap<ReplicaId, Member> = (1..=9)
            .map(|id| {
                (r(id), Member { node: NodeId::new(id).unwrap(), dc: dc(id), voter: id <= 3 })
            })
            .collect();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut cluster = Self {
            cores: BTreeMap::new(),
            wire: VecDeque::new(),
            cut,
            stuck: BTreeSet::new(),
            owed: BTreeMap::new(),
            disks: BTreeMap::new(),
            fetches: VecDeque::new(),
            fetched: Vec::new(),
            holds: false,
            appended: BTreeMap::new(),
            replies: BTreeMap::new(),
            deleted: BTreeMap::new(),
            handed_off: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            caught_up: BTreeSet::new(),
            asks: Vec::new(),
            now: Now::default(),
            tickets: 0,
        };
        for id in 1..=9 {
            let config = Config {
                group: GroupId { partition: TopicPartition::META, home_epoch: HomeEpoch::FIRST },
                me: r(id),
                home: dc(1),
                members: members.clone(),
                placement_generation: 1,
                preferred: id == 1,
                lossy_cut: None,
                ack,
                recorded: Mode::default(),
                timing: Timing {
                    heartbeat_ticks: 3,
                    election_ticks_min: 10,
                    election_ticks_max: 20,
                },
                append_bytes_max: APPEND_BYTES_MAX,
            };
            let mut log = Restored::default();
            log.conf_state.voters = vec![1, 2, 3];
            log.conf_state.learners = (4..=9).collect();
            log.hard_state.term = HomeEpoch::FIRST.first_term().0;
            let core = Core::new(config, Restart { log, ..Restart::default() }, id, &logger);
            cluster.cores.insert(r(id), core);
        }
        cluster.settle();
        cluster
    }

    /// Delivers and writes until nothing moves.
    fn settle(&mut self) {
        loop {
            let ids: Vec<ReplicaId> = self.cores.keys().copied().collect();
            for id in ids {
                self.drain(id);
            }
            let Some((from, outgoing)) = self.wire.pop_front() else {
                let due = if self.holds { None } else { self.fetches.pop_front() };
                let Some((to, wanted)) = due else { return };
                self.fetch(to, wanted);
                continue;
            };
            if self.cut.contains(&from) || self.cut.contains(&outgoing.to) {
                continue;
            }
            let known = self.cores[&from].knows_watermark();
            let to = self.cores.get_mut(&outgoing.to).unwrap();
            if let Some(message) = outgoing.raft {
                *self.appended.entry(outgoing.to).or_default() += message.entries.len();
                to.handle_message(self.now, from, message);
            }
            if let Some((term, index)) = outgoing.watermark {
                let claim = Claim { term, index, at_ms: known.then_some(self.now.wall_ms) };
                to.handle_watermark(self.now, claim);
            }
            if let Some(notice) = outgoing.catch_up {
                to.handle_notice(self.now, from, *notice);
            }
        }
    }

    fn drain(&mut self, id: ReplicaId) {
        let core = self.cores.get_mut(&id).unwrap();
        while let Some(effect) = core.poll_effect() {
            match effect {
                Effect::Send(outgoing) => self.wire.push_back((id, outgoing)),
                Effect::Persist(persist) => {
                    if persist.caught_up {
                        self.caught_up.insert(id);
                    }
                    let disk = self.disks.entry(id).or_default();
                    if let Some(cut) = persist.truncate_from {
                        disk.split_off(&cut);
                    }
                    disk.extend(persist.entries.iter().map(|e| (e.index, e.clone())));
                    if self.stuck.contains(&id) {
                        *self.owed.entry(id).or_default() += 1;
                    } else {
                        core.handle_persisted(self.now);
                    }
                }
                Effect::Read(wanted) => {
                    if !core.begin_catch_up(&wanted) {
                        let there = self.disks[&id].range(wanted.low..wanted.high).take(8);
                        let entries: Vec<log::Entry> = there.map(|(_, e)| e.clone()).collect();
                        core.handle_fetched(self.now, wanted, &entries);
                    }
                }
                Effect::Fetch(wanted) => {
                    self.fetched.push((id, wanted));
                    self.fetches.push_back((id, wanted));
                }
                Effect::Lead(_) => {}
                Effect::AskMode(ask) => self.asks.push((id, ask)),
                Effect::Reply(ticket, answer) => {
                    self.replies.insert(ticket, answer);
                }
                Effect::Deleted(ticket, answer) => {
                    self.deleted.insert(ticket, answer);
                }
                Effect::HandedOff(ticket, answer) => {
                    self.handed_off.insert(ticket, answer);
                }
                Effect::Confirmed(ticket, answer) => {
                    self.confirmed.insert(ticket, answer);
                }
            }
        }
    }

    /// Answers a call for entries, a few at a time. Replica and node have the same number.
    fn fetch(&mut self, to: ReplicaId, wanted: RangeWanted) {
        let source = r(u64::from(wanted.source.as_u32()));
        let past = wanted.to.min(self.cores[&source].watermark().0.next());
        let is_cut = self.cut.contains(&source) || self.cut.contains(&to);
        let entries = (!is_cut && wanted.from < past).then(|| {
            let there = self.disks[&source].range(wanted.from..past).take(10);
            there.map(|(_, e)| e.clone()).collect()
        });
        let core = self.cores.get_mut(&to).unwrap();
        core.handle_range(self.now, wanted.from, entries);
    }

    /// The disks that were stuck do what they owe.
    fn unstick(&mut self) {
        self.stuck.clear();
        for (id, owed) in std::mem::take(&mut self.owed) {
            for _ in 0..owed {
                self.cores.get_mut(&id).unwrap().handle_persisted(self.now);
                self.drain(id);
            }
        }
        self.settle();
    }

    /// A stuck disk does the oldest write that it owes.
    fn write_one(&mut self, id: ReplicaId) {
        *self.owed.get_mut(&id).unwrap() -= 1;
        self.cores.get_mut(&id).unwrap().handle_persisted(self.now);
        self.settle();
    }

    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now.mono += TICK;
            self.now.wall_ms += 50;
            let now = self.now;
            self.cores.values_mut().for_each(|core| core.handle_tick(now));
            self.settle();
        }
    }

    fn leader(&self) -> ReplicaId {
        let leads = |(id, core): (&ReplicaId, &Core)| {
            (core.is_leader() && !self.cut.contains(id)).then_some(*id)
        };
        self.cores.iter().find_map(leads).expect("somebody leads")
    }

    fn produce(&mut self, to: ReplicaId, bytes: Bytes, acks: Acks) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let deadline = self.now.mono + Duration::from_secs(3);
        let queued = Queued { ticket, batches: vec![bytes], acks, deadline };
        let core = self.cores.get_mut(&to).unwrap();
        core.queue_produce(queued);
        core.flush(self.now);
        self.settle();
        ticket
    }

    fn hw(&self, id: u64) -> Offset {
        self.cores[&r(id)].progress().high_watermark
    }
}

/// A batch of `records`, of producer 7 if it has a sequence.
pub(crate) fn sample(records: i32, sequence: Option<i32>) -> Bytes {
    sized(records, sequence, 0)
}

/// The same, with as many bytes behind its header.
fn sized(records: i32, sequence: Option<i32>, bytes: usize) -> Bytes {
    let mut b = BytesMut::zeroed(batch::HEADER_BYTES + bytes);
    b[8..12].copy_from_slice(&(49 + bytes as i32).to_be_bytes());
    b[16] = 2;
    b[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    let (id, epoch, sequence) = sequence.map_or((-1i64, -1i16, -1), |s| (7, 0, s));
    b[43..51].copy_from_slice(&id.to_be_bytes());
    b[51..53].copy_from_slice(&epoch.to_be_bytes());
    b[53..57].copy_from_slice(&sequence.to_be_bytes());
    b[57..61].copy_from_slice(&records.to_be_bytes());
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    batch::check(&b).expect("a sample is well-formed");
    b.freeze()
}

#[test]
fn the_preferred_replica_leads_an_empty_log_at_once_and_everyone_learns_the_watermark() {
    let mut cluster = Cluster::new(ASYNC);
    assert_eq!(cluster.leader(), r(1));
    let ticket = cluster.produce(r(1), sample(3, None), Acks::All);
    let produced = cluster.replies[&ticket].unwrap();
    assert_eq!((produced.base_offset, produced.next_offset), (Offset(0), Offset(3)));
    for id in 1..=9 {
        assert_eq!(cluster.hw(id), Offset(3), "replica {id}");
    }
}

#[test]
fn the_preferred_replica_of_an_empty_log_asks_again_soon_if_nobody_was_there_to_hear_it() {
    let config = Cluster::new(ASYNC).cores[&r(1)].config().clone();
    let mut log = Restored::default();
    log.conf_state.voters = vec![1, 2, 3];
    log.hard_state.term = HomeEpoch::FIRST.first_term().0;
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let mut core = Core::new(config, Restart { log, ..Restart::default() }, 1, &logger);
    let asked = |core: &mut Core| {
        let asks = |e: &Effect| matches!(e, Effect::Send(Outgoing { raft: Some(_), .. }));
        std::iter::from_fn(|| core.poll_effect()).filter(asks).count()
    };
    assert_eq!(asked(&mut core), 2);
    core.handle_tick(Now::default());
    core.handle_tick(Now::default());
    assert_eq!(asked(&mut core), 2, "a quarter of the shortest timeout has passed");
}

#[test]
fn a_sync_topic_acknowledges_only_when_a_majority_of_a_remote_dc_has_it_on_disk() {
    let mut cluster = Cluster::new(AckPolicy { sync_to: 1, ..ASYNC });
    cluster.tick(4);
    cluster.stuck.extend([r(4), r(5), r(7), r(8)]);
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(!cluster.replies.contains_key(&ticket), "one learner of three is no datacenter");
    assert_eq!(cluster.hw(1), Offset(0), "and nothing shows it");
    cluster.unstick();
    assert!(cluster.replies[&ticket].is_ok());
    assert_eq!(cluster.hw(9), Offset(1));
}

#[test]
fn a_sync_topic_without_a_remote_datacenter_refuses_before_it_appends() {
    let mut cluster = Cluster::new(AckPolicy { sync_to: 1, ..ASYNC });
    cluster.tick(4);
    cluster.cut.extend((4..=9).map(r));
    cluster.tick(60);
    let before = cluster.cores[&r(1)].log().last();
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&ticket], Err(ProduceError::NotEnoughReplicas));
    assert_eq!(cluster.cores[&r(1)].log().last(), before);
}

#[test]
fn an_async_topic_goes_on_without_the_others_and_counts_what_they_lack() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.cut.extend((4..=9).map(r));
    let ticket = cluster.produce(r(1), sample(5, None), Acks::All);
    assert!(cluster.replies[&ticket].is_ok());
    cluster.tick(40);
    let exposure = &cluster.cores[&r(1)].exposures(cluster.now.mono)[&dc(4)];
    assert_eq!((exposure.age, exposure.records), (TICK * 40, 5));
    cluster.cut.clear();
    cluster.tick(10);
    let exposure = &cluster.cores[&r(1)].exposures(cluster.now.mono)[&dc(4)];
    assert_eq!((exposure.age, exposure.records), (Duration::ZERO, 0));
    assert_eq!(cluster.hw(9), Offset(5));
}

#[test]
fn a_dead_leader_is_followed_by_one_that_has_everything_acknowledged() {
    let mut cluster = Cluster::new(ASYNC);
    let acked = cluster.produce(r(1), sample(2, Some(0)), Acks::All);
    assert!(cluster.replies[&acked].is_ok());
    cluster.cut.insert(r(1));
    cluster.tick(60);
    let leader = cluster.leader();
    assert_ne!(leader, r(1));
    let retry = cluster.produce(leader, sample(2, Some(0)), Acks::All);
    let produced = cluster.replies[&retry].unwrap();
    assert!(produced.duplicate);
    assert_eq!(produced.base_offset, Offset(0));
    let next = cluster.produce(leader, sample(1, Some(2)), Acks::All);
    assert_eq!(cluster.replies[&next].unwrap().base_offset, Offset(2));
}

#[test]
fn what_a_cut_off_leader_appended_is_refused_to_its_producer_and_replaced() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.cut.insert(r(1));
    let lost = cluster.produce(r(1), sample(4, None), Acks::All);
    assert!(!cluster.replies.contains_key(&lost));
    cluster.tick(60);
    assert!(cluster.replies[&lost].is_err());
    let leader = cluster.leader();
    let kept = cluster.produce(leader, sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&kept].unwrap().base_offset, Offset(0));
    cluster.cut.clear();
    cluster.tick(60);
    assert_eq!(cluster.hw(1), Offset(1));
    let logs = |id: u64| cluster.cores[&r(id)].log().epochs().to_vec();
    assert_eq!(logs(1), logs(leader.0));
}

#[test]
fn a_write_under_way_says_nothing_of_the_entries_that_replaced_its_own() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.cut.extend([r(2), r(3)]);
    cluster.stuck.insert(r(4));
    let own = cluster.cores[&r(4)].log().last();
    cluster.produce(r(1), sample(5, None), Acks::All);
    cluster.cut = BTreeSet::from([r(1)]);
    cluster.tick(60);
    let leader = cluster.leader();
    cluster.produce(leader, sample(1, None), Acks::All);
    cluster.tick(20);
    let newest = |id| cluster.cores[&id].log().epochs().last().map(|(term, ..)| *term);
    assert_eq!(newest(r(4)), newest(leader), "it was given the new leader's entry");
    cluster.write_one(r(4));
    let core = &cluster.cores[&r(4)];
    assert_eq!((core.log().persisted(), core.watermark().0), (own, own));
    cluster.unstick();
    cluster.tick(20);
    assert_eq!(cluster.hw(4), Offset(1));
}

#[test]
fn acks_1_waits_for_the_leaders_own_disk_and_no_other() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.cut.extend([r(2), r(3)]);
    cluster.stuck.insert(r(1));
    let ticket = cluster.produce(r(1), sample(1, None), Acks::Leader);
    assert!(!cluster.replies.contains_key(&ticket));
    cluster.unstick();
    assert!(cluster.replies[&ticket].is_ok());
    assert_eq!(cluster.hw(1), Offset(0), "and nobody may read it yet");
}

/// Seed 1882644570702404 of the simulator, whose runs differed: the question stayed here until
/// something else came up, and the election timeout was the one that Raft had drawn meanwhile.
#[test]
fn the_preferred_voter_of_an_empty_log_asks_again_as_soon_as_the_others_may_be_there() {
    let mut cluster = Cluster::without(ASYNC, BTreeSet::from([r(2), r(3)]));
    cluster.tick(1);
    cluster.cut.clear();
    cluster.tick(2);
    assert_eq!(cluster.leader(), r(1));
}

#[test]
fn an_isolated_replica_comes_back_without_an_election() {
    let mut cluster = Cluster::new(ASYNC);
    let term = cluster.cores[&r(1)].term();
    cluster.cut.insert(r(3));
    cluster.tick(400);
    cluster.cut.clear();
    cluster.tick(40);
    assert_eq!((cluster.leader(), cluster.cores[&r(3)].term()), (r(1), term));
}

#[test]
fn fewer_voters_in_sync_than_min_insync_replicas_refuse_before_append() {
    let mut cluster = Cluster::new(AckPolicy { min_in_sync: 3, ..ASYNC });
    cluster.tick(4);
    let taken = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.replies[&taken].is_ok());
    cluster.cut.insert(r(2));
    cluster.tick(60);
    let refused = cluster.produce(r(1), sample(1, None), Acks::All);
    assert_eq!(cluster.replies[&refused], Err(ProduceError::NotEnoughReplicas));
}
