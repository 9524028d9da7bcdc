//! Assembly: the only room that sees all the others. It puts one node together, in the order in
//! which its parts need each other, and takes it apart in the opposite one.
//!
//! ```text
//!   data directory ─▶ certificates ─▶ transport ─▶ replicas' loop ─▶ __meta (bootstrap)
//!        ─▶ metadata service ─▶ registration ─▶ reconciler, leases, coordinators ─▶ Kafka, admin
//! ```

mod admin;
mod automatic;
mod bootstrap;
mod clients;
mod departed;
mod disks;
mod forward;
pub mod groups;
mod inbound;
mod lease;
mod leave;
pub mod mend;
mod modes;
mod moves;
mod node;
mod peers;
mod promote;
mod ranges;
mod reconcile;
mod rejoin;
pub mod scrub;

pub mod recover;

pub use node::{Config, Error, Node};

#[cfg(test)]
mod tests;
