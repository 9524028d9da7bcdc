//! ListOffsets (2): log start, high watermark, and offsets by time.

mod lookup;

use std::collections::HashSet;
use std::sync::Arc;

use self::lookup::{Found, Target};
use super::super::context::Context;
use super::super::wire::ErrorCode;
use super::super::wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request, Response,
};
use super::super::{Operation, Resource, Session};
use super::{cluster, suffix};
use crate::metadata::image::Image;
use crate::metadata::moves::topics::SuffixTopic;
use crate::replica::{Role, View};

/// A replica that somebody debugs: it answers also where it does not lead.
const DEBUGGING_REPLICA: i32 = -2;

pub(super) async fn handle(
    context: &Context,
    session: &Session,
    version: i16,
    request: Request,
) -> Response {
    let image = context.metadata.image();
    let leader_only = request.replica_id != DEBUGGING_REPLICA;
    // The same partition many times would be as many searches; Kafka refuses it, too.
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let index = wanted.partition_index;
            let answer = if seen.insert((topic.name.clone(), index)) {
                let call = Call { context, session, image: &image, version, leader_only };
                call.partition(&topic.name, wanted).await
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            partitions.push(response(index, answer));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    Response { throttle_time_ms: session.throttle_time_ms(0), topics }
}

fn response(
    partition_index: i32,
    answer: Result<Found, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let error_code = answer.err().unwrap_or(ErrorCode::None);
    let found = answer.unwrap_or(Found::NOTHING);
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: found.leader_epoch,
    }
}

struct Call<'a> {
    context: &'a Context,
    session: &'a Session,
    image: &'a Image,
    version: i16,
    leader_only: bool,
}

impl Call<'_> {
    async fn partition(
        &self,
        topic: &str,
        wanted: ListOffsetsPartition,
    ) -> Result<Found, ErrorCode> {
        if !self.session.authorize(Operation::Describe, Resource::Topic(topic)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        let view = match suffix::named(self.context, self.image, topic) {
            Some(suffix) => self.suffix_view(&suffix, &wanted).await?,
            None => self.view(topic, &wanted)?,
        };
        match Target::new(wanted.timestamp, self.version)? {
            Target::Now(target) => Ok(lookup::now(&view, target)),
            Target::Search(target) => {
                let disk = self.context.disk_reads.clone().acquire_owned().await;
                let search = tokio::task::spawn_blocking(move || {
                    let found = lookup::search(&view, target);
                    drop(disk);
                    found
                });
                search.await.unwrap_or(Err(ErrorCode::UnknownServerError))
            }
        }
    }

    /// What this node's ledger has.
    async fn suffix_view(
        &self,
        topic: &SuffixTopic,
        wanted: &ListOffsetsPartition,
    ) -> Result<Arc<View>, ErrorCode> {
        if !suffix::may(self.session, Operation::Describe, topic) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        let view = suffix::view(self.context, topic, wanted.partition_index).await?;
        cluster::check_epoch(wanted.current_leader_epoch, view.progress().leader_epoch)?;
        Ok(view)
    }

    /// The replica that may answer.
    fn view(&self, topic: &str, wanted: &ListOffsetsPartition) -> Result<Arc<View>, ErrorCode> {
        let at = cluster::find(self.image, topic, wanted.partition_index)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let view = self.context.replicas.view(at).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let progress = view.progress();
        cluster::check_epoch(wanted.current_leader_epoch, progress.leader_epoch)?;
        if self.leader_only && progress.role != Role::Leader {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if !progress.watermark_known {
            return Err(not_available(self.version));
        }
        Ok(view)
    }
}

/// Clients before version 5 do not know OFFSET_NOT_AVAILABLE (KIP-207).
fn not_available(version: i16) -> ErrorCode {
    if version >= 5 { ErrorCode::OffsetNotAvailable } else { ErrorCode::LeaderNotAvailable }
}
