//! DeleteGroups (42).

use super::table::prelude::*;

tables! {
    struct Request {
        groups_names: Vec<String> [0..],
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        results: Vec<DeletableGroupResult> [0..],
    }

    struct DeletableGroupResult {
        group_id: String [0..],
        error_code: ErrorCode [0..],
    }
}
