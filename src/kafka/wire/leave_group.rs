//! LeaveGroup (13): one member up to version 2, many from 3 (KIP-345).

use super::table::prelude::*;

tables! {
    struct Request {
        group_id: String [0..],
        member_id: String [0..=2],
        members: Vec<MemberIdentity> [3..],
    }

    struct MemberIdentity {
        member_id: String [3..],
        group_instance_id: Option<String> [3..],
        reason: Option<String> [5..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        members: Vec<MemberResponse> [3..],
    }

    struct MemberResponse {
        member_id: String [3..],
        group_instance_id: Option<String> [3..],
        error_code: ErrorCode [3..],
    }
}
