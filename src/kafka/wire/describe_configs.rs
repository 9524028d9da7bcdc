//! DescribeConfigs (32).

use super::table::prelude::*;

tables! {
    struct Request {
        resources: Vec<DescribeConfigsResource> [0..],
        include_synonyms: bool [1..],
        include_documentation: bool [3..],
    }

    struct DescribeConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8 [0..],
        resource_name: String [0..],
        /// Null: all.
        configuration_keys: Option<Vec<String>> [0..],
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        results: Vec<DescribeConfigsResult> [0..],
    }

    struct DescribeConfigsResult {
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..],
        resource_type: i8 [0..],
        resource_name: String [0..],
        configs: Vec<DescribeConfigsResourceResult> [0..],
    }

    struct DescribeConfigsResourceResult {
        name: String [0..],
        value: Option<String> [0..],
        read_only: bool [0..],
        /// 1: topic, 2: broker, 3: brokers' default, 4: static, 5: default, 6: broker logger.
        config_source: i8 [1..] = -1,
        is_sensitive: bool [0..],
        synonyms: Vec<DescribeConfigsSynonym> [1..],
        /// 1: boolean, 2: string, 3: int, 4: short, 5: long, 6: double, 7: list, 8: class,
        /// 9: password; 0: unknown.
        config_type: i8 [3..],
        documentation: Option<String> [3..],
    }

    struct DescribeConfigsSynonym {
        name: String [1..],
        value: Option<String> [1..],
        source: i8 [1..],
    }
}
