//! DescribeTopicPartitions (75, KIP-966).

use super::metadata::NO_OPERATIONS;
use super::table::prelude::*;

tables! {
    struct Request {
        /// Empty: all.
        topics: Vec<TopicRequest> [0..],
        response_partition_limit: i32 [0..] = 2000,
        /// Where to go on: the `next_cursor` of the answer before.
        cursor: Option<Cursor> [0..],
    }

    struct TopicRequest {
        name: String [0..],
    }

    struct Cursor {
        topic_name: String [0..],
        partition_index: i32 [0..],
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0..],
        /// Null: this was all.
        next_cursor: Option<Cursor> [0..],
    }

    struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode [0..],
        name: Option<String> [0..],
        topic_id: TopicId [0..],
        is_internal: bool [0..],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        topic_authorized_operations: i32 [0..] = NO_OPERATIONS,
    }

    struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: i32 [0..],
        leader_id: i32 [0..],
        leader_epoch: i32 [0..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        eligible_leader_replicas: Option<Vec<i32>> [0..],
        last_known_elr: Option<Vec<i32>> [0..],
        offline_replicas: Vec<i32> [0..],
    }
}
