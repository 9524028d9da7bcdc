//! The seam to the layer above.

mod accept;
mod calls;
mod frames;
mod hello;
mod refusals;
mod serve;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use isobar_topology::NodeId;

use crate::{Frame, Lane, PeerIdentity, RpcError};

pub(crate) use accept::{accept, server_config};
pub(crate) use serve::Slot;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a node does with what arrives.
pub trait Inbound: Send + Sync + 'static {
    /// A frame. Called in order per (peer, lane, stream), from several tasks. Must not block: hand it on.
    fn frame(&self, from: &PeerIdentity, lane: Lane, frame: Frame);

    /// A call. The future is dropped at the caller's deadline, or when the caller's connection ends: what must
    /// not stop half way belongs into a task of its own.
    fn call(
        &self,
        from: PeerIdentity,
        method: u16,
        body: Bytes,
    ) -> BoxFuture<Result<Bytes, RpcError>>;

    /// Control to the peer is up.
    fn peer_up(&self, node: NodeId);

    /// Control to the peer is down; it may still be reached through a third DC.
    fn peer_down(&self, node: NodeId);

    /// Frames that `send` accepted may not have arrived: the lane's connection was lost, or could not be
    /// opened. Raft wants to probe again.
    fn frames_lost(&self, _to: NodeId, _lane: Lane) {}
}
