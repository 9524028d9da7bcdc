//! The served APIs: one table of keys and versions, which ApiVersions answers with and which
//! decoding goes by. An API that is not in it is not served.

use bytes::Bytes;

use super::error::{Error, Fault};
use super::header::{RequestHeader, ResponseHeader};
use super::reader::Reader;
use super::table::{Field, Version};
#[cfg(test)]
use super::tests::source::Source;
use super::writer::{Chunks, Writer};

/// What is served of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiRange {
    pub key: ApiKey,
    /// Lowest and highest version as ApiVersions advertises them.
    pub min: i16,
    pub max: i16,
    /// Lowest version that can be decoded; above `min` only for Produce.
    pub decodable_min: i16,
    /// First version with compact lengths and tagged fields (KIP-482).
    pub first_flexible: i16,
}

/// `first_flexible` of an API that has no flexible version.
pub const NEVER_FLEXIBLE: i16 = i16::MAX;

macro_rules! apis {
    ($( $name:ident = $key:literal, $module:ident, $min:literal..=$max:literal
        $(from $decodable:literal)?, flexible $flexible:expr; )*) => {
        /// An API that we serve.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey { $( $name = $key, )* }

        /// Every API that we serve, in the order of their keys.
        pub const SERVED: &[ApiRange] = &[$( ApiRange {
            key: ApiKey::$name,
            min: $min,
            max: $max,
            decodable_min: apis!(@first $($decodable,)? $min),
            first_flexible: $flexible,
        }, )*];

        impl ApiKey {
            /// The API of that key, if we serve it.
            pub const fn from_number(number: i16) -> Option<Self> {
                match number {
                    $( $key => Some(Self::$name), )*
                    _ => None,
                }
            }

            /// Kafka's name for it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            const fn request_name(self) -> &'static str {
                match self { $( Self::$name => concat!(stringify!($name), " request"), )* }
            }

            const fn response_name(self) -> &'static str {
                match self { $( Self::$name => concat!(stringify!($name), " response"), )* }
            }
        }

        /// The body of a request.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request { $( $name(super::$module::Request), )* }

        /// The body of a response.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Response { $( $name(super::$module::Response), )* }

        impl Request {
            pub fn api_key(&self) -> ApiKey {
                match self { $( Self::$name(_) => ApiKey::$name, )* }
            }

            fn read(key: ApiKey, r: &mut Reader, version: Version) -> Result<Self, Error> {
                match key {
                    $( ApiKey::$name => Field::decode(r, version, false).map(Self::$name), )*
                }
            }

            fn write(&self, w: &mut Writer, version: Version) {
                match self { $( Self::$name(body) => body.encode(w, version, false), )* }
            }
        }

        impl Response {
            pub fn api_key(&self) -> ApiKey {
                match self { $( Self::$name(_) => ApiKey::$name, )* }
            }

            fn read(key: ApiKey, r: &mut Reader, version: Version) -> Result<Self, Error> {
                match key {
                    $( ApiKey::$name => Field::decode(r, version, false).map(Self::$name), )*
                }
            }

            fn write(&self, w: &mut Writer, version: Version) {
                match self { $( Self::$name(body) => body.encode(w, version, false), )* }
            }
        }

        #[cfg(test)]
        impl ApiKey {
            pub(super) fn sample_request(self, source: &mut Source, version: Version) -> Request {
                match self {
                    $( Self::$name => Request::$name(Field::sample(source, version, false)), )*
                }
            }

            pub(super) fn sample_response(self, source: &mut Source, version: Version) -> Response {
                match self {
                    $( Self::$name => Response::$name(Field::sample(source, version, false)), )*
                }
            }
        }

        $(
            impl From<super::$module::Request> for Request {
                fn from(body: super::$module::Request) -> Self {
                    Self::$name(body)
                }
            }

            impl From<super::$module::Response> for Response {
                fn from(body: super::$module::Response) -> Self {
                    Self::$name(body)
                }
            }
        )*
    };
    (@first $first:literal $(, $rest:literal)*) => { $first };
}

apis! {
    Produce = 0, produce, 0..=13 from 3, flexible 9;
    Fetch = 1, fetch, 4..=18, flexible 12;
    ListOffsets = 2, list_offsets, 1..=11, flexible 6;
    Metadata = 3, metadata, 0..=13, flexible 9;
    OffsetCommit = 8, offset_commit, 2..=10, flexible 8;
    OffsetFetch = 9, offset_fetch, 1..=10, flexible 6;
    FindCoordinator = 10, find_coordinator, 0..=6, flexible 3;
    JoinGroup = 11, join_group, 0..=9, flexible 6;
    Heartbeat = 12, heartbeat, 0..=4, flexible 4;
    LeaveGroup = 13, leave_group, 0..=5, flexible 4;
    SyncGroup = 14, sync_group, 0..=5, flexible 4;
    DescribeGroups = 15, describe_groups, 0..=6, flexible 5;
    ListGroups = 16, list_groups, 0..=5, flexible 3;
    ApiVersions = 18, api_versions, 0..=4, flexible 3;
    CreateTopics = 19, create_topics, 2..=7, flexible 5;
    DeleteTopics = 20, delete_topics, 1..=6, flexible 4;
    DeleteRecords = 21, delete_records, 0..=2, flexible 2;
    InitProducerId = 22, init_producer_id, 0..=5, flexible 2;
    OffsetForLeaderEpoch = 23, offset_for_leader_epoch, 2..=4, flexible 4;
    DescribeConfigs = 32, describe_configs, 1..=4, flexible 4;
    AlterConfigs = 33, alter_configs, 0..=2, flexible 2;
    CreatePartitions = 37, create_partitions, 0..=3, flexible 2;
    DeleteGroups = 42, delete_groups, 0..=2, flexible 2;
    IncrementalAlterConfigs = 44, incremental_alter_configs, 0..=1, flexible 1;
    OffsetDelete = 47, offset_delete, 0..=0, flexible NEVER_FLEXIBLE;
    DescribeCluster = 60, describe_cluster, 0..=2, flexible 0;
    DescribeTopicPartitions = 75, describe_topic_partitions, 0..=0, flexible 0;
}

impl ApiKey {
    pub const fn number(self) -> i16 {
        self as i16
    }

    pub fn range(self) -> &'static ApiRange {
        SERVED.iter().find(|range| range.key == self).expect("every key is in the table")
    }

    /// The version, if it is one that we can decode.
    pub fn version(self, number: i16) -> Result<Version, Error> {
        let range = self.range();
        if !(range.decodable_min..=range.max).contains(&number) {
            return Err(Error::from(Fault::UnsupportedVersion(number)).of(self.request_name()));
        }
        Ok(Version { number, flexible: number >= range.first_flexible })
    }
}

impl Request {
    /// Reads the body that follows a header.
    pub fn decode(header: &RequestHeader, body: Bytes) -> Result<Self, Error> {
        let version = header.api_key.version(header.api_version)?;
        let name = header.api_key.request_name();
        let mut r = Reader::of_request(body);
        let request = Self::read(header.api_key, &mut r, version).map_err(|e| e.of(name))?;
        if version.flexible && matches!(&request, Self::Metadata(asked) if asked.topics.is_none()) {
            r.skip_at_most(super::metadata::AFTER_ALL_TOPICS_MAX);
        }
        r.finish().map_err(|fault| Error::from(fault).of(name))?;
        Ok(request)
    }

    /// A whole frame, its length in front: for clients.
    pub fn encode_frame(
        &self,
        api_version: i16,
        correlation_id: i32,
        client_id: Option<String>,
    ) -> Result<Chunks, Error> {
        let api_key = self.api_key();
        let version = api_key.version(api_version)?;
        let mut w = Writer::new();
        w.i32(0);
        RequestHeader { api_key, api_version, correlation_id, client_id }.encode(&mut w);
        self.write(&mut w, version);
        w.finish_frame().map_err(|fault| Error::from(fault).of(api_key.request_name()))
    }

    /// The body alone.
    pub fn encode(&self, api_version: i16) -> Result<Chunks, Error> {
        let version = self.api_key().version(api_version)?;
        let mut w = Writer::new();
        self.write(&mut w, version);
        w.finish().map_err(|fault| Error::from(fault).of(self.api_key().request_name()))
    }
}

impl Response {
    /// A whole frame, its length in front, that answers the request with that header's version and
    /// correlation id. An ApiVersions request of a version that we do not serve is answered with
    /// `api_version` 0.
    pub fn encode_frame(&self, api_version: i16, correlation_id: i32) -> Result<Chunks, Error> {
        let api_key = self.api_key();
        let version = api_key.version(api_version)?;
        let mut w = Writer::new();
        w.i32(0);
        ResponseHeader { correlation_id }.encode(api_key, version, &mut w);
        self.write(&mut w, version);
        w.finish_frame().map_err(|fault| Error::from(fault).of(api_key.response_name()))
    }

    /// The body alone.
    pub fn encode(&self, api_version: i16) -> Result<Chunks, Error> {
        let version = self.api_key().version(api_version)?;
        let mut w = Writer::new();
        self.write(&mut w, version);
        w.finish().map_err(|fault| Error::from(fault).of(self.api_key().response_name()))
    }

    /// Reads a frame (without its length) that answers a request of that API and version: for
    /// clients.
    pub fn decode_frame(
        api_key: ApiKey,
        api_version: i16,
        frame: Bytes,
    ) -> Result<(ResponseHeader, Self), Error> {
        let version = api_key.version(api_version)?;
        let name = api_key.response_name();
        let mut r = Reader::of_response(frame);
        let header = ResponseHeader::decode(api_key, version, &mut r).map_err(|e| e.of(name))?;
        let response = Self::read(api_key, &mut r, version).map_err(|e| e.of(name))?;
        r.finish().map_err(|fault| Error::from(fault).of(name))?;
        Ok((header, response))
    }

    /// Reads a body alone.
    pub fn decode(api_key: ApiKey, api_version: i16, body: Bytes) -> Result<Self, Error> {
        let version = api_key.version(api_version)?;
        let name = api_key.response_name();
        let mut r = Reader::of_response(body);
        let response = Self::read(api_key, &mut r, version).map_err(|e| e.of(name))?;
        r.finish().map_err(|fault| Error::from(fault).of(name))?;
        Ok(response)
    }
}
