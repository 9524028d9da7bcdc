//! The serving end of a call, and of one that takes a hop through this node.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::time::{Instant, timeout_at};

use super::{frames, hello};
use crate::node::Node;
use crate::outbound::call::{Call, call, read_body};
use crate::peers::Entry;
use crate::wire::call::{Answer, REQUEST_BYTES, Request};
use crate::wire::{Malformed, STREAM_CALL, STREAM_HELLO, close};
use crate::{Compression, Lane, RpcError};

/// A bidirectional stream: a repeated hello, or a call.
pub(super) async fn serve(
    node: Arc<Node>,
    peer: Arc<Entry>,
    lane: Lane,
    connection: Connection,
    (send, mut receive): (SendStream, RecvStream),
) {
    let mut kind = [0];
    if receive.read_exact(&mut kind).await.is_err() {
        return;
    }
    let result = match (kind[0], lane) {
        (STREAM_HELLO, _) => match hello::answer(&node, &peer, &connection, send, receive).await {
            Err(error) => {
                tracing::warn!(node = %node.id, %lane, %error, "refused a connection");
                Ok(())
            }
            Ok(_) => Ok(()),
        },
        (STREAM_CALL, Lane::Rpc | Lane::Bulk) => answer(&node, &peer, lane, send, receive).await,
        (kind, _) => Err(Malformed::Unknown { what: "stream", value: kind.into() }),
    };
    if let Err(error) = result {
        tracing::warn!(node = %node.id, peer = %peer.node(), %lane, %error, "malformed call");
        connection.close(close::MALFORMED, error.to_string().as_bytes());
    }
}

async fn answer(
    node: &Node,
    peer: &Entry,
    lane: Lane,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), Malformed> {
    let mut head = [0; REQUEST_BYTES - 1];
    if receive.read_exact(&mut head).await.is_err() {
        return Ok(());
    }
    let request = Request::parse(&head)?;
    node.heard(peer);
    let deadline = Instant::now() + request.timeout;
    let Ok(Some(body)) = timeout_at(deadline, read_body(&mut receive, request.body_bytes)).await
    else {
        return Ok(());
    };
    let result =
        match timeout_at(deadline, dispatch(node, peer, lane, request, body, deadline)).await {
            Ok(result) => result?,
            Err(_) => Err(RpcError::Timeout),
        };
    // What the answer's owner counts against a limit stays counted until it is sent, compressed or not.
    let _held = result.as_ref().ok().cloned();
    let zstd = lane == Lane::Bulk && peer.config.link.compression == Compression::Zstd;
    let mut chunks = match zstd {
        false => Answer::encode(result, false),
        // Off the runtime's threads, which serve everybody else.
        true => match tokio::task::spawn_blocking(|| Answer::encode(result, true)).await {
            Ok(chunks) => chunks,
            // The runtime is shutting down, and the connection with it.
            Err(_) => return Ok(()),
        },
    };
    // A caller that has gone, or will be told by its connection, needs no more.
    if send.write_all_chunks(&mut chunks).await.is_ok() {
        let _ = send.finish();
    }
    Ok(())
}

/// The outer error is the peer's misbehaviour, the inner one the call's result.
async fn dispatch(
    node: &Node,
    peer: &Entry,
    lane: Lane,
    request: Request,
    body: Bytes,
    deadline: Instant,
) -> Result<Result<Bytes, RpcError>, Malformed> {
    let Some(route) = request.route else {
        return Ok(node.inbound.call(peer.identity.clone(), request.method, body).await);
    };
    if lane != Lane::Rpc {
        return Err(Malformed::Unknown { what: "relay outside of rpc", value: 0 });
    }
    if route.destination == node.id {
        return Ok(match frames::origin_identity(node, peer, route.origin) {
            Some(identity) => node.inbound.call(identity, request.method, body).await,
            None => Err(RpcError::UnknownPeer(route.origin)),
        });
    }
    if route.origin != peer.node() {
        let value = route.origin.as_u32().into();
        return Err(Malformed::Unknown { what: "origin of a relayed call", value });
    }
    let Some(destination) = node.peers.entry(route.destination).filter(|entry| entry.is_up())
    else {
        return Ok(Err(RpcError::Unreachable(route.destination)));
    };
    let to = destination.node();
    let timeout = deadline.saturating_duration_since(Instant::now());
    let onward = Call { to, method: request.method, body, timeout, route: Some(route) };
    Ok(call(destination.outlet(Lane::Rpc), onward).await)
}
