//! Random clients, random losses: what the log says is what the shard says.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::member::Member;
use super::super::offsets::Offsets;
use super::super::record::{GroupValue, group_key};
use super::*;

const GROUPS: [&str; 2] = ["g", "h"];

#[derive(Debug, Clone)]
enum Op {
    /// A first join; the bool asks for a dynamic id first, as version 4 does.
    Enter {
        group: usize,
        instance: Option<usize>,
        offer: usize,
        in_two_steps: bool,
    },
    /// Of a member that was once given an id.
    Rejoin {
        member: usize,
        offer: usize,
    },
    Sync {
        member: usize,
    },
    Heartbeat {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Commit {
        member: usize,
        partition: i32,
        offset: i64,
    },
    CommitAlone {
        group: usize,
        partition: i32,
        offset: i64,
    },
    DeleteGroup {
        group: usize,
    },
    DeleteOffset {
        group: usize,
        partition: i32,
    },
    Pass {
        seconds: u64,
    },
    /// The first write in flight ends.
    Finish {
        is_committed: bool,
    },
    /// The last one does, before the others.
    FinishLast,
}

fn op() -> impl Strategy<Value = Op> {
    let group = 0..GROUPS.len();
    let member = 0..8usize;
    prop_oneof![
        3 => (group.clone(), proptest::option::of(0..2usize), 0..3usize, any::<bool>()).prop_map(
            |(group, instance, offer, in_two_steps)| Op::Enter {
                group, instance, offer, in_two_steps
            }
        ),
        6 => (member.clone(), 0..3usize).prop_map(|(member, offer)| Op::Rejoin { member, offer }),
        8 => member.clone().prop_map(|member| Op::Sync { member }),
        2 => member.clone().prop_map(|member| Op::Heartbeat { member }),
        1 => member.clone().prop_map(|member| Op::Leave { member }),
        4 => (member, 0..3, 0..100i64).prop_map(
            |(member, partition, offset)| Op::Commit { member, partition, offset }
        ),
        1 => (group.clone(), 0..3, 0..100i64).prop_map(
            |(group, partition, offset)| Op::CommitAlone { group, partition, offset }
        ),
        1 => group.clone().prop_map(|group| Op::DeleteGroup { group }),
        1 => (group, 0..3).prop_map(
            |(group, partition)| Op::DeleteOffset { group, partition }
        ),
        2 => prop_oneof![1..20u64, Just(4 * 24 * 3600)].prop_map(|seconds| Op::Pass { seconds }),
        10 => proptest::bool::weighted(0.8).prop_map(|is_committed| Op::Finish { is_committed }),
        2 => Just(Op::FinishLast),
    ]
}

/// A script with clients that remember what they were told.
struct World {
    script: Script,
    /// Group, member id, instance.
    members: Vec<(Id, MemberId, Option<InstanceId>)>,
    /// Writes that ended out of turn: told to the shard, but in the log only after those before.
    logged: BTreeMap<AppendId, Option<Vec<Record>>>,
    next_logged: u64,
}

fn offer(offer: usize) -> Vec<Protocol> {
    match offer {
        0 => vec![protocol("range", subscription(&["t"]))],
        1 => vec![
            protocol("sticky", subscription(&["t", "u"])),
            protocol("range", subscription(&["t", "u"])),
        ],
        _ => vec![protocol("sticky", Bytes::from_static(b"?")), protocol("range", Bytes::new())],
    }
}

impl World {
    fn member(&self, member: usize) -> Option<(Id, MemberId, Option<InstanceId>)> {
        // The latest are the likeliest to be in their group still.
        self.members.iter().rev().nth(member).cloned()
    }

    fn generation(&self, group: &Id) -> i32 {
        self.script.shard.groups.get(group).map_or(-1, |g| g.generation)
    }

    /// Clients learn their ids from whatever they are answered.
    fn learn(&mut self, group: &Id, instance: Option<InstanceId>, ticket: Ticket) {
        let member_id = match self.script.answers.get(&ticket) {
            Some(Response::Join(Ok(joined))) => joined.member_id.clone(),
            Some(Response::Join(Err(refused))) => refused.member_id.clone(),
            _ => return,
        };
        self.members.push((group.clone(), member_id, instance));
    }

    fn apply(&mut self, op: Op) {
        let s = &mut self.script;
        match op {
            Op::Enter { group, instance, offer: n, in_two_steps } => {
                let group = Id::from(GROUPS[group]);
                let instance = instance.map(|i| InstanceId::from(["x", "y"][i]));
                let ticket = s.ask_join(Join {
                    group: group.clone(),
                    instance_id: instance.clone(),
                    protocols: offer(n),
                    requires_known_member_id: in_two_steps,
                    ..a_join()
                });
                self.learn(&group, instance, ticket);
            }
            Op::Rejoin { member, offer: n } => {
                let Some((group, member_id, instance_id)) = self.member(member) else { return };
                let protocols = offer(n);
                let join = Join { group, member_id, instance_id, protocols, ..a_join() };
                self.script.ask_join(join);
            }
            Op::Sync { member } => {
                let Some((group, member_id, instance_id)) = self.member(member) else { return };
                let part = Bytes::copy_from_slice(member_id.as_bytes());
                let sync = Sync {
                    generation: self.generation(&group),
                    group,
                    assignments: vec![(member_id.clone(), part)],
                    member_id,
                    instance_id,
                    protocol_type: None,
                    protocol_name: None,
                };
                self.script.ask(|shard, now, ticket, _| shard.handle_sync(now, ticket, sync));
            }
            Op::Heartbeat { member } => {
                let Some((group, member_id, instance_id)) = self.member(member) else { return };
                let generation = self.generation(&group);
                let heartbeat = Heartbeat { group, generation, member_id, instance_id };
                self.script
                    .ask(|shard, now, ticket, _| shard.handle_heartbeat(now, ticket, heartbeat));
            }
            Op::Leave { member } => {
                let Some((group, member_id, instance_id)) = self.member(member) else { return };
                let leave = Leave { group, members: vec![Leaving { member_id, instance_id }] };
                self.script.ask(|shard, now, ticket, _| shard.handle_leave(now, ticket, leave));
            }
            Op::Commit { member, partition, offset } => {
                let Some((group, member_id, instance_id)) = self.member(member) else { return };
                let generation = self.generation(&group);
                self.commit(group, generation, (member_id, instance_id), partition, offset);
            }
            Op::CommitAlone { group, partition, offset } => {
                let nobody = (MemberId::default(), None);
                self.commit(GROUPS[group].into(), -1, nobody, partition, offset);
            }
            Op::DeleteGroup { group } => {
                let ids = vec![Id::from(GROUPS[group])];
                s.ask(|shard, _, ticket, _| shard.handle_delete_groups(ticket, ids));
            }
            Op::DeleteOffset { group, partition } => {
                let partitions = vec![TopicPartition::new("t", partition)];
                let delete = DeleteOffsets { group: GROUPS[group].into(), partitions };
                s.ask(|shard, _, ticket, _| shard.handle_delete_offsets(ticket, delete));
            }
            Op::Pass { seconds } => s.pass(Duration::from_secs(seconds)),
            Op::Finish { is_committed } => {
                if let Some(append) = s.appends.pop_front() {
                    self.finish(append, is_committed);
                }
            }
            Op::FinishLast => {
                if let Some(append) = s.appends.pop_back() {
                    self.finish(append, true);
                }
            }
        }
    }

    fn commit(
        &mut self,
        group: Id,
        generation: i32,
        (member_id, instance_id): (MemberId, Option<InstanceId>),
        partition: i32,
        offset: i64,
    ) {
        let offset = OffsetToCommit {
            partition: TopicPartition::new("t", partition),
            offset,
            leader_epoch: 7,
            metadata: String::new(),
        };
        self.script.ask_commit_of(CommitOffsets {
            group,
            generation,
            member_id,
            instance_id,
            retention_ms: None,
            offsets: vec![offset],
        });
    }

    fn finish(&mut self, (id, records): (AppendId, Vec<Record>), is_committed: bool) {
        self.logged.insert(id, is_committed.then_some(records));
        let result = if is_committed { Ok(()) } else { Err(AppendError::Unavailable) };
        self.script.shard.handle_appended(self.script.now, id, result);
        self.script.collect();
        while let Some(records) = self.logged.remove(&AppendId(self.next_logged)) {
            self.script.log.extend(records.into_iter().flatten());
            self.next_logged += 1;
        }
    }

    /// I12 and the module's third invariant.
    fn check(&self) {
        let shard = &self.script.shard;
        let next = self.script.take_over();
        assert_eq!(shard.snapshot(), next.shard.snapshot(), "the log says otherwise");
        for group in shard.groups.values() {
            check_group(group);
            if group.state == State::Stable {
                let stored = GroupValue::decode(group.stored.clone().unwrap()).unwrap();
                let value = group.value();
                // The record was written while the assignment was awaited.
                let stamp = value.state_timestamp_ms;
                assert_eq!(sorted(GroupValue { state_timestamp_ms: stamp, ..stored }), value);
            }
        }
        let sizes = shard.groups.values().map(|g| {
            let stored = g.stored.as_ref().map_or(0, |s| 128 + 2 * s.len());
            let members: usize = g.members.values().map(Member::size_bytes).sum();
            stored + members + Offsets::size_bytes(&g.offsets)
        });
        assert_eq!(shard.state_bytes(), sizes.sum::<usize>());
    }
}

fn sorted(mut value: GroupValue) -> GroupValue {
    value.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    value
}

fn check_group(group: &super::super::state::Group) {
    let ids: BTreeSet<_> = group.members.keys().cloned().collect();
    let statics: BTreeSet<_> = group.static_members.values().cloned().collect();
    assert!(statics.is_subset(&ids) && group.pending_sync.is_subset(&ids));
    assert!(group.pending_members.is_disjoint(&ids));
    let named = group.members.iter().filter(|(_, m)| m.instance_id.is_some());
    assert!(named.map(|(id, _)| id).eq(statics.iter()));
    match group.state {
        State::Empty | State::Dead => assert!(ids.is_empty() && group.leader.is_none()),
        State::PreparingRebalance => {}
        State::CompletingRebalance | State::Stable => {
            assert!(group.leader.as_ref().is_some_and(|l| ids.contains(l)), "{group:?}");
            assert!(group.members.values().all(|m| m.awaiting_join.is_none()));
        }
    }
    let syncs = group.members.values().filter(|m| m.awaiting_sync.is_some()).count();
    assert!(syncs == 0 || group.state == State::CompletingRebalance);
}

proptest! {
    #[test]
    fn a_coordinator_that_takes_over_knows_what_was_committed(
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut world = World {
            script: Script::new(),
            members: Vec::new(),
            logged: BTreeMap::new(),
            next_logged: 0,
        };
        for op in ops {
            world.apply(op);
            world.check();
        }
        // Every ticket gets its answer: at the latest when the shard resigns.
        world.script.shard.handle_resigned(world.script.now);
        world.script.collect();
        for ticket in 1..=world.script.tickets {
            prop_assert!(world.script.answers.contains_key(&Ticket(ticket)), "{ticket}");
        }
    }

    #[test]
    fn a_group_left_alone_costs_nothing_in_the_end(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut world = World {
            script: Script::new(),
            members: Vec::new(),
            logged: BTreeMap::new(),
            next_logged: 0,
        };
        for op in ops {
            world.apply(op);
        }
        for _ in 0..40 {
            while let Some(append) = world.script.appends.pop_front() {
                world.finish(append, true);
            }
            world.script.pass(Duration::from_secs(24 * 3600));
        }
        prop_assert!(world.script.shard.groups.is_empty());
        prop_assert_eq!(world.script.shard.state_bytes(), 0);
        prop_assert_eq!(world.script.shard.cx.timers.len(), 1);
        let next = world.script.take_over();
        prop_assert!(next.shard.snapshot().is_empty());
    }
}

#[test]
fn a_snapshot_is_what_another_shard_loads() {
    let mut s = Script::new();
    let (a, generation) = s.one_member();
    s.ask_commit(&a, generation, 42);
    s.commit_writes();
    let mut next = Shard::new(Config::default());
    for record in s.shard.snapshot() {
        assert!(next.load(record).unwrap());
    }
    assert_eq!(next.snapshot(), s.shard.snapshot());
    let tombstone = Record { key: group_key("g"), value: None };
    assert!(next.load(tombstone).unwrap());
    assert_eq!(next.describe(&"g".into()).map(|d| d.state), Ok(State::Empty), "offsets remain");
}
