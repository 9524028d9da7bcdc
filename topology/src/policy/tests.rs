use std::collections::BTreeMap;

use super::*;
use crate::Topology;

const TEXT: &str = r#"
[policy.default]
home = "fra"
replicas = { fra = 3, iad = 3, sin = 3 }
min_insync_replicas = 2

[policy.payments]
topics = ["payments.*"]
replication = "sync"
sync_to = 2
flush = "quorum"

[policy.eu]
topics = ["payments.eu*"]
home = ["iad", "fra"]

[policy.exact]
topics = ["payments.eu"]
home = "spread"
"#;

fn topology() -> Topology {
    of_policies(TEXT)
}

fn of_policies(text: &str) -> Topology {
    let spec = crate::dev::Spec {
        kafka_ports: crate::dev::consecutive(9092).unwrap(),
        admin_ports: crate::dev::consecutive(9640).unwrap(),
        peer_ports: crate::dev::consecutive(7400).unwrap(),
        data_dir: "/data",
    };
    let dev = crate::dev::text(&spec);
    let nodes = &dev[..dev.find("\n[policy.").unwrap()];
    Topology::parse(&format!("{nodes}{text}")).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn resolved(topic: &str, configs: &[(&str, &str)]) -> Result<Effective, Vec<ConfigError>> {
    let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    resolve(&topology(), topic, &configs.collect())
}

fn from(name: &str) -> Source {
    Source::Policy(name.into())
}

#[test]
fn the_longest_literal_prefix_chooses_the_policy() {
    let cases = [
        ("orders", "default"),
        ("payments", "default"),
        ("payments.us", "payments"),
        ("payments.eu.1", "eu"),
        ("payments.eu", "exact"),
        ("__consumer_offsets", "internal"),
        ("__payments.eu", "internal"),
    ];
    for (topic, policy) in cases {
        assert_eq!(&*policy_of(&topology(), topic).name, policy, "{topic}");
    }
}

#[test]
fn each_value_says_where_it_came_from() {
    let effective = resolved("payments.us", &[("isobar.sync.to", "1")]).unwrap();
    assert_eq!(&*effective.policy, "payments");
    assert_eq!(effective.settings.replication, Replication::Sync { to: 1 });
    let cases = [
        (Key::SyncTo, Source::Topic),
        (Key::Replication, from("payments")),
        (Key::Flush, from("payments")),
        (Key::Home, from("default")),
        (Key::MinInsyncReplicas, from("default")),
        (Key::OnIsolation, Source::Default),
    ];
    for (key, source) in cases {
        assert_eq!(*effective.source(key), source, "{key}");
    }
}

#[test]
fn sync_on_a_topic_waits_for_one_dc_unless_more_is_said() {
    let sync = resolved("orders", &[("isobar.replication", "sync")]).unwrap().settings;
    assert_eq!(sync.replication, Replication::Sync { to: 1 });
    let two = [("isobar.replication", "sync"), ("isobar.sync.to", "2")];
    assert_eq!(resolved("orders", &two).unwrap().settings.replication, Replication::Sync { to: 2 });
    let asynchronous =
        resolved("payments.us", &[("isobar.replication", "async")]).unwrap().settings;
    assert_eq!(asynchronous.replication, Replication::Async, "an inherited sync_to does no harm");
}

#[test]
fn every_config_is_read_from_its_text() {
    let configs = [
        ("isobar.home", "iad,fra"),
        ("isobar.replicas", "fra=1, iad=3"),
        ("isobar.flush", "os"),
        ("min.insync.replicas", "3"),
        ("isobar.on.isolation", "continue"),
        ("isobar.on.sync.loss", "block"),
        ("isobar.failover", "manual"),
        ("retention.ms", "whatever Kafka says"),
    ];
    let settings = resolved("orders", &configs).unwrap().settings;
    assert_eq!(settings.home.to_string(), "iad,fra");
    assert_eq!(settings.value(Key::Replicas).unwrap(), "fra=1,iad=3");
    assert_eq!((settings.flush, settings.min_insync_replicas), (Flush::Os, 3));
    assert_eq!(settings.on_isolation, OnIsolation::Continue);
}

#[test]
fn what_is_wrong_names_the_config_and_what_would_be_right() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("isobar.replication", "synk")],
            "isobar.replication: found \"synk\"; expected \"async\" or \"sync\"",
        ),
        (
            &[("isobar.sync.to", "1")],
            "isobar.sync.to: found 1 with replication = \"async\", which waits for no remote DC; expected replication = \"sync\" beside it, or no sync_to",
        ),
        (
            &[("isobar.replication", "sync"), ("isobar.sync.to", "3")],
            "isobar.sync.to: found sync_to = 3 with 2 remote DC(s); expected at most 2: the DCs with replicas, home not counted",
        ),
        (
            &[("isobar.replication", "sync"), ("isobar.flush", "os")],
            "isobar.flush: found flush = \"os\" with replication = \"sync\"; expected flush = \"quorum\": a sync acknowledgement says that remote DCs have it on disk",
        ),
        (
            &[("isobar.sync_to", "1")],
            "isobar.sync_to: found an unknown config; expected \"isobar.sync.to\", perhaps",
        ),
        (
            &[("isobar.home", "far")],
            "isobar.home: found far, and there is no such DC; expected \"fra\", perhaps",
        ),
        (
            &[("isobar.replicas", "iad=3")],
            "isobar.replicas: found fra, which has no replicas; expected a DC of `replicas`: iad",
        ),
        (
            &[("isobar.replicas", "fra")],
            "isobar.replicas: found \"fra\"; expected replicas for each DC, as in fra=3,iad=3",
        ),
        (
            &[("min.insync.replicas", "4")],
            "min.insync.replicas: found 4 with 3 replica(s) at home; expected at most 3: it counts the voters, which are the replicas at home",
        ),
        (
            &[("min.insync.replicas", "")],
            "min.insync.replicas: found \"\"; expected a whole number from 1 to 7",
        ),
        (
            &[("isobar.sync.timeout", "5s"), ("isobar.replication", "sync")],
            "isobar.sync.timeout: found \"5s\" with on_sync_loss = \"block\"; expected on_sync_loss = \"degrade\" beside it, or no sync_timeout",
        ),
        (
            &[("isobar.sync.timeout", "500ms"), ("isobar.replication", "sync")],
            "isobar.sync.timeout: found \"500ms\"; expected 1s to 1h",
        ),
        (
            &[("isobar.on.sync.loss", "degrade")],
            "isobar.on.sync.loss: found \"degrade\" with replication = \"async\", which waits for no remote DC; expected replication = \"sync\" beside it, or no on_sync_loss",
        ),
        (
            &[("isobar.max.lag", "5s"), ("isobar.replication", "sync")],
            "isobar.max.lag: found max_lag with replication = \"sync\", whose acknowledged records are safe in another DC; expected replication = \"async\", or no max_lag",
        ),
        (
            &[("isobar.on.lag", "reject")],
            "isobar.on.lag: found \"reject\" without a budget; expected max_lag, max_lag_bytes or max_lag_records beside it, or no on_lag",
        ),
        (
            &[("isobar.max.lag", "0s")],
            "isobar.max.lag: found \"0s\"; expected more than nothing: a topic without any budget takes no record",
        ),
        (
            &[("isobar.max.lag.bytes", "1000")],
            "isobar.max.lag.bytes: found \"1000\"; expected a whole number and one of B, KiB, MiB, GiB, as in \"64MiB\"",
        ),
        (
            &[
                ("isobar.max.lag.bytes", "1MiB"),
                ("isobar.on.lag", "throttle"),
                ("isobar.replicas", "fra=3"),
            ],
            "isobar.max.lag.bytes: found a budget with on_lag = \"throttle\" and no remote DC; expected replicas in a second DC, or on_lag = \"continue\"",
        ),
        (
            &[("isobar.failover", "automatic"), ("isobar.on.isolation", "continue")],
            "isobar.failover: found failover = \"automatic\" with on_isolation = \"continue\"; expected on_isolation = \"fence\": a home that is cut off has to stop before another goes on",
        ),
        (
            &[("isobar.failover", "automatic"), ("isobar.replicas", "fra=3")],
            "isobar.failover: found failover = \"automatic\" and no remote DC; expected replicas in a second DC, or failover = \"manual\"",
        ),
    ];
    for (configs, expected) in cases {
        let errors = resolved("orders", configs).unwrap_err();
        let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [*expected]);
    }
    let errors = resolved("orders", &[("isobar.replication", "x"), ("isobar.flush", "y")]);
    assert_eq!(errors.unwrap_err().len(), 2, "all in one go");
}

#[test]
fn a_budget_is_inherited_by_async_topics_and_does_nothing_for_sync_ones() {
    let text = TEXT.replacen("min_insync", "max_lag = \"5s\"\non_lag = \"reject\"\nmin_insync", 1);
    let topology = of_policies(&text);
    let settings = |topic: &str| {
        let none = BTreeMap::new();
        resolve(&topology, topic, &none).unwrap().settings
    };
    let lag = std::time::Duration::from_secs(5);
    assert_eq!((settings("orders").max_lag, settings("orders").on_lag), (Some(lag), OnLag::Reject));
    assert_eq!(settings("payments.us").max_lag, None, "sync");
    assert_eq!(settings("__consumer_offsets").on_lag, OnLag::Continue, "internal inherits none");
    let own = [("isobar.max.lag.bytes".to_owned(), "3MiB".to_owned())].into();
    let both = resolve(&topology, "orders", &own).unwrap().settings;
    assert_eq!((both.max_lag, both.max_lag_bytes), (Some(lag), Some(3 << 20)));
    assert_eq!(both.value(Key::MaxLagBytes).as_deref(), Some("3MiB"));
}

#[test]
fn internal_is_as_strong_as_the_strongest_policy_and_says_whose() {
    let topology = topology();
    let internal = topology.policy(INTERNAL).unwrap();
    assert_eq!(internal.settings.replication, Replication::Sync { to: 2 });
    assert_eq!(internal.sources[&Key::Replication], from("payments"));
    assert_eq!(internal.settings.flush, Flush::Quorum);
    assert!(!topology.internal_is_weaker_than(&internal.settings));
}

#[test]
fn every_config_has_a_key_and_every_key_a_source() {
    let effective = resolved("orders", &[]).unwrap();
    for config in topic_configs() {
        effective.source(config.key);
    }
    let sourced: Vec<Key> = effective.sources.keys().copied().collect();
    let keys: Vec<Key> = Key::ALL.iter().copied().filter(|key| *key != Key::Topics).collect();
    assert_eq!(sourced, keys);
    let text: BTreeMap<Key, Option<String>> =
        keys.iter().map(|key| (*key, effective.settings.value(*key))).collect();
    assert_eq!(text[&Key::SyncTo].as_deref(), Some("0"));
    assert_eq!(text[&Key::MaxLag], None);
}
