//! FindCoordinator (10); many keys at once from version 4 (KIP-699).

use super::table::prelude::*;

tables! {
    struct Request {
        key: String [0..=3],
        /// 0: group, 1: transaction, 2: share group.
        key_type: i8 [1..],
        coordinator_keys: Vec<String> [4..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..=3],
        error_message: Option<String> [1..=3],
        node_id: i32 [0..=3],
        host: String [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    struct Coordinator {
        key: String [4..],
        node_id: i32 [4..],
        host: String [4..],
        port: i32 [4..],
        error_code: ErrorCode [4..],
        error_message: Option<String> [4..],
    }
}
