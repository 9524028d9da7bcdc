//! The schemas of `__consumer_offsets`, byte for byte, laid out by hand from Kafka's definitions.

use proptest::prelude::*;

use super::super::record::*;
use super::*;

fn concat(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

#[test]
fn keys_are_kafkas() {
    let offset = concat(&[&[0, 1], &[0, 1], b"g", &[0, 2], b"tt", &[0, 0, 0, 7]]);
    assert_eq!(offset_key("g", &TopicPartition::new("tt", 7)), offset);
    let key = Key::Offset { group: "g".into(), partition: TopicPartition::new("tt", 7) };
    assert_eq!(decode_key(offset.clone()), Ok(key.clone()));
    let oldest = concat(&[&[0, 0], &offset[2..]]);
    assert_eq!(decode_key(oldest), Ok(key));
    let group = concat(&[&[0, 2], &[0, 1], b"g"]);
    assert_eq!(group_key("g"), group);
    assert_eq!(decode_key(group), Ok(Key::Group("g".into())));
    assert_eq!(decode_key(concat(&[&[0, 3], b"of KIP-848"])), Ok(Key::Other(3)));
}

fn an_offset() -> OffsetValue {
    OffsetValue {
        offset: 258,
        leader_epoch: 5,
        metadata: "m".into(),
        commit_timestamp_ms: 1,
        expire_timestamp_ms: None,
    }
}

const OFFSET: &[u8] = &[0, 0, 0, 0, 0, 0, 1, 2];
const ONE: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
const EXPIRY: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 9];

#[test]
fn offsets_are_written_as_version_3_and_with_an_expiry_as_version_1() {
    let v3 = concat(&[&[0, 3], OFFSET, &[0, 0, 0, 5], &[0, 1], b"m", ONE]);
    assert_eq!(an_offset().encode(), v3);
    assert_eq!(OffsetValue::decode(v3), Ok(an_offset()));
    let expiring = OffsetValue { leader_epoch: -1, expire_timestamp_ms: Some(9), ..an_offset() };
    let v1 = concat(&[&[0, 1], OFFSET, &[0, 1], b"m", ONE, EXPIRY]);
    assert_eq!(expiring.encode(), v1);
    assert_eq!(OffsetValue::decode(v1), Ok(expiring));
}

#[test]
fn offsets_of_other_versions_are_understood() {
    let unknown_epoch = OffsetValue { leader_epoch: -1, ..an_offset() };
    for version in [0u8, 2] {
        let old = concat(&[&[0, version], OFFSET, &[0, 1], b"m", ONE]);
        assert_eq!(OffsetValue::decode(old), Ok(unknown_epoch.clone()), "{version}");
    }
    // Version 4: compact strings, and a topic id in tagged field 0.
    let topic_id = [&[1u8, 0, 16][..], &[7; 16]].concat();
    let v4 = concat(&[&[0, 4], OFFSET, &[0, 0, 0, 5], &[2], b"m", ONE, &topic_id]);
    assert_eq!(OffsetValue::decode(v4), Ok(an_offset()));
    let v5 = concat(&[&[0, 5], OFFSET]);
    let error = RecordError::Version { schema: "OffsetCommitValue", version: 5 };
    assert_eq!(OffsetValue::decode(v5), Err(error));
}

fn a_group() -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol_name: Some("range".into()),
        leader: Some("a".into()),
        state_timestamp_ms: Some(1),
        members: vec![MemberValue {
            member_id: "a".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 2,
            session_timeout_ms: 1,
            subscription: Bytes::from_static(b"sub"),
            assignment: Bytes::from_static(b"assign"),
        }],
    }
}

#[test]
fn groups_are_written_as_version_3() {
    let v3 = concat(&[
        &[0, 3],
        &[0, 8],
        b"consumer",
        &[0, 0, 0, 3],
        &[0, 5],
        b"range",
        &[0, 1],
        b"a",
        ONE,
        &[0, 0, 0, 1],
        &[0, 1],
        b"a",
        &[0, 1],
        b"i",
        &[0, 1],
        b"c",
        &[0, 2],
        b"/h",
        &[0, 0, 0, 2],
        &[0, 0, 0, 1],
        &[0, 0, 0, 3],
        b"sub",
        &[0, 0, 0, 6],
        b"assign",
    ]);
    assert_eq!(a_group().encode(), v3);
    assert_eq!(GroupValue::decode(v3), Ok(a_group()));
}

#[test]
fn groups_of_other_versions_are_understood() {
    let mut old = a_group();
    old.members[0].instance_id = None;
    let head: &[&[u8]] = &[&[0, 8], b"consumer", &[0, 0, 0, 3], &[0, 5], b"range", &[0, 1], b"a"];
    let names: &[&[u8]] = &[&[0, 1], b"a", &[0, 1], b"c", &[0, 2], b"/h"];
    let tail: &[&[u8]] = &[&[0, 0, 0, 1], &[0, 0, 0, 3], b"sub", &[0, 0, 0, 6], b"assign"];
    let group = |parts: &[&[&[u8]]]| GroupValue::decode(concat(&parts.concat()));
    let one: &[&[u8]] = &[&[0, 0, 0, 1]];
    let rebalance: &[&[u8]] = &[&[0, 0, 0, 2]];
    let stamp: &[&[u8]] = &[ONE];
    let v2 = group(&[&[&[0, 2]], head, stamp, one, names, rebalance, tail]);
    assert_eq!(v2, Ok(old.clone()));
    old.state_timestamp_ms = None;
    assert_eq!(group(&[&[&[0, 1]], head, one, names, rebalance, tail]), Ok(old.clone()));
    // Without a rebalance timeout the session's stands in.
    old.members[0].rebalance_timeout_ms = 1;
    assert_eq!(group(&[&[&[0, 0]], head, one, names, tail]), Ok(old));
    // Version 4, an empty group: compact strings, null for what there is not, no tagged fields.
    let v4 = concat(&[&[0, 4], &[9], b"consumer", &[0, 0, 0, 3], &[0], &[0], ONE, &[1], &[0]]);
    let empty = GroupValue { protocol_name: None, leader: None, members: Vec::new(), ..a_group() };
    assert_eq!(GroupValue::decode(v4), Ok(empty));
}

#[test]
fn a_record_that_claims_more_than_it_has_is_refused_by_name() {
    let short = concat(&[&[0, 1], &[0x7f, 0xff], b"g"]);
    let error = RecordError::Short { field: "group", needed: 0x7fff, left: 1 };
    assert_eq!(decode_key(short), Err(error));
    let many = concat(&[&[0, 3], &[0, 0], &[0; 4], &[255, 255], &[255, 255], ONE, &[127; 4]]);
    assert!(matches!(
        GroupValue::decode(many),
        Err(RecordError::Short { field: "members", left: 0, .. })
    ));
    assert_eq!(
        decode_key(concat(&[&[0, 2], &[0, 1], &[0xff]])),
        Err(RecordError::Utf8 { field: "group" })
    );
    assert_eq!(
        decode_key(concat(&[&[0, 2], &[255, 255]])),
        Err(RecordError::Null { field: "group" })
    );
}

proptest! {
    #[test]
    fn no_bytes_can_do_more_than_be_refused(
        key in proptest::collection::vec(any::<u8>(), 0..64),
        version in 0u8..6,
        value in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        let _ = decode_key(Bytes::from(key));
        let value = concat(&[&[0, version], &value]);
        let _ = OffsetValue::decode(value.clone());
        let _ = GroupValue::decode(value.clone());
        let _ = subscription::topics(&value);
    }

    #[test]
    fn offsets_read_back(
        offset: i64,
        leader_epoch in -1i32..,
        metadata in ".{0,40}",
        commit_timestamp_ms: i64,
    ) {
        let value = OffsetValue {
            offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms: None,
        };
        prop_assert_eq!(OffsetValue::decode(value.encode()), Ok(value));
    }
}
