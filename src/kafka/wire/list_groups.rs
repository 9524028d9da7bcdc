//! ListGroups (16).

use super::table::prelude::*;

tables! {
    struct Request {
        /// Empty: all.
        states_filter: Vec<String> [4..],
        /// Empty: all.
        types_filter: Vec<String> [5..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        groups: Vec<ListedGroup> [0..],
    }

    struct ListedGroup {
        group_id: String [0..],
        protocol_type: String [0..],
        group_state: String [4..],
        group_type: String [5..],
    }
}
