//! Has `__meta` record what leaders here ask for: that a sync topic's partition degrades, or is sync
//! again (R7, R8). What it decided comes back with the image, to every replica.

use std::time::Duration;

use tokio::sync::mpsc;

use super::node::unix_ms;
use crate::metadata::modes::Change;
use crate::metadata::request::{Request, Response};
use crate::metadata::service;
use crate::model::NodeId;
use crate::replica::core::mode::Ask;

/// In one request: an outage asks for all partitions of a node at once.
const TOGETHER_MAX: usize = 500;

/// For one request. A leader that hears nothing asks again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs as long as the node.
pub async fn run(node: NodeId, metadata: service::Handle, mut asks: mpsc::Receiver<Ask>) {
    let mut together = Vec::new();
    // Cancel-safe: `recv_many` takes nothing until it returns.
    while asks.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let at_ms = unix_ms();
        let change = |ask: Ask| {
            let Ask { partition: at, home_epoch, expected, mode } = ask;
            Change { at, home_epoch, expected, mode, node, at_ms }
        };
        let changes = together.drain(..).map(change).collect();
        match metadata.submit(Request::ChangeModes { changes }, TIMEOUT).await {
            Ok(Response::ModesChanged(results)) => {
                for refusal in results.into_iter().filter_map(Result::err) {
                    tracing::debug!(%node, %refusal, "a mode was not changed");
                }
            }
            Ok(other) => panic!("modes were to be changed, and {other:?} came back"),
            // Without `__meta` nothing is weakened (R9).
            Err(error) => {
                tracing::info!(%node, %error, "no mode was changed: __meta did not answer")
            }
        }
    }
}
