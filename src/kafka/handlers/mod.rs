//! One file an API: a request in, a response out. Each asks its session before it acts.
//!
//! What a handler sends to an inbox before its first real wait keeps the order of the
//! connection's requests (see [`super::connection`]): keep it so where order matters.

mod alter_configs;
mod cluster;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod groups;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod suffix;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Session;
use super::context::Context;
use super::wire::{self, Request, Response};

/// How long a request that needs a decision of the metadata quorum waits for it, where the client
/// sets no time itself: two elections across 200 ms.
pub(super) const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// See [`metadata_timeout`].
const METADATA_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The longest that any request may wait because its client says so. What a client asks for
/// beyond it is cut: a request that waits holds memory.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// What became of a request.
pub(super) enum Outcome {
    Answer(Response),
    /// An answer, and what is held until it was sent.
    Holding(Response, Vec<OwnedSemaphorePermit>),
    /// The client asked for no answer.
    Silence,
    /// The client asked for no answer, and it failed.
    Close,
}

impl<R: Into<Response>> From<R> for Outcome {
    fn from(response: R) -> Self {
        Self::Answer(response.into())
    }
}

pub(super) async fn handle(
    context: &Arc<Context>,
    session: Arc<Session>,
    version: i16,
    request: Request,
) -> Outcome {
    let c = context;
    let s = &*session;
    match request {
        Request::ApiVersions(_) => wire::api_versions::Response::served().into(),
        Request::Metadata(r) => metadata::handle(c, s, version, r).await.into(),
        Request::DescribeCluster(r) => describe_cluster::handle(c, s, r).into(),
        Request::DescribeTopicPartitions(r) => describe_topic_partitions::handle(c, s, r).into(),
        Request::Produce(r) => produce::handle(c, s, version, r).await,
        Request::Fetch(r) => fetch::handle(c, s, version, r).await,
        Request::ListOffsets(r) => list_offsets::handle(c, s, version, r).await.into(),
        Request::OffsetForLeaderEpoch(r) => offset_for_leader_epoch::handle(c, s, r).await.into(),
        Request::InitProducerId(r) => init_producer_id::handle(c, s, r).await.into(),
        Request::DeleteRecords(r) => delete_records::handle(c, s, r).await.into(),
        Request::CreateTopics(r) => create_topics::handle(c, s, r).await.into(),
        Request::DeleteTopics(r) => delete_topics::handle(c, s, version, r).await.into(),
        Request::CreatePartitions(r) => create_partitions::handle(c, s, r).await.into(),
        Request::DescribeConfigs(r) => describe_configs::handle(c, s, r).into(),
        Request::AlterConfigs(r) => alter_configs::handle(c, s, r).await.into(),
        Request::IncrementalAlterConfigs(r) => {
            alter_configs::handle_incremental(c, s, r).await.into()
        }
        Request::FindCoordinator(r) => find_coordinator::handle(c, s, version, r).await.into(),
        Request::JoinGroup(r) => groups::join(c, s, version, r).await.into(),
        Request::SyncGroup(r) => groups::sync(c, s, r).await.into(),
        Request::Heartbeat(r) => groups::heartbeat(c, s, r).await.into(),
        Request::LeaveGroup(r) => groups::leave(c, s, version, r).await.into(),
        Request::DescribeGroups(r) => groups::describe(c, s, version, r).await.into(),
        Request::ListGroups(r) => groups::list(c, s, r).await.into(),
        Request::DeleteGroups(r) => groups::delete(c, s, r).await.into(),
        Request::OffsetCommit(r) => offset_commit::handle(c, s, version, r).await.into(),
        Request::OffsetFetch(r) => offset_fetch::handle(c, s, version, r).await.into(),
        Request::OffsetDelete(r) => groups::delete_offsets(c, s, r).await.into(),
    }
}

/// A client's timeout in milliseconds, within bounds; none at all if it is negative.
fn timeout(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(TIMEOUT_MAX)
}

/// A client's timeout for a decision of the metadata quorum: 0 does not mean "do not wait" to the
/// clients that send it, and below a second a decision across DCs has no chance.
fn metadata_timeout(ms: i32) -> Duration {
    timeout(ms).max(METADATA_TIMEOUT_MIN)
}

/// What was asked for, each once. An answer can be thousands of times as long as what asks for it,
/// so a request that repeats itself must not be answered as often.
fn once_each<T, K: Ord>(asked: Vec<T>, key: impl Fn(&T) -> K) -> impl Iterator<Item = T> {
    let mut seen = BTreeSet::new();
    asked.into_iter().filter(move |asked| seen.insert(key(asked)))
}

/// Awaits all futures at once, and polls them in order the first time.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    enum Slot<F: Future> {
        Running(Pin<Box<F>>),
        Done(F::Output),
    }
    let mut slots: Vec<Slot<F>> =
        futures.into_iter().map(|future| Slot::Running(Box::pin(future))).collect();
    let mut slots_left = slots.len();
    std::future::poll_fn(|cx| {
        for slot in &mut slots {
            if let Slot::Running(future) = slot
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Slot::Done(output);
                slots_left -= 1;
            }
        }
        if slots_left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let output = |slot| match slot {
        Slot::Done(output) => output,
        Slot::Running(_) => unreachable!("all are done"),
    };
    slots.into_iter().map(output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_futures_run_at_once_and_answer_in_their_order() {
        // Each but the last waits for the one after it: one at a time they would never end.
        let (first, second) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let futures: Vec<Pin<Box<dyn Future<Output = u8>>>> = vec![
            Box::pin(async {
                first.notified().await;
                1
            }),
            Box::pin(async {
                second.notified().await;
                first.notify_one();
                2
            }),
            Box::pin(async {
                second.notify_one();
                3
            }),
        ];
        assert_eq!(join_all(futures).await, [1, 2, 3]);
        assert_eq!(join_all(Vec::<std::future::Ready<u8>>::new()).await, [0u8; 0]);
    }

    #[test]
    fn what_is_asked_for_again_is_answered_once_in_its_first_place() {
        let once: Vec<_> = once_each(vec!["b", "a", "b", "c", "a"], |name| *name).collect();
        assert_eq!(once, ["b", "a", "c"]);
    }

    #[test]
    fn timeouts_of_clients_are_bounded() {
        assert_eq!(timeout(-1), Duration::ZERO);
        assert_eq!(timeout(1500), Duration::from_millis(1500));
        assert_eq!(timeout(i32::MAX), TIMEOUT_MAX);
        assert_eq!(metadata_timeout(0), METADATA_TIMEOUT_MIN);
    }
}
