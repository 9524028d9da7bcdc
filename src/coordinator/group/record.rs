//! Kafka's own record schemas of `__consumer_offsets`, byte for byte: OffsetCommitKey/Value and
//! GroupMetadataKey/Value of Kafka's group coordinator.
//!
//! ```text
//! key    i16 version 0, 1: an offset     group string, topic string, partition i32
//!        i16 version 2:    a group       group string
//! value  i16 version, then
//!   offset  offset i64, leader epoch i32 (3+), metadata string, commit timestamp i64,
//!           expire timestamp i64 (1 only), tagged fields (4+)
//!   group   protocol type string, generation i32, protocol string?, leader string?,
//!           state timestamp i64 (2+), members [ id string, instance string? (3+),
//!           client id string, client host string, rebalance timeout i32 (1+),
//!           session timeout i32, subscription bytes, assignment bytes, tags (4+) ], tags (4+)
//! string i16 length and UTF-8, ? may be null (-1); bytes and arrays i32 length;
//! from version 4 lengths are unsigned varints of length + 1 (KIP-482)
//! ```
//!
//! Values are written as Kafka 4 writes them: version 3, so that older brokers read them too; an
//! offset with its own expiry as version 1, the only one that has the field.

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::{Cursor, Form};
use super::{Id, InstanceId, MemberId, Topic, TopicPartition};

/// Why a record is not what the schemas allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("{field}: {needed} bytes needed, {left} left")]
    Short { field: &'static str, needed: usize, left: usize },
    #[error("{field}: length {length}")]
    Length { field: &'static str, length: i64 },
    #[error("{field}: a varint of more than 32 bits")]
    Varint { field: &'static str },
    #[error("{field}: not UTF-8")]
    Utf8 { field: &'static str },
    #[error("{field}: null")]
    Null { field: &'static str },
    #[error("{schema}: version {version} is unknown")]
    Version { schema: &'static str, version: i16 },
}

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Offset {
        group: Id,
        partition: TopicPartition,
    },
    Group(Id),
    /// Of a record type that this coordinator does not write: KIP-848 groups, share groups,
    /// Streams. Passed over, as Kafka does with what a newer version left behind (KIP-915).
    Other(i16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1: unknown.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
    /// The commit's own expiry, where the client asked for one (OffsetCommit versions 2 to 4).
    pub expire_timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol_name: Option<String>,
    pub leader: Option<MemberId>,
    /// When the group entered its state; before version 2 unknown.
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<MemberValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const VALUE_VERSION: i16 = 3;
const EXPIRING_OFFSET_VERSION: i16 = 1;
const FLEXIBLE_VERSION: i16 = 4;

/// The least a member takes in its smallest form: three empty strings, an i32, two empty bytes.
const MEMBER_BYTES_MIN: usize = 9;

fn put_string(out: &mut BytesMut, s: &str) {
    // Names are checked on the way in (`NAME_BYTES_MAX`), metadata by its configured limit.
    out.put_i16(i16::try_from(s.len()).expect("a string of 15 bits"));
    out.put_slice(s.as_bytes());
}

fn put_nullable_string(out: &mut BytesMut, s: Option<&str>) {
    match s {
        Some(s) => put_string(out, s),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("bytes of 31 bits"));
    out.put_slice(bytes);
}

pub fn offset_key(group: &str, partition: &TopicPartition) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + group.len() + partition.topic.len());
    out.put_i16(OFFSET_KEY_VERSION);
    put_string(&mut out, group);
    put_string(&mut out, &partition.topic);
    out.put_i32(partition.partition);
    out.freeze()
}

pub fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY_VERSION);
    put_string(&mut out, group);
    out.freeze()
}

/// # Errors
/// A truncated or malformed key of a known version.
pub fn decode_key(key: Bytes) -> Result<Key, RecordError> {
    let mut c = Cursor::new(key);
    match c.i16("key version")? {
        0 | OFFSET_KEY_VERSION => Ok(Key::Offset {
            group: c.string("group")?.into(),
            partition: TopicPartition {
                topic: Topic::from(c.string("topic")?),
                partition: c.i32("partition")?,
            },
        }),
        GROUP_KEY_VERSION => Ok(Key::Group(c.string("group")?.into())),
        other => Ok(Key::Other(other)),
    }
}

/// A cursor behind a value's version, which must be 0 to 4.
fn open_value(schema: &'static str, value: Bytes) -> Result<(i16, Cursor), RecordError> {
    let mut c = Cursor::new(value);
    let version = c.i16("value version")?;
    if !(0..=FLEXIBLE_VERSION).contains(&version) {
        return Err(RecordError::Version { schema, version });
    }
    if version >= FLEXIBLE_VERSION {
        c.form = Form::Flexible;
    }
    Ok((version, c))
}

impl OffsetValue {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.metadata.len());
        match self.expire_timestamp_ms {
            Some(expire_timestamp_ms) => {
                out.put_i16(EXPIRING_OFFSET_VERSION);
                out.put_i64(self.offset);
                put_string(&mut out, &self.metadata);
                out.put_i64(self.commit_timestamp_ms);
                out.put_i64(expire_timestamp_ms);
            }
            None => {
                out.put_i16(VALUE_VERSION);
                out.put_i64(self.offset);
                out.put_i32(self.leader_epoch);
                put_string(&mut out, &self.metadata);
                out.put_i64(self.commit_timestamp_ms);
            }
        }
        out.freeze()
    }

    /// # Errors
    /// Truncated, malformed, or of a version above 4.
    pub fn decode(value: Bytes) -> Result<Self, RecordError> {
        let (version, mut c) = open_value("OffsetCommitValue", value)?;
        let offset = c.i64("offset")?;
        let leader_epoch = if version >= 3 { c.i32("leader epoch")? } else { -1 };
        let metadata = c.string("metadata")?;
        let commit_timestamp_ms = c.i64("commit timestamp")?;
        let expires = if version == 1 { c.i64("expire timestamp")? } else { -1 };
        c.skip_tags("offset tags")?;
        Ok(Self {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: (expires != -1).then_some(expires),
        })
    }
}

impl GroupValue {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VALUE_VERSION);
        put_string(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_nullable_string(&mut out, self.protocol_name.as_deref());
        put_nullable_string(&mut out, self.leader.as_deref());
        out.put_i64(self.state_timestamp_ms.unwrap_or(-1));
        out.put_i32(i32::try_from(self.members.len()).expect("members of 31 bits"));
        for member in &self.members {
            member.encode(&mut out);
        }
        out.freeze()
    }

    /// # Errors
    /// Truncated, malformed, or of a version above 4.
    pub fn decode(value: Bytes) -> Result<Self, RecordError> {
        let (version, mut c) = open_value("GroupMetadataValue", value)?;
        let protocol_type = c.string("protocol type")?;
        let generation = c.i32("generation")?;
        let protocol_name = c.nullable_string("protocol")?;
        let leader = c.nullable_string("leader")?.map(MemberId::from);
        let stamp = if version >= 2 { c.i64("state timestamp")? } else { -1 };
        let members = (0..c.count("members", MEMBER_BYTES_MIN)?)
            .map(|_| MemberValue::decode(version, &mut c))
            .collect::<Result<_, _>>()?;
        c.skip_tags("group tags")?;
        Ok(Self {
            protocol_type,
            generation,
            protocol_name,
            leader,
            state_timestamp_ms: (stamp != -1).then_some(stamp),
            members,
        })
    }
}

impl MemberValue {
    fn encode(&self, out: &mut BytesMut) {
        put_string(out, &self.member_id);
        put_nullable_string(out, self.instance_id.as_deref());
        put_string(out, &self.client_id);
        put_string(out, &self.client_host);
        out.put_i32(self.rebalance_timeout_ms);
        out.put_i32(self.session_timeout_ms);
        put_bytes(out, &self.subscription);
        put_bytes(out, &self.assignment);
    }

    fn decode(version: i16, c: &mut Cursor) -> Result<Self, RecordError> {
        let member_id = c.string("member id")?.into();
        let instance_id = match version {
            3.. => c.nullable_string("instance id")?.map(InstanceId::from),
            _ => None,
        };
        let client_id = c.string("client id")?;
        let client_host = c.string("client host")?;
        let rebalance = if version >= 1 { Some(c.i32("rebalance timeout")?) } else { None };
        let session_timeout_ms = c.i32("session timeout")?;
        let member = Self {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: c.bytes("subscription")?,
            assignment: c.bytes("assignment")?,
        };
        c.skip_tags("member tags")?;
        Ok(member)
    }
}
