//! The topics in a consumer's protocol metadata (KIP-429's ConsumerProtocolSubscription): the
//! only part of what members send each other that the coordinator looks into, as Kafka's does, to
//! know which committed offsets are in use.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Topic;
use super::cursor::Cursor;

/// `protocolType` of Kafka's consumers; only their metadata has this form.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// `None` when the bytes are not a subscription: then nothing is known of what is in use.
pub(super) fn topics(metadata: &Bytes) -> Option<BTreeSet<Topic>> {
    let mut c = Cursor::new(metadata.clone());
    if c.i16("version").ok()? < 0 {
        return None;
    }
    let count = c.count("topics", 2).ok()?;
    (0..count).map(|_| c.string("topic").ok().map(Topic::from)).collect()
}
