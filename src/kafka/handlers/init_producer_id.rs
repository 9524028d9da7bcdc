//! InitProducerId (22), for idempotent producers without transactions.

use super::super::context::Context;
use super::super::errors::ToCode;
use super::super::wire::ErrorCode;
use super::super::wire::init_producer_id::{Request, Response};
use super::super::{Operation, Resource, Session};

pub(super) async fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let refuse = |error_code| Response { error_code, ..Response::default() };
    match request.transactional_id.as_deref() {
        None => {}
        // As in Kafka: the empty id is a mistake, not "none".
        Some("") => return refuse(ErrorCode::InvalidRequest),
        // There is no transaction coordinator yet. The code is one that no client retries.
        Some(_) => return refuse(ErrorCode::UnsupportedVersion),
    }
    if !session.authorize(Operation::IdempotentWrite, Resource::Cluster) {
        return refuse(ErrorCode::ClusterAuthorizationFailed);
    }
    // An id and an epoch that the client holds already (KIP-360) are of transactions only: without
    // one a new id is as good as a new epoch, and Kafka gives it, too.
    match context.producer_ids.next(&*context.metadata).await {
        Ok(producer_id) => Response {
            throttle_time_ms: session.throttle_time_ms(0),
            error_code: ErrorCode::None,
            producer_id,
            producer_epoch: 0,
        },
        // Clients of InitProducerId retry what a coordinator says of itself.
        Err(error) if error.to_code().is_retriable() => refuse(ErrorCode::CoordinatorNotAvailable),
        Err(error) => refuse(error.to_code()),
    }
}
