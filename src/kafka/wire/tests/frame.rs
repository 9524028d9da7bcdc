//! Frames whole: headers, lengths, and what may not be copied.

use bytes::Bytes;

use super::super::*;
use crate::model::TopicId;

fn produce(records: Bytes) -> Request {
    let partition = produce::PartitionProduceData { index: 3, records: Some(records) };
    let topic = produce::TopicProduceData {
        topic_id: TopicId([7; 16]),
        partition_data: vec![partition],
        ..Default::default()
    };
    produce::Request { acks: -1, timeout_ms: 9, topic_data: vec![topic], ..Default::default() }
        .into()
}

#[test]
fn a_request_frame_comes_back_as_it_went_out() {
    let request = produce(Bytes::from_static(b"batches"));
    let frame = request.encode_frame(13, 77, Some("me".into())).unwrap().into_bytes();
    assert_eq!(frame.len(), 4 + i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize);
    let (header, body) = RequestHeader::decode(frame.slice(4..)).unwrap();
    assert_eq!((header.api_key, header.api_version), (ApiKey::Produce, 13));
    assert_eq!((header.correlation_id, header.client_id.as_deref()), (77, Some("me")));
    assert_eq!(Request::decode(&header, body).unwrap(), request);
}

#[test]
fn records_are_slices_of_the_frame_and_chunks_of_the_answer() {
    let records = Bytes::from(vec![1u8; 100_000]);
    let chunks = produce(records.clone()).encode_frame(13, 1, None).unwrap();
    assert!(chunks.0.iter().any(|c| c.as_ptr() == records.as_ptr()), "sent without a copy");

    let frame = chunks.into_bytes();
    let place = frame.as_ptr_range();
    let (header, body) = RequestHeader::decode(frame.slice(4..)).unwrap();
    let Request::Produce(request) = Request::decode(&header, body).unwrap() else { panic!() };
    let read = request.topic_data[0].partition_data[0].records.clone().unwrap();
    assert_eq!(read, records);
    assert!(place.contains(&read.as_ptr()), "received without a copy");
}

#[test]
fn a_fetch_answer_carries_the_pieces_of_its_records_as_they_are() {
    let pieces: Vec<Bytes> = (0..3).map(|n| Bytes::from(vec![n; 2_000])).collect();
    let partition =
        fetch::PartitionData { records: Some(Records::from(pieces.clone())), ..Default::default() };
    let topic = fetch::FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
    let response = Response::from(fetch::Response { responses: vec![topic], ..Default::default() });
    for version in 4..=18 {
        let chunks = response.encode_frame(version, 5).unwrap();
        for piece in &pieces {
            assert!(chunks.0.iter().any(|c| c.as_ptr() == piece.as_ptr()), "v{version}");
        }
        let frame = chunks.into_bytes().slice(4..);
        let (header, read) = Response::decode_frame(ApiKey::Fetch, version, frame).unwrap();
        assert_eq!((header.correlation_id, read), (5, response.clone()), "v{version}");
    }
}

#[test]
fn the_answer_to_api_versions_has_no_tagged_fields_in_its_header() {
    let response = Response::from(api_versions::Response::served());
    let frame = response.encode_frame(4, 0x0102_0304).unwrap().into_bytes();
    // Error code 0 and the compact count of the table follow the correlation id at once.
    assert_eq!(frame[4..11], [1, 2, 3, 4, 0, 0, SERVED.len() as u8 + 1]);
    let other = Response::from(metadata::Response::default());
    assert_eq!(other.encode_frame(9, 1).unwrap().into_bytes()[4..9], [0, 0, 0, 1, 0]);
}

#[test]
fn api_versions_in_a_version_of_the_future_is_answered_in_version_0() {
    let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 42, 0xff, 0xfe, 0xfd]);
    let (header, body) = RequestHeader::decode(frame).unwrap();
    assert!(!header.is_supported());
    assert_eq!((header.api_version, header.correlation_id, body.len()), (99, 42, 0));
    assert_eq!(Request::decode(&header, body).unwrap_err().fault, Fault::UnsupportedVersion(99));
    let answer = Response::from(api_versions::Response::unsupported_version());
    let frame = answer.encode_frame(0, 42).unwrap().into_bytes();
    assert_eq!(frame[4..10], [0, 0, 0, 42, 0, 35]);
    assert_eq!(frame.len(), 4 + 4 + 2 + 4 + 6 * SERVED.len());
}

#[test]
fn produce_before_version_3_is_advertised_and_not_decoded() {
    let range = ApiKey::Produce.range();
    assert_eq!((range.min, range.max, range.decodable_min), (0, 13, 3));
    for version in [0u8, 1, 2] {
        let frame = vec![0, 0, 0, version, 0, 0, 0, 1, 0xff, 0xff];
        let error = RequestHeader::decode(Bytes::from(frame)).unwrap_err();
        assert_eq!(error.fault, Fault::UnsupportedVersion(i16::from(version)));
    }
}
