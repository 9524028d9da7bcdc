//! A node's admin port: HTTP with JSON bodies, health for supervisors, metrics for Prometheus.
//!
//! ```text
//!   TCP ─▶ server (limits, hyper) ─▶ routes ─▶ cluster, topics, links, topology ─▶ Source (broker)
//!                                       │            │ what only another node knows
//!                                       │            └─▶ ask ── RPC lane ──▶ ask::answer there
//!                                       └──▶ exposition ◀── metrics (at the scrape), Recorder
//! ```
//!
//! | route | |
//! |---|---|
//! | `GET /healthz` | 200 as soon as the process serves |
//! | `GET /readyz` | 200 when the node serves clients, otherwise 503 and what is missing |
//! | `GET /metrics` | Prometheus text, see `docs/metrics.md` |
//! | `GET /v1/cluster`, `/v1/nodes` | who is there, who leads, what is exposed |
//! | `GET /v1/topics`, `/v1/topics/NAME`, `/v1/topics/NAME/partitions/P` | what is placed where, and effective configs |
//! | `GET /v1/isr` | every partition's ISR |
//! | `GET`, `POST /v1/links` | paths between DCs; a development WAN is shaped here |
//! | `GET`, `POST /v1/moves` | homes that move or have moved; a move is planned or begun |
//! | `GET /v1/groups/led-back` | groups that had read on in a lost home |
//! | `GET`, `POST /v1/topology` | the authoritative topology; a proposal is planned or applied |
//!
//! Invariants: any node answers for the whole cluster, from its own image and by asking others; what
//! another node does not answer is missing from the answer and named, never made up. What changes
//! something is taken from loopback only, and as `application/json`, so that no web page in a browser
//! on the same machine can send it unasked.
//!
//! Deliberately missing: TLS and admin certificates (keep the port inside your network), a console
//! page, long-running jobs.

pub mod api;
pub mod ask;
mod cluster;
pub mod exposition;
mod groups;
mod homes;
mod links;
pub mod metrics;
mod modes;
mod recorder;
mod routes;
mod server;
mod source;
mod topics;
mod topology;

#[cfg(test)]
mod tests;

pub use recorder::Recorder;
pub use server::Server;
pub use source::{Answer, Counts, Silent, Source};
