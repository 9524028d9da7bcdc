//! From a request to its answer.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::server::Shared;
use super::source::Source;
use super::{api, cluster, groups, homes, links, metrics, modes, topics, topology};

/// A topology's text is 1 MiB at most; as a JSON string it may take twice that.
pub const BODY_BYTES_MAX: usize = 2 * isobar_topology::TEXT_BYTES_MAX + (64 << 10);

/// Why a request is not done. Each is one HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400
    #[error("{0}")]
    Bad(String),
    /// 403
    #[error("{0}")]
    Forbidden(String),
    /// 404
    #[error("{0}")]
    NotFound(String),
    /// 409
    #[error("{0}")]
    Conflict(String),
    /// 413
    #[error("{0}")]
    TooLarge(String),
    /// 415
    #[error("{0}")]
    MediaType(String),
    /// 503
    #[error("{0}")]
    NotReady(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

type Answer = Response<Full<Bytes>>;

pub async fn serve<B>(shared: &Shared, peer: IpAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let source = &*shared.source;
    let answered = match *request.method() {
        Method::GET | Method::HEAD => get(shared, &segments).await,
        Method::POST => match segments.as_slice() {
            ["v1", "links"] => match change(peer, request).await {
                Ok(change) => links::change(source, change).map(|links| json(&links)),
                Err(refusal) => Err(refusal),
            },
            ["v1", "topology"] => match change(peer, request).await {
                Ok(proposal) => topology::propose(source, proposal).await.map(|done| json(&done)),
                Err(refusal) => Err(refusal),
            },
            ["v1", "moves"] => match change(peer, request).await {
                Ok(proposal) => homes::propose(source, proposal).await.map(|plan| json(&plan)),
                Err(refusal) => Err(refusal),
            },
            _ => Ok(not_allowed(&path, "GET")),
        },
        _ => Ok(not_allowed(&path, "GET, POST")),
    };
    answered.unwrap_or_else(|refusal| problem(refusal.status(), refusal.to_string()))
}

async fn get(shared: &Shared, segments: &[&str]) -> Result<Answer, Refusal> {
    let source = &*shared.source;
    Ok(match segments {
        ["healthz"] => text("text/plain; charset=utf-8", "ok\n".to_owned()),
        ["readyz"] => readiness(source),
        ["metrics"] => {
            let mut out = shared.recorder.render();
            metrics::scrape(source).await.write(&mut out);
            text("text/plain; version=0.0.4; charset=utf-8", out)
        }
        ["v1", "cluster"] => json(&cluster::status(source).await?),
        ["v1", "meta"] => json(&cluster::meta(source).await),
        ["v1", "nodes"] => json(&cluster::nodes(source).await?),
        ["v1", "topics"] => json(&topics::list(source)?),
        // Kafka's names need no escaping in a path.
        ["v1", "topics", name] => json(&topics::describe(source, name)?),
        ["v1", "topics", name, "partitions", number] => {
            let number = number.parse().map_err(|_| {
                Refusal::Bad(format!("partition: found {number:?}; expected a number from 0"))
            })?;
            json(&topics::partition(source, name, number).await?)
        }
        ["v1", "isr"] => json(&cluster::isr(source)?),
        ["v1", "links"] => json(&links::show(source)?),
        ["v1", "topology"] => json(&topology::show(source)?),
        ["v1", "moves"] => json(&homes::show(source)?),
        ["v1", "modes"] => json(&modes::show(source)?),
        ["v1", "groups", "led-back"] => json(&groups::led_back(source).await?),
        other => {
            let path = other.join("/");
            return Err(Refusal::NotFound(format!(
                "nothing is at /{path}; see /healthz, /readyz, /metrics, /v1/cluster"
            )));
        }
    })
}

fn readiness(source: &dyn Source) -> Answer {
    let missing = source.missing();
    let ready = missing.is_empty();
    let mut answer = json(&api::Readiness { ready, missing });
    if !ready {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer
}

/// The body of a request that changes something, from somebody who may.
async fn change<T, B>(peer: IpAddr, request: Request<B>) -> Result<T, Refusal>
where
    T: DeserializeOwned,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Both families as IPv4: a dual-stack socket shows ::ffff:127.0.0.1.
    if !peer.to_canonical().is_loopback() {
        return Err(Refusal::Forbidden(format!(
            "changes are taken from the node's own machine only, and {peer} is another: run the \
             command there"
        )));
    }
    let media = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = media.is_some_and(|media| {
        media.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        return Err(Refusal::MediaType("a change has content-type: application/json".into()));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Refusal::TooLarge(format!("the body has more than {BODY_BYTES_MAX} bytes")),
        None => Refusal::Bad(format!("the body did not come whole: {error}")),
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Refusal::Bad(error.to_string()))
}

fn json(body: &impl Serialize) -> Answer {
    let mut text = serde_json::to_string(body).expect("plain structs serialize");
    text.push('\n');
    self::text("application/json", text)
}

fn text(media: &'static str, body: String) -> Answer {
    let answer = Response::builder().header(CONTENT_TYPE, media);
    answer.body(Full::from(body)).expect("the header is right")
}

fn problem(status: StatusCode, error: String) -> Answer {
    let mut answer = json(&api::Problem { error });
    *answer.status_mut() = status;
    answer
}

fn not_allowed(path: &str, allowed: &'static str) -> Answer {
    let mut answer =
        problem(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes only {allowed}"));
    answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    answer
}
