//! Metadata (3).

use super::table::prelude::*;

/// "Not asked for" in the fields of authorized operations.
pub const NO_OPERATIONS: i32 = i32::MIN;

/// Bytes that may follow a request for all topics in the flexible versions. librdkafka (its issue 5049,
/// open as of 2.16) writes the null of the array as four bytes of zero where one is meant, so that the
/// other three are taken for the flags and the empty tags, and those are left over. Kafka ignores whatever
/// follows a message; we do so only here.
pub const AFTER_ALL_TOPICS_MAX: usize = 3;

tables! {
    struct Request {
        /// Null: all topics. In version 0, which has no null, the empty list means all.
        topics: Option<Vec<MetadataRequestTopic>> [0..] null [1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    struct MetadataRequestTopic {
        /// Zero where the name is given.
        topic_id: TopicId [10..],
        name: Option<String> [0..] null [10..],
    }

    struct Response {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker> [0..],
        cluster_id: Option<String> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic> [0..],
        cluster_authorized_operations: i32 [8..=10] = NO_OPERATIONS,
        /// REBOOTSTRAP_REQUIRED (KIP-1102).
        error_code: ErrorCode [13..],
    }

    struct MetadataResponseBroker {
        node_id: i32 [0..],
        host: String [0..],
        port: i32 [0..],
        rack: Option<String> [1..],
    }

    struct MetadataResponseTopic {
        error_code: ErrorCode [0..],
        /// Null only for a topic that was asked for by an unknown id.
        name: Option<String> [0..] null [12..],
        topic_id: TopicId [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition> [0..],
        topic_authorized_operations: i32 [8..] = NO_OPERATIONS,
    }

    struct MetadataResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: i32 [0..],
        leader_id: i32 [0..],
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        offline_replicas: Vec<i32> [5..],
    }
}
