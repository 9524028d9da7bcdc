//! What the front end counts. Nine nodes may share a process, so a node's counters come from its
//! own recorder and never from a global one; and they are made once, not looked up by name for
//! each request.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};

use super::connection::Closed;
use super::listener::Refused;
use super::wire::{ApiKey, SERVED};

/// Where a node's metrics are registered.
pub type Registry = Arc<dyn Recorder + Send + Sync>;

/// The counters of one API.
pub struct Api {
    pub requests: Counter,
    /// Answers that carry an error code, for at least one of what was asked.
    pub errors: Counter,
    /// Seconds from the last byte of the request to its answer.
    pub seconds: Histogram,
    pub request_bytes: Counter,
    pub response_bytes: Counter,
}

pub struct Metrics {
    /// In the order of [`SERVED`].
    apis: Vec<Api>,
    connections: Gauge,
    connections_total: Counter,
    refused_per_ip: Counter,
    refused_per_listener: Counter,
    refused_total: Counter,
    /// Connections closed for what the peer sent, or did not send.
    protocol_errors: Counter,
    /// Produce requests that asked for no answer, and so are outside every promise (R5).
    pub acks_none: Counter,
    /// Answers to produce requests that ask the client to pause.
    pub produce_throttled: Counter,
    /// Batches refused at the end of an exposure budget.
    pub over_budget: Counter,
    /// Record bytes handed to consumers by this node as a leader, and as a follower or learner.
    pub fetched_from_leader: Counter,
    pub fetched_from_follower: Counter,
    pub fetch_sessions: Gauge,
    /// Committed offsets beyond the end of their leader epoch (R25).
    pub offsets_clamped: Counter,
}

/// Registers under fixed names; a name with a label comes out as one series a label.
struct Names<'a>(&'a dyn Recorder);

const TARGET: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl Names<'_> {
    fn key(name: &'static str, label: Option<(&'static str, &'static str)>) -> Key {
        Key::from_parts(name, label.map(|(k, v)| Label::new(k, v)).into_iter().collect::<Vec<_>>())
    }

    fn describe(&self, name: &'static str, unit: Option<Unit>, what: &'static str) {
        self.0.describe_counter(KeyName::from(name), unit, what.into());
    }

    fn counter(&self, name: &'static str, label: Option<(&'static str, &'static str)>) -> Counter {
        self.0.register_counter(&Self::key(name, label), &TARGET)
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.0.register_gauge(&Self::key(name, None), &TARGET)
    }

    fn histogram(
        &self,
        name: &'static str,
        label: Option<(&'static str, &'static str)>,
    ) -> Histogram {
        self.0.register_histogram(&Self::key(name, label), &TARGET)
    }
}

impl Metrics {
    pub fn new(recorder: &dyn Recorder) -> Self {
        let n = Names(recorder);
        n.describe("isobar_kafka_requests_total", None, "Requests by API.");
        n.describe(
            "isobar_kafka_request_errors_total",
            None,
            "Answers with an error code, by API.",
        );
        n.describe("isobar_kafka_request_bytes_total", Some(Unit::Bytes), "Bytes in, by API.");
        n.describe("isobar_kafka_response_bytes_total", Some(Unit::Bytes), "Bytes out, by API.");
        n.describe("isobar_kafka_connections_total", None, "Connections taken.");
        n.describe("isobar_kafka_connections_refused_total", None, "Connections over a limit.");
        n.describe(
            "isobar_kafka_protocol_errors_total",
            None,
            "Connections closed for what the peer sent or did not send.",
        );
        n.describe(
            "isobar_kafka_offsets_clamped_total",
            None,
            "Committed offsets that were beyond the end of their leader epoch (R25).",
        );
        n.describe("isobar_kafka_acks_none_total", None, "Produce requests with acks=0.");
        n.describe(
            "isobar_kafka_produce_throttled_total",
            None,
            "Answers to produce requests that ask the client to pause.",
        );
        n.describe(
            "isobar_kafka_over_budget_total",
            None,
            "Batches refused at the end of an exposure budget; nothing of them was appended.",
        );
        n.describe("isobar_kafka_fetched_bytes_total", Some(Unit::Bytes), "Record bytes fetched.");
        let seconds = KeyName::from("isobar_kafka_request_seconds");
        recorder.describe_histogram(seconds, Some(Unit::Seconds), "Time to the answer.".into());
        let gauges = [
            ("isobar_kafka_connections", "Connections open."),
            ("isobar_kafka_fetch_sessions", "Incremental fetch sessions (KIP-227)."),
        ];
        for (name, what) in gauges {
            recorder.describe_gauge(KeyName::from(name), None, what.into());
        }
        let refused =
            |limit| n.counter("isobar_kafka_connections_refused_total", Some(("limit", limit)));
        let fetched = |role| n.counter("isobar_kafka_fetched_bytes_total", Some(("role", role)));
        Self {
            apis: SERVED.iter().map(|range| Api::new(&n, range.key)).collect(),
            connections: n.gauge("isobar_kafka_connections"),
            connections_total: n.counter("isobar_kafka_connections_total", None),
            refused_per_ip: refused("per_ip"),
            refused_per_listener: refused("per_listener"),
            refused_total: refused("total"),
            protocol_errors: n.counter("isobar_kafka_protocol_errors_total", None),
            acks_none: n.counter("isobar_kafka_acks_none_total", None),
            produce_throttled: n.counter("isobar_kafka_produce_throttled_total", None),
            over_budget: n.counter("isobar_kafka_over_budget_total", None),
            fetched_from_leader: fetched("leader"),
            fetched_from_follower: fetched("follower"),
            fetch_sessions: n.gauge("isobar_kafka_fetch_sessions"),
            offsets_clamped: n.counter("isobar_kafka_offsets_clamped_total", None),
        }
    }

    pub fn of(&self, api: ApiKey) -> &Api {
        let place = SERVED.iter().position(|range| range.key == api);
        &self.apis[place.expect("every key is in the table")]
    }

    pub fn refused(&self, limit: Refused) {
        match limit {
            Refused::PerIp => self.refused_per_ip.increment(1),
            Refused::PerListener => self.refused_per_listener.increment(1),
            Refused::Total => self.refused_total.increment(1),
        }
    }

    pub fn opened(&self) {
        self.connections_total.increment(1);
        self.connections.increment(1.0);
    }

    pub fn closed(&self, why: &Closed) {
        self.connections.decrement(1.0);
        match why {
            Closed::FrameLength(_)
            | Closed::FrameDeadline { .. }
            | Closed::WriteStalled
            | Closed::Refused(_) => self.protocol_errors.increment(1),
            Closed::ByPeer
            | Closed::Idle
            | Closed::ShuttingDown
            | Closed::Panicked
            | Closed::Io(_) => {}
        }
    }
}

impl Api {
    fn new(names: &Names<'_>, api: ApiKey) -> Self {
        let label = Some(("api", api.name()));
        Self {
            requests: names.counter("isobar_kafka_requests_total", label),
            errors: names.counter("isobar_kafka_request_errors_total", label),
            seconds: names.histogram("isobar_kafka_request_seconds", label),
            request_bytes: names.counter("isobar_kafka_request_bytes_total", label),
            response_bytes: names.counter("isobar_kafka_response_bytes_total", label),
        }
    }

    pub fn answered(&self, after: Duration, response_bytes: usize) {
        self.requests.increment(1);
        self.seconds.record(after.as_secs_f64());
        self.response_bytes.increment(response_bytes as u64);
    }
}
