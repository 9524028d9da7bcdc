//! The words of the one log, as types: identifiers, positions, epochs and the record batch.
//!
//! `Offset` (Kafka's position) and `LogIndex` (Raft's) are two newtypes and never one: Raft's own
//! entries take an index and no offset, so the two drift apart in every log.
//!
//! Nothing here does I/O, reads a clock or knows who uses it.

pub mod batch;
mod epoch;
mod id;
mod mode;
mod position;
pub mod record;

pub use epoch::{HOME_EPOCH_MAX, HomeEpoch, LeaderEpoch, Term};
pub use id::{GroupId, ReplicaId, TopicId, TopicPartition};
pub use isobar_topology::{DcName, NodeId};
pub use mode::Mode;
pub use position::{LogIndex, Offset};
