//! One group: who is in it, what they agreed on, what they committed. The steps of the protocol
//! are in files of their own; here is what they have in common.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::config::ENTRY_BYTES;
use super::context::{Context, Then};
use super::member::Member;
use super::offsets::Offsets;
use super::record::{self, GroupValue};
use super::subscription::{self, CONSUMER_PROTOCOL_TYPE};
use super::timers::Timer;
use super::{
    AppendError, Error, Id, InstanceId, Join, Joined, JoinedMember, MemberId, Now, Protocol,
    Record, Response, Ticket, Topic,
};

/// Kafka's group states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members are to join (again).
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited.
    CompletingRebalance,
    Stable,
    /// Being deleted: its tombstones are on their way.
    Dead,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub id: Id,
    pub state: State,
    /// Wall clock of the last change of state; retention of an empty group counts from it
    /// (KIP-211).
    pub state_since_ms: Option<i64>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Member>,
    pub static_members: BTreeMap<InstanceId, MemberId>,
    /// Were given an id and have not joined with it yet (KIP-394).
    pub pending_members: BTreeSet<MemberId>,
    /// Have not synced since the join phase ended.
    pub pending_sync: BTreeSet<MemberId>,
    /// The first join phase of an empty group: how much longer it may be put off.
    pub initial_delay_left: Option<Duration>,
    /// A member joined since the initial delay was last set.
    pub new_member_added: bool,
    /// The generation whose assignment is being stored.
    pub assigning: Option<i32>,
    /// A static member's replacement is being stored; joins of static members wait meanwhile.
    pub is_replacing: bool,
    pub deferred_joins: VecDeque<(Ticket, Join, MemberId)>,
    pub offsets: Offsets,
    /// The group's metadata as the log has it.
    pub stored: Option<Bytes>,
    /// Records that will replace `stored`.
    pub stores_in_flight: usize,
}

impl Group {
    pub fn new(id: Id) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            initial_delay_left: None,
            new_member_added: false,
            assigning: None,
            is_replacing: false,
            deferred_joins: VecDeque::new(),
            offsets: Offsets::default(),
            stored: None,
            stores_in_flight: 0,
        }
    }

    pub fn transition(&mut self, now: Now, to: State) {
        self.state = to;
        self.state_since_ms = Some(now.unix_ms);
    }

    /// Nothing would be lost by forgetting the group, neither here nor in the log.
    pub fn is_vacant(&self) -> bool {
        self.state == State::Empty
            && self.members.is_empty()
            && self.pending_members.is_empty()
            && self.offsets.is_empty()
            && !self.is_in_log()
    }

    /// Whether the log has, or is about to have, a metadata record of the group.
    pub fn is_in_log(&self) -> bool {
        self.stored.is_some() || self.stores_in_flight > 0
    }

    /// Appends the group's metadata.
    pub fn store(&mut self, cx: &mut Context, stored: Bytes, then: Then) {
        self.stores_in_flight += 1;
        cx.append(vec![Record { key: record::group_key(&self.id), value: Some(stored) }], then);
    }

    /// A `store` ended. One that was lost leaves the generation before it in the log: a
    /// coordinator that starts from there gives its members a session and then goes on without.
    pub fn store_finished(
        &mut self,
        cx: &mut Context,
        result: Result<(), AppendError>,
        stored: Bytes,
    ) {
        self.stores_in_flight -= 1;
        if result.is_ok() {
            self.set_stored(cx, Some(stored));
        }
    }

    pub fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// Kafka's order of checks for a request that names a member.
    pub fn check_member(
        &self,
        member: &MemberId,
        instance: Option<&InstanceId>,
    ) -> Result<(), Error> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(Error::UnknownMemberId),
                Some(current) if current != member => return Err(Error::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(Error::UnknownMemberId) }
    }

    /// The longest that any member asked for.
    pub fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(Member::rebalance_timeout).max().unwrap_or_default()
    }

    pub fn protocol_name(&self) -> &str {
        self.protocol_name.as_deref().unwrap_or_default()
    }

    pub fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.members.values().all(|m| m.supports(&p.name)))
    }

    /// The protocol that most members prefer among those that all support; `None` without
    /// members. `instead` stands in for a member that is about to change what it offers.
    pub fn select_protocol(&self, instead: Option<(&MemberId, &[Protocol])>) -> Option<String> {
        let offers: Vec<&[Protocol]> = self
            .members
            .iter()
            .map(|(id, member)| match instead {
                Some((changed, protocols)) if changed == id => protocols,
                _ => member.protocols.as_slice(),
            })
            .collect();
        let common = |p: &&Protocol| offers.iter().all(|o| o.iter().any(|q| q.name == p.name));
        // In the first member's order of preference, which breaks ties.
        let candidates: Vec<&str> =
            offers.first()?.iter().filter(common).map(|p| p.name.as_str()).collect();
        let votes = |candidate: &str| {
            let preferred = |o: &&&[Protocol]| {
                let choice = o.iter().find(|p| candidates.contains(&p.name.as_str()));
                choice.is_some_and(|p| p.name == candidate)
            };
            offers.iter().filter(preferred).count()
        };
        // `max_by_key` keeps the last of equals.
        let elected = candidates.iter().rev().max_by_key(|c| votes(c))?;
        Some((*elected).to_owned())
    }

    /// Topics that members subscribe to; `None` where that cannot be told, which then must be
    /// taken as all of them.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<Topic>> {
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) {
            return None;
        }
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.append(&mut subscription::topics(&member.metadata(self.protocol_name()))?);
        }
        Some(all)
    }

    /// The group as a record, with the assignments that members have now.
    pub fn value(&self) -> GroupValue {
        let protocol = self.protocol_name();
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_since_ms,
            members: self.members.iter().map(|(id, m)| m.value(id, protocol)).collect(),
        }
    }

    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name();
        let joined = |(id, m): (&MemberId, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol),
        };
        self.members.iter().map(joined).collect()
    }

    /// What a member hears of the current generation when it joins.
    pub fn joined(&self, member: &MemberId) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: self.protocol_name.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member.clone(),
            skip_assignment: false,
            members: if self.is_leader(member) { self.joined_members() } else { Vec::new() },
        }
    }

    /// The member was heard of.
    pub fn restart_session(&self, cx: &mut Context, now: Now, member: &MemberId) {
        let timeout = self.members[member].session_timeout();
        let timer = Timer::Session(self.id.clone(), member.clone());
        cx.timers.set(timer, now.monotonic + timeout);
    }

    pub fn stop_session(&self, cx: &mut Context, member: &MemberId) {
        cx.timers.cancel(&Timer::Session(self.id.clone(), member.clone()));
    }

    /// Remembers what the log has now, and accounts for it: twice, since the assignments in it
    /// are also with the members.
    pub fn set_stored(&mut self, cx: &mut Context, stored: Option<Bytes>) {
        let size = |s: &Option<Bytes>| s.as_ref().map_or(0, |s| ENTRY_BYTES + 2 * s.len());
        cx.state_bytes += size(&stored);
        cx.state_bytes -= size(&self.stored);
        self.stored = stored;
    }

    /// Tells everybody who waits that this is no longer their coordinator.
    pub fn resign(&mut self, cx: &mut Context) {
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.awaiting_join.take() {
                cx.refuse_join(ticket, Error::NotCoordinator, id.clone());
            }
            if let Some(ticket) = member.awaiting_sync.take() {
                cx.respond(ticket, Response::Sync(Err(Error::NotCoordinator)));
            }
        }
        for (ticket, join, _) in std::mem::take(&mut self.deferred_joins) {
            cx.refuse_join(ticket, Error::NotCoordinator, join.member_id);
        }
    }
}
