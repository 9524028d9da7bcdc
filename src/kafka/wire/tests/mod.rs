//! Tests of the wire room, a file a matter.

mod frame;
