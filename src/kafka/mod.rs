//! The front end that Kafka clients talk to.
//!
//! ```text
//!   listener ─▶ connection ─▶ versions ─▶ handlers/<one an API> ─▶ doors: metadata, replica, coordinator
//!   (limits)    (frames,      (wire::SERVED,     │
//!                order)        decode, encode)   └─ errors: the one map to Kafka's codes
//! ```
//!
//! It owns the words of the wire and nothing else: what is in the log, who leads, what a topic may
//! be set to and who is in a group is decided behind the doors ([`context::Context`]).
//!
//! Invariants:
//! - Answers of a connection leave in request order; what requests send on leaves in that order,
//!   too (`connection`).
//! - No input from a socket panics, hangs or bloats the process: frames take memory as their bytes
//!   arrive, requests in flight, connections and fetch sessions are bounded, and a peer that stops
//!   in the middle is dropped.
//! - Everything that a client sees of a log is at or below the high watermark (R5), and only a
//!   leader says OFFSET_OUT_OF_RANGE (R6).
//! - Every handler asks its session before it acts.
//!
//! Deliberately missing: TLS and SASL for clients (sessions are anonymous), ACLs and quotas (the
//! hooks in `session` allow all), transactions (refused with codes that clients do not retry) and
//! KIP-848 groups (not advertised).

pub mod connection;
pub mod context;
pub mod errors;
pub mod fetch_sessions;
mod handlers;
pub mod listener;
pub mod metrics;
mod producer_ids;
mod session;
mod suffixes;
mod versions;
pub mod wire;

pub use context::{Config, Context, Liveness, Metadata, Parts, Submitted};
pub use listener::{Admission, Limits, Listener, Shared};
pub use metrics::Metrics;
pub use session::{Operation, Principal, Resource, Session};
pub use suffixes::Ledgers;
pub use versions::Front;
