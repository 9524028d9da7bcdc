//! The recorder of one node's metrics. Nine nodes may share a process, so none is global.

use std::time::Duration;

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// How often samples of histograms are gathered. Between two scrapes, and without any, they would
/// pile up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Buckets of everything in seconds: 100 µs (memory) to 30 s (timeouts), about three a decade, with
/// the edges where a WAN round trip lies.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0,
    2.5, 5.0, 10.0, 30.0,
];

/// Takes counters, gauges and histograms of the node's rooms, and renders them.
pub struct Recorder {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    pub fn new() -> Self {
        let buckets = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .expect("there are buckets");
        let recorder = buckets.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// Where rooms register what they count.
    pub fn registry(&self) -> &(dyn metrics::Recorder + Send + Sync) {
        &self.recorder
    }

    /// The Prometheus text of everything registered.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Keeps memory bounded; runs until it is dropped.
    pub async fn keep(&self) {
        let mut due = tokio::time::interval(UPKEEP_EVERY);
        loop {
            due.tick().await;
            self.handle.run_upkeep();
        }
    }
}
