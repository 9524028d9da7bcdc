//! Frames that mean harm: those of the security notes by hand, and any others by chance. What they
//! may cost in memory is measured in `tests/wire/allocation.rs`.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::reader::REQUEST_ELEMENTS_MAX;
use super::super::*;
use super::source::Source;

fn header(key: ApiKey, version: i16) -> Vec<u8> {
    let flexible = version >= key.range().first_flexible;
    let mut frame = Vec::new();
    frame.extend(key.number().to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0xff, 0xff]);
    frame.extend(flexible.then_some(0));
    frame
}

fn decode(frame: Vec<u8>) -> Result<Request, Error> {
    let (header, body) = RequestHeader::decode(Bytes::from(frame))?;
    Request::decode(&header, body)
}

fn fault(key: ApiKey, version: i16, body: &[u8]) -> Fault {
    decode([&header(key, version), body].concat()).unwrap_err().fault
}

/// Every API and version that can be decoded.
fn versions() -> Vec<(ApiKey, i16)> {
    let of = |r: &'static ApiRange| (r.decodable_min..=r.max).map(|version| (r.key, version));
    SERVED.iter().flat_map(of).collect()
}

#[test]
fn an_array_longer_than_its_frame_is_refused_by_its_count() {
    // Null transactional id, acks, timeout, then 2^31 - 1 topics in no bytes at all.
    let produce = [0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff];
    let expected = Fault::Count { count: 0x7fff_ffff, remaining: 0 };
    assert_eq!(fault(ApiKey::Produce, 3, &produce), expected);
    assert_eq!(fault(ApiKey::Metadata, 1, &[0x7f, 0xff, 0xff, 0xff]), expected);
    // A compact array of 2^32 - 2, and varints that say more than 32 bits or never end.
    let compact = Fault::Count { count: 0xffff_fffe, remaining: 0 };
    assert_eq!(fault(ApiKey::Metadata, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f]), compact);
    assert_eq!(fault(ApiKey::Metadata, 12, &[0x80, 0x80, 0x80, 0x80, 0x10]), Fault::Varint);
    assert_eq!(fault(ApiKey::Metadata, 12, &[0xff; 9]), Fault::Varint);
}

#[test]
fn negative_lengths_are_refused_and_minus_one_is_null_only_where_null_may_be() {
    assert_eq!(fault(ApiKey::Metadata, 1, &[0xff, 0xff, 0xff, 0xfe]), Fault::Negative(-2));
    assert_eq!(fault(ApiKey::Metadata, 0, &[0xff; 4]), Fault::Null);
    assert_eq!(fault(ApiKey::Heartbeat, 0, &[0xff, 0xfe]), Fault::Negative(-2));
    assert_eq!(fault(ApiKey::Heartbeat, 0, &[0xff, 0xff]), Fault::Null);
    assert_eq!(fault(ApiKey::Heartbeat, 4, &[0]), Fault::Null);
    let Request::Metadata(all) =
        decode([header(ApiKey::Metadata, 1), vec![0xff; 4]].concat()).unwrap()
    else {
        panic!()
    };
    assert_eq!(all.topics, None);
}

#[test]
fn a_string_beyond_the_bounds_or_not_in_utf_8_is_refused() {
    assert_eq!(fault(ApiKey::Heartbeat, 0, &[0, 9, b'x']), Fault::Short(8));
    assert_eq!(fault(ApiKey::Heartbeat, 0, &[0, 1, 0xff]), Fault::Utf8);
    let long = [&[0x81, 0x80, 0x02][..], &[b'x'; 32_768]].concat();
    assert_eq!(fault(ApiKey::Heartbeat, 4, &long), Fault::StringLength(32_768));
}

#[test]
fn tagged_fields_are_skipped_within_their_bounds() {
    // ApiVersions 3: two empty strings, then tagged fields.
    let with = |tags: &[u8]| decode([&header(ApiKey::ApiVersions, 3)[..], &[1, 1], tags].concat());
    assert!(with(&[2, 5, 3, 1, 2, 3, 99, 0]).is_ok());
    assert_eq!(with(&[1, 5, 4, 1, 2, 3]).unwrap_err().fault, Fault::Short(1));
    assert_eq!(with(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unwrap_err().fault, Fault::Short(1));
    assert_eq!(with(&[0, 7]).unwrap_err().fault, Fault::Trailing(1));
    // A field that we know, in more bytes than it needs: Fetch's cluster id.
    let fetch = [&[0u8; 21][..], &[1, 1, 1, 1, 0, 3, 1, 0xaa, 0xaa]].concat();
    let error = decode([header(ApiKey::Fetch, 15), fetch].concat()).unwrap_err();
    assert_eq!(error.fault, Fault::Tag(2));
    // In the header too.
    let mut frame = header(ApiKey::Heartbeat, 4);
    *frame.last_mut().unwrap() = 1;
    assert_eq!(decode([frame, vec![0, 100]].concat()).unwrap_err().fault, Fault::Short(100));
}

#[test]
fn all_topics_as_librdkafka_asks_for_them_is_understood() {
    // Its null has four bytes; topics may be made, no operations, no tags.
    let asked = |body: &[u8]| decode([&header(ApiKey::Metadata, 13)[..], body].concat());
    let Request::Metadata(all) = asked(&[0, 0, 0, 0, 1, 0, 0]).unwrap() else { panic!() };
    assert_eq!(all.topics, None);
    assert_eq!(asked(&[0, 0, 0, 0, 1, 0, 0, 0]).unwrap_err().fault, Fault::Trailing(1));
    // Where topics are named nothing may follow.
    assert_eq!(asked(&[1, 0, 0, 0, 1, 0, 0]).unwrap_err().fault, Fault::Trailing(3));
}

#[test]
fn more_elements_than_any_cluster_has_are_refused_before_they_are_allocated() {
    let body = |count: u32| [&count.to_be_bytes()[..], &vec![0; 2 * count as usize]].concat();
    let most = REQUEST_ELEMENTS_MAX as u32;
    assert!(decode([header(ApiKey::Metadata, 1), body(most)].concat()).is_ok());
    assert_eq!(fault(ApiKey::Metadata, 1, &body(most + 1)), Fault::Elements);
}

#[test]
fn an_error_says_where() {
    let body = [0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0x7f, 0, 0, 0];
    let error = decode([&header(ApiKey::Produce, 3)[..], &body].concat()).unwrap_err();
    let expected = "Produce request: TopicProduceData.partition_data: \
        2130706432 elements cannot be in the 0 bytes that remain";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_api_or_version_that_is_not_served_is_refused_in_the_header() {
    let refuse = |key: i16, version: i16| {
        let frame = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0; 6]].concat();
        RequestHeader::decode(Bytes::from(frame)).unwrap_err().fault
    };
    for key in [71, 68, -1, i16::MIN, i16::MAX] {
        assert_eq!(refuse(key, 0), Fault::UnknownApi(key));
    }
    for range in SERVED.iter().filter(|range| range.key != ApiKey::ApiVersions) {
        for version in [range.decodable_min - 1, range.max + 1, i16::MIN, i16::MAX] {
            assert_eq!(refuse(range.key.number(), version), Fault::UnsupportedVersion(version));
        }
    }
    assert_eq!(RequestHeader::decode(Bytes::new()).unwrap_err().fault, Fault::Short(2));
}

#[test]
fn what_has_no_place_on_the_wire_is_an_error_of_the_sender() {
    let long = heartbeat::Request { group_id: "x".repeat(32_768), ..Default::default() };
    for version in [0, 4] {
        let error = Request::from(long.clone()).encode(version).unwrap_err();
        assert_eq!(error.fault, Fault::StringLength(32_768));
    }
    let tagged = fetch::Request { cluster_id: Some("x".repeat(32_768)), ..Default::default() };
    assert!(Request::from(tagged).encode(12).is_err());
}

#[test]
fn a_null_that_a_version_cannot_say_is_written_as_empty() {
    let response = join_group::Response { protocol_name: None, ..Default::default() };
    let bytes = Response::from(response).encode(6).unwrap().into_bytes();
    let Ok(Response::JoinGroup(read)) = Response::decode(ApiKey::JoinGroup, 6, bytes) else {
        panic!()
    };
    assert_eq!(read.protocol_name.as_deref(), Some(""));
}

proptest! {
    #[test]
    fn what_we_write_we_read(seed: u64) {
        for (key, number) in versions() {
            let version = key.version(number).unwrap();
            let source = &mut Source(seed ^ number as u64);
            let request = key.sample_request(source, version);
            let frame = request.encode_frame(number, 5, Some("c".into())).unwrap().into_bytes();
            let (header, body) = RequestHeader::decode(frame.slice(4..)).unwrap();
            prop_assert_eq!(Request::decode(&header, body).unwrap(), request);

            let response = key.sample_response(source, version);
            let frame = response.encode_frame(number, 5).unwrap().into_bytes();
            let (_, read) = Response::decode_frame(key, number, frame.slice(4..)).unwrap();
            prop_assert_eq!(read, response);
        }
    }

    #[test]
    fn a_truncated_message_is_an_error(seed: u64, cut: prop::sample::Index) {
        for (key, number) in versions() {
            let version = key.version(number).unwrap();
            let request = key.sample_request(&mut Source(seed), version);
            let frame = request.encode_frame(number, 5, None).unwrap().into_bytes();
            let frame = frame.slice(4..4 + cut.index(frame.len() - 4));
            let is_ok = RequestHeader::decode(frame)
                .and_then(|(header, body)| Request::decode(&header, body))
                .is_ok();
            prop_assert!(!is_ok, "{} v{number}", key.name());
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(body in vec(any::<u8>(), 0..200)) {
        for (key, number) in versions() {
            let _ = decode([&header(key, number), &body[..]].concat());
            let _ = Response::decode(key, number, Bytes::from(body.clone()));
        }
        let _ = decode(body);
    }

    #[test]
    fn no_change_to_a_message_makes_decoding_panic(
        seed: u64,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (key, number) in versions() {
            let version = key.version(number).unwrap();
            let source = &mut Source(seed);
            let change = |bytes: Bytes| {
                let mut bytes = BytesMut::from(&bytes[..]);
                if !bytes.is_empty() {
                    changes.iter().for_each(|(at, to)| {
                        let at = at.index(bytes.len());
                        bytes[at] = *to;
                    });
                }
                bytes.freeze()
            };
            let request = key.sample_request(source, version).encode_frame(number, 5, None);
            let frame = change(request.unwrap().into_bytes().slice(4..));
            let _ = decode(frame.to_vec());
            let response = key.sample_response(source, version).encode(number);
            let _ = Response::decode(key, number, change(response.unwrap().into_bytes()));
        }
    }
}
