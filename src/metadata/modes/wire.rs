//! Changes of modes as protobuf messages.

use super::{Change, Changed};
use crate::metadata::moves::wire::AtWire;
use crate::metadata::wire::{self, Malformed};
use crate::model::Mode;

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ModeWire {
    #[prost(uint64, tag = "1")]
    sid: u64,
    #[prost(bool, tag = "2")]
    degraded: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangeWire {
    #[prost(message, required, tag = "1")]
    at: AtWire,
    #[prost(uint32, tag = "2")]
    home_epoch: u32,
    #[prost(uint64, tag = "3")]
    expected: u64,
    #[prost(message, required, tag = "4")]
    mode: ModeWire,
    #[prost(uint32, tag = "5")]
    node: u32,
    #[prost(int64, tag = "6")]
    at_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangedWire {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(message, required, tag = "2")]
    change: ChangeWire,
}

impl From<Mode> for ModeWire {
    fn from(Mode { sid, degraded }: Mode) -> Self {
        Self { sid, degraded }
    }
}

impl From<ModeWire> for Mode {
    fn from(ModeWire { sid, degraded }: ModeWire) -> Self {
        Self { sid, degraded }
    }
}

impl From<&Change> for ChangeWire {
    fn from(change: &Change) -> Self {
        Self {
            at: change.at.into(),
            home_epoch: change.home_epoch.as_u32(),
            expected: change.expected,
            mode: change.mode.into(),
            node: change.node.as_u32(),
            at_ms: change.at_ms,
        }
    }
}

impl TryFrom<ChangeWire> for Change {
    type Error = Malformed;

    fn try_from(wire: ChangeWire) -> Result<Self, Malformed> {
        Ok(Self {
            at: wire.at.try_into()?,
            home_epoch: wire::home_epoch(wire.home_epoch)?,
            expected: wire.expected,
            mode: wire.mode.into(),
            node: wire::node_id(wire.node)?,
            at_ms: wire.at_ms,
        })
    }
}

impl From<&Changed> for ChangedWire {
    fn from(changed: &Changed) -> Self {
        Self { topic: changed.topic.to_string(), change: (&changed.change).into() }
    }
}

impl TryFrom<ChangedWire> for Changed {
    type Error = Malformed;

    fn try_from(wire: ChangedWire) -> Result<Self, Malformed> {
        Ok(Self { topic: wire.topic.into(), change: wire.change.try_into()? })
    }
}
