//! Calls between nodes, for whoever mends: over the transport, and the answering end.

use bytes::Bytes;
use isobar_transport::{RpcError, Transport};

use super::{Peers, RANGE_TIMEOUT, STANDING_TIMEOUT, SourceError};
use crate::broker::inbound::{Answer, method};
use crate::broker::ranges::code;
use crate::model::{GroupId, NodeId, ReplicaId};
use crate::replica::core::Standing;
use crate::replica::core::effect::RangeWanted;
use crate::replica::driver::Orders;
use crate::replica::wire::range::{Ask, Stands, Want};

/// The lanes of the transport.
#[derive(Clone)]
pub(in crate::broker) struct Lanes(pub(in crate::broker) Transport);

impl Peers for Lanes {
    async fn range(&self, wanted: RangeWanted) -> Result<Bytes, SourceError> {
        let body = Want::of(&wanted);
        let range = self.0.bulk(wanted.source, method::RANGE, body, RANGE_TIMEOUT).await;
        range.map_err(|error| match error {
            RpcError::Refused { code: code::DELETED, .. } => SourceError::Deleted,
            error => error.into(),
        })
    }

    async fn standing(
        &self,
        node: NodeId,
        group: GroupId,
        of: ReplicaId,
    ) -> Result<Standing, SourceError> {
        let body = Ask::of(group, of);
        let answer = self.0.call(node, method::STANDING, body, STANDING_TIMEOUT).await?;
        Ok(Stands::receive(answer)?)
    }
}

/// Answers where a replica stands, as the one here knows.
pub(in crate::broker) fn answer(orders: Orders) -> Answer {
    Box::new(move |_from, body| {
        let orders = orders.clone();
        Box::pin(async move {
            let (group, of) = Ask::receive(body).map_err(|_| RpcError::Malformed)?;
            let standing = orders.standing(group.partition, of).await;
            let standing = standing.ok_or_else(|| RpcError::Refused {
                code: 0,
                message: "no open replica here".into(),
            })?;
            Ok(Stands::of(&standing))
        })
    })
}
