//! OffsetCommit (8); topics by id from version 10 (KIP-848).

use super::table::prelude::*;

tables! {
    struct Request {
        group_id: String [0..],
        /// -1: the group does not manage its members here.
        generation_id_or_member_epoch: i32 [1..] = -1,
        member_id: String [1..],
        group_instance_id: Option<String> [7..],
        /// -1: the broker's own.
        retention_time_ms: i64 [2..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic> [0..],
    }

    struct OffsetCommitRequestTopic {
        name: String [0..=9],
        topic_id: TopicId [10..],
        partitions: Vec<OffsetCommitRequestPartition> [0..],
    }

    struct OffsetCommitRequestPartition {
        partition_index: i32 [0..],
        committed_offset: i64 [0..],
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<String> [0..],
    }

    struct Response {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic> [0..],
    }

    struct OffsetCommitResponseTopic {
        name: String [0..=9],
        topic_id: TopicId [10..],
        partitions: Vec<OffsetCommitResponsePartition> [0..],
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
    }
}
