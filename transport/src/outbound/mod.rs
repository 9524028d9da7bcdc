//! What this node sends: a driver per (peer, lane) that keeps a connection, and writers on it.
//!
//! ```text
//!  send ─▶ Queue (pure) ─▶ one writer per stream in use ─▶ QUIC
//!  call ─▶ Outlet::connection ─▶ a stream of its own ─▶ QUIC
//!  drive: wanted? ─▶ dial, hello ─▶ carry until closed ─▶ lost: clear the queue, tell ─▶ backoff
//! ```
//!
//! A frame waits for one attempt to connect at most: when a dial fails or a connection is lost, what is
//! queued is dropped. Old heartbeats are worth nothing, and the order of a broken stream has a gap anyway.

mod backoff;
pub(crate) mod call;
mod dial;
mod drive;
mod outlet;
mod queue;
mod writer;

pub(crate) use drive::drive;
pub(crate) use outlet::Outlet;
