//! One member of a group.

use std::time::Duration;

use bytes::Bytes;

use super::config::ENTRY_BYTES;
use super::record::MemberValue;
use super::{InstanceId, Join, MemberId, Protocol, Ticket};

#[derive(Debug)]
pub(super) struct Member {
    pub instance_id: Option<InstanceId>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// The join that is answered when the join phase ends. While it waits, the member need not
    /// heartbeat.
    pub awaiting_join: Option<Ticket>,
    /// The sync that is answered when the leader's assignment is stored. As above.
    pub awaiting_sync: Option<Ticket>,
    /// In its first join.
    pub is_new: bool,
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl Member {
    pub fn new(join: Join, ticket: Ticket) -> Self {
        let mut member = Self {
            instance_id: join.instance_id.clone(),
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: 0,
            session_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            is_new: true,
        };
        member.update(join);
        member
    }

    /// Takes over what a repeated join says.
    pub fn update(&mut self, join: Join) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = match join.rebalance_timeout_ms {
            ..0 => join.session_timeout_ms,
            ms => ms,
        };
        self.protocols = join.protocols;
    }

    /// As the log knows a member: of its protocols only the one that was chosen.
    pub fn restore(value: MemberValue, protocol_name: Option<&str>) -> (MemberId, Self) {
        let protocol =
            |name: &str| Protocol { name: name.to_owned(), metadata: value.subscription };
        let member = Self {
            instance_id: value.instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: protocol_name.map(protocol).into_iter().collect(),
            assignment: value.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        };
        (value.member_id, member)
    }

    pub fn session_timeout(&self) -> Duration {
        millis(self.session_timeout_ms)
    }

    pub fn rebalance_timeout(&self) -> Duration {
        millis(self.rebalance_timeout_ms)
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }

    /// The metadata for `protocol`; empty where the member does not offer it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self.protocols.iter().find(|p| p.name == protocol);
        offered.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    pub fn value(&self, id: &MemberId, protocol: &str) -> MemberValue {
        MemberValue {
            member_id: id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// What the member's own words take; its assignment is counted with the stored record.
    pub fn size_bytes(&self) -> usize {
        let protocols: usize =
            self.protocols.iter().map(|p| p.name.len() + p.metadata.len() + ENTRY_BYTES).sum();
        ENTRY_BYTES + self.client_id.len() + self.client_host.len() + protocols
    }
}
