//! Requests to the leader of `__meta`, from and to other nodes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use isobar_transport::{RpcError, Transport};

use super::inbound::{Answer, method};
use crate::metadata::service::{self, Forward, ForwardError};
use crate::model::NodeId;

/// How long a forwarded request may take at the leader: a few WAN round trips, and a queue.
const SERVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Over the RPC lane, with its hop round a dead link.
pub struct ByRpc {
    transport: Transport,
}

impl ByRpc {
    pub fn new(transport: Transport) -> Self {
        Self { transport }
    }
}

impl Forward for ByRpc {
    async fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, ForwardError> {
        let answer = self.transport.call(to, method::METADATA, request.into(), timeout).await;
        match answer {
            Ok(answer) => Ok(answer.to_vec()),
            Err(
                RpcError::UnknownPeer(_)
                | RpcError::Unreachable(_)
                | RpcError::Overloaded
                | RpcError::TooLarge { .. }
                | RpcError::UnknownMethod(_)
                | RpcError::Refused { .. }
                | RpcError::ShutDown,
            ) => Err(ForwardError::NotSent(to)),
            Err(RpcError::Timeout | RpcError::ConnectionLost | RpcError::Malformed) => {
                Err(ForwardError::Lost(to))
            }
        }
    }
}

/// Answers forwarded requests, once the service is there.
pub fn answer(service: Arc<OnceLock<service::Handle>>) -> Answer {
    Box::new(move |from, body: Bytes| {
        let service = service.get().cloned();
        Box::pin(async move {
            let Some(service) = service else {
                return Err(RpcError::Refused { code: 0, message: "the node is starting".into() });
            };
            let served = service.serve(from, &body, SERVE_TIMEOUT).await;
            served.map(Bytes::from).map_err(|_| RpcError::Malformed)
        })
    })
}
