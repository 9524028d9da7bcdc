//! What stands before every request and response.
//!
//! ```text
//! request  v1  api key i16 | version i16 | correlation id i32 | client id (i16 length, -1: null)
//!          v2  … and tagged fields: for flexible versions; the client id stays in the old form
//! response v0  correlation id i32
//!          v1  … and tagged fields: for flexible versions, except of ApiVersions, whose answer a
//!              client must read before it knows what we speak (KIP-511)
//! ```
//!
//! Request header v0 had no client id; only ControlledShutdown v0 used it, which nobody serves.

use bytes::Bytes;

use super::api::ApiKey;
use super::error::{Error, Fault};
use super::reader::Reader;
use super::table::Version;
use super::writer::Writer;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: ApiKey,
    /// Decodable, unless the API is ApiVersions: see [`RequestHeader::decode`].
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    pub correlation_id: i32,
}

impl RequestHeader {
    /// Reads the header of a frame (without its length) and gives the body that follows.
    ///
    /// An API or version that we do not serve is an error, to be answered by closing the
    /// connection, but for ApiVersions: its header says the unserved version, and the answer is
    /// [`unsupported_version`](super::api_versions::Response::unsupported_version). The rest of
    /// such a request has a form that we cannot know; it is not read.
    pub fn decode(frame: Bytes) -> Result<(Self, Bytes), Error> {
        let at = |fault: Fault| Error::from(fault).of("request header");
        let mut r = Reader::of_request(frame);
        let number = r.i16().map_err(at)?;
        let api_version = r.i16().map_err(at)?;
        let correlation_id = r.i32().map_err(at)?;
        let api_key = ApiKey::from_number(number).ok_or_else(|| at(Fault::UnknownApi(number)))?;
        let version = match api_key.version(api_version) {
            Ok(version) => version,
            Err(_) if api_key == ApiKey::ApiVersions => {
                let header = Self { api_key, api_version, correlation_id, client_id: None };
                return Ok((header, Bytes::new()));
            }
            Err(error) => return Err(error),
        };
        let client_id = r.string(false).map_err(at)?;
        if version.flexible {
            r.tagged_fields(|_, _| Ok(false)).map_err(at)?;
        }
        Ok((Self { api_key, api_version, correlation_id, client_id }, r.rest()))
    }

    /// Whether the version is one that [`Request::decode`](super::Request::decode) reads.
    pub fn is_supported(&self) -> bool {
        self.api_key.version(self.api_version).is_ok()
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.i16(self.api_key.number());
        w.i16(self.api_version);
        w.i32(self.correlation_id);
        w.string(self.client_id.as_deref(), false);
        if self.api_version >= self.api_key.range().first_flexible {
            w.tagged_fields(|_| {});
        }
    }
}

impl ResponseHeader {
    fn has_tagged_fields(api_key: ApiKey, version: Version) -> bool {
        version.flexible && api_key != ApiKey::ApiVersions
    }

    pub(super) fn decode(api_key: ApiKey, version: Version, r: &mut Reader) -> Result<Self, Error> {
        let correlation_id = r.i32()?;
        if Self::has_tagged_fields(api_key, version) {
            r.tagged_fields(|_, _| Ok::<_, Error>(false))?;
        }
        Ok(Self { correlation_id })
    }

    pub(super) fn encode(self, api_key: ApiKey, version: Version, w: &mut Writer) {
        w.i32(self.correlation_id);
        if Self::has_tagged_fields(api_key, version) {
            w.tagged_fields(|_| {});
        }
    }
}
