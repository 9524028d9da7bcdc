//! Answers onto a socket, without copying what they are made of.

use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{Closed, Reply};

/// A peer that takes not one byte for this long is gone or hostile. Kafka's clients give up on a
/// request after 30 s, too.
pub(super) const STALL_MAX: Duration = Duration::from_secs(30);

/// Slices of one system call. Linux takes 1,024 (`IOV_MAX`); 64 batches of 16 KiB fill a socket
/// buffer already.
const SLICES_MAX: usize = 64;

/// Writes the chunks, and releases each as soon as it was sent.
pub(super) async fn reply<W>(socket: &mut W, reply: Reply) -> Result<(), Closed>
where
    W: AsyncWrite + Unpin,
{
    let Reply { mut chunks, held } = reply;
    // An empty slice alone would look like a socket that takes nothing.
    chunks.retain(|chunk| !chunk.is_empty());
    write_all(socket, chunks).await?;
    drop(held);
    Ok(())
}

async fn write_all<W>(socket: &mut W, mut chunks: Vec<Bytes>) -> Result<(), Closed>
where
    W: AsyncWrite + Unpin,
{
    let mut first = 0;
    while first < chunks.len() {
        let end = chunks.len().min(first + SLICES_MAX);
        let slices: Vec<IoSlice<'_>> = chunks[first..end].iter().map(|c| IoSlice::new(c)).collect();
        let written = timeout(STALL_MAX, socket.write_vectored(&slices)).await;
        let mut written = written.map_err(|_| Closed::WriteStalled)??;
        if written == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
        }
        while written > 0 {
            let chunk = &mut chunks[first];
            if written < chunk.len() {
                let _sent = chunk.split_to(written);
                break;
            }
            written -= chunk.len();
            *chunk = Bytes::new();
            first += 1;
        }
    }
    timeout(STALL_MAX, socket.flush()).await.map_err(|_| Closed::WriteStalled)??;
    Ok(())
}
