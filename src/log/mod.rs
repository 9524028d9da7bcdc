//! The log: Raft's entries, which are Kafka's. Segments, state journal, recovery, and the disk seam.
//!
//! ```text
//!   replica core ── Write ──▶ Store::commit ──▶ Partition ──▶ segments      one writev each
//!                                  │                └──▶ View ◀── Reader    fetches, Raft, dump
//!                                  └──▶ Journal    term, vote, promise, start, marks
//! ```
//!
//! A `Store` is one data directory of one node, and the only one that writes it. A `Reader` is a
//! cheap handle on one partition and reads beside it, from any thread. There is no second copy of a
//! batch: one entry is one frame around one Kafka record batch, as the leader placed it.
//!
//! What `docs/log-format.md` draws byte for byte:
//!
//! ```text
//!   segment   header | frame | frame | frame …        file: <first index>.log, the same in every DC
//!   frame     length, version, kind, control, term, index, base offset, append time, CRC | payload
//! ```
//!
//! Invariants, each asserted or checked where it could break:
//!
//! - Indexes are dense, terms never fall, and a base offset is the next offset of the entry before
//!   (R19). Only batches take offsets.
//! - When `commit` returns, what it was asked to sync is on disk, names included (R4). After a failed
//!   write or sync nothing more is written (R20).
//! - The durable mark lags what was synced. Bytes that are no frame are torn after it, and damage
//!   before it: cut there, reported here (R21). A closed segment was synced before the next began.
//! - A promise is durable before the replica says where its log ends, is never taken back, and `commit`
//!   writes nothing of a replica that is sealed (R10).
//! - What a home move cuts off is durable in the ledger before it leaves the log (R15).
//! - Truncations and resets are durable before anything is written behind them, and log starts before
//!   anything below them goes. Log start never goes back (R24).
//! - Bytes that a reader was shown do not change, but for a `View::version` that grew first; entries
//!   before a cut stay visible while it is made.
//! - Where segments end follows from the entries, never from a clock.
//!
//! A replica whose log is damaged (`Recovered::corruption`) stays closed: it neither votes nor
//! acknowledges. A `Mend` gathers the entries from its peers beside the log, and `Store::adopt` puts
//! them in the place of the damaged ones; nothing is cut first. Its votes were never in the log. A
//! closed segment that rots under an open log is made anew the same way (`Store::swap`).
//!
//! A partition that moves to another home is sealed, cut and begun anew by four functions of `Store`
//! (`seal.rs`); what a cut takes away is in the `Ledger` before.
//!
//! Deliberately missing: a cache of recent batches (Raft holds the same `Bytes`), compaction, an index
//! of aborted transactions. Removing a segment's file happens within a commit; on ext4 that is
//! milliseconds for a gigabyte.

mod active;
mod commit;
mod cut;
pub mod disk;
mod dump;
mod entry;
mod error;
mod files;
mod fork;
mod frame;
mod identity;
mod index;
mod journal;
mod ledger;
mod mend;
mod opening;
mod partition;
mod producers;
mod range;
mod reader;
mod recovery;
mod retention;
mod scan;
mod scrub;
mod seal;
mod segment;
mod state;
mod store;
mod sync;
mod timestamp;
mod view;
mod walk;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use dump::{Dump, Kept, Line, dump};
pub use entry::{Discontinuity, Entry, EntryMeta, Kind, NO_TIME_MS, check_continues};
pub use error::{Error, Fatal, OutOfSpace};
pub use fork::{BadFork, Cut, Fork, Sealed};
pub use identity::{FILE as IDENTITY_FILE, Identity};
pub use ledger::{
    Batches, Comparison, Content, Counts, Diff, DiffError, InFlight, Ledger, MARK, Manifest,
    Outgoing, Part, Producer, Progress, Stored, Suffix, Wanted, outgoing,
};
pub use mend::{Mend, MendError, Spare, Wants};
pub use range::{BadRange, parse_range};
pub use reader::{Reader, SegmentMeta, Timestamped};
pub use retention::{Retention, log_start};
pub use segment::EpochStart;
pub use state::{ConfState, HighWatermark, LogStart, Position, ReplicaState};
pub use store::{Options, Recovered, Store};
pub use view::Corruption;
pub use write::{Committed, Config, Space, Write};

/// Largest payload of an entry: above any `max.message.bytes` that a broker should be given, and
/// small enough that a damaged length asks for no memory that is not there.
pub const PAYLOAD_BYTES_MAX: u32 = 256 << 20;
