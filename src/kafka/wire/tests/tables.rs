//! What the oracle does not know, byte by byte, and the documentation of the one table.

use bytes::Bytes;

use super::super::*;
use crate::model::TopicId;

const ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// `0a 0b` and the like, spaces and line ends anywhere.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn is_request(key: ApiKey, version: i16, request: impl Into<Request>, text: &str) {
    let request = request.into();
    assert_eq!(request.encode(version).unwrap().into_bytes(), hex(text), "{}", key.name());
    let header =
        RequestHeader { api_key: key, api_version: version, correlation_id: 1, client_id: None };
    assert_eq!(Request::decode(&header, Bytes::from(hex(text))).unwrap(), request);
}

fn is_response(key: ApiKey, version: i16, response: impl Into<Response>, text: &str) {
    let response = response.into();
    assert_eq!(response.encode(version).unwrap().into_bytes(), hex(text), "{}", key.name());
    assert_eq!(Response::decode(key, version, Bytes::from(hex(text))).unwrap(), response);
}

#[test]
fn offset_commit_10_names_topics_by_id() {
    use offset_commit::*;
    let partition = OffsetCommitRequestPartition {
        partition_index: 3,
        committed_offset: 258,
        committed_leader_epoch: 5,
        committed_metadata: None,
    };
    let topic = OffsetCommitRequestTopic {
        topic_id: TopicId(ID),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = Request {
        group_id: "g".into(),
        generation_id_or_member_epoch: 2,
        member_id: "m".into(),
        topics: vec![topic],
        ..Default::default()
    };
    let bytes = "02 67  00000002  02 6d  00  02 0102030405060708090a0b0c0d0e0f10
        02 00000003 0000000000000102 00000005 00 00  00  00";
    is_request(ApiKey::OffsetCommit, 10, request, bytes);

    let partition =
        OffsetCommitResponsePartition { partition_index: 3, error_code: ErrorCode::UnknownTopicId };
    let topic = OffsetCommitResponseTopic {
        topic_id: TopicId(ID),
        partitions: vec![partition],
        ..Default::default()
    };
    let response = Response { throttle_time_ms: 0, topics: vec![topic] };
    let bytes = "00000000  02 0102030405060708090a0b0c0d0e0f10  02 00000003 0064 00  00  00";
    is_response(ApiKey::OffsetCommit, 10, response, bytes);
}

#[test]
fn offset_fetch_10_names_topics_by_id() {
    use offset_fetch::*;
    let topic = OffsetFetchRequestTopics {
        topic_id: TopicId(ID),
        partition_indexes: vec![7],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: None,
        member_epoch: -1,
        topics: Some(vec![topic]),
    };
    let request = Request { groups: vec![group], require_stable: true, ..Default::default() };
    let bytes = "02 02 67  00  ffffffff  02 0102030405060708090a0b0c0d0e0f10  02 00000007  00
        00  01  00";
    is_request(ApiKey::OffsetFetch, 10, request, bytes);

    let partition = OffsetFetchResponsePartitions {
        partition_index: 7,
        committed_offset: 9,
        committed_leader_epoch: -1,
        metadata: Some("x".into()),
        error_code: ErrorCode::None,
    };
    let topic = OffsetFetchResponseTopics {
        topic_id: TopicId(ID),
        partitions: vec![partition],
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup {
        group_id: "g".into(),
        topics: vec![topic],
        error_code: ErrorCode::None,
    };
    let response = Response { groups: vec![group], ..Default::default() };
    let bytes = "00000000  02 02 67  02 0102030405060708090a0b0c0d0e0f10
        02 00000007 0000000000000009 ffffffff 02 78 0000 00  00  0000 00  00";
    is_response(ApiKey::OffsetFetch, 10, response, bytes);
}

#[test]
fn list_offsets_11_is_version_10_with_one_more_timestamp() {
    use list_offsets::*;
    let partition =
        ListOffsetsPartition { timestamp: EARLIEST_PENDING_UPLOAD_TIMESTAMP, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
    let request = super::super::Request::from(Request {
        topics: vec![topic],
        timeout_ms: 4,
        ..Default::default()
    });
    assert_eq!(request.encode(11).unwrap(), request.encode(10).unwrap());
    let response = super::super::Response::from(Response::default());
    assert_eq!(response.encode(11).unwrap(), response.encode(10).unwrap());
}

#[test]
fn the_table_is_in_the_order_of_keys_and_within_itself() {
    assert!(SERVED.windows(2).all(|pair| pair[0].key.number() < pair[1].key.number()));
    for range in SERVED {
        assert!(0 <= range.min && range.min <= range.decodable_min);
        assert!(range.decodable_min <= range.max);
        assert_eq!(ApiKey::from_number(range.key.number()), Some(range.key));
        assert_eq!(range.key.range(), range);
    }
    // Java and librdkafka would send it on every connection.
    assert_eq!(ApiKey::from_number(71), None);
}

#[test]
fn docs_wire_md_says_what_is_served() {
    let docs = include_str!("../../../../docs/wire.md");
    let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let expected: Vec<String> = SERVED.iter().map(row).collect();
    assert_eq!(rows, expected, "the table in docs/wire.md should be:\n{}", expected.join("\n"));
}

fn row(range: &ApiRange) -> String {
    let ApiRange { key, min, max, decodable_min, first_flexible } = *range;
    let versions = |from, to| if from == to { format!("{from}") } else { format!("{from}–{to}") };
    let flexible = match first_flexible {
        NEVER_FLEXIBLE => "never".into(),
        from => format!("{from}"),
    };
    let (advertised, served) = (versions(min, max), versions(decodable_min, max));
    format!("| {} | {} | {advertised} | {served} | {flexible} |", key.number(), key.name())
}
