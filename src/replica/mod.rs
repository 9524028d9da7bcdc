//! One partition's replica, and the loop that serves many of them.
//!
//! ```text
//!   kafka, coordinator, metadata
//!        │ Handle: produce, views, leaders           transport
//!        ▼                                            ▲ │ frames
//!   ┌──────────────────────────── host (one thread a node) ──┐
//!   │ core │ core │ core …   pure: raft-rs, gate, watermark,  │
//!   │                        producer state                   │
//!   └────┬───────────────────────────────────────────────▲────┘
//!        │ writes of a round                             │ done
//!        ▼                                               │
//!   store (one thread a disk): append, fdatasync, journal┘
//! ```
//!
//! A core's effects come out of one ordered queue, and a message that depends on a write leaves
//! only after that write and every earlier one of its group is on disk.

pub mod core;
pub mod driver;
mod handle;
pub mod host;
mod leaders;
mod view;
mod views;
pub mod wire;

pub use handle::{Acks, Door, Handle, Produce, ProduceError, Produced, Request};
pub use leaders::{Leader, Leaders};
pub use view::{Progress, RangeError, ReadError, Records, Role, View};
