//! One mistake at a time in a file that is right, and then all of them at once.

use super::*;
use crate::docs::EXAMPLE;

fn problems(text: &str) -> Vec<Problem> {
    match Topology::parse(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems.as_slice().to_vec(),
    }
}

/// The example with `from` made `to`: its problems as `key: found`.
fn edited(from: &str, to: &str) -> Vec<String> {
    assert!(EXAMPLE.contains(from), "{from}");
    let found = problems(&EXAMPLE.replacen(from, to, 1));
    found.iter().map(|problem| format!("{}: {}", problem.key, problem.found)).collect()
}

const FIRST_LISTENER: &str =
    "bind = \"0.0.0.0:9092\"\nadvertised = \"kafka-1.fra.example.com:9092\"";

#[test]
fn each_mistake_is_one_problem_and_no_other() {
    let cases: &[(&str, &str, &str)] = &[
        ("version = 1 ", "version = 2 ", "version: 2"),
        ("version = 1 ", "version = \"1\" ", "version: \"1\""),
        ("version = 1 ", "# ", "version: nothing"),
        ("name = \"orders\"", "name = \"or ders\"", "cluster.name: \"or ders\""),
        (
            "name = \"orders\"",
            "name = \"orders\"\nelection_timeout = \"100ms\"",
            "cluster.election_timeout: \"100ms\"",
        ),
        ("name = \"orders\"", "nmae = \"orders\"\nname = \"a\"", "cluster.nmae: an unknown key"),
        ("name = \"zrh\"\nwitness = true", "name = \"zrh\"\nwitness = 1", "dc[2].witness: 1"),
        ("id = 3", "id = 2", "node[2].id: 2, which is node[1], too"),
        ("id = 3", "id = 0", "node[2].id: 0"),
        ("id = 3", "id = 2147483648", "node[2].id: 2147483648"),
        ("dc = \"zrh\"", "dc = \"zhr\"", "node[6].dc: \"zhr\", and there is no such DC"),
        (
            "10.1.0.12:7400",
            "10.1.0.11:7400",
            "node[1].peer.advertised: 10.1.0.11:7400, which leads to node[0].peer, too",
        ),
        (
            "kafka-2.fra",
            "kafka-1.fra",
            "node[1].listener[0].advertised: kafka-1.fra.example.com:9092, which leads to node[0].listener[0], too",
        ),
        (
            FIRST_LISTENER,
            "bind = \"0.0.0.0:9640\"\nadvertised = \"a:9092\"",
            "node[0].listener[0].bind: 0.0.0.0:9640, where node[0].admin listens, too",
        ),
        (FIRST_LISTENER, "bind = \"0.0.0.0:9092\"", "node[0].listener[0].advertised: nothing"),
        (
            FIRST_LISTENER,
            "bind = \"0.0.0.0\"\nadvertised = \"a:1\"",
            "node[0].listener[0].bind: \"0.0.0.0\"",
        ),
        (
            FIRST_LISTENER,
            "bind = \"0.0.0.0:1\"\nadvertised = \"0.0.0.0:1\"",
            "node[0].listener[0].advertised: \"0.0.0.0:1\"",
        ),
        (
            "data_dirs = [\"/var/lib/isobar\"]",
            "data_dirs = [\"data\"]",
            "node[0].data_dirs: \"data\"",
        ),
        (
            "data_dirs = [\"/var/lib/isobar\"]",
            "data_dirs = \"/data\"",
            "node[0].data_dirs: \"/data\"",
        ),
        (
            "data_dirs = [\"/var/lib/isobar\"]",
            "data_dir = \"/data\"\ndata_dirs = [\"/d\"]",
            "node[0].data_dir: an unknown key",
        ),
        (
            "[[link]]\nbetween = [\"fra\", \"zrh\"]\nrtt = \"6ms\"",
            "",
            "link: no link between fra and zrh",
        ),
        ("[\"iad\", \"zrh\"]", "[\"iad\", \"iad\"]", "link[2].between: [\"iad\", \"iad\"]"),
        ("rtt = \"6ms\"", "rtt = \"6\"", "link[1].rtt: \"6\""),
        ("rtt = \"6ms\"", "", "link[1].rtt: nothing"),
        ("bandwidth = \"1Gbit\"", "bandwidth = \"1GB\"", "link[0].bandwidth: \"1GB\""),
        ("compression = \"zstd\"", "compression = \"lz4\"", "link[0].compression: \"lz4\""),
        ("compression = \"zstd\"", "loss = 1", "link[0].loss: an unknown key"),
        ("home = \"fra\" ", "home = \"fr\" ", "policy.default.home: fr, and there is no such DC"),
        ("home = \"fra\" ", "home = \"zrh\" ", "policy.default.home: zrh, which has no replicas"),
        ("home = \"fra\" ", "", "policy.default.home: nothing"),
        ("home = \"fra\" ", "home = [\"fra\", \"fra\"]", "policy.default.home: \"fra\""),
        (
            "{ fra = 3, iad = 3 }",
            "{ fra = 3, iad = 4 }",
            "policy.default.replicas: iad = 4, and iad has 3 node(s)",
        ),
        (
            "{ fra = 3, iad = 3 }",
            "{ fra = 3, iad = 2 }",
            "policy.default.replicas: iad = 2, an even number",
        ),
        (
            "{ fra = 3, iad = 3 }",
            "{ fra = 3, iad = 3, zrh = 1 }",
            "policy.default.replicas: zrh = 1, and zrh is a witness",
        ),
        (
            "{ fra = 3, iad = 3 }",
            "{ fra = 3, iad = 3, xyz = 1 }",
            "policy.default.replicas: xyz = 1, and there is no DC xyz",
        ),
        (
            "{ fra = 3, iad = 3 }",
            "{ fra = 3, iad = 3, sin = 0 }",
            "policy.default.replicas: 0 for sin",
        ),
        (
            "replication = \"async\"",
            "replication = \"semi\"",
            "policy.default.replication: \"semi\"",
        ),
        (
            "replication = \"async\"",
            "sync_to = 1",
            "policy.default.sync_to: 1 with replication = \"async\", which waits for no remote DC",
        ),
        (
            "sync_to = 1 ",
            "sync_to = 2 ",
            "policy.payments.sync_to: sync_to = 2 with 1 remote DC(s)",
        ),
        (
            "sync_to = 1 ",
            "flush = \"os\"",
            "policy.payments.flush: flush = \"os\" with replication = \"sync\"",
        ),
        (
            "replication = \"async\"",
            "on_sync_loss = \"degrade\"",
            "policy.default.on_sync_loss: \"degrade\" with replication = \"async\", which waits for no remote DC",
        ),
        (
            "sync_to = 1 ",
            "sync_timeout = \"1s\"",
            "policy.payments.sync_timeout: \"1s\" with on_sync_loss = \"block\"",
        ),
        (
            "on_isolation = \"fence\"",
            "on_isolation = \"continue\"\nfailover = \"automatic\"",
            "policy.default.failover: failover = \"automatic\" with on_isolation = \"continue\"",
        ),
        (
            "sync_to = 1 ",
            "max_lag = \"10s\"",
            "policy.payments.max_lag: max_lag with replication = \"sync\", whose acknowledged records are safe in another DC",
        ),
        (
            "replication = \"async\"",
            "on_lag = \"reject\"",
            "policy.default.on_lag: \"reject\" without a budget",
        ),
        ("sync_to = 1 ", "max_lag_bytes = \"0B\"", "policy.payments.max_lag_bytes: \"0B\""),
        (
            "sync_to = 1 ",
            "min_insync_replicas = 4",
            "policy.payments.min_insync_replicas: 4 with 3 replica(s) at home",
        ),
        (
            "sync_to = 1 ",
            "[policy.internal]\nreplication = \"async\"",
            "policy.internal.replication: async, weaker than policy.payments",
        ),
        (
            "sync_to = 1 ",
            "[policy.internal]\nflush = \"os\"",
            "policy.internal.flush: flush = \"os\" with replication = \"sync\"",
        ),
        ("sync_to = 1 ", "[policy.internal]\ntopics = [\"a\"]", "policy.internal.topics: patterns"),
        ("topics = [\"payments.*\"]", "", "policy.payments.topics: nothing"),
        (
            "topics = [\"payments.*\"]",
            "topics = [\"clicks.*\"]",
            "policy.payments.topics: \"clicks.*\", as specific as \"clicks.*\" of policy.clicks",
        ),
        ("topics = [\"payments.*\"]", "topics = [\"__*\"]", "policy.payments.topics: \"__*\""),
        ("topics = [\"payments.*\"]", "topics = [\"a b\"]", "policy.payments.topics: \"a b\""),
        (
            "topics = [\"payments.*\"]",
            "topics = \"payments\"",
            "policy.payments.topics: \"payments\"",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(edited(from, to), [*expected], "{from} → {to}");
    }
}

#[test]
fn a_dc_without_nodes_and_a_node_without_listeners() {
    let lonely =
        EXAMPLE.replace("[[dc]]\nname = \"zrh\"", "[[dc]]\nname = \"sin\"\n[[dc]]\nname = \"zrh\"");
    let found: Vec<String> = problems(&lonely).into_iter().map(|p| p.found).collect();
    assert_eq!(found[0], "sin without a node");
    assert_eq!(found.len(), 4, "and its three links: {found:?}");

    let start = EXAMPLE.find("[[node.listener]]").unwrap();
    let end = EXAMPLE.find("[[node]]\nid = 2").unwrap();
    let deaf = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    let found = problems(&deaf);
    assert_eq!((found.len(), &*found[0].key), (1, "node[0].listener"));
    assert_eq!(found[0].line, 16, "the line of the node");
}

#[test]
fn nodes_of_one_machine_may_not_listen_on_the_same_ports() {
    let node_2 = "bind = \"0.0.0.0:7400\", advertised = \"10.1.0.12:7400\"";
    let keys = |peer: &str| -> Vec<String> {
        let text = EXAMPLE.replacen(node_2, peer, 1);
        problems(&text).into_iter().map(|problem| problem.key).collect()
    };
    // Node 1's admin address is every interface, so that node 2's loopback is taken, too.
    let shared = keys("bind = \"0.0.0.0:7401\", advertised = \"10.1.0.11:7401\"");
    assert_eq!(shared, ["node[1].admin.bind", "node[1].listener[0].bind"]);
    // A mapped port says that there is something between the host and the node.
    let container = keys("bind = \"0.0.0.0:7400\", advertised = \"10.1.0.11:7401\"");
    assert_eq!(container, [""; 0]);
}

#[test]
fn a_listener_that_others_lack_is_a_warning() {
    let text = EXAMPLE.replacen("name = \"clients\"", "name = \"outside\"", 1);
    let found = problems(&text);
    assert!(found.iter().all(|problem| problem.severity == Severity::Warning));
    assert_eq!(found.len(), 6, "five lack one, and one the other: {found:?}");
}

#[test]
fn two_dcs_without_a_witness_are_a_warning() {
    let start = EXAMPLE.find("[[node]]\nid = 7").unwrap();
    let end = EXAMPLE.find("[[link]]").unwrap();
    let mut text = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    text = text.replace("[[dc]]\nname = \"zrh\"\nwitness = true", "");
    for link in [
        "[[link]]\nbetween = [\"fra\", \"zrh\"]\nrtt = \"6ms\"",
        "[[link]]\nbetween = [\"iad\", \"zrh\"]\nrtt = \"95ms\"",
    ] {
        text = text.replace(link, "");
    }
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Warning);
    assert!(found[0].found.contains("the loss of fra leaves"), "{}", found[0].found);
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_lines() {
    let text = EXAMPLE
        .replacen("id = 3", "id = 2", 1)
        .replacen("rtt = \"90ms\"", "rtt = \"90\"", 1)
        .replacen("name = \"orders\"", "name = \"\"", 1)
        .replacen("sync_to = 1", "sync_too = 1", 1);
    let found = problems(&text);
    let keys: Vec<&str> = found.iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, ["cluster.name", "node[2].id", "link[0].rtt", "policy.payments.sync_too"]);
    let lines: Vec<usize> = found.iter().map(|problem| problem.line).collect();
    let line = |needle: &str| text.lines().position(|line| line.contains(needle)).unwrap() + 1;
    assert_eq!(lines[0], line("name = \"\""));
    assert_eq!(lines[2], line("\"90\""));
    assert_eq!(lines[3], line("sync_too"));
    assert_eq!(found[3].expected, "\"sync_to\", perhaps");
}

#[test]
fn text_that_is_no_toml_is_refused_with_every_line_that_is_not() {
    let found =
        problems("version = 1\n[cluster]\nname = \n\n[policy.default]\nhmoe = \"fra\"\nflush = \n");
    let lines: Vec<usize> = found.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 6, 7], "{found:?}");
    assert!(found.iter().all(|problem| !problem.found.contains("nothing")), "{found:?}");
}

#[test]
fn a_hole_in_one_layer_is_not_a_second_problem_in_another() {
    let text = EXAMPLE.replacen("{ fra = 3, iad = 3 }", "{ fra = 3, iad = 0 }", 1);
    let keys: Vec<String> = problems(&text).into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["policy.default.replicas"]);
}

#[test]
fn the_same_text_gives_the_same_value() {
    let topology = Topology::parse(EXAMPLE).unwrap().0;
    assert_eq!(Topology::parse(topology.source()).unwrap().0, topology);
    assert_ne!(topology.clone().with_generation(1), topology);
}

#[test]
fn defaults_are_where_the_manual_says() {
    let topology = Topology::parse(EXAMPLE).unwrap().0;
    let node = topology.node(NodeId::new(2).unwrap()).unwrap();
    assert_eq!(node.admin.bind.to_string(), "127.0.0.1:9640");
    assert_eq!(node.tls.cert.to_str(), Some("certs/node-2.pem"));
    assert_eq!(node.tls.key.to_str(), Some("certs/node-2-key.pem"));
    assert_eq!(topology.cluster().ca.to_str(), Some("certs/ca.pem"));
    let (fra, zrh): (DcName, DcName) = ("fra".parse().unwrap(), "zrh".parse().unwrap());
    let link = topology.link(&zrh, &fra).unwrap();
    assert_eq!(
        (link.bandwidth.to_string(), link.compression),
        ("1Gbit".to_owned(), Compression::None)
    );
}

#[test]
fn a_file_of_the_smallest_cluster_says_little() {
    let text = "version = 1\n[cluster]\nname = \"one\"\n[[dc]]\nname = \"a\"\n[[node]]\nid = 1\ndc = \"a\"\npeer = { bind = \"127.0.0.1:7400\" }\ndata_dirs = [\"/d\"]\n[[node.listener]]\nname = \"c\"\nbind = \"127.0.0.1:9092\"\n";
    let (topology, warnings) = Topology::parse(text).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(warnings, []);
    let policy = topology.policy("default").unwrap();
    assert_eq!(policy.settings.home.to_string(), "a");
    assert_eq!(policy.settings.replication_factor(), 1);
    assert_eq!(topology.policy("internal").unwrap().settings.partitions, 16);
}

#[test]
fn hostile_text_is_refused_without_harm() {
    let nested = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = "#".repeat(TEXT_BYTES_MAX + 1);
    let many = "[[dc]]\n".repeat(10_000);
    for text in ["\0", "\u{feff}", "a.b.c.d = 1\na.b = 2", &nested, &long, &many] {
        assert!(Topology::parse(text).is_err());
    }
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\n]{0,200}") {
            let _ = Topology::parse(&text);
        }

        /// Any part of a good file cut out: refused or accepted, never a panic, and every problem
        /// points into the text.
        #[test]
        fn no_gap_in_a_good_file_panics(start in 0..EXAMPLE.len(), len in 0usize..400) {
            let end = (start + len).min(EXAMPLE.len());
            let text = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
            for problem in problems(&text) {
                prop_assert!(problem.line <= text.lines().count().max(1));
            }
        }
    }
}
