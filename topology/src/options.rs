//! Every key of the topology file, once: the reader refuses what is not here, and
//! `docs/configuration.md` is made from it.

use crate::policy::Key;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Bool,
    Duration,
    Bandwidth,
    Bytes,
    List,
    Table,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Bool => "true or false",
            Self::Duration => "duration",
            Self::Bandwidth => "bandwidth",
            Self::Bytes => "size",
            Self::List => "list",
            Self::Table => "table",
        }
    }
}

/// When a changed value takes hold of a topic that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// As soon as the nodes have heard of it.
    Live,
    /// Not in place: it says where a new topic goes and what it promises. Moving one is an operation
    /// of its own, and changing between sync and async needs rules R7 to R9; both come later.
    AtCreation,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    /// As people would write it, or "required".
    pub default: &'static str,
    /// The manual: purpose, unit, why that default.
    pub doc: &'static str,
    /// The same key on one topic, for ordinary Kafka tools.
    pub topic_config: Option<&'static str>,
    pub change: Change,
}

impl Entry {
    const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, default, doc, topic_config: None, change: Change::Live }
    }

    const fn topic(mut self, config: &'static str) -> Self {
        self.topic_config = Some(config);
        self
    }

    const fn at_creation(mut self) -> Self {
        self.change = Change::AtCreation;
        self
    }
}

/// One table of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    pub header: &'static str,
    pub doc: &'static str,
    pub entries: &'static [Entry],
}

const REQUIRED: &str = "required";

pub const ROOT: &[Entry] = &[
    Entry::new(
        "version",
        Kind::Integer,
        REQUIRED,
        "The version of this file's format: 1. A reader that does not know it refuses the file.",
    ),
    Entry::new("cluster", Kind::Table, REQUIRED, "See `[cluster]`."),
    Entry::new("dc", Kind::Table, REQUIRED, "See `[[dc]]`."),
    Entry::new("node", Kind::Table, REQUIRED, "See `[[node]]`."),
    Entry::new("link", Kind::Table, "none", "See `[[link]]`."),
    Entry::new("policy", Kind::Table, "none", "See `[policy.NAME]`."),
];

pub const CLUSTER: &[Entry] = &[
    Entry::new(
        "name",
        Kind::Text,
        REQUIRED,
        "The cluster's name: 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', starting with a letter. It is part of every node's certificate, so that nodes of two clusters never talk to each other by mistake. It cannot be changed later.",
    ),
    Entry::new(
        "election_timeout",
        Kind::Duration,
        "\"500ms\"",
        "What silence of a leader it takes before one of its voters stands for election: each draws from this up to twice as much, at random. 500 ms to 60 s. A group whose voters are far apart, as `__meta`'s are, waits ten round trips if that is more. Longer bears stalled machines, and a dead leader is followed later: at 500 ms within 0.8 s, in the middle, for a client that asks again within 100 ms; librdkafka's default back-off adds up to a second. Takes hold on each node when it restarts; `isobar plan` shows what follows for `__meta`.",
    ),
    Entry::new("tls", Kind::Table, "the defaults of its keys", "See `[cluster.tls]`."),
];

/// Where `isobar certs` puts its files, beside the topology file.
pub const DEFAULT_CA: &str = "certs/ca.pem";

pub const CLUSTER_TLS: &[Entry] = &[Entry::new(
    "ca",
    Kind::Text,
    "\"certs/ca.pem\"",
    "File with the certificate authorities (PEM) that a peer's certificate must come from; two of them during a rotation. A relative path is relative to the directory of this file. The default is where `isobar certs` puts it.",
)];

pub const DC: &[Entry] = &[
    Entry::new(
        "name",
        Kind::Text,
        REQUIRED,
        "1 to 32 of a-z, 0-9 and '-', starting with a letter; not \"spread\". Clients name it as `client.rack` to read from the nearest replica.",
    ),
    Entry::new(
        "witness",
        Kind::Bool,
        "false",
        "A DC without data: one small node that votes in `__meta` only, so that two data DCs and a witness survive the loss of any one of the three.",
    ),
];

pub const NODE: &[Entry] = &[
    Entry::new(
        "id",
        Kind::Integer,
        REQUIRED,
        "1 to 2147483647, never reused; to Kafka clients the broker id. It is part of the node's certificate.",
    ),
    Entry::new("dc", Kind::Text, REQUIRED, "The name of the DC that the node stands in."),
    Entry::new(
        "peer",
        Kind::Table,
        REQUIRED,
        "`{ bind, advertised }`, UDP: QUIC with mutual TLS, to the other nodes.",
    ),
    Entry::new(
        "data_dirs",
        Kind::List,
        REQUIRED,
        "Absolute paths, one for each disk. Each has its own journal and group commit; a partition lives on one of them.",
    ),
    Entry::new("listener", Kind::Table, REQUIRED, "See `[[node.listener]]`. A witness has none."),
    Entry::new(
        "admin",
        Kind::Table,
        "{ bind = \"127.0.0.1:9640\" }",
        "`{ bind, advertised }`, TCP: HTTP for `isobar cluster` and friends, `/metrics`, `/healthz` and `/readyz`. The default answers this machine only: a call that changes something is taken from loopback or with an admin certificate.",
    ),
    Entry::new("tls", Kind::Table, "the defaults of its keys", "See `[node.tls]`."),
];

/// What a node's admin listener binds when the file says nothing.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9640";

pub const ADDRESS: &[Entry] = &[
    Entry::new(
        "bind",
        Kind::Text,
        REQUIRED,
        "`IP:PORT` to listen on; `0.0.0.0` or `[::]` for every interface.",
    ),
    Entry::new(
        "advertised",
        Kind::Text,
        "the same as bind",
        "`HOST:PORT` that others connect to. Required where bind is every interface.",
    ),
];

pub const NODE_TLS: &[Entry] = &[
    Entry::new(
        "cert",
        Kind::Text,
        "\"certs/node-ID.pem\"",
        "File with the node's certificate chain (PEM). The certificate names cluster, DC and node id, and a peer checks them against the topology. Relative as `cluster.tls.ca`; replaced files are picked up without a restart.",
    ),
    Entry::new("key", Kind::Text, "\"certs/node-ID-key.pem\"", "File with its private key (PEM)."),
];

pub const LISTENER: &[Entry] = &[
    Entry::new(
        "name",
        Kind::Text,
        REQUIRED,
        "What kind of address this is (\"clients\", \"inside\"): a client that came in by a listener is told every other node's address of the same name. Give each node the same names.",
    ),
    ADDRESS[0],
    ADDRESS[1],
];

pub const LINK: &[Entry] = &[
    Entry::new(
        "between",
        Kind::List,
        REQUIRED,
        "The two DCs, in either order. Every two DCs need a link, witnesses included.",
    ),
    Entry::new(
        "rtt",
        Kind::Duration,
        REQUIRED,
        "Expected round trip. Raft's timing, the windows and `isobar plan` follow from it; of a measured one far above it `isobar plan --admin` and `topology apply` warn with both numbers.",
    ),
    Entry::new(
        "bandwidth",
        Kind::Bandwidth,
        "\"1Gbit\"",
        "What Isobar may count on, each way. It sizes the windows of the link's QUIC connections (1.5 × bandwidth × RTT; larger ones lose packets), which run BBR, since Cubic falls to a hundredth under the random loss of long paths. It is no cap yet.",
    ),
    Entry::new(
        "compression",
        Kind::Text,
        "\"none\"",
        "\"none\" or \"zstd\": zstd compresses, on this link only, batches that their producer left uncompressed. What is stored stays byte for byte what the producer sent.",
    ),
];

pub const POLICY: &[Entry] = &[
    Entry::new(
        "topics",
        Kind::List,
        REQUIRED,
        "Patterns of topic names: `*` is any run of characters, `?` any one. The pattern with the longest literal prefix wins, and a name without wildcards over one with; two that tie are refused. Not for `default` (every topic that no pattern names) and `internal` (names starting with `__`).",
    ),
    Entry::new(
        "home",
        Kind::Text,
        "the data DC, where there is only one; else required in policy.default",
        "Where the voters are and writes are acknowledged: a DC; a list of DCs, the most wanted first; or \"spread\", each partition in its turn in the next DC with replicas. As a topic config a list is `fra,iad`.",
    )
    .topic("isobar.home")
    .at_creation(),
    Entry::new(
        "replicas",
        Kind::Table,
        "3 in each data DC, or as many nodes as it has, made odd",
        "Replicas in each DC, 1 to 7; a DC that is left out gets none. Voters at home, learners elsewhere. As a topic config `fra=3,iad=3`. Whatever replication factor a client asks for, this decides.",
    )
    .topic("isobar.replicas")
    .at_creation(),
    Entry::new(
        "replication",
        Kind::Text,
        "\"async\"",
        "\"async\": acks=all waits for the home DC only, and the other DCs follow. \"sync\": it waits until `sync_to` other DCs have the record on disk, too, and so does every reader.",
    )
    .topic("isobar.replication")
    .at_creation(),
    Entry::new(
        "sync_to",
        Kind::Integer,
        "1",
        "How many remote DCs a sync topic waits for: the nearest ones, since it takes whichever are first. Survives the loss of as many DCs, home included. Refused beside \"async\", where it would do nothing.",
    )
    .topic("isobar.sync.to")
    .at_creation(),
    Entry::new(
        "flush",
        Kind::Text,
        "\"quorum\"",
        "\"quorum\": a record counts on a replica after fdatasync. \"os\": after the write, Kafka's way; a power loss of a whole DC then loses acknowledged records. Refused for sync topics and Kafka's own.",
    )
    .topic("isobar.flush"),
    Entry::new(
        "min_insync_replicas",
        Kind::Integer,
        "1",
        "Voters (replicas at home) that must have a record before acks=all is answered, where that is more than the majority that Raft asks for anyway.",
    )
    .topic("min.insync.replicas"),
    Entry::new(
        "partitions",
        Kind::Integer,
        "1; policy.internal: 16",
        "For topics that are created without a number (also automatically): 1 to 10000.",
    ),
    Entry::new(
        "on_isolation",
        Kind::Text,
        "\"fence\"",
        "What an async home does that `__meta` has given no lease: \"fence\" stops acknowledging, so that a failover knows what it lost; \"continue\" goes on, and what it then acknowledges may be lost without bound. Sync topics need no lease.",
    )
    .topic("isobar.on.isolation"),
    Entry::new(
        "on_sync_loss",
        Kind::Text,
        "\"block\"",
        "What a sync topic does when fewer than `sync_to` remote DCs take its records: \"block\" refuses to append (NOT_ENOUGH_REPLICAS, retriable). \"degrade\" does so for `sync_timeout` and then, partition by partition, acknowledges as an async topic with acks=all does, once `__meta` has that on record; it is sync again by itself when enough DCs have caught up. Without `__meta` it goes on refusing. Refused beside \"async\".",
    )
    .topic("isobar.on.sync.loss"),
    Entry::new(
        "sync_timeout",
        Kind::Duration,
        "\"30s\"",
        "How long nothing of a partition has got through to `sync_to` remote DCs before it degrades: 1s to 1h. It begins anew with every election of the partition's leader. Less than an outage that you would rather wait for; more than the elections and restarts that you expect. Refused without `on_sync_loss = \"degrade\"`.",
    )
    .topic("isobar.sync.timeout"),
    Entry::new(
        "max_lag",
        Kind::Duration,
        "none",
        "Exposure budget of an async topic, for each partition: records that are safe in no other DC were all accepted within so long of each other, so that the loss of home costs no more than that much writing. Two round trips to the nearest other DC are the least that makes sense. Refused beside \"sync\", where nothing that is acknowledged is ever at stake; an inherited one does nothing there, and `internal` inherits none.",
    )
    .topic("isobar.max.lag"),
    Entry::new(
        "max_lag_bytes",
        Kind::Bytes,
        "none",
        "The same in bytes, as clients send them (compressed, if they do). A larger batch is answered MESSAGE_TOO_LARGE.",
    )
    .topic("isobar.max.lag.bytes"),
    Entry::new(
        "max_lag_records",
        Kind::Integer,
        "none",
        "The same in records. With on_lag \"reject\" or \"throttle\" it is the number that a failover's verdict names when every other DC of the topic answers: *at most N records*. A larger batch is answered MESSAGE_TOO_LARGE.",
    )
    .topic("isobar.max.lag.records"),
    Entry::new(
        "on_lag",
        Kind::Text,
        "\"continue\"",
        "What happens at the budget. \"reject\": a produce that would pass it is refused before it is appended (NOT_ENOUGH_REPLICAS, retriable). \"throttle\": the same bound, but producers are slowed from half of the budget on, and wait at it until their request's timeout. \"continue\": everything is taken, and a breach is shown (`isobar_budget_breached`, `isobar cluster partition-info`). Refused where there is no budget.",
    )
    .topic("isobar.on.lag"),
    Entry::new(
        "failover",
        Kind::Text,
        "\"manual\"",
        "Who moves home when its DC is lost: somebody types `isobar dc failover`, or the leader of `__meta` does it (\"automatic\"). It does so when a majority of the other DCs and witnesses has heard from too few of the home's voters for 5 s without a break, to the first DC of the preference list that can take over, else the nearest; a sync topic only where nothing is lost, by proof; never back by itself, and not again within a minute. Needs three DCs, or two and a witness, and of an async topic on_isolation = \"fence\".",
    )
    .topic("isobar.failover"),
];

/// In the order of the manual.
pub const SECTIONS: &[Section] = &[
    Section { header: "top of the file", doc: "", entries: ROOT },
    Section { header: "[cluster]", doc: "", entries: CLUSTER },
    Section { header: "[cluster.tls]", doc: "", entries: CLUSTER_TLS },
    Section {
        header: "[[dc]]",
        doc: "A failure and latency domain. At least one with data.",
        entries: DC,
    },
    Section {
        header: "[[node]]",
        doc: "One process. Every DC needs at least one; three make a DC that survives the loss of any of them.",
        entries: NODE,
    },
    Section {
        header: "peer, admin",
        doc: "Where to listen and what to tell others. Ports are 1 to 65535.",
        entries: ADDRESS,
    },
    Section {
        header: "[[node.listener]]",
        doc: "An address for Kafka clients.",
        entries: LISTENER,
    },
    Section { header: "[node.tls]", doc: "", entries: NODE_TLS },
    Section { header: "[[link]]", doc: "The WAN path between two DCs.", entries: LINK },
    Section {
        header: "[policy.NAME]",
        doc: "What a set of topics asks for. A key that a policy leaves out comes from `[policy.default]`, then from the built-in default. `[policy.internal]` is for Kafka's own topics, such as the committed offsets of groups: it must be as strong as the strongest policy of the file (and is made so where it leaves `replication` out). A topic that is sync by its own configs only is no policy of the file: where its groups must survive a lost home, say `replication = \"sync\"` here.",
        entries: POLICY,
    },
];

/// The key behind a name of [`POLICY`].
pub fn policy_key(name: &str) -> Option<Key> {
    Key::ALL.iter().copied().find(|key| key.name() == name)
}

/// Keys that belong elsewhere, so that whoever writes them here is told where.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("retention", "Kafka's topic config retention.ms or retention.bytes instead"),
    ("retention_ms", "Kafka's topic config retention.ms instead"),
    ("retention_bytes", "Kafka's topic config retention.bytes instead"),
    ("segment_bytes", "Kafka's topic config segment.bytes instead"),
    ("segment_ms", "Kafka's topic config segment.ms instead"),
    ("replication_factor", "replicas = { DC = COUNT, … } instead"),
    ("acks", "acks in the producer's configuration instead"),
    ("jitter", "`isobar link set --jitter` on a dev cluster instead"),
    ("loss", "`isobar link set --loss` on a dev cluster instead"),
    ("rack", "dc instead: a node's rack is its DC"),
    ("port", "bind = \"IP:PORT\" instead"),
    ("host", "bind = \"IP:PORT\" instead"),
    ("data_dir", "data_dirs = [\"PATH\"] instead"),
    ("listeners", "a table [[node.listener]] for each instead"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_of_policies_and_their_keys_are_the_same_list() {
        let manual: Vec<&str> = POLICY.iter().map(|entry| entry.name).collect();
        let keys: Vec<&str> = Key::ALL.iter().map(|key| key.name()).collect();
        assert_eq!(manual, keys);
    }

    #[test]
    fn a_topic_config_is_the_key_with_dots() {
        for entry in POLICY {
            let Some(config) = entry.topic_config else { continue };
            let dotted = entry.name.replace('_', ".");
            assert!(config == format!("isobar.{dotted}") || config == dotted, "{config}");
        }
    }
}
