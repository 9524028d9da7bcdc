//! Hosts alone, joined by a network that does what it is told.

mod quiesce;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{Host, Round, Status};
use crate::model::{
    DcName, GroupId, HomeEpoch, Mode, NodeId, Offset, ReplicaId, TopicId, TopicPartition,
};
use crate::replica::core::config::{APPEND_BYTES_MAX, Config, Member, Timing};
use crate::replica::core::effect::Ticket;
use crate::replica::core::raft_log::Restored;
use crate::replica::core::tests::{ASYNC, sample};
use crate::replica::core::{Core, Now, Queued, Restart};
use crate::replica::wire;
use crate::replica::{Acks, Role};

const TICK: Duration = Duration::from_millis(50);

const ELECTION_TICKS_MIN: u32 = 10;

/// Nodes 1 to 3 in `fra`, 4 to 6 in `iad`; each has a replica of every partition, with its own number.
const NODES: u64 = 6;

enum Message {
    Groups(Vec<wire::Group>, VecDeque<Bytes>),
    Beat(wire::beat::Beat),
    Answer(wire::beat::Answer),
}

struct Cluster {
    hosts: BTreeMap<NodeId, Host>,
    partitions: i32,
    /// Nodes that hear and say nothing.
    cut: BTreeSet<NodeId>,
    /// The next beats to these are lost.
    deaf: BTreeSet<NodeId>,
    /// They take no notice of beats, as older software.
    old: BTreeSet<NodeId>,
    /// Messages of groups, and beats and their answers.
    messages: usize,
    beats: usize,
    replies: BTreeMap<Ticket, bool>,
    now: Now,
}

fn n(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn dc(of: u64) -> DcName {
    ["fra", "iad"][(of as usize - 1) / 3].parse().unwrap()
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition }
}

fn core(me: u64, partition: i32) -> Core {
    let member = |id| Member { node: n(id), dc: dc(id), voter: id <= 3 };
    let config = Config {
        group: GroupId { partition: at(partition), home_epoch: HomeEpoch::FIRST },
        me: ReplicaId(me),
        home: dc(1),
        members: (1..=NODES).map(|id| (ReplicaId(id), member(id))).collect(),
        placement_generation: 1,
        preferred: me == 1,
        lossy_cut: None,
        ack: ASYNC,
        recorded: Mode::default(),
        timing: Timing {
            heartbeat_ticks: 3,
            election_ticks_min: ELECTION_TICKS_MIN,
            election_ticks_max: 2 * ELECTION_TICKS_MIN,
        },
        append_bytes_max: APPEND_BYTES_MAX,
    };
    let mut log = Restored::default();
    log.conf_state.voters = vec![1, 2, 3];
    log.conf_state.learners = (4..=NODES).collect();
    log.hard_state.term = HomeEpoch::FIRST.first_term().0;
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    Core::new(config, Restart { log, ..Restart::default() }, me, &logger)
}

impl Cluster {
    fn new(partitions: i32) -> Self {
        let now = Now { mono: Duration::ZERO, wall_ms: 1_000_000 };
        let host = |id| {
            let mut host = Host::new();
            host.lease(now, true);
            (0..partitions).for_each(|partition| host.insert(now, core(id, partition)));
            (n(id), host)
        };
        let mut cluster = Self {
            hosts: (1..=NODES).map(host).collect(),
            partitions,
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            old: BTreeSet::new(),
            messages: 0,
            beats: 0,
            replies: BTreeMap::new(),
            now,
        };
        cluster.settle();
        cluster
    }

    /// Delivers and writes until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut wire = VecDeque::new();
            for (from, host) in &mut self.hosts {
                let round = host.take_round(self.now);
                for (at, _) in &round.writes {
                    host.persisted(self.now, *at);
                }
                self.replies.extend(round.answers.replies.iter().map(|(t, r)| (*t, r.is_ok())));
                let is_busy = !round.writes.is_empty();
                send(*from, round, &mut wire);
                if is_busy {
                    let round = host.take_round(self.now);
                    assert!(round.writes.is_empty(), "one write a round is enough here");
                    self.replies.extend(round.answers.replies.iter().map(|(t, r)| (*t, r.is_ok())));
                    send(*from, round, &mut wire);
                }
            }
            if wire.is_empty() {
                return;
            }
            for (from, to, message) in wire {
                if !self.cut.contains(&from) && !self.cut.contains(&to) {
                    self.deliver(from, to, message);
                }
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, message: Message) {
        let host = self.hosts.get_mut(&to).unwrap();
        match message {
            Message::Groups(groups, chunks) => {
                self.messages += groups.len();
                host.handle_groups(self.now, from, groups, chunks).unwrap();
            }
            Message::Beat(beat) => {
                self.beats += 1;
                if !self.deaf.remove(&to) && !self.old.contains(&to) {
                    host.handle_beat(self.now, from, &beat).unwrap();
                }
            }
            Message::Answer(answer) => {
                self.beats += 1;
                host.handle_answer(from, &answer).unwrap();
            }
        }
    }

    fn tick(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.now.mono += TICK;
            self.now.wall_ms += TICK.as_millis() as i64;
            let here = self.hosts.iter_mut().filter(|(node, _)| !self.cut.contains(node));
            here.for_each(|(_, host)| host.tick(self.now));
            self.settle();
        }
    }

    /// Ticks until it is so; how many that took.
    fn ticks_until(&mut self, most: u64, is_so: impl Fn(&Self) -> bool) -> u64 {
        for ticks in 0..=most {
            if is_so(self) {
                return ticks;
            }
            self.tick(1);
        }
        panic!("not so after {most} ticks");
    }

    fn quiet(&self) -> usize {
        let quiet = |host: &Host| (0..self.partitions).filter(|p| host.is_quiet(at(*p))).count();
        self.hosts.values().map(quiet).sum()
    }

    fn is_all_quiet(&self) -> bool {
        self.quiet() == self.hosts.len() * self.partitions as usize
    }

    fn leader(&self, partition: i32) -> Option<NodeId> {
        let leads = |(node, host): (&NodeId, &Host)| {
            let leads = host.core(at(partition)).is_some_and(Core::is_leader);
            (leads && !self.cut.contains(node)).then_some(*node)
        };
        self.hosts.iter().find_map(leads)
    }

    fn produce(&mut self, to: NodeId, partition: i32) -> Ticket {
        let ticket = Ticket(self.replies.len() as u64 + 1);
        let deadline = self.now.mono + Duration::from_secs(3);
        let batches = vec![sample(1, None)];
        let queued = Queued { ticket, batches, acks: Acks::All, deadline };
        self.hosts.get_mut(&to).unwrap().produce(at(partition), queued);
        self.settle();
        ticket
    }

    fn status(&mut self, node: NodeId, partition: i32) -> Status {
        let statuses = self.hosts.get_mut(&node).unwrap().statuses(self.now);
        statuses.into_iter().find(|status| status.partition == at(partition)).unwrap()
    }
}

fn send(from: NodeId, round: Round, wire: &mut VecDeque<(NodeId, NodeId, Message)>) {
    for append in round.appends {
        let message = Message::Groups(vec![append.group], append.chunks.into());
        wire.push_back((from, append.to, message));
    }
    for (to, groups) in round.control {
        wire.push_back((from, to, Message::Groups(groups, VecDeque::new())));
    }
    for (to, beat) in round.beats {
        wire.push_back((from, to, Message::Beat(beat)));
    }
    for (to, answer) in round.beat_answers {
        wire.push_back((from, to, Message::Answer(answer)));
    }
}
