//! `isobar topic`

use std::fmt::Write as _;

use super::client::Target;
use super::cluster::show;
use super::output::{self, Table, or_dash};
use crate::admin::api;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every topic, where it is at home and how it is replicated
    List(Target),
    /// One topic: its partitions, its configs in force and where each came from
    Describe(Describe),
}

#[derive(Debug, clap::Args)]
pub struct Describe {
    #[arg(long)]
    topic: String,
    #[command(flatten)]
    target: Target,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(target) => show(&target, &target.fetch("/v1/topics")?, list),
        Command::Describe(Describe { topic, target }) => {
            show(&target, &target.fetch(&path(&topic)?)?, describe)
        }
    }
}

/// Where the admin port has the topic. Kafka's topic names need no escaping; others exist nowhere.
pub fn path(topic: &str) -> anyhow::Result<String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    anyhow::ensure!(
        !topic.is_empty() && topic.chars().all(is_legal),
        "--topic: found {topic:?}; expected a topic's name, of a-z, A-Z, 0-9, '.', '_' and '-'"
    );
    Ok(format!("/v1/topics/{topic}"))
}

fn list(topics: &api::Topics) -> String {
    if topics.topics.is_empty() {
        return "there are no topics yet\n".to_owned();
    }
    let mut table =
        Table::new(["TOPIC", "PARTITIONS", "REPLICAS", "HOME", "REPLICATION", "POLICY"]);
    for topic in &topics.topics {
        table.row([
            topic.name.clone(),
            topic.partition_count.to_string(),
            topic.replication_factor.to_string(),
            output::list(&topic.homes),
            topic.replication.clone(),
            or_dash(topic.policy.as_ref()),
        ]);
    }
    table.render()
}

fn describe(topic: &api::Topic) -> String {
    let summary = &topic.summary;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} ({}): {}, policy {}\n",
        summary.name,
        summary.id,
        output::count(summary.partition_count, "partition"),
        or_dash(summary.policy.as_ref())
    );
    let mut partitions = Table::new(["PARTITION", "HOME", "LEADER", "EPOCH", "REPLICAS", "ISR"]);
    for placement in &topic.placements {
        partitions.row([
            placement.partition.to_string(),
            placement.home.clone(),
            or_dash(placement.leader),
            placement.leader_epoch.to_string(),
            output::list(&placement.replicas),
            output::list(&placement.isr),
        ]);
    }
    let mut configs = Table::new(["CONFIG", "VALUE", "FROM"]);
    for config in &topic.configs {
        let value = or_dash(config.value.as_ref());
        configs.row([config.name.clone(), value, config.source.clone()]);
    }
    let _ = write!(out, "{}\n{}", partitions.render(), configs.render());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_topic_can_have_are_refused_before_they_become_a_path() {
        assert_eq!(path("orders.eu_1-x").unwrap(), "/v1/topics/orders.eu_1-x");
        for bad in ["", "a/b", "a b", "a?b", "ü"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_description_says_where_each_value_came_from() {
        let config = |name: &str, value: Option<&str>, source: &str| api::Config {
            name: name.into(),
            value: value.map(Into::into),
            source: source.into(),
            read_only: false,
            doc: String::new(),
        };
        let topic = api::Topic {
            summary: api::TopicSummary {
                name: "payments".into(),
                id: "u".into(),
                internal: false,
                partition_count: 0,
                replication_factor: 9,
                homes: vec!["fra".into()],
                replication: "sync_to=1".into(),
                policy: Some("default".into()),
            },
            placements: Vec::new(),
            configs: vec![
                config("isobar.replication", Some("sync"), "topic"),
                config("isobar.max.lag", None, "default"),
            ],
        };
        let shown = describe(&topic);
        assert!(shown.contains("isobar.replication  sync   topic\n"), "{shown}");
        assert!(shown.contains("isobar.max.lag      -      default\n"), "{shown}");
    }
}
