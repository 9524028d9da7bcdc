//! DescribeCluster (60, KIP-700).

use super::metadata::NO_OPERATIONS;
use super::table::prelude::*;

tables! {
    struct Request {
        include_cluster_authorized_operations: bool [0..],
        /// 1: brokers, 2: controllers (KIP-919).
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..],
        /// 1: brokers, 2: controllers (KIP-919).
        endpoint_type: i8 [1..] = 1,
        cluster_id: String [0..],
        controller_id: i32 [0..] = -1,
        brokers: Vec<DescribeClusterBroker> [0..],
        cluster_authorized_operations: i32 [0..] = NO_OPERATIONS,
    }

    struct DescribeClusterBroker {
        broker_id: i32 [0..],
        host: String [0..],
        port: i32 [0..],
        rack: Option<String> [0..],
        is_fenced: bool [2..],
    }
}
