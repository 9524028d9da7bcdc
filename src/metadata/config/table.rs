//! Kafka's topic configs, each once: CreateTopics and AlterConfigs check against this table,
//! DescribeConfigs reads from it, `docs/topic-configs.md` is made from it. What topics have beyond
//! Kafka (`isobar.*`, and `min.insync.replicas`) is in `isobar_topology::options`.

/// Kafka's `ConfigDef.Type`, by its number in DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What a topic may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// A whole number, both ends included.
    Range { min: i64, max: i64 },
    /// One of these.
    Words(&'static [&'static str]),
    /// A config of Kafka's that says here what it says by default, and nothing else, because of …
    DefaultOnly(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    pub name: &'static str,
    pub kind: Kind,
    /// As Kafka writes it.
    pub default: &'static str,
    /// The broker config that has the same meaning in Kafka, which some tools look for.
    pub synonym: Option<&'static str>,
    pub accepts: Accepts,
    pub doc: &'static str,
}

/// Largest batch that a topic may allow. Kafka's bound is its request size of 100 MB; ours is a
/// batch that is one Raft entry, of which a frame between nodes (64 MiB) must hold a few.
pub const MESSAGE_BYTES_MAX: i64 = 16 << 20;

const NO_COMPACTION: &str = "compaction is not built yet";

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    accepts: Accepts,
    doc: &'static str,
) -> Config {
    Config { name, kind, default, synonym: None, accepts, doc }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Config {
    config(name, kind, default, Accepts::DefaultOnly(why), why)
}

impl Config {
    const fn synonym(mut self, name: &'static str) -> Self {
        self.synonym = Some(name);
        self
    }
}

/// In the order of their names.
pub const TABLE: &[Config] = &[
    fixed("cleanup.policy", Kind::List, "delete", NO_COMPACTION).synonym("log.cleanup.policy"),
    fixed(
        "compression.type",
        Kind::String,
        "producer",
        "batches are stored byte for byte as their producer sent them",
    )
    .synonym("compression.type"),
    fixed("delete.retention.ms", Kind::Long, "86400000", NO_COMPACTION)
        .synonym("log.cleaner.delete.retention.ms"),
    fixed(
        "file.delete.delay.ms",
        Kind::Long,
        "60000",
        "a segment's file goes as soon as its last reader has closed it",
    )
    .synonym("log.segment.delete.delay.ms"),
    fixed(
        "flush.messages",
        Kind::Long,
        "9223372036854775807",
        "isobar.flush says when a record counts as persisted",
    )
    .synonym("log.flush.interval.messages"),
    fixed(
        "flush.ms",
        Kind::Long,
        "9223372036854775807",
        "isobar.flush says when a record counts as persisted",
    )
    .synonym("log.flush.interval.ms"),
    fixed(
        "index.interval.bytes",
        Kind::Int,
        "4096",
        "the density of a segment's index is the log's own choice",
    )
    .synonym("log.index.interval.bytes"),
    fixed("max.compaction.lag.ms", Kind::Long, "9223372036854775807", NO_COMPACTION)
        .synonym("log.cleaner.max.compaction.lag.ms"),
    config(
        "max.message.bytes",
        Kind::Int,
        "1048588",
        Accepts::Range { min: 1, max: MESSAGE_BYTES_MAX },
        "The largest batch, in bytes, as it stands in the log (compressed, if its producer did). \
         Larger ones are answered MESSAGE_TOO_LARGE.",
    )
    .synonym("message.max.bytes"),
    fixed(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "9223372036854775807",
        "the timestamps of producers are not checked against the clock",
    )
    .synonym("log.message.timestamp.after.max.ms"),
    fixed(
        "message.timestamp.before.max.ms",
        Kind::Long,
        "9223372036854775807",
        "the timestamps of producers are not checked against the clock",
    )
    .synonym("log.message.timestamp.before.max.ms"),
    config(
        "message.timestamp.type",
        Kind::String,
        "CreateTime",
        Accepts::Words(&["CreateTime", "LogAppendTime"]),
        "Whether a record carries its producer's time, or the leader's when it was appended.",
    )
    .synonym("log.message.timestamp.type"),
    fixed("min.cleanable.dirty.ratio", Kind::Double, "0.5", NO_COMPACTION)
        .synonym("log.cleaner.min.cleanable.ratio"),
    fixed("min.compaction.lag.ms", Kind::Long, "0", NO_COMPACTION)
        .synonym("log.cleaner.min.compaction.lag.ms"),
    fixed("preallocate", Kind::Boolean, "false", "preallocation is the log's own choice")
        .synonym("log.preallocate"),
    fixed("remote.storage.enable", Kind::Boolean, "false", "there is no tiered storage"),
    config(
        "retention.bytes",
        Kind::Long,
        "-1",
        Accepts::Range { min: -1, max: i64::MAX },
        "Bytes of a partition's log beyond which its oldest closed segments go; -1 for no bound.",
    )
    .synonym("log.retention.bytes"),
    config(
        "retention.ms",
        Kind::Long,
        "604800000",
        Accepts::Range { min: -1, max: i64::MAX },
        "Milliseconds after which a closed segment goes, counted from when its last record was \
         appended; -1 for ever. The default is Kafka's seven days.",
    )
    .synonym("log.retention.ms"),
    config(
        "segment.bytes",
        Kind::Int,
        "1073741824",
        Accepts::Range { min: 1 << 20, max: 1 << 30 },
        "Bytes after which a segment file is closed and the next begins: 1 MiB (KIP-1030) to 1 \
         GiB. Retention and catch-up over the WAN go by whole segments.",
    )
    .synonym("log.segment.bytes"),
    fixed(
        "segment.index.bytes",
        Kind::Int,
        "10485760",
        "the size of a segment's index follows from the segment",
    )
    .synonym("log.index.size.max.bytes"),
    fixed(
        "segment.jitter.ms",
        Kind::Long,
        "0",
        "segments roll by what is in the log, so that they are the same in every datacenter",
    )
    .synonym("log.roll.jitter.ms"),
    config(
        "segment.ms",
        Kind::Long,
        "604800000",
        Accepts::Range { min: 1, max: i64::MAX },
        "Milliseconds between the first and the last record of a segment; a segment is closed by \
         the first record that is later.",
    )
    .synonym("log.roll.ms"),
    fixed(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "a leader without all acknowledged records is never elected",
    )
    .synonym("unclean.leader.election.enable"),
];

/// The config of that name, if it is one of Kafka's that stands in the table.
pub fn find(name: &str) -> Option<&'static Config> {
    TABLE.iter().find(|config| config.name == name)
}

impl Config {
    /// What would have been right, if `value` is not.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self.accepts {
            Accepts::Range { min, max } => match value.trim().parse::<i64>() {
                Ok(n) if (min..=max).contains(&n) => Ok(()),
                _ => Err(format!("a whole number from {min} to {max}")),
            },
            Accepts::Words(words) if words.contains(&value) => Ok(()),
            Accepts::Words(words) => Err(format!("one of {}", words.join(", "))),
            Accepts::DefaultOnly(_) if value.trim() == self.default => Ok(()),
            Accepts::DefaultOnly(why) => Err(format!("{}, because {why}", self.default)),
        }
    }
}
