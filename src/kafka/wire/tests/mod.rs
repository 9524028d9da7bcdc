//! Tests of the wire room, a file a matter.

mod debug;
mod frame;
mod oracle;
pub mod source;
