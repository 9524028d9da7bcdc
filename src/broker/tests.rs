//! What only the room that sees all others can hold: `docs/metrics.md` lists every metric, once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::admin::metrics::FAMILIES;
use crate::kafka::Metrics;

/// Remembers what is registered.
#[derive(Default)]
struct Names(Mutex<BTreeSet<String>>);

impl Names {
    fn add(&self, key: &Key) {
        self.0.lock().unwrap().insert(key.name().to_owned());
    }
}

impl Recorder for Names {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.add(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.add(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.add(key);
        Histogram::noop()
    }
}

#[test]
fn the_page_on_metrics_lists_every_metric_once() {
    let names = Names::default();
    let _ = Metrics::new(&names);
    let mut exposed = names.0.into_inner().unwrap();
    exposed.extend(FAMILIES.iter().map(|family| family.name.to_owned()));
    let rows = include_str!("../../docs/metrics.md").lines();
    let listed: Vec<String> = rows
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    let once: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a metric has two rows");
    assert_eq!(once, exposed, "left: listed in docs/metrics.md; right: exposed");
}
