//! All listeners of a node, from binding to the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::Room;
use super::context::Context;
use super::listener::{Admission, Limits, Listener, Shared};
use super::versions::Front;

/// A bound address that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: binding {address}: {source}")]
pub struct BindError {
    pub name: String,
    pub address: SocketAddr,
    pub source: io::Error,
}

/// The running listeners of a node. Dropping it drops every connection at once.
pub struct Server {
    tasks: JoinSet<()>,
}

impl Server {
    /// Binds every listener, and serves once all are bound.
    pub async fn start(
        context: Arc<Context>,
        limits: Limits,
        listeners: Vec<(String, SocketAddr)>,
    ) -> Result<Self, BindError> {
        let mut bound = Vec::new();
        for (name, address) in listeners {
            match Listener::bind(&name, address).await {
                Ok(listener) => bound.push(listener),
                Err(source) => return Err(BindError { name, address, source }),
            }
        }
        let shared = Arc::new(Shared {
            metrics: context.metrics.clone(),
            shutdown: context.shutdown.clone(),
            service: Arc::new(Front::new(context)),
            admission: Admission::new(limits),
            room: Room::default(),
        });
        let mut tasks = JoinSet::new();
        for listener in bound {
            tasks.spawn(listener.serve(shared.clone()));
        }
        Ok(Self { tasks })
    }

    /// Returns once every connection has ended, which a shutdown (see [`Context::shutdown`])
    /// brings about within [`super::connection::DRAIN_DEADLINE`].
    pub async fn stopped(mut self) {
        while let Some(listener) = self.tasks.join_next().await {
            if let Err(error) = listener
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

/// Returns when the node shuts down. The end of the channel is the end of the node, too.
pub(super) async fn shut_down(shutdown: &mut watch::Receiver<bool>) {
    // What it returns borrows the channel, and must not be held across a wait.
    let _ = shutdown.wait_for(|down| *down).await.is_ok();
}
