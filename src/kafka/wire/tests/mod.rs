//! Tests of the wire room, a file a matter.

mod debug;
mod frame;
mod hostile;
mod oracle;
pub mod source;
mod tables;
