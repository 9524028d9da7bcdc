//! Activations of many partitions in one request: each alone would wait a round trip for the one before.

use tokio::sync::{mpsc, oneshot};

use super::Error;
use crate::metadata::moves::Activation;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{Request, Response};
use crate::metadata::service;
use std::time::Duration;

/// In one request. At 300 bytes each this is a batch.
const TOGETHER_MAX: usize = 500;

/// Room for all that are carried at a time.
const WAITING_MAX: usize = 1024;

/// For one request: a round trip to a majority of `__meta`, several times.
const TIMEOUT: Duration = Duration::from_secs(10);

type Waiting = (Activation, oneshot::Sender<Result<(), Error>>);

/// Cheap to clone.
#[derive(Clone)]
pub struct Activator {
    waiting: mpsc::Sender<Waiting>,
}

impl Activator {
    /// With the task that does it, which ends with the last clone.
    pub fn new(metadata: service::Handle) -> (Self, impl Future<Output = ()> + Send) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        (Self { waiting }, run(metadata, queue))
    }

    /// Returns when it is done, or refused. Dropping the future abandons the wait only.
    pub async fn activate(&self, activation: Activation) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Metadata(service::Error::ShuttingDown);
        self.waiting.send((activation, reply)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn run(metadata: service::Handle, mut queue: mpsc::Receiver<Waiting>) {
    let mut together = Vec::new();
    // Cancel-safe: `recv_many` takes nothing until it returns.
    while queue.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let (activations, replies): (Vec<_>, Vec<_>) = together.drain(..).unzip();
        let done = metadata.submit(Request::ActivateHomes { activations }, TIMEOUT).await;
        let mut results = match done {
            Ok(Response::HomesActivated(results)) => Ok(results.into_iter()),
            Ok(other) => panic!("homes were to be activated, and {other:?} came back"),
            Err(error) => Err(error),
        };
        for reply in replies {
            let result = match &mut results {
                Ok(results) => match results.next() {
                    Some(result) => result.map_err(service::Error::Refused),
                    None => Err(service::Error::Refused(Refusal::new(
                        Reason::Unknown,
                        "fewer answers than activations",
                    ))),
                },
                Err(error) => Err(error.clone()),
            };
            // Who carried it may have stopped.
            let _ = reply.send(result.map_err(Error::Metadata));
        }
    }
}
