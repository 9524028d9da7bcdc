//! The protocol as scripts, each named by the sentence that it proves.

mod commits;
mod deletion;
mod members;
mod properties;
mod records;
mod static_members;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::*;

/// A consumer's subscription (version 1, no user data, no owned partitions) to `topics`.
fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 1];
    out.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    out.extend(0i32.to_be_bytes());
    Bytes::from(out)
}

fn protocol(name: &str, metadata: Bytes) -> Protocol {
    Protocol { name: name.into(), metadata }
}

/// A version 9 join of group `g` that offers `range` for topic `t`.
fn a_join() -> Join {
    Join {
        group: "g".into(),
        member_id: MemberId::default(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", subscription(&["t"]))],
        requires_known_member_id: true,
        skips_assignment: true,
    }
}

/// A shard, its clients and its log, under the script's control: writes commit when it says so.
struct Script {
    shard: Shard,
    now: Now,
    tickets: u64,
    answers: BTreeMap<Ticket, Response>,
    appends: VecDeque<(AppendId, Vec<Record>)>,
    /// Committed records.
    log: Vec<Record>,
}

impl Script {
    fn new() -> Self {
        // No initial delay: most scripts are not about it.
        Self::with(Config { initial_rebalance_delay: Duration::ZERO, ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let now = Now { monotonic: Duration::from_secs(1), unix_ms: 1_700_000_000_000 };
        let mut shard = Shard::new(config);
        shard.handle_loaded(now);
        Self {
            shard,
            now,
            tickets: 0,
            answers: BTreeMap::new(),
            appends: VecDeque::new(),
            log: Vec::new(),
        }
    }

    fn ask(&mut self, run: impl FnOnce(&mut Shard, Now, Ticket, u128)) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        run(&mut self.shard, self.now, ticket, u128::from(self.tickets));
        self.collect();
        ticket
    }

    fn collect(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Append { id, records } => self.appends.push_back((id, records)),
                Effect::Respond { ticket, response } => {
                    let before = self.answers.insert(ticket, response);
                    assert_eq!(before, None, "two answers to {ticket:?}");
                }
            }
        }
    }

    /// All writes that are in flight are committed.
    fn commit_writes(&mut self) {
        while let Some((id, records)) = self.appends.pop_front() {
            self.log.extend(records);
            self.shard.handle_appended(self.now, id, Ok(()));
            self.collect();
        }
    }

    fn lose_writes(&mut self, error: AppendError) {
        while let Some((id, _)) = self.appends.pop_front() {
            self.shard.handle_appended(self.now, id, Err(error));
            self.collect();
        }
    }

    /// Lets time pass, with every deadline in it at its moment.
    fn pass(&mut self, time: Duration) {
        let until = self.now.monotonic + time;
        loop {
            let due = self.shard.poll_timeout().filter(|due| *due <= until);
            let next = due.unwrap_or(until).max(self.now.monotonic);
            let elapsed = next - self.now.monotonic;
            self.now.monotonic = next;
            self.now.unix_ms += i64::try_from(elapsed.as_millis()).unwrap();
            if due.is_none() {
                return;
            }
            self.shard.handle_timeout(self.now);
            self.collect();
        }
    }

    fn answer(&self, ticket: Ticket) -> Response {
        self.answers.get(&ticket).unwrap_or_else(|| panic!("no answer to {ticket:?}")).clone()
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    fn ask_join(&mut self, join: Join) -> Ticket {
        self.ask(|shard, now, ticket, random| shard.handle_join(now, ticket, join, random))
    }

    fn joined(&self, ticket: Ticket) -> Joined {
        match self.answer(ticket) {
            Response::Join(Ok(joined)) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, ticket: Ticket) -> JoinRefused {
        match self.answer(ticket) {
            Response::Join(Err(refused)) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// A first join and the second one, with the id: its member id and waiting ticket.
    fn ask_to_enter(&mut self, join: Join) -> (MemberId, Ticket) {
        let ticket = self.ask_join(join.clone());
        let refused = self.refused(ticket);
        assert_eq!(refused.error, Error::MemberIdRequired);
        let member_id = refused.member_id;
        (member_id.clone(), self.ask_join(Join { member_id, ..join }))
    }

    fn rejoin(&mut self, member_id: &MemberId) -> Ticket {
        self.ask_join(Join { member_id: member_id.clone(), ..a_join() })
    }

    fn ask_sync(
        &mut self,
        member: &MemberId,
        generation: i32,
        parts: &[(&MemberId, &str)],
    ) -> Ticket {
        let part = |(id, part): &(&MemberId, &str)| {
            ((*id).clone(), Bytes::copy_from_slice(part.as_bytes()))
        };
        let sync = Sync {
            group: "g".into(),
            generation,
            member_id: member.clone(),
            instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: parts.iter().map(part).collect(),
        };
        self.ask(|shard, now, ticket, _| shard.handle_sync(now, ticket, sync))
    }

    fn synced(&self, ticket: Ticket) -> Result<String, Error> {
        match self.answer(ticket) {
            Response::Sync(result) => {
                result.map(|s| String::from_utf8(s.assignment.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, member: &MemberId, generation: i32) -> Result<(), Error> {
        let heartbeat = Heartbeat {
            group: "g".into(),
            generation,
            member_id: member.clone(),
            instance_id: None,
        };
        let ticket =
            self.ask(|shard, now, ticket, _| shard.handle_heartbeat(now, ticket, heartbeat));
        match self.answer(ticket) {
            Response::Heartbeat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        let instance_id = instance_id.map(InstanceId::from);
        let leaving = Leaving { member_id: member_id.into(), instance_id };
        let leave = Leave { group: "g".into(), members: vec![leaving] };
        let ticket = self.ask(|shard, now, ticket, _| shard.handle_leave(now, ticket, leave));
        match self.answer(ticket) {
            Response::Leave(outcomes) => outcomes[0].result,
            other => panic!("{other:?}"),
        }
    }

    fn ask_commit(&mut self, member: &MemberId, generation: i32, offset: i64) -> Ticket {
        self.ask_commit_of(CommitOffsets {
            group: "g".into(),
            generation,
            member_id: member.clone(),
            instance_id: None,
            retention_ms: None,
            offsets: vec![OffsetToCommit {
                partition: TopicPartition::new("t", 0),
                offset,
                leader_epoch: 131_073,
                metadata: "m".into(),
            }],
        })
    }

    fn ask_commit_of(&mut self, commit: CommitOffsets) -> Ticket {
        self.ask(|shard, now, ticket, _| shard.handle_commit_offsets(now, ticket, commit))
    }

    /// Of the only partition.
    fn committed(&self, ticket: Ticket) -> Result<(), Error> {
        match self.answer(ticket) {
            Response::CommitOffsets(outcomes) => outcomes[0].result,
            other => panic!("{other:?}"),
        }
    }

    /// The committed offset of `t-0` in group `g`.
    fn offset(&self) -> Option<i64> {
        let partitions = Some(vec![TopicPartition::new("t", 0)]);
        let fetch = FetchOffsets { group: "g".into(), partitions };
        let fetched = self.shard.fetch_offsets(&fetch);
        assert_eq!(fetched.len(), 1);
        fetched[0].committed.as_ref().map(|c| c.offset)
    }

    fn state(&self) -> Option<State> {
        self.shard.describe(&"g".into()).ok().map(|d| d.state)
    }

    /// Group `g` with one member, stable.
    fn one_member(&mut self) -> (MemberId, i32) {
        let (a, join) = self.ask_to_enter(a_join());
        let generation = self.joined(join).generation;
        let sync = self.ask_sync(&a, generation, &[(&a, "all")]);
        self.commit_writes();
        assert_eq!(self.synced(sync), Ok("all".into()));
        (a, generation)
    }

    /// Group `g` with a leader and a follower, stable.
    fn two_members(&mut self) -> (MemberId, MemberId, i32) {
        let (a, generation) = self.one_member();
        let (b, join_b) = self.ask_to_enter(a_join());
        assert_eq!(self.heartbeat(&a, generation), Err(Error::RebalanceInProgress));
        let join_a = self.rejoin(&a);
        let generation = self.joined(join_a).generation;
        assert_eq!(self.joined(join_b).generation, generation);
        let sync_b = self.ask_sync(&b, generation, &[]);
        let sync_a = self.ask_sync(&a, generation, &[(&a, "left"), (&b, "right")]);
        self.commit_writes();
        assert_eq!(self.synced(sync_a), Ok("left".into()));
        assert_eq!(self.synced(sync_b), Ok("right".into()));
        (a, b, generation)
    }

    /// A new coordinator that reads the committed records.
    fn take_over(&self) -> Self {
        let mut shard = Shard::new(self.shard.cx.config.clone());
        for record in &self.log {
            assert!(shard.load(record.clone()).unwrap());
        }
        shard.handle_loaded(self.now);
        Self {
            shard,
            now: self.now,
            tickets: 0,
            answers: BTreeMap::new(),
            appends: VecDeque::new(),
            log: self.log.clone(),
        }
    }
}
