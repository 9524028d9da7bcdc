//! The acceptor's side of hello.

use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};

use crate::Lane;
use crate::node::Node;
use crate::peers::Entry;
use crate::wire::hello::{HELLO_BYTES_MAX, Hello, Refused, Welcome, check, decode, encode};
use crate::wire::{Malformed, STREAM_HELLO, close, limit};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the connection ended during hello: {0}")]
    Stream(String),
    #[error("malformed hello: {0}")]
    Malformed(#[from] Malformed),
    #[error("{peer}: {refused}")]
    Refused { peer: crate::PeerIdentity, refused: Refused },
}

/// The stream that every connection begins with.
pub(super) async fn first(
    node: &Node,
    peer: &Entry,
    connection: &Connection,
) -> Result<Lane, Error> {
    let stream = |error: &dyn std::fmt::Display| Error::Stream(error.to_string());
    let (send, mut receive) = connection.accept_bi().await.map_err(|error| stream(&error))?;
    let mut kind = [0];
    receive.read_exact(&mut kind).await.map_err(|error| stream(&error))?;
    if kind[0] != STREAM_HELLO {
        connection.close(close::MALFORMED, b"expected hello");
        return Err(Malformed::Unknown { what: "first stream", value: kind[0].into() }.into());
    }
    answer(node, peer, connection, send, receive).await
}

/// Answers a hello whose first byte has been read. After a refusal the connection is closed.
pub(super) async fn answer(
    node: &Node,
    peer: &Entry,
    connection: &Connection,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<Lane, Error> {
    let stream = |error: &dyn std::fmt::Display| Error::Stream(error.to_string());
    let mut length = [0; 2];
    receive.read_exact(&mut length).await.map_err(|error| stream(&error))?;
    let length = usize::from(u16::from_be_bytes(length));
    limit("hello", length as u64, HELLO_BYTES_MAX as u64)?;
    let mut body = vec![0; length];
    receive.read_exact(&mut body).await.map_err(|error| stream(&error))?;
    let hello: Hello = decode(&body)?;
    let cluster_id = node.cluster_id.borrow().clone();
    let checked = check(&hello, &peer.identity, cluster_id.as_deref());
    let welcome = Welcome {
        version: checked.as_ref().map_or(0, |(_, version)| *version),
        refusal: checked.as_ref().err().map(Refused::to_string),
        cluster_id,
        incarnation: node.incarnation,
    };
    send.write_all(&encode(&welcome)).await.map_err(|error| stream(&error))?;
    let _ = send.finish();
    match checked {
        Ok((lane, _)) => {
            peer.outlets().iter().for_each(|outlet| outlet.close_unless(hello.incarnation));
            Ok(lane)
        }
        Err(refused) => {
            // The reason travels in the answer; closing at once could overtake it.
            const GOODBYE_MAX: Duration = Duration::from_secs(1);
            let _ = tokio::time::timeout(GOODBYE_MAX, connection.closed()).await;
            connection.close(close::REFUSED, refused.to_string().as_bytes());
            Err(Error::Refused { peer: peer.identity.clone(), refused })
        }
    }
}
