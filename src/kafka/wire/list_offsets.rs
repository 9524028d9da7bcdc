//! ListOffsets (2).

use super::table::prelude::*;

/// `timestamp` of the next offset: the high watermark, or the last stable offset where only
/// committed records are read.
pub const LATEST_TIMESTAMP: i64 = -1;
/// `timestamp` of the log start.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// `timestamp` of the record with the largest timestamp (KIP-734), from version 7.
pub const MAX_TIMESTAMP: i64 = -3;
/// `timestamp` of the first offset on a local disk (KIP-405), from version 8.
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
/// `timestamp` of the last tiered offset (KIP-1005), from version 9.
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;
/// `timestamp` of the first offset that waits to be tiered (KIP-1023), from version 11.
pub const EARLIEST_PENDING_UPLOAD_TIMESTAMP: i64 = -6;

tables! {
    struct Request {
        /// -1 for a consumer.
        replica_id: i32 [0..] = -1,
        /// 0: read uncommitted, 1: read committed.
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic> [0..],
        timeout_ms: i32 [10..],
    }

    struct ListOffsetsTopic {
        name: String [0..],
        partitions: Vec<ListOffsetsPartition> [0..],
    }

    struct ListOffsetsPartition {
        partition_index: i32 [0..],
        current_leader_epoch: i32 [4..] = -1,
        timestamp: i64 [0..],
    }

    struct Response {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse> [0..],
    }

    struct ListOffsetsTopicResponse {
        name: String [0..],
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        timestamp: i64 [1..] = -1,
        offset: i64 [1..] = -1,
        leader_epoch: i32 [4..] = -1,
    }
}
