//! Fetch (1), with sessions (KIP-227), leader epochs (KIP-320, KIP-951), the nearest replica
//! (KIP-392) and topic ids (KIP-516).

use super::table::prelude::*;

tables! {
    struct Request {
        cluster_id: Option<String> [12..] tag 0,
        /// -1 for a consumer.
        replica_id: i32 [0..=14] = -1,
        replica_state: ReplicaState [15..] tag 1,
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [3..] = i32::MAX,
        /// 0: read uncommitted, 1: read committed.
        isolation_level: i8 [4..],
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic> [0..],
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: String [11..],
    }

    struct ReplicaState {
        replica_id: i32 [15..] = -1,
        replica_epoch: i64 [15..] = -1,
    }

    struct FetchTopic {
        topic: String [0..=12],
        topic_id: TopicId [13..],
        partitions: Vec<FetchPartition> [0..],
    }

    struct FetchPartition {
        partition: i32 [0..],
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64 [0..],
        last_fetched_epoch: i32 [12..] = -1,
        /// Of a follower; -1 for a consumer.
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32 [0..],
        /// A uuid, though no topic's; of a follower.
        replica_directory_id: TopicId [17..] tag 0,
        /// Of a follower (KIP-1166).
        high_watermark: i64 [18..] tag 1 = i64::MAX,
    }

    struct ForgottenTopic {
        topic: String [7..=12],
        topic_id: TopicId [13..],
        partitions: Vec<i32> [7..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [7..],
        /// 0: no session.
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse> [0..],
        /// Where the leaders named below are (KIP-951).
        node_endpoints: Vec<NodeEndpoint> [16..] tag 0,
    }

    struct FetchableTopicResponse {
        topic: String [0..=12],
        topic_id: TopicId [13..],
        partitions: Vec<PartitionData> [0..],
    }

    struct PartitionData {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        high_watermark: i64 [0..],
        last_stable_offset: i64 [4..] = -1,
        log_start_offset: i64 [5..] = -1,
        diverging_epoch: EpochEndOffset [12..] tag 0,
        current_leader: LeaderIdAndEpoch [12..] tag 1,
        snapshot_id: SnapshotId [12..] tag 2,
        /// Null or empty: nothing to leave out.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..],
        /// -1: go on fetching here.
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Records> [0..],
    }

    struct EpochEndOffset {
        epoch: i32 [12..] = -1,
        end_offset: i64 [12..] = -1,
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1,
        leader_epoch: i32 [12..] = -1,
    }

    struct SnapshotId {
        end_offset: i64 [0..] = -1,
        epoch: i32 [0..] = -1,
    }

    struct AbortedTransaction {
        producer_id: i64 [4..],
        first_offset: i64 [4..],
    }

    struct NodeEndpoint {
        node_id: i32 [16..],
        host: String [16..],
        port: i32 [16..],
        rack: Option<String> [16..],
    }
}
