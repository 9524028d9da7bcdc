//! Entries of our own in the log: what must happen at one place in it, on every replica alike (R24).

use crate::log::Entry;

/// Sub-kinds of [`crate::log::Kind::Control`]. Numbers are on disk for ever.
///
/// Payload: the new log start, an i64.
pub const LOG_START: u8 = 1;
/// Payload: producers whose newest batch was appended before this i64 (ms) are forgotten.
pub const EXPIRE_PRODUCERS: u8 = 2;
/// The last entry of a home that is planned to move (R18). Payload: the home epoch that it ends, an
/// i64.
pub const HAND_OFF: u8 = 3;

/// The number that a control entry carries.
///
/// # Panics
/// On a payload that is not eight bytes, which no version of ours wrote.
pub fn value(entry: &Entry) -> i64 {
    let bytes = entry.payload.as_ref().try_into().expect("a control payload of eight bytes");
    i64::from_be_bytes(bytes)
}
