//! The `kafka-protocol` crate as an oracle: what we write it reads to the same fields and writes
//! to the same bytes, for every API and version that it knows.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use proptest::prelude::*;

use super::super::*;
use super::debug::{Tree, difference};
use super::source::Source;

/// Reads with the oracle: what it shows of the message, and what it writes for it.
fn through<T: Decodable + Encodable + std::fmt::Debug>(
    bytes: Bytes,
    version: i16,
) -> (Tree, Bytes) {
    let mut rest = bytes;
    let message = T::decode(&mut rest, version).unwrap_or_else(|e| panic!("v{version}: {e:#}"));
    assert!(rest.is_empty(), "v{version}: the oracle leaves {} bytes", rest.len());
    let mut again = BytesMut::new();
    message.encode(&mut again, version).unwrap_or_else(|e| panic!("v{version}: {e:#}"));
    (Tree::parse(&format!("{message:?}")), again.freeze())
}

fn check<T: Decodable + Encodable + std::fmt::Debug>(
    what: &str,
    ours: &dyn std::fmt::Debug,
    bytes: Bytes,
    version: i16,
) {
    let (tree, again) = through::<T>(bytes.clone(), version);
    assert_eq!(again, bytes, "{what} v{version}");
    if let Some(path) = difference(&Tree::parse(&format!("{ours:?}")), &tree) {
        panic!("{what} v{version}: {path}");
    }
}

macro_rules! oracle {
    ($($name:ident $request:ident $response:ident)*) => {
        fn check_api(key: ApiKey, number: i16, seed: u64) {
            let version = key.version(number).unwrap();
            let source = &mut Source(seed);
            match key { $( ApiKey::$name => {
                if number <= theirs::$request::VERSIONS.max {
                    let ours = key.sample_request(source, version);
                    let bytes = ours.encode(number).unwrap().into_bytes();
                    let Request::$name(ours) = &ours else { unreachable!() };
                    check::<theirs::$request>(stringify!($request), ours, bytes, number);

                    let ours = key.sample_response(source, version);
                    let bytes = ours.encode(number).unwrap().into_bytes();
                    let Response::$name(ours) = &ours else { unreachable!() };
                    check::<theirs::$response>(stringify!($response), ours, bytes, number);
                }
            } )* }
        }

        /// Versions that Kafka has and the oracle does not; `tables.rs` holds their bytes.
        fn unknown_to_the_oracle() -> Vec<(ApiKey, i16)> {
            let highest = [$( (ApiKey::$name, theirs::$request::VERSIONS.max), )*];
            let beyond = |&(key, max): &(ApiKey, i16)| (max + 1..=key.range().max).map(move |v| (key, v));
            highest.iter().flat_map(beyond).collect()
        }
    };
}

oracle! {
    Produce ProduceRequest ProduceResponse
    Fetch FetchRequest FetchResponse
    ListOffsets ListOffsetsRequest ListOffsetsResponse
    Metadata MetadataRequest MetadataResponse
    OffsetCommit OffsetCommitRequest OffsetCommitResponse
    OffsetFetch OffsetFetchRequest OffsetFetchResponse
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse
    JoinGroup JoinGroupRequest JoinGroupResponse
    Heartbeat HeartbeatRequest HeartbeatResponse
    LeaveGroup LeaveGroupRequest LeaveGroupResponse
    SyncGroup SyncGroupRequest SyncGroupResponse
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse
    ListGroups ListGroupsRequest ListGroupsResponse
    ApiVersions ApiVersionsRequest ApiVersionsResponse
    CreateTopics CreateTopicsRequest CreateTopicsResponse
    DeleteTopics DeleteTopicsRequest DeleteTopicsResponse
    DeleteRecords DeleteRecordsRequest DeleteRecordsResponse
    InitProducerId InitProducerIdRequest InitProducerIdResponse
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
    DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse
    AlterConfigs AlterConfigsRequest AlterConfigsResponse
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse
    DeleteGroups DeleteGroupsRequest DeleteGroupsResponse
    IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse
    OffsetDelete OffsetDeleteRequest OffsetDeleteResponse
    DescribeCluster DescribeClusterRequest DescribeClusterResponse
    DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_version_of_every_api_means_to_the_oracle_what_it_means_to_us(seed: u64) {
        for range in SERVED {
            for number in range.decodable_min..=range.max {
                check_api(range.key, number, seed ^ (number as u64));
            }
        }
    }
}

#[test]
fn the_oracle_lacks_three_versions_of_kafka_4_2() {
    let expected =
        [(ApiKey::ListOffsets, 11), (ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];
    assert_eq!(unknown_to_the_oracle(), expected);
}

#[test]
fn error_codes_agree_with_the_oracle() {
    use kafka_protocol::ResponseError;
    for code in ErrorCode::ALL.iter().filter(|c| c.is_error()) {
        let oracle = ResponseError::try_from_code(code.number()).unwrap();
        assert!(!matches!(oracle, ResponseError::Unknown(_)), "{code}");
        // KAFKA-5948 made it retriable; the oracle has it wrong.
        if *code != ErrorCode::ConcurrentTransactions {
            assert_eq!(code.is_retriable(), oracle.is_retriable(), "{code}");
        }
        assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
    }
    let numbers: Vec<i16> = ErrorCode::ALL.iter().map(|c| c.number()).collect();
    assert_eq!(numbers, (-1..=133).collect::<Vec<_>>());
    assert_eq!((ErrorCode::from_number(134), ErrorCode::from_number(-2)), (None, None));
}
