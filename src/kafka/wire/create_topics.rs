//! CreateTopics (19).

use super::table::prelude::*;

tables! {
    struct Request {
        topics: Vec<CreatableTopic> [0..],
        timeout_ms: i32 [0..] = 60_000,
        validate_only: bool [1..],
    }

    struct CreatableTopic {
        name: String [0..],
        /// -1: the broker's default, or as many as are assigned (KIP-464).
        num_partitions: i32 [0..],
        /// -1: the broker's default, or as assigned (KIP-464).
        replication_factor: i16 [0..],
        assignments: Vec<CreatableReplicaAssignment> [0..],
        configs: Vec<CreatableTopicConfig> [0..],
    }

    struct CreatableReplicaAssignment {
        partition_index: i32 [0..],
        broker_ids: Vec<i32> [0..],
    }

    struct CreatableTopicConfig {
        name: String [0..],
        value: Option<String> [0..],
    }

    struct Response {
        throttle_time_ms: i32 [2..],
        topics: Vec<CreatableTopicResult> [0..],
    }

    struct CreatableTopicResult {
        name: String [0..],
        topic_id: TopicId [7..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [1..],
        /// Why there are no configs below.
        topic_config_error_code: ErrorCode [5..] tag 0,
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }

    struct CreatableTopicConfigs {
        name: String [5..],
        value: Option<String> [5..],
        read_only: bool [5..],
        config_source: i8 [5..] = -1,
        is_sensitive: bool [5..],
    }
}
