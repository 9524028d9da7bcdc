//! Requests and replies between nodes: protobuf, with a version in front.

mod reply;
mod request;
#[cfg(test)]
mod tests;

use crate::metadata::wire::Malformed;

/// Of both. A node that does not know a version says so; callers ask the leader again after the
/// rolling upgrade.
const VERSION: u32 = 1;

/// Bytes that are no request or reply of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a metadata message of version {0}, this software knows {VERSION}")]
    Version(u32),
    #[error("a metadata message that this software does not know")]
    Unknown,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, PartialEq, prost::Message)]
            struct $name { $($(#[$attr])* $field: $type,)* }
        )*
    };
}
use messages;

/// Of kinds that say everything by being there.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}
