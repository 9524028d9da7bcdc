//! The log.

mod active;
mod commit;
mod cut;
pub mod disk;
mod dump;
mod entry;
mod error;
mod files;
mod frame;
mod identity;
mod index;
mod journal;
mod partition;
mod producers;
mod reader;
mod recovery;
mod retention;
mod scan;
mod segment;
mod state;
mod store;
mod sync;
mod timestamp;
mod view;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use dump::{Dump, Line, dump};
pub use entry::{Discontinuity, Entry, EntryMeta, Kind, check_continues};
pub use error::{Error, Fatal, OutOfSpace};
pub use identity::Identity;
pub use reader::{Reader, SegmentMeta, Timestamped};
pub use retention::{Retention, log_start};
pub use segment::EpochStart;
pub use state::{ConfState, HighWatermark, LogStart, Mode, Position, ReplicaState};
pub use store::{Options, Recovered, Store};
pub use view::Corruption;
pub use write::{Committed, Config, Space, Write};

/// Largest payload of an entry: above any `max.message.bytes` that a broker should be given, and
/// small enough that a damaged length asks for no memory that is not there.
pub const PAYLOAD_BYTES_MAX: u32 = 256 << 20;
