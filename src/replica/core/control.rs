//! Entries of our own in the log: what must happen at one place in it, on every replica alike (R24).

use bytes::{BufMut, Bytes, BytesMut};

use crate::log::Entry;
use crate::model::Mode;

/// Sub-kinds of [`crate::log::Kind::Control`]. Numbers are on disk for ever.
///
/// Payload: the new log start, an i64.
pub const LOG_START: u8 = 1;
/// Payload: producers whose newest batch was appended before this i64 (ms) are forgotten.
pub const EXPIRE_PRODUCERS: u8 = 2;
/// The last entry of a home that is planned to move (R18). Payload: the home epoch that it ends, an
/// i64.
pub const HAND_OFF: u8 = 3;
/// The mode of a sync topic from here on (R7, R8). Payload: sid u64, degraded u8 (0 or 1).
pub const MODE: u8 = 4;
/// There is something to wait for (H14). Payload: an i64 of no meaning.
pub const PROBE: u8 = 5;

/// The number that a control entry carries.
///
/// # Panics
/// On a payload that is not eight bytes, which no version of ours wrote.
pub fn value(entry: &Entry) -> i64 {
    let bytes = entry.payload.as_ref().try_into().expect("a control payload of eight bytes");
    i64::from_be_bytes(bytes)
}

pub fn mode_payload(mode: Mode) -> Bytes {
    let mut payload = BytesMut::with_capacity(9);
    payload.put_u64(mode.sid);
    payload.put_u8(u8::from(mode.degraded));
    payload.freeze()
}

/// What an entry of kind [`MODE`] says.
///
/// # Panics
/// On a payload that is not nine bytes, which no version of ours wrote.
pub fn mode(entry: &Entry) -> Mode {
    let bytes: &[u8; 9] = entry.payload.as_ref().try_into().expect("a mode of nine bytes");
    let (sid, degraded) = bytes.split_at(8);
    let sid = u64::from_be_bytes(sid.try_into().expect("a slice of eight bytes"));
    Mode { sid, degraded: degraded == [1] }
}
