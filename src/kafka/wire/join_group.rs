//! JoinGroup (11).

use super::table::prelude::*;

tables! {
    struct Request {
        group_id: String [0..],
        session_timeout_ms: i32 [0..],
        /// -1: as the session timeout.
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: String [0..],
        group_instance_id: Option<String> [5..],
        protocol_type: String [0..],
        /// In the member's order of preference.
        protocols: Vec<JoinGroupRequestProtocol> [0..],
        reason: Option<String> [8..],
    }

    struct JoinGroupRequestProtocol {
        name: String [0..],
        metadata: Bytes [0..],
    }

    struct Response {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode [0..],
        generation_id: i32 [0..] = -1,
        protocol_type: Option<String> [7..],
        protocol_name: Option<String> [0..] null [7..],
        leader: String [0..],
        /// The leader is not to assign (KIP-814).
        skip_assignment: bool [9..],
        member_id: String [0..],
        members: Vec<JoinGroupResponseMember> [0..],
    }

    struct JoinGroupResponseMember {
        member_id: String [0..],
        group_instance_id: Option<String> [5..],
        metadata: Bytes [0..],
    }
}
