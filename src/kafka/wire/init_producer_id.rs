//! InitProducerId (22).

use super::table::prelude::*;

tables! {
    struct Request {
        transactional_id: Option<String> [0..],
        transaction_timeout_ms: i32 [0..],
        /// -1, or the id whose epoch is to be bumped (KIP-360).
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    struct Response {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        producer_id: i64 [0..] = -1,
        producer_epoch: i16 [0..],
    }
}
