//! DescribeGroups (15).

use super::metadata::NO_OPERATIONS;
use super::table::prelude::*;

tables! {
    struct Request {
        groups: Vec<String> [0..],
        include_authorized_operations: bool [3..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup> [0..],
    }

    struct DescribedGroup {
        error_code: ErrorCode [0..],
        /// From version 6, where a group that does not exist is an error (KIP-1043).
        error_message: Option<String> [6..],
        group_id: String [0..],
        group_state: String [0..],
        protocol_type: String [0..],
        protocol_data: String [0..],
        members: Vec<DescribedGroupMember> [0..],
        authorized_operations: i32 [3..] = NO_OPERATIONS,
    }

    struct DescribedGroupMember {
        member_id: String [0..],
        group_instance_id: Option<String> [4..],
        client_id: String [0..],
        client_host: String [0..],
        member_metadata: Bytes [0..],
        member_assignment: Bytes [0..],
    }
}
