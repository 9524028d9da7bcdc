//! Tests of the wire room, a file a matter.

mod debug;
mod frame;
mod hostile;
mod oracle;
mod record;
pub mod source;
mod tables;
