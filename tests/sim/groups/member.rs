//! Being in a group, as a client of the classic protocol is (KIP-62, KIP-345, KIP-394): it joins, hears what it is to
//! read, and is heard of. Free of time and of what its answers travel by.

use bytes::Bytes;
use isobar::coordinator::group::{
    Error, Heartbeat, Id, InstanceId, Join, Joined, Leave, Leaving, MemberId, Protocol, Sync,
};

use crate::scenario::{Micros, SECOND};

/// A static member keeps its place for so long, also while others rebalance without it.
const SESSION_MS: [i32; 2] = [6_000, 15_000];
const REBALANCE_MS: i32 = 3_000;
pub const BEAT_EVERY: Micros = 2 * SECOND;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    Out,
    /// Of a generation; with everyone's part, if it leads.
    Joined {
        generation: i32,
        parts: Vec<(MemberId, Bytes)>,
    },
    Owns {
        generation: i32,
    },
}

#[derive(Debug)]
pub struct Member {
    /// Of the process, by which the oracle knows it.
    pub process: usize,
    pub id: MemberId,
    pub instance: Option<InstanceId>,
    pub stage: Stage,
    pub beats_at: Micros,
    /// It does nothing until then: it is frozen, or another process takes its place then.
    pub away: Micros,
    /// It tells the coordinator that it goes.
    pub leaves: bool,
    /// It ends for good then, and tells nobody.
    pub ends: Option<Micros>,
}

impl Member {
    pub fn new(process: usize, is_static: bool, ends: Option<Micros>) -> Self {
        let instance = is_static.then(|| InstanceId::from(format!("i{process}")));
        let id = MemberId::default();
        let stage = Stage::Out;
        Self { process, id, instance, stage, beats_at: 0, away: 0, leaves: false, ends }
    }

    pub fn stays(&self) -> bool {
        self.ends.is_none()
    }

    /// Of the generation that it believes to be in, with what it reads.
    pub fn generation(&self) -> Option<i32> {
        match self.stage {
            Stage::Owns { generation } => Some(generation),
            Stage::Out | Stage::Joined { .. } => None,
        }
    }

    pub fn join(&self, group: &Id) -> Join {
        Join {
            group: group.clone(),
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            client_id: format!("c{}", self.process),
            client_host: "/sim".into(),
            session_timeout_ms: SESSION_MS[usize::from(self.instance.is_some())],
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
            requires_known_member_id: true,
            skips_assignment: true,
        }
    }

    pub fn sync(&self, group: &Id, generation: i32, parts: &[(MemberId, Bytes)]) -> Sync {
        Sync {
            group: group.clone(),
            generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: parts.to_vec(),
        }
    }

    pub fn heartbeat(&self, group: &Id, generation: i32) -> Heartbeat {
        let (member_id, instance_id) = (self.id.clone(), self.instance.clone());
        Heartbeat { group: group.clone(), generation, member_id, instance_id }
    }

    pub fn leave(&self, group: &Id) -> Leave {
        let leaving = Leaving { member_id: self.id.clone(), instance_id: self.instance.clone() };
        Leave { group: group.clone(), members: vec![leaving] }
    }

    /// Of `partitions` the leader gives everyone an equal share.
    pub fn handle_joined(&mut self, joined: Joined, partitions: usize) {
        let Joined { generation, member_id, members, skip_assignment, .. } = joined;
        self.id = member_id;
        let ids: Vec<MemberId> = members.into_iter().map(|member| member.member_id).collect();
        let part =
            |n: usize| (0..partitions).filter(|p| p % ids.len() == n).map(|p| p as u8).collect();
        let parts = ids.iter().enumerate().map(|(n, id)| (id.clone(), part(n)));
        let parts = if skip_assignment { Vec::new() } else { parts.collect() };
        self.stage = Stage::Joined { generation, parts };
    }

    /// Returns what it is to read.
    pub fn handle_synced(&mut self, generation: i32, assignment: &Bytes) -> Vec<usize> {
        self.stage = Stage::Owns { generation };
        assignment.iter().map(|partition| usize::from(*partition)).collect()
    }

    /// `true`: another node must be asked.
    pub fn handle_refused(&mut self, error: Error) -> bool {
        match error {
            Error::CoordinatorLoadInProgress
            | Error::CoordinatorNotAvailable
            | Error::NotCoordinator => return true,
            Error::UnknownMemberId | Error::FencedInstanceId => self.id = MemberId::default(),
            Error::IllegalGeneration | Error::RebalanceInProgress | Error::MemberIdRequired => {}
            other => panic!("a member was refused with {other}"),
        }
        self.stage = Stage::Out;
        false
    }

    /// Another process takes its place.
    pub fn begin_anew(&mut self) {
        (self.id, self.stage) = (MemberId::default(), Stage::Out);
    }
}
