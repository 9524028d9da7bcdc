//! The writer of one ordered stream: what waits goes out in as few writes as possible.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use isobar_topology::NodeId;
use quinn::{Connection, SendStream, WriteError};
use tokio::sync::watch;

use super::Outlet;
use crate::Compression;
use crate::wire::frame::{Envelope, encode};

/// Runs until the connection fails. Not cancel safe for the stream: whoever aborts it closes the connection.
pub(super) async fn write(
    connection: Connection,
    outlet: Arc<Outlet>,
    stream: usize,
    compression: Compression,
    mut reach: Option<watch::Receiver<Arc<Vec<NodeId>>>>,
) -> Result<(), WriteError> {
    let mut send = connection.open_uni().await?;
    let mut preface = BytesMut::with_capacity(1);
    preface.put_u8(stream as u8);
    let mut chunks = vec![preface.freeze()];
    if let Some(reach) = &mut reach {
        encode(reached(reach), false, &mut chunks);
    }
    send.write_all_chunks(&mut chunks).await?;
    loop {
        while drain(&outlet, stream, compression, &mut send).await? {}
        outlet.writers[stream].notified().await;
        if let Some(reach) = &mut reach
            && reach.has_changed().unwrap_or(false)
        {
            let mut chunks = Vec::new();
            encode(reached(reach), false, &mut chunks);
            send.write_all_chunks(&mut chunks).await?;
        }
    }
}

fn reached(reach: &mut watch::Receiver<Arc<Vec<NodeId>>>) -> Envelope {
    Envelope::Reach(reach.borrow_and_update().to_vec())
}

/// One batch; false if nothing waits.
async fn drain(
    outlet: &Outlet,
    stream: usize,
    compression: Compression,
    send: &mut SendStream,
) -> Result<bool, WriteError> {
    let batch = outlet.queue().take(stream);
    if batch.envelopes.is_empty() {
        return Ok(false);
    }
    let (frames, bytes) = (batch.envelopes.len(), batch.bytes);
    let zstd = compression == Compression::Zstd;
    let mut chunks: Vec<Bytes> = Vec::with_capacity(frames * 3);
    for envelope in batch.envelopes {
        encode(envelope, zstd, &mut chunks);
    }
    send.write_all_chunks(&mut chunks).await?;
    outlet.touch();
    outlet.queue().written(frames, bytes);
    Ok(true)
}
