//! The listener: connections within limits, each served by hyper.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::recorder::Recorder;
use super::routes;
use super::source::Source;

/// Connections at once. A person, two scrapers and a supervisor use four; what comes beyond this is
/// closed at once, so that a leak elsewhere does not take the node's file descriptors.
pub const CONNECTIONS_MAX: usize = 128;

/// The request line and headers. hyper's own smallest buffer is 8 KiB.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
pub const HEADERS_MAX: usize = 64;

/// How long a request's headers may take, and how long a connection may be idle between two: twice
/// Prometheus' default interval, so that a scraper keeps its connection.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(120);

/// How long a connection lives at most, whatever it does: a reader that takes nothing holds it no
/// longer than this.
pub const CONNECTION_MAX: Duration = Duration::from_secs(15 * 60);

/// How long a request may take, its body's arrival included: the longest wait inside is 30 s for
/// `__meta`.
pub const REQUEST_MAX: Duration = Duration::from_secs(40);

/// What is read and thrown away after the last answer, and for how long: a socket that is closed over
/// unread bytes resets the connection, and the client may lose the answer that said why.
const DRAIN_BYTES_MAX: u64 = 256 << 10;
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// A pause after the system had no file or memory for a connection; trying at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub struct Shared {
    pub source: Arc<dyn Source>,
    pub recorder: Arc<Recorder>,
}

/// The admin listener of a node, bound.
pub struct Server {
    socket: TcpListener,
}

impl Server {
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await? })
    }

    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until it is dropped, and every connection with it. An answer that was not written by
    /// then is lost; whoever asked can ask again.
    pub async fn serve(self, source: Arc<dyn Source>, recorder: Arc<Recorder>) {
        let shared = Arc::new(Shared { source, recorder });
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                            tracing::warn!(%peer, "admin: {CONNECTIONS_MAX} connections are open: closed");
                            continue;
                        };
                        let shared = Arc::clone(&shared);
                        connections.spawn(async move {
                            connection(stream, peer, shared).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "admin: accept failed");
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn connection(mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let answer = service_fn(|request| {
        let shared = &shared;
        async move {
            let answered = routes::serve(shared, peer.ip(), request);
            tokio::time::timeout(REQUEST_MAX, answered).await
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    let served = http.serve_connection(TokioIo::new(&mut stream), answer);
    match tokio::time::timeout(CONNECTION_MAX, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "admin connection closed"),
        Err(_) => tracing::debug!(%peer, "admin connection closed at its age limit"),
    }
    let mut rest = stream.take(DRAIN_BYTES_MAX);
    let mut sink = tokio::io::sink();
    // Whatever comes of it, the connection ends here.
    let _ = tokio::time::timeout(DRAIN_MAX, tokio::io::copy(&mut rest, &mut sink)).await;
}
