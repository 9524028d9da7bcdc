//! Datacenters, links and policies, as the operator declares them, and what follows from them by
//! pure computation: placement, timing, quorums. Knows nobody; does no I/O.

mod id;

pub use id::{DC_NAME_BYTES_MAX, DcName, DcNameError, NodeId, NodeIdError};
