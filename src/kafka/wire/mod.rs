//! Kafka's protocol as declarative tables: frames to structures and back, and nothing else.
//!
//! ```text
//! frame ─ RequestHeader::decode ─► header, body ─ Request::decode ─► Request::Fetch(fetch::Request)
//! Response::Fetch(fetch::Response) ─ encode_frame(version, correlation id) ─► Chunks (a writev)
//! ```
//!
//! One file an API holds its tables, in Kafka's own words; `table` is the macro that reads them,
//! `api` the one table of served APIs and versions. Facts are from Kafka's message definitions.
//!
//! Invariants:
//! - No bytes make decoding panic, loop or allocate more than a small multiple of themselves: each
//!   length is compared with the bytes that remain before anything is allocated
//!   (`reader::REQUEST_ELEMENTS_MAX` bounds the multiple for the largest frames).
//! - Decoded bytes and records are slices of the frame and keep it alive; strings are copies. What
//!   outlives a request must not hold its `Bytes`.
//! - What follows the end of a message is an error.
//! - Records are never copied on the way out.
//!
//! Deliberately missing: reading frames off a socket and bounding their size (the connection's
//! business), decompression, message formats before batch v2, and every API that is not in
//! `SERVED`.

pub mod alter_configs;
mod api;
pub mod api_versions;
mod code;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_topic_partitions;
mod error;
pub mod fetch;
pub mod find_coordinator;
mod header;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod reader;
mod records;
pub mod sync_group;
mod table;
mod writer;

pub use api::{ApiKey, ApiRange, NEVER_FLEXIBLE, Request, Response, SERVED};
pub use code::ErrorCode;
pub use error::{Error, Fault};
pub use header::{RequestHeader, ResponseHeader};
pub use records::Records;
pub use table::Version;
pub use writer::Chunks;

#[cfg(test)]
mod tests;
