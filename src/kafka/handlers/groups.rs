//! The classic group APIs: JoinGroup (11), Heartbeat (12), LeaveGroup (13), SyncGroup (14),
//! DescribeGroups (15), ListGroups (16), DeleteGroups (42) and OffsetDelete (47). Words of the
//! wire to words of the coordinator and back; what they mean is decided there.
//!
//! Bytes that the coordinator keeps are copied: a slice would keep the whole request alive.

use bytes::Bytes;

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::{
    ErrorCode, delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups,
    offset_delete, sync_group,
};
use super::super::{Operation, Resource, Session};
use super::{cluster, once_each, suffix};
use crate::coordinator::group::{self, Id, InstanceId, Leaving, MemberId, Protocol};

/// From here on a dynamic member is first given an id, and joins again with it (KIP-394).
const JOIN_MEMBER_ID_VERSION: i16 = 4;

/// From here on a returning leader may be told not to assign (KIP-814).
const JOIN_SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// From here on many members leave at once (KIP-345).
const LEAVE_BATCH_VERSION: i16 = 3;

/// From here on a group that does not exist is an error (KIP-1043); before, it is "Dead".
const DESCRIBE_NOT_FOUND_VERSION: i16 = 6;

/// Kafka's name for groups of this protocol.
const CLASSIC: &str = "classic";

fn may(session: &Session, operation: Operation, group: &str) -> Result<(), ErrorCode> {
    match session.authorize(operation, Resource::Group(group)) {
        true => Ok(()),
        false => Err(ErrorCode::GroupAuthorizationFailed),
    }
}

fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn instance(id: Option<String>) -> Option<InstanceId> {
    id.map(InstanceId::from)
}

fn code<T, E: ToCode>(result: &Result<T, E>) -> ErrorCode {
    result.as_ref().err().map_or(ErrorCode::None, ToCode::to_code)
}

pub(super) async fn join(
    context: &Context,
    session: &Session,
    version: i16,
    request: join_group::Request,
) -> join_group::Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    let refuse = |error_code, member_id| join_group::Response {
        throttle_time_ms,
        error_code,
        member_id,
        ..Default::default()
    };
    if let Err(error_code) = may(session, Operation::Read, &request.group_id) {
        return refuse(error_code, request.member_id);
    }
    let protocols = request
        .protocols
        .into_iter()
        .map(|protocol| Protocol { name: protocol.name, metadata: own(&protocol.metadata) });
    let join = group::Join {
        group: Id::from(request.group_id),
        member_id: MemberId::from(request.member_id),
        instance_id: instance(request.group_instance_id),
        client_id: session.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", session.peer.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type,
        protocols: protocols.collect(),
        requires_known_member_id: version >= JOIN_MEMBER_ID_VERSION,
        skips_assignment: version >= JOIN_SKIP_ASSIGNMENT_VERSION,
    };
    match context.groups.join(join).await {
        Err(refused) => refuse(refused.error.to_code(), refused.member_id.to_string()),
        Ok(joined) => join_group::Response {
            throttle_time_ms,
            error_code: ErrorCode::None,
            generation_id: joined.generation,
            protocol_type: Some(joined.protocol_type),
            protocol_name: Some(joined.protocol_name),
            leader: joined.leader.to_string(),
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id.to_string(),
            members: joined.members.into_iter().map(joined_member).collect(),
        },
    }
}

fn joined_member(member: group::JoinedMember) -> join_group::JoinGroupResponseMember {
    join_group::JoinGroupResponseMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.instance_id.map(|id| id.to_string()),
        metadata: member.metadata,
    }
}

pub(super) async fn sync(
    context: &Context,
    session: &Session,
    request: sync_group::Request,
) -> sync_group::Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    let refuse =
        |error_code| sync_group::Response { throttle_time_ms, error_code, ..Default::default() };
    if let Err(error_code) = may(session, Operation::Read, &request.group_id) {
        return refuse(error_code);
    }
    let assignments = request
        .assignments
        .into_iter()
        .map(|assignment| (MemberId::from(assignment.member_id), own(&assignment.assignment)));
    let sync = group::Sync {
        group: Id::from(request.group_id),
        generation: request.generation_id,
        member_id: MemberId::from(request.member_id),
        instance_id: instance(request.group_instance_id),
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: assignments.collect(),
    };
    match context.groups.sync(sync).await {
        Err(error) => refuse(error.to_code()),
        Ok(synced) => sync_group::Response {
            throttle_time_ms,
            error_code: ErrorCode::None,
            protocol_type: Some(synced.protocol_type),
            protocol_name: Some(synced.protocol_name),
            assignment: synced.assignment,
        },
    }
}

pub(super) async fn heartbeat(
    context: &Context,
    session: &Session,
    request: heartbeat::Request,
) -> heartbeat::Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    if let Err(error_code) = may(session, Operation::Read, &request.group_id) {
        return heartbeat::Response { throttle_time_ms, error_code };
    }
    let heartbeat = group::Heartbeat {
        group: Id::from(request.group_id),
        generation: request.generation_id,
        member_id: MemberId::from(request.member_id),
        instance_id: instance(request.group_instance_id),
    };
    let error_code = code(&context.groups.heartbeat(heartbeat).await);
    heartbeat::Response { throttle_time_ms, error_code }
}

pub(super) async fn leave(
    context: &Context,
    session: &Session,
    version: i16,
    request: leave_group::Request,
) -> leave_group::Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    let refuse =
        |error_code| leave_group::Response { throttle_time_ms, error_code, members: Vec::new() };
    if let Err(error_code) = may(session, Operation::Read, &request.group_id) {
        return refuse(error_code);
    }
    let is_batch = version >= LEAVE_BATCH_VERSION;
    let members = if is_batch {
        let members = request.members.into_iter().map(|member| Leaving {
            member_id: MemberId::from(member.member_id),
            instance_id: instance(member.group_instance_id),
        });
        members.collect()
    } else {
        vec![Leaving { member_id: MemberId::from(request.member_id), instance_id: None }]
    };
    let leave = group::Leave { group: Id::from(request.group_id), members };
    let outcomes = match context.groups.leave(leave).await {
        Err(error) => return refuse(error.to_code()),
        Ok(outcomes) => outcomes,
    };
    if !is_batch {
        // One member: its outcome is the answer's.
        return refuse(outcomes.first().map_or(ErrorCode::None, |outcome| code(&outcome.result)));
    }
    let members = outcomes.into_iter().map(|outcome| leave_group::MemberResponse {
        error_code: code(&outcome.result),
        member_id: outcome.member_id.to_string(),
        group_instance_id: outcome.instance_id.map(|id| id.to_string()),
    });
    let members = members.collect();
    leave_group::Response { throttle_time_ms, error_code: ErrorCode::None, members }
}

pub(super) async fn describe(
    context: &Context,
    session: &Session,
    version: i16,
    request: describe_groups::Request,
) -> describe_groups::Response {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in once_each(request.groups, String::clone) {
        let asks = request.include_authorized_operations;
        let operations = session.authorized_operations(asks, Resource::Group(&group_id));
        let described = match may(session, Operation::Describe, &group_id) {
            Ok(()) => {
                let described = context.groups.describe(Id::from(group_id.as_str())).await;
                described.map_err(|error| error.to_code())
            }
            Err(code) => Err(code),
        };
        let mut group = described_group(version, group_id, described);
        if !group.error_code.is_error() {
            group.authorized_operations = operations;
        }
        groups.push(group);
    }
    describe_groups::Response { throttle_time_ms: session.throttle_time_ms(0), groups }
}

fn described_group(
    version: i16,
    group_id: String,
    described: Result<group::Description, ErrorCode>,
) -> describe_groups::DescribedGroup {
    let empty = describe_groups::DescribedGroup { group_id, ..Default::default() };
    match described {
        Ok(described) => describe_groups::DescribedGroup {
            group_state: described.state.as_str().to_owned(),
            protocol_type: described.protocol_type,
            protocol_data: described.protocol_name,
            members: described.members.into_iter().map(described_member).collect(),
            ..empty
        },
        Err(ErrorCode::GroupIdNotFound) if version < DESCRIBE_NOT_FOUND_VERSION => {
            describe_groups::DescribedGroup {
                group_state: group::State::Dead.as_str().to_owned(),
                ..empty
            }
        }
        Err(error_code) => describe_groups::DescribedGroup {
            error_code,
            error_message: Some(error_code.name().to_owned()),
            group_state: group::State::Dead.as_str().to_owned(),
            ..empty
        },
    }
}

fn described_member(member: group::DescribedMember) -> describe_groups::DescribedGroupMember {
    describe_groups::DescribedGroupMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.instance_id.map(|id| id.to_string()),
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

pub(super) async fn list(
    context: &Context,
    session: &Session,
    request: list_groups::Request,
) -> list_groups::Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    let listed = match context.groups.list().await {
        Ok(listed) => listed,
        Err(error) => {
            let error_code = error.to_code();
            return list_groups::Response { throttle_time_ms, error_code, groups: Vec::new() };
        }
    };
    let among = |filter: &[String], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let groups = listed
        .into_iter()
        .filter(|listing| among(&request.states_filter, listing.state.as_str()))
        .filter(|_| among(&request.types_filter, CLASSIC))
        .filter(|listing| may(session, Operation::Describe, &listing.group).is_ok())
        .map(|listing| list_groups::ListedGroup {
            group_id: listing.group.to_string(),
            protocol_type: listing.protocol_type,
            group_state: listing.state.as_str().to_owned(),
            group_type: CLASSIC.to_owned(),
        });
    let groups = groups.collect();
    list_groups::Response { throttle_time_ms, error_code: ErrorCode::None, groups }
}

pub(super) async fn delete(
    context: &Context,
    session: &Session,
    request: delete_groups::Request,
) -> delete_groups::Response {
    let mut results = Vec::with_capacity(request.groups_names.len());
    let mut asked = Vec::new();
    for group_id in request.groups_names {
        let allowed = may(session, Operation::Delete, &group_id);
        if allowed.is_ok() {
            asked.push((results.len(), Id::from(group_id.as_str())));
        }
        let error_code = allowed.err().unwrap_or(ErrorCode::None);
        results.push(delete_groups::DeletableGroupResult { group_id, error_code });
    }
    let (places, groups): (Vec<usize>, Vec<Id>) = asked.into_iter().unzip();
    let deleted = context.groups.delete_groups(groups).await;
    for (place, (_, result)) in places.into_iter().zip(deleted) {
        results[place].error_code = code(&result);
    }
    delete_groups::Response { throttle_time_ms: session.throttle_time_ms(0), results }
}

pub(super) async fn delete_offsets(
    context: &Context,
    session: &Session,
    request: offset_delete::Request,
) -> offset_delete::Response {
    let throttle_time_ms = session.throttle_time_ms(0);
    let refuse =
        |error_code| offset_delete::Response { error_code, throttle_time_ms, topics: Vec::new() };
    if let Err(error_code) = may(session, Operation::Delete, &request.group_id) {
        return refuse(error_code);
    }
    let image = context.metadata.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut asked = Vec::new();
    for (t, topic) in request.topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let may = session.authorize(Operation::Read, Resource::Topic(&topic.name));
        for (p, wanted) in topic.partitions.into_iter().enumerate() {
            let partition_index = wanted.partition_index;
            let is_there = cluster::find(&image, &topic.name, partition_index).is_some()
                || suffix::named(context, &image, &topic.name)
                    .is_some_and(|suffix| suffix.partition(partition_index).is_some());
            let error_code = match is_there {
                _ if !may => ErrorCode::TopicAuthorizationFailed,
                false => ErrorCode::UnknownTopicOrPartition,
                true => {
                    let partition =
                        group::TopicPartition::new(topic.name.as_str(), partition_index);
                    asked.push(((t, p), partition));
                    ErrorCode::None
                }
            };
            partitions
                .push(offset_delete::OffsetDeleteResponsePartition { partition_index, error_code });
        }
        topics.push(offset_delete::OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    let (places, partitions): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let delete = group::DeleteOffsets { group: Id::from(request.group_id), partitions };
    match context.groups.delete_offsets(delete).await {
        Err(error) => return refuse(error.to_code()),
        Ok(outcomes) => {
            for ((t, p), outcome) in places.into_iter().zip(outcomes) {
                topics[t].partitions[p].error_code = code(&outcome.result);
            }
        }
    }
    offset_delete::Response { error_code: ErrorCode::None, throttle_time_ms, topics }
}
