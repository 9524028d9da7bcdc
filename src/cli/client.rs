//! A node's admin port, from outside.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::admin::api::Problem;

/// How long to wait for a connection: the longest round trip on Earth, several times.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long to wait for an answer: longer than a node waits for `__meta`.
const ANSWER_MAX: Duration = Duration::from_secs(45);

/// Longest answer that is read: 10,000 partitions of nine replicas take 5 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Which node is asked, and how its answer is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The admin address of any node
    #[arg(long, env = "ISOBAR_ADMIN", value_name = "HOST:PORT", default_value = "127.0.0.1:9640")]
    pub admin: String,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Target {
    pub fn fetch<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        fetch(&self.admin, path)
    }

    pub fn change<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        ask(&self.admin, Method::POST, path, body)
    }
}

pub fn fetch<T: DeserializeOwned>(address: &str, path: &str) -> anyhow::Result<T> {
    ask(address, Method::GET, path, Vec::new())
}

fn ask<T: DeserializeOwned>(
    address: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let (status, answer) = runtime.block_on(async {
        let stream = connect(address).await?;
        let answered = exchange(stream, address, method, path, body);
        let answer = tokio::time::timeout(ANSWER_MAX, answered).await;
        answer
            .unwrap_or_else(|_| {
                anyhow::bail!(
                    "no answer within {} s; try another node with --admin",
                    ANSWER_MAX.as_secs()
                )
            })
            .with_context(|| format!("asking {address}"))
    })?;
    if !status.is_success() {
        match serde_json::from_slice::<Problem>(&answer) {
            Ok(problem) => anyhow::bail!("{}", problem.error),
            Err(_) => anyhow::bail!(
                "{address} answered {status}: is it the admin port of an isobar node? Kafka's port \
                 is another one"
            ),
        }
    }
    serde_json::from_slice(&answer).with_context(|| {
        format!("{address} answered something else: is it the admin port of an isobar node?")
    })
}

async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let why = match connected {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", CONNECT_MAX.as_secs()),
    };
    anyhow::bail!(
        "nobody answers at {address}: {why}\nIs the node running? `isobar dev` starts a cluster here; \
         --admin HOST:PORT names any node's admin address"
    )
}

async fn exchange(
    stream: TcpStream,
    address: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(&method).uri(path).header(HOST, address);
    if method == Method::POST {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer did not come whole: {error}"))?;
    connection.abort();
    Ok((status, body.to_bytes()))
}
