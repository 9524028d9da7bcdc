//! zstd for payloads on links that ask for it.

use std::io::{Error, Read, Write};

use bytes::Bytes;
use zstd::stream::{read, write};

use super::Malformed;

/// Smaller payloads gain less than zstd's own overhead.
const BYTES_MIN: usize = 512;

/// The fastest: a link is to be saved, not at the price of a core.
const LEVEL: i32 = 1;

/// As one zstd frame; `None` where it does not shrink.
pub(super) fn compress(chunks: &[Bytes]) -> Option<Bytes> {
    let plain_bytes: usize = chunks.iter().map(Bytes::len).sum();
    if plain_bytes < BYTES_MIN {
        return None;
    }
    let mut encoder = write::Encoder::new(Vec::new(), LEVEL).ok()?;
    encoder.set_pledged_src_size(Some(plain_bytes as u64)).ok()?;
    for chunk in chunks {
        encoder.write_all(chunk).ok()?;
    }
    let compressed = encoder.finish().ok()?;
    (compressed.len() < plain_bytes).then(|| compressed.into())
}

/// Exactly `plain_bytes`, which the caller has compared with its limit.
pub(super) fn decompress(compressed: &[u8], plain_bytes: usize) -> Result<Bytes, Malformed> {
    let zstd = |error: Error| Malformed::Zstd(error.to_string());
    let mut decoder = read::Decoder::with_buffer(compressed).map_err(zstd)?;
    // Grows with the output, which ends at the latest one byte past what was promised.
    let mut plain = Vec::new();
    decoder.by_ref().take(plain_bytes as u64 + 1).read_to_end(&mut plain).map_err(zstd)?;
    match plain.len() == plain_bytes {
        true => Ok(plain.into()),
        false => Err(Malformed::Sum { chunks: plain_bytes as u64, body: plain.len() as u64 }),
    }
}

/// Whether a body that nobody has marked is worth it: a look at its first bytes. What is compressed already
/// shrinks by a percent or two at most.
pub(super) fn is_compressible(body: &Bytes) -> bool {
    const SAMPLE_BYTES: usize = 32 << 10;
    let sample = body.slice(..body.len().min(SAMPLE_BYTES));
    let sample_bytes = sample.len();
    compress(&[sample]).is_some_and(|compressed| compressed.len() < sample_bytes / 10 * 9)
}
