//! CreatePartitions (37).

use super::table::prelude::*;

tables! {
    struct Request {
        topics: Vec<CreatePartitionsTopic> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [0..],
    }

    struct CreatePartitionsTopic {
        name: String [0..],
        /// Of all partitions, the new ones included.
        count: i32 [0..],
        /// Null: the broker's choice; else one for each new partition.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..],
    }

    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0..],
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        results: Vec<CreatePartitionsTopicResult> [0..],
    }

    struct CreatePartitionsTopicResult {
        name: String [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..],
    }
}
