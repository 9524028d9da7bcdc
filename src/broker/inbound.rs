//! What peers send, handed to whom it is for.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use isobar_transport::{BoxFuture, Frame, Inbound, Lane, PeerIdentity, RpcError};

use crate::model::NodeId;
use crate::replica::driver::{FromPeer, Inlet};

/// Methods of the RPC lane. Numbers are for ever.
pub mod method {
    /// To the leader of `__meta`: a request, see `metadata::request`.
    pub const METADATA: u16 = 1;
    /// "Who are you, and do you know me?" See `bootstrap`.
    pub const WHO: u16 = 2;
    /// To the leader of `__meta`: a lease renewal.
    pub const RENEW: u16 = 3;
    /// To any node: what only it knows of itself. See `admin::ask`.
    pub const ADMIN: u16 = 4;
    /// To any node: "are you there?", answered at once.
    pub const PING: u16 = 5;
    /// To any node with a replica, on the bulk lane: committed entries. See `ranges`.
    pub const RANGE: u16 = 6;
    /// To any node with a replica: where another replica of the group stands. See `mend`.
    pub const STANDING: u16 = 7;
    /// To any node with a replica, from who carries a move of a home; see `moves`.
    pub const SEAL: u16 = 8;
    pub const HOLD: u16 = 9;
    pub const HAND_OFF: u16 = 10;
    /// On the bulk lane: entries of a sealed log.
    pub const SEALED_RANGE: u16 = 11;
}

/// Answers calls of one method.
pub type Answer = Box<dyn Fn(NodeId, Bytes) -> BoxFuture<Result<Bytes, RpcError>> + Send + Sync>;

/// Frames go to the replicas at once; calls to whoever has taken up that method. A method that
/// nobody has taken up yet, while the node starts, is refused and asked again.
pub struct Switch {
    inlet: Inlet,
    metadata: OnceLock<Answer>,
    who: OnceLock<Answer>,
    renew: OnceLock<Answer>,
    admin: OnceLock<Answer>,
    range: OnceLock<Answer>,
    standing: OnceLock<Answer>,
    seal: OnceLock<Answer>,
    hold: OnceLock<Answer>,
    hand_off: OnceLock<Answer>,
    sealed_range: OnceLock<Answer>,
}

impl Switch {
    pub fn new(inlet: Inlet) -> Arc<Self> {
        Arc::new(Self {
            inlet,
            metadata: OnceLock::new(),
            who: OnceLock::new(),
            renew: OnceLock::new(),
            admin: OnceLock::new(),
            range: OnceLock::new(),
            standing: OnceLock::new(),
            seal: OnceLock::new(),
            hold: OnceLock::new(),
            hand_off: OnceLock::new(),
            sealed_range: OnceLock::new(),
        })
    }

    /// # Panics
    /// If the method was taken up before, or there is none of that number.
    pub fn take_up(&self, method: u16, answer: Answer) {
        let slot = self.slot(method).expect("a method of the table");
        assert!(slot.set(answer).is_ok(), "method {method} is taken up twice");
    }

    fn slot(&self, method: u16) -> Option<&OnceLock<Answer>> {
        match method {
            method::METADATA => Some(&self.metadata),
            method::WHO => Some(&self.who),
            method::RENEW => Some(&self.renew),
            method::ADMIN => Some(&self.admin),
            method::RANGE => Some(&self.range),
            method::STANDING => Some(&self.standing),
            method::SEAL => Some(&self.seal),
            method::HOLD => Some(&self.hold),
            method::HAND_OFF => Some(&self.hand_off),
            method::SEALED_RANGE => Some(&self.sealed_range),
            _ => None,
        }
    }
}

impl Inbound for Switch {
    fn frame(&self, from: &PeerIdentity, lane: Lane, frame: Frame) {
        if !self.inlet.put(FromPeer::Frame(from.node, frame)) {
            tracing::debug!(from = %from.node, %lane, "the replicas' inlet is full: frame dropped");
        }
    }

    fn call(
        &self,
        from: PeerIdentity,
        method: u16,
        body: Bytes,
    ) -> BoxFuture<Result<Bytes, RpcError>> {
        if method == method::PING {
            return Box::pin(async { Ok(Bytes::new()) });
        }
        match self.slot(method).map(OnceLock::get) {
            Some(Some(answer)) => answer(from.node, body),
            Some(None) => Box::pin(async {
                Err(RpcError::Refused { code: 0, message: "the node is starting".into() })
            }),
            None => Box::pin(async move { Err(RpcError::UnknownMethod(method)) }),
        }
    }

    fn peer_up(&self, node: NodeId) {
        // If it is full, the next change of a leader tells the peer.
        self.inlet.put(FromPeer::Up(node));
    }

    fn peer_down(&self, node: NodeId) {
        self.inlet.put(FromPeer::Lost(node));
    }

    fn frames_lost(&self, to: NodeId, _lane: Lane) {
        self.inlet.put(FromPeer::Lost(to));
    }
}
