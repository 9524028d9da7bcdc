//! AlterConfigs (33): replaces all of a resource's configs. See `incremental_alter_configs`.

use super::table::prelude::*;

tables! {
    struct Request {
        resources: Vec<AlterConfigsResource> [0..],
        validate_only: bool [0..],
    }

    struct AlterConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8 [0..],
        resource_name: String [0..],
        configs: Vec<AlterableConfig> [0..],
    }

    struct AlterableConfig {
        name: String [0..],
        value: Option<String> [0..],
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse> [0..],
    }

    struct AlterConfigsResourceResponse {
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..],
        resource_type: i8 [0..],
        resource_name: String [0..],
    }
}
