//! A call: one request and one answer on a bidirectional stream of their own.
//!
//! ```text
//! request   0  u8  STREAM_CALL       answer   0  u8  layout version = 1
//!           1  u8  layout = 1                 1  u8  status
//!           2  u16 method                     2  u16 code (status REFUSED)
//!           4  u32 timeout in ms              4  u32 body bytes
//!           8  u32 origin, or 0             8  u32 plain bytes, or 0: the body is not compressed
//!          12  u32 destination, or 0            body: the answer, or the refusal's text
//!          16  u32 body bytes
//!              body
//! ```
//!
//! Origin and destination are set on a call that takes a hop: the node between passes it on as it is,
//! with what is left of the timeout. The answers of bulk calls are compressed where the link asks for it and
//! a sample says that it pays.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use isobar_topology::NodeId;

use super::zip::{compress, decompress, is_compressible};
use super::{Malformed, STREAM_CALL, limit, u16_at, u32_at};
use crate::RpcError;
use crate::limits::BODY_BYTES_MAX;

const LAYOUT: u8 = 1;

pub(crate) const REQUEST_BYTES: usize = 20;
pub(crate) const ANSWER_BYTES: usize = 12;

/// Longest text of a refusal that is sent.
const MESSAGE_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) method: u16,
    pub(crate) timeout: Duration,
    pub(crate) route: Option<Route>,
    pub(crate) body_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) origin: NodeId,
    pub(crate) destination: NodeId,
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(REQUEST_BYTES);
        bytes.put_u8(STREAM_CALL);
        bytes.put_u8(LAYOUT);
        bytes.put_u16(self.method);
        bytes.put_u32(u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX));
        bytes.put_u32(self.route.map_or(0, |route| route.origin.as_u32()));
        bytes.put_u32(self.route.map_or(0, |route| route.destination.as_u32()));
        bytes.put_u32(self.body_bytes as u32);
        bytes.freeze()
    }

    /// The head without its first byte, which says that it is a call.
    pub(crate) fn parse(bytes: &[u8; REQUEST_BYTES - 1]) -> Result<Request, Malformed> {
        if bytes[0] != LAYOUT {
            return Err(Malformed::Unknown { what: "call layout", value: bytes[0].into() });
        }
        let node = |at| match u32_at(bytes, at) {
            0 => Ok(None),
            id => NodeId::new(id.into()).map(Some).map_err(|_| Malformed::Node(id)),
        };
        let route = match (node(7)?, node(11)?) {
            (Some(origin), Some(destination)) => Some(Route { origin, destination }),
            (None, None) => None,
            _ => return Err(Malformed::Node(0)),
        };
        let body_bytes = u32_at(bytes, 15);
        limit("call body", body_bytes.into(), BODY_BYTES_MAX as u64)?;
        Ok(Request {
            method: u16_at(bytes, 1),
            timeout: Duration::from_millis(u32_at(bytes, 3).into()),
            route,
            body_bytes: body_bytes as usize,
        })
    }
}

/// The head of an answer; `body_bytes` follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    status: Status,
    code: u16,
    pub(crate) body_bytes: usize,
    /// Of a compressed body, once it is not.
    plain_bytes: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Status {
    Ok = 0,
    Refused = 1,
    UnknownMethod = 2,
    Overloaded = 3,
    Timeout = 4,
    /// Of a hop: the node between does not reach the destination.
    Unreachable = 5,
    /// Of a hop: its connection to the destination was lost in between; it may have acted.
    ConnectionLost = 6,
    ShutDown = 7,
    /// The method's answer exceeds the limit.
    TooLarge = 8,
}

impl Status {
    const ALL: [Status; 9] = [
        Status::Ok,
        Status::Refused,
        Status::UnknownMethod,
        Status::Overloaded,
        Status::Timeout,
        Status::Unreachable,
        Status::ConnectionLost,
        Status::ShutDown,
        Status::TooLarge,
    ];
}

impl Answer {
    /// The head and the body, for a vectored write. With `zstd` this may take tens of milliseconds.
    pub(crate) fn encode(result: Result<Bytes, RpcError>, zstd: bool) -> [Bytes; 2] {
        let (status, code, body) = match result {
            Ok(body) if body.len() > BODY_BYTES_MAX => (Status::TooLarge, 0, Bytes::new()),
            Ok(body) => (Status::Ok, 0, body),
            Err(RpcError::Refused { code, message }) => (Status::Refused, code, text(message)),
            Err(RpcError::UnknownMethod(method)) => (Status::UnknownMethod, method, Bytes::new()),
            Err(RpcError::Overloaded) => (Status::Overloaded, 0, Bytes::new()),
            Err(RpcError::Timeout) => (Status::Timeout, 0, Bytes::new()),
            Err(RpcError::UnknownPeer(_) | RpcError::Unreachable(_)) => {
                (Status::Unreachable, 0, Bytes::new())
            }
            Err(RpcError::ConnectionLost | RpcError::Malformed) => {
                (Status::ConnectionLost, 0, Bytes::new())
            }
            Err(RpcError::ShutDown) => (Status::ShutDown, 0, Bytes::new()),
            Err(RpcError::TooLarge { .. }) => (Status::TooLarge, 0, Bytes::new()),
        };
        let compressed = match zstd && is_compressible(&body) {
            true => compress(std::slice::from_ref(&body)),
            false => None,
        };
        let plain_bytes = compressed.as_ref().map_or(0, |_| body.len());
        let body = compressed.unwrap_or(body);
        let mut head = BytesMut::with_capacity(ANSWER_BYTES);
        head.put_u8(LAYOUT);
        head.put_u8(status as u8);
        head.put_u16(code);
        head.put_u32(body.len() as u32);
        head.put_u32(plain_bytes as u32);
        [head.freeze(), body]
    }

    pub(crate) fn parse(bytes: &[u8; ANSWER_BYTES]) -> Result<Answer, Malformed> {
        if bytes[0] != LAYOUT {
            return Err(Malformed::Unknown { what: "answer layout", value: bytes[0].into() });
        }
        let status = Status::ALL.into_iter().find(|status| *status as u8 == bytes[1]);
        let status = status.ok_or(Malformed::Unknown { what: "status", value: bytes[1].into() })?;
        let body_bytes = u32_at(bytes, 4);
        let plain_bytes = u32_at(bytes, 8);
        limit("answer body", body_bytes.max(plain_bytes).into(), BODY_BYTES_MAX as u64)?;
        Ok(Answer {
            status,
            code: u16_at(bytes, 2),
            body_bytes: body_bytes as usize,
            plain_bytes: (plain_bytes > 0).then_some(plain_bytes as usize),
        })
    }

    /// What the caller gets, for a call to `to`.
    pub(crate) fn result(self, to: NodeId, body: Bytes) -> Result<Bytes, RpcError> {
        let body = match self.plain_bytes {
            None => body,
            Some(bytes) => decompress(&body, bytes).map_err(|_| RpcError::Malformed)?,
        };
        match self.status {
            Status::Ok => Ok(body),
            Status::Refused => {
                let message = String::from_utf8_lossy(&body).into_owned();
                Err(RpcError::Refused { code: self.code, message })
            }
            Status::UnknownMethod => Err(RpcError::UnknownMethod(self.code)),
            Status::Overloaded => Err(RpcError::Overloaded),
            Status::Timeout => Err(RpcError::Timeout),
            Status::Unreachable => Err(RpcError::Unreachable(to)),
            Status::ConnectionLost => Err(RpcError::ConnectionLost),
            Status::ShutDown => Err(RpcError::ShutDown),
            Status::TooLarge => {
                Err(RpcError::TooLarge { bytes: body.len(), bytes_max: BODY_BYTES_MAX })
            }
        }
    }
}

fn text(message: String) -> Bytes {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Bytes::from(message).slice(..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id.into()).unwrap()
    }

    proptest! {
        #[test]
        fn a_request_reads_back(method: u16, ms: u32, hop: bool, body_bytes in 0..=BODY_BYTES_MAX) {
            let route = hop.then(|| Route { origin: node(1), destination: node(2) });
            let timeout = Duration::from_millis(ms.into());
            let request = Request { method, timeout, route, body_bytes };
            let bytes = request.encode();
            prop_assert_eq!(bytes[0], STREAM_CALL);
            prop_assert_eq!(Request::parse(bytes[1..].try_into().unwrap()), Ok(request));
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: [u8; REQUEST_BYTES - 1]) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes: [u8; ANSWER_BYTES]) {
            let _ = Answer::parse(&bytes);
        }
    }

    #[test]
    fn an_answer_reads_back_with_its_meaning() {
        let to = node(7);
        let refused = RpcError::Refused { code: 41, message: "not the controller".to_owned() };
        for result in [
            Ok(Bytes::from_static(b"yes")),
            Err(refused),
            Err(RpcError::UnknownMethod(9)),
            Err(RpcError::Overloaded),
            Err(RpcError::Timeout),
            Err(RpcError::Unreachable(to)),
            Err(RpcError::ConnectionLost),
            Err(RpcError::ShutDown),
        ] {
            let [head, body] = Answer::encode(result.clone(), false);
            let answer = Answer::parse(head[..].try_into().unwrap()).unwrap();
            assert_eq!(answer.body_bytes, body.len());
            assert_eq!(answer.result(to, body), result);
        }
    }

    #[test]
    fn an_answer_is_compressed_where_it_pays_and_reads_back() {
        let words = Bytes::from("the same words ".repeat(10_000));
        let zipped: Bytes = zstd::bulk::compress(&words, 1).unwrap().into();
        for (body, shrinks) in
            [(words, true), (zipped, false), (Bytes::from_static(b"short"), false)]
        {
            let [head, wire] = Answer::encode(Ok(body.clone()), true);
            assert_eq!(wire.len() < body.len(), shrinks);
            let answer = Answer::parse(head[..].try_into().unwrap()).unwrap();
            assert_eq!(answer.result(node(7), wire), Ok(body));
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_on_its_length() {
        let mut bytes = [0; REQUEST_BYTES - 1];
        bytes[0] = LAYOUT;
        bytes[15..].copy_from_slice(&(BODY_BYTES_MAX as u32 + 1).to_be_bytes());
        assert!(Request::parse(&bytes).is_err());
    }
}
