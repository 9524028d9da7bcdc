//! Heartbeat (12).

use super::table::prelude::*;

tables! {
    struct Request {
        group_id: String [0..],
        generation_id: i32 [0..],
        member_id: String [0..],
        group_instance_id: Option<String> [3..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
    }
}
