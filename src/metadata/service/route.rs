//! Finds the leader of `__meta` for a request, and asks again while that is safe.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::log::Log;
use super::{Answer, Call, Error, Forward, ForwardError, Route};
use crate::metadata::refusal::Reason;
use crate::metadata::request::{Reply, Request, Response};
use crate::model::{NodeId, Offset};

/// Between two attempts: news of a new leader takes a WAN round trip to arrive.
const RETRY: Duration = Duration::from_millis(100);

pub(super) struct Router<L, F> {
    pub node: NodeId,
    pub log: Arc<L>,
    pub forward: F,
    pub calls: mpsc::Sender<Call>,
}

/// One attempt's end without an answer.
enum Attempt {
    /// Nothing was done.
    Again(Error),
    /// Perhaps something was.
    Unknown,
}

impl<L: Log, F: Forward> Route for Router<L, F> {
    fn route(&self, request: Request, timeout: Duration) -> Answer<'_> {
        Box::pin(self.ask(request, Instant::now() + timeout))
    }
}

impl<L: Log, F: Forward> Router<L, F> {
    async fn ask(&self, request: Request, deadline: Instant) -> Result<(Response, Offset), Error> {
        let mut hint = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let leader = hint.take().or_else(|| self.log.leader());
            let reply = match leader {
                None => Err(Attempt::Again(Error::NoLeader)),
                Some(node) if node == self.node => self.ask_here(&request, deadline).await,
                Some(node) => self.ask_there(node, &request, left).await?,
            };
            let failed = match reply {
                Ok(Reply::Done { response, visible_at }) => return Ok((response, visible_at)),
                Ok(Reply::Refused(refusal)) if refusal.reason == Reason::NotReady => {
                    Attempt::Again(refusal.into())
                }
                Ok(Reply::Refused(refusal)) => return Err(refusal.into()),
                Ok(Reply::NotLeader { hint: said }) => {
                    hint = said.filter(|node| Some(*node) != leader);
                    Attempt::Again(Error::NoLeader)
                }
                Ok(Reply::Busy) => Attempt::Again(Error::Busy),
                Ok(Reply::Unknown) => Attempt::Unknown,
                Err(attempt) => attempt,
            };
            let error = match failed {
                Attempt::Again(error) => error,
                Attempt::Unknown if may_repeat(&request) => Error::Unknown,
                Attempt::Unknown => return Err(Error::Unknown),
            };
            if Instant::now() + RETRY >= deadline {
                return Err(error);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn ask_here(&self, request: &Request, deadline: Instant) -> Result<Reply, Attempt> {
        let (reply, answer) = oneshot::channel();
        let call = Call { request: request.clone(), deadline, reply };
        match self.calls.try_send(call) {
            Ok(()) => answer.await.map_err(|_| Attempt::Unknown),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Attempt::Again(Error::Busy)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Attempt::Again(Error::ShuttingDown)),
        }
    }

    async fn ask_there(
        &self,
        node: NodeId,
        request: &Request,
        timeout: Duration,
    ) -> Result<Result<Reply, Attempt>, Error> {
        let call = self.forward.call(node, request.encode(), timeout);
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(reply)) => Ok(Ok(Reply::decode(&reply)?)),
            Ok(Err(ForwardError::NotSent(_))) => Ok(Err(Attempt::Again(Error::NoLeader))),
            Ok(Err(ForwardError::Lost(_))) | Err(_) => Ok(Err(Attempt::Unknown)),
        }
    }
}

/// Whether doing it twice is as good as once.
fn may_repeat(request: &Request) -> bool {
    match request {
        Request::RegisterNode(_)
        | Request::AdmitDisk { .. }
        | Request::EnsureTopics { .. }
        | Request::AllocateProducerIds
        | Request::PromoteReplica { .. }
        | Request::ChooseCuts { .. }
        | Request::ReportSuffix(_) => true,
        // Done the first time, it would be refused the second ("exists already").
        Request::CreateTopics { validate_only, .. }
        | Request::CreatePartitions { validate_only, .. }
        | Request::ApplyTopology { validate_only, .. } => *validate_only,
        // A compare-and-set: done the first time, it would be refused as late the second.
        // What was decided on another number is refused.
        Request::ChangeModes { .. } => true,
        Request::MoveHomes { .. } | Request::ActivateHomes { .. } => false,
        Request::AlterConfigs { .. } | Request::DeleteTopics { .. } => false,
    }
}
