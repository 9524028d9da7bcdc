//! The caller's end of a call.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use isobar_topology::NodeId;
use quinn::{Connection, RecvStream};

use super::Outlet;
use crate::RpcError;
use crate::wire::Malformed;
use crate::wire::call::{ANSWER_BYTES, Answer, Request, Route};

/// What is asked, and of whom.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) to: NodeId,
    pub(crate) method: u16,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) route: Option<Route>,
}

/// Calls the peer of `outlet`. The caller holds the deadline; dropping the future gives the call up.
pub(crate) async fn call(outlet: &Outlet, call: Call) -> Result<Bytes, RpcError> {
    let _guard = outlet.begin_call().ok_or(RpcError::Overloaded)?;
    let connection = outlet.connection().await.map_err(|_| RpcError::Unreachable(call.to))?;
    let to = call.to;
    let (answer, body) = exchange(&connection, call).await?;
    answer.result(to, body)
}

async fn exchange(connection: &Connection, call: Call) -> Result<(Answer, Bytes), RpcError> {
    let lost = |_: &dyn std::error::Error| RpcError::ConnectionLost;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    let (method, timeout, route) = (call.method, call.timeout, call.route);
    let request = Request { method, timeout, route, body_bytes: call.body.len() };
    let mut chunks = [request.encode(), call.body];
    send.write_all_chunks(&mut chunks).await.map_err(|error| lost(&error))?;
    send.finish().map_err(|error| lost(&error))?;
    let mut head = [0; ANSWER_BYTES];
    receive.read_exact(&mut head).await.map_err(|error| lost(&error))?;
    let answer = Answer::parse(&head).map_err(|_: Malformed| RpcError::Malformed)?;
    let body = read_body(&mut receive, answer.body_bytes).await;
    Ok((answer, body.ok_or(RpcError::ConnectionLost)?))
}

/// Reads exactly `bytes`, in an allocation that grows with what arrives; `None` if the stream ends before.
pub(crate) async fn read_body(receive: &mut RecvStream, bytes: usize) -> Option<Bytes> {
    const FIRST_BYTES_MAX: usize = 1 << 20;
    let mut body = BytesMut::with_capacity(bytes.min(FIRST_BYTES_MAX));
    while body.len() < bytes {
        let chunk = receive.read_chunk(bytes - body.len(), true).await.ok()??;
        body.extend_from_slice(&chunk.bytes);
    }
    Some(body.freeze())
}
