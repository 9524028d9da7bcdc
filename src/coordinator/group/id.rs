//! Names in the group protocol. All come from clients, so none is ever trusted to be short.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self("".into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// Kafka's `group.id`.
    Id
}

name! {
    /// A member's id within its group, given by the coordinator; empty means "not given yet".
    MemberId
}

name! {
    /// Kafka's `group.instance.id`: a static member's own name (KIP-345).
    InstanceId
}

name! {
    /// A topic's name, as `__consumer_offsets` keys it.
    Topic
}

impl MemberId {
    /// Kafka's form: the client id, or a static member's instance id, a dash and a UUID.
    pub(super) fn generate(prefix: &str, random: u128) -> Self {
        let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
        Self(format!("{prefix}-{uuid}").into())
    }
}

/// One partition of a topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Topic,
    pub partition: i32,
}
