//! From a frame to its handler and back: [`wire::SERVED`] is the one table of keys and versions.
//!
//! An API or version outside the table closes the connection, but for ApiVersions, which answers
//! with error 35 in a version 0 body and stays open (KIP-511).

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Session;
use super::connection::{Answer, Refusal, Reply, Service};
use super::context::Context;
use super::handlers::{self, Outcome};
use super::wire::{self, Request, RequestHeader, Response};

/// The service that a node's connections talk to.
pub struct Front {
    context: Arc<Context>,
}

impl Front {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Service for Front {
    fn begin(&self, session: &mut Arc<Session>, frame: Bytes) -> Result<Answer, Refusal> {
        let received_at = Instant::now();
        let frame_bytes = frame.len();
        let (header, body) = RequestHeader::decode(frame)?;
        let request =
            if header.is_supported() { Some(Request::decode(&header, body)?) } else { None };
        if header.is_supported() && session.client_id.as_deref() != header.client_id.as_deref() {
            *session = Arc::new(session.with_client_id(header.client_id.as_deref()));
        }
        let api = self.context.metrics.of(header.api_key);
        api.request_bytes.increment(frame_bytes as u64);
        let (context, session) = (self.context.clone(), session.clone());
        Ok(Box::pin(async move {
            let reply = answer(&context, session, &header, request).await;
            let bytes = match &reply {
                Ok(Some(reply)) => reply.chunks.iter().map(Bytes::len).sum(),
                Ok(None) | Err(_) => 0,
            };
            context.metrics.of(header.api_key).answered(received_at.elapsed(), bytes);
            reply
        }))
    }
}

async fn answer(
    context: &Arc<Context>,
    session: Arc<Session>,
    header: &RequestHeader,
    request: Option<Request>,
) -> Result<Option<Reply>, Refusal> {
    let Some(request) = request else {
        let response: Response = wire::api_versions::Response::unsupported_version().into();
        let chunks = response.encode_frame(0, header.correlation_id)?.0;
        return Ok(Some(Reply { chunks, held: Vec::new() }));
    };
    let outcome = handlers::handle(context, session, header.api_version, request).await;
    let (response, held) = match outcome {
        Outcome::Answer(response) => (response, Vec::new()),
        Outcome::Holding(response, held) => (response, held),
        Outcome::Silence => return Ok(None),
        Outcome::Close => return Err(Refusal::Unacknowledged),
    };
    let chunks = response.encode_frame(header.api_version, header.correlation_id)?.0;
    Ok(Some(Reply { chunks, held }))
}
