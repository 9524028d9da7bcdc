//! DeleteTopics (20): by name up to version 5, by name or id from 6.

use super::table::prelude::*;

tables! {
    struct Request {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<String> [0..=5],
        timeout_ms: i32 [0..],
    }

    struct DeleteTopicState {
        /// Null where the id is given.
        name: Option<String> [6..],
        topic_id: TopicId [6..],
    }

    struct Response {
        throttle_time_ms: i32 [1..],
        responses: Vec<DeletableTopicResult> [0..],
    }

    struct DeletableTopicResult {
        name: Option<String> [0..] null [6..],
        topic_id: TopicId [6..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [5..],
    }
}
