//! ApiVersions (18), the first request of every client.

use super::table::prelude::*;

tables! {
    struct Request {
        client_software_name: String [3..],
        client_software_version: String [3..],
    }

    struct Response {
        error_code: ErrorCode [0..],
        api_keys: Vec<ApiVersion> [0..],
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey> [3..] tag 0,
        /// -1: unknown.
        finalized_features_epoch: i64 [3..] tag 1 = -1,
        finalized_features: Vec<FinalizedFeatureKey> [3..] tag 2,
        zk_migration_ready: bool [3..] tag 3,
    }

    struct ApiVersion {
        api_key: i16 [0..],
        min_version: i16 [0..],
        max_version: i16 [0..],
    }

    struct SupportedFeatureKey {
        name: String [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    struct FinalizedFeatureKey {
        name: String [3..],
        max_version_level: i16 [3..],
        min_version_level: i16 [3..],
    }
}

impl Response {
    /// The answer to a version that we serve: the one table, as it is.
    pub fn served() -> Self {
        let api_keys = super::SERVED.iter().map(|range| ApiVersion {
            api_key: range.key.number(),
            min_version: range.min,
            max_version: range.max,
        });
        Self { api_keys: api_keys.collect(), ..Self::default() }
    }

    /// The answer to a version that we do not serve (KIP-511). Goes out as version 0, and the
    /// client asks again on the same connection.
    pub fn unsupported_version() -> Self {
        Self { error_code: ErrorCode::UnsupportedVersion, ..Self::served() }
    }
}
