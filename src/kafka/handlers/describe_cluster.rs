//! DescribeCluster (60).

use super::super::context::Context;
use super::super::wire::ErrorCode;
use super::super::wire::describe_cluster::{DescribeClusterBroker, Request, Response};
use super::super::{Operation, Resource, Session};
use super::cluster;

/// `endpoint_type` of brokers; 2 would be KRaft's controllers, which clients cannot reach here.
const BROKERS: i8 = 1;

pub(super) fn handle(context: &Context, session: &Session, request: Request) -> Response {
    let refuse = |error_code, message: &str| Response {
        error_code,
        error_message: Some(message.to_owned()),
        endpoint_type: request.endpoint_type,
        ..Response::default()
    };
    if !session.authorize(Operation::Describe, Resource::Cluster) {
        return refuse(ErrorCode::ClusterAuthorizationFailed, "Describe on the cluster is needed");
    }
    if request.endpoint_type != BROKERS {
        let message = "only the endpoints of brokers (type 1) can be described";
        return refuse(ErrorCode::UnsupportedEndpointType, message);
    }
    let image = context.metadata.image();
    let brokers = cluster::brokers(context, session, &image);
    let brokers = brokers.iter().map(|broker| DescribeClusterBroker {
        broker_id: broker.id(),
        host: broker.host(),
        port: broker.port(),
        rack: broker.rack(),
        is_fenced: false,
    });
    Response {
        throttle_time_ms: session.throttle_time_ms(0),
        endpoint_type: BROKERS,
        cluster_id: image.cluster_id.as_deref().unwrap_or_default().to_owned(),
        controller_id: cluster::controller(context),
        cluster_authorized_operations: session.authorized_operations(
            request.include_cluster_authorized_operations,
            Resource::Cluster,
        ),
        brokers: brokers.collect(),
        ..Response::default()
    }
}
