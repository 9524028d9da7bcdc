//! Moving homes: carrying out what `__meta` has written down.
//!
//! ```text
//!   leader of __meta (carry)                         nodes with replicas (serve)
//!     switchover: HAND_OFF ─────────────────────────▶ the leader stops for good (R18)
//!     SEAL e + 1, of the target, meanwhile ─────────▶ once it has the hand-off, as below
//!     SEAL e + 1  ──────────────────────────────────▶ promise, fsync, where the log ends (R10)
//!        enough? (R11)  F = the largest log (R12)
//!     HOLD F      ──────────────────────────────────▶ target: cut, fetch, fsync (R13)
//!        async, not proven: the old home's leases are over (R17)
//!     ActivateHomes: one compare-and-set
//!   every node (reconcile): BeginEpoch ─▶ cut at F, the rest into the ledger, a new core (R14, R15)
//! ```
//!
//! What is done next is decided by `metadata::moves::carrier`, a pure core; here are its driver and those who answer. Whoever
//! leads `__meta` carries all moves; another that takes over begins each of them again, for every step
//! may be repeated, and the last one is a compare-and-set (H12). What is safe rests on the seals and
//! on that compare-and-set, never on who is alive or what time it is.

mod activate;
mod carry;
mod hold;
mod seal;
mod serve;
mod watch;
mod wire;

use std::sync::Arc;

use isobar_transport::{RpcError, Transport};

use super::lease::Office;
use crate::log;
use crate::metadata::service;
use crate::model::{NodeId, TopicPartition};
use crate::replica::driver::{Mover, Orders, Refused};
use crate::replica::{self, Role};

pub use serve::take_up;
pub use watch::run;

/// What carrying out moves needs of a node.
#[derive(Clone)]
pub struct Moves {
    pub node: NodeId,
    pub transport: Transport,
    pub orders: Orders,
    pub mover: Mover,
    pub replicas: replica::Handle,
    pub metadata: service::Handle,
    pub office: Arc<Office>,
}

/// Why a step did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Call(#[from] RpcError),
    #[error(transparent)]
    Wire(#[from] wire::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Metadata(#[from] service::Error),
    #[error(transparent)]
    Range(#[from] log::BadRange),
    #[error("the topic is not known here yet, or not any more")]
    NoTopic,
    #[error("no leader to hand off is known")]
    NoLeader,
    #[error("who grants leases now is the next leader of __meta")]
    NotLeading,
    #[error("the leader's hand-off did not come")]
    NotHandedOff,
}

impl Moves {
    pub(super) fn leads_meta(&self) -> bool {
        let meta = self.replicas.view(TopicPartition::META).map(|view| view.progress());
        meta.is_some_and(|p| p.role == Role::Leader && p.watermark_known)
    }
}

/// Unix time, for people.
fn now_ms() -> i64 {
    super::node::unix_ms()
}
