//! `isobar cluster`

use std::fmt::Write as _;

use super::client::Target;
use super::output::{self, Table, or_dash};
use crate::admin::api::{self, NodeState};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Who is there, who leads, what would be lost
    Status(Target),
    /// Every node of the topology
    ListNodes(Target),
    /// One partition: leader, replicas, ISR, positions
    PartitionInfo(PartitionInfo),
    /// Partitions with a replica outside the ISR, or without a leader
    IsrStatus(IsrStatus),
}

#[derive(Debug, clap::Args)]
pub struct PartitionInfo {
    #[arg(long)]
    topic: String,
    /// From 0
    #[arg(long, value_name = "P")]
    partition: u32,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub struct IsrStatus {
    /// Also the partitions that lack nothing
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Status(target) => {
            show(&target, &target.fetch::<api::Cluster>("/v1/cluster")?, status)
        }
        Command::ListNodes(target) => {
            let listed = target.fetch::<api::Nodes>("/v1/nodes")?;
            show(&target, &listed, |listed| nodes(&listed.nodes))
        }
        Command::PartitionInfo(PartitionInfo { topic, partition, target }) => {
            let topic = super::topic::path(&topic)?;
            let found = target.fetch(&format!("{topic}/partitions/{partition}"))?;
            show(&target, &found, partition_info)
        }
        Command::IsrStatus(IsrStatus { all, target }) => {
            show(&target, &target.fetch("/v1/isr")?, |status| isr(status, all))
        }
    }
}

/// As JSON or as text, whichever was asked for.
pub fn show<T: serde::Serialize>(
    target: &Target,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if target.json { output::print_json(value) } else { output::print(&text(value)) }
}

fn status(cluster: &api::Cluster) -> String {
    let mut out = String::new();
    let api::Cluster { topics, partitions, leaderless, under_replicated, .. } = cluster;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "cluster {} ({}), topology generation {}, seen from node {}",
        or_dash(cluster.name.as_ref()),
        or_dash(cluster.id.as_ref()),
        cluster.topology_generation,
        cluster.asked,
    );
    let leader = cluster.controller.map(|node| format!("led by node {node}"));
    let _ = writeln!(
        out,
        "__meta {}; voters {}",
        leader.as_deref().unwrap_or("has no leader that is alive"),
        output::list(&cluster.meta.voters)
    );
    if !cluster.meta.joining.is_empty() {
        let _ = writeln!(
            out,
            "__meta waits for {} to catch up and vote: until then another lost datacenter may cost its majority",
            output::list(&cluster.meta.joining)
        );
    }
    let _ = writeln!(
        out,
        "{}, {}: {leaderless} without a leader, {under_replicated} with a replica out of sync",
        output::count(*topics, "topic"),
        output::count(*partitions, "partition"),
    );
    let _ = writeln!(out, "\n{}", nodes(&cluster.nodes));
    if !cluster.exposure.is_empty() {
        let _ = write!(out, "{}", exposure(&cluster.exposure));
    }
    for node in &cluster.silent {
        let _ = writeln!(
            out,
            "node {node} leads partitions and did not answer: its exposure is not in here"
        );
    }
    out
}

fn nodes(nodes: &[api::Node]) -> String {
    let mut table = Table::new(["NODE", "DC", "STATE", "LEADS", "REPLICAS", "KAFKA", "ADMIN"]);
    for node in nodes {
        table.row([
            node.id.to_string(),
            node.dc.clone(),
            state(node.state).to_owned(),
            or_dash(node.load.as_ref().map(|load| load.leads)),
            or_dash(node.load.as_ref().map(|load| load.replicas)),
            output::list(&node.listeners),
            node.admin.clone(),
        ]);
    }
    table.render()
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Starting => "starting",
        NodeState::Unreachable => "unreachable",
        NodeState::NotRegistered => "not registered",
    }
}

/// What would be lost, were the homes gone now.
fn exposure(by_dc: &std::collections::BTreeMap<String, api::Exposure>) -> String {
    let mut table = Table::new(["EXPOSURE IN", "OLDEST", "RECORDS", "BYTES"]);
    for (dc, exposure) in by_dc {
        table.row([
            dc.clone(),
            output::seconds(exposure.seconds),
            exposure.records.to_string(),
            output::bytes(exposure.bytes),
        ]);
    }
    table.render()
}

fn promise(promise: api::Promise) -> &'static str {
    match promise {
        api::Promise::Sync => "sync",
        api::Promise::Degraded => {
            "DEGRADED: acknowledgements wait for the home alone and may be lost with it"
        }
        api::Promise::Recovering => {
            "recovering: acknowledgements wait for other datacenters again, __meta has it on record soon"
        }
    }
}

fn budget(budget: &api::Budget) -> String {
    let records = budget.records.map(|most| output::count(most as usize, "record"));
    let lag = budget.seconds.map(|seconds| format!("{} of writes", output::seconds(seconds)));
    let bounds: Vec<String> =
        lag.into_iter().chain(budget.bytes.map(output::bytes)).chain(records).collect();
    format!("{}, then {}", bounds.join(" or "), budget.on_lag)
}

/// What no other DC has.
fn at_stake(at_stake: &api::AtStake) -> String {
    let least = if at_stake.known { "" } else { "at least " };
    let breached = if at_stake.breached { ": MORE THAN THE BUDGET" } else { "" };
    format!(
        "{least}{} of writes, {}, {}{breached}",
        output::seconds(at_stake.seconds),
        output::count(usize::try_from(at_stake.records).unwrap_or_default(), "record"),
        output::bytes(at_stake.bytes),
    )
}

fn partition_info(partition: &api::Partition) -> String {
    let placement = &partition.placement;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}-{} ({})\n  home            {} (home epoch {})\n  leader          {} (leader epoch {})",
        partition.topic,
        placement.partition,
        partition.topic_id,
        placement.home,
        placement.home_epoch,
        placement.leader.map_or_else(|| "none".to_owned(), |node| format!("node {node}")),
        placement.leader_epoch,
    );
    let _ = writeln!(
        out,
        "  replicas        {}\n  isr             {}\n  log start       {}\n  high watermark  {}\n  log end         {}",
        output::list(&placement.replicas),
        output::list(&placement.isr),
        or_dash(partition.log_start_offset),
        or_dash(partition.high_watermark),
        or_dash(partition.log_end_offset),
    );
    if let Some(promise) = partition.promise {
        let _ = writeln!(out, "  promise         {}", self::promise(promise));
    }
    if let Some(budget) = &partition.budget {
        let _ = writeln!(out, "  budget          {}", self::budget(budget));
    }
    if let Some(at_stake) = &partition.at_stake {
        let _ = writeln!(out, "  at stake        {}", self::at_stake(at_stake));
    }
    match partition.told_by {
        Some(node) if placement.leader == Some(node) => {}
        Some(node) => {
            let _ = writeln!(out, "  the leader did not answer: positions as node {node} has them");
        }
        None => {
            let _ = writeln!(out, "  no replica that could be asked answered: no positions");
        }
    }
    let mut table =
        Table::new(["NODE", "DC", "ROLE", "IN SYNC", "ON DISK TO INDEX", "LAG ENTRIES"]);
    for member in &partition.members {
        let role = match member.role {
            api::MemberRole::Leader => "leader",
            api::MemberRole::Voter => "voter",
            api::MemberRole::Learner => "learner",
        };
        table.row([
            member.node.to_string(),
            member.dc.clone(),
            role.to_owned(),
            if member.in_sync { "yes" } else { "no" }.to_owned(),
            or_dash(member.matched_index),
            or_dash(member.lag_entries),
        ]);
    }
    let _ = write!(out, "\n{}", table.render());
    if !partition.exposure.is_empty() {
        let _ = write!(out, "\n{}", exposure(&partition.exposure));
    }
    out
}

fn isr(status: &api::IsrStatus, all: bool) -> String {
    let mut table = Table::new(["TOPIC", "PARTITION", "HOME", "LEADER", "ISR", "MISSING"]);
    for partition in &status.partitions {
        let placement = &partition.placement;
        if all || !partition.missing.is_empty() || placement.leader.is_none() {
            table.row([
                partition.topic.clone(),
                placement.partition.to_string(),
                placement.home.clone(),
                or_dash(placement.leader),
                output::list(&placement.isr),
                output::list(&partition.missing),
            ]);
        }
    }
    let total = output::count(status.partitions.len(), "partition");
    let api::IsrStatus { under_replicated, leaderless, .. } = status;
    let summary = format!(
        "{total}: {under_replicated} with a replica out of sync, {leaderless} without a leader\n"
    );
    if table.is_empty() { summary } else { format!("{summary}\n{}", table.render()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, state: NodeState, load: Option<api::Load>) -> api::Node {
        api::Node {
            id,
            dc: "fra".into(),
            state,
            listeners: vec![format!("clients://127.0.0.1:{}", 9091 + id)],
            admin: "127.0.0.1:9640".into(),
            version: None,
            load,
            gone_seconds: None,
        }
    }

    #[test]
    fn a_node_that_is_gone_is_seen_at_a_glance() {
        let load = api::Load { ready: true, replicas: 9, leads: 3, exposure: Default::default() };
        let shown =
            nodes(&[node(1, NodeState::Up, Some(load)), node(2, NodeState::Unreachable, None)]);
        assert_eq!(
            shown,
            "NODE  DC   STATE        LEADS  REPLICAS  KAFKA                     ADMIN\n   \
             1  fra  up               3         9  clients://127.0.0.1:9092  127.0.0.1:9640\n   \
             2  fra  unreachable      -         -  clients://127.0.0.1:9093  127.0.0.1:9640\n"
        );
    }

    #[test]
    fn what_is_at_stake_is_told_in_a_line_and_loudly_when_it_is_too_much() {
        let budget = api::Budget {
            seconds: Some(5.0),
            bytes: Some(1 << 20),
            records: None,
            on_lag: "reject".into(),
        };
        let shown = self::budget(&budget);
        assert!(shown.contains("of writes or ") && shown.ends_with(", then reject"), "{shown}");
        let stake = |known, breached| {
            at_stake(&api::AtStake { known, seconds: 1.5, records: 1, bytes: 100, breached })
        };
        assert!(stake(true, false).contains("of writes, 1 record, "), "{}", stake(true, false));
        assert!(stake(false, true).starts_with("at least "));
        assert!(stake(true, true).ends_with("MORE THAN THE BUDGET"));
    }

    #[test]
    fn isr_status_shows_what_is_wrong_and_all_on_demand() {
        let partition = |number, leader, isr: &[u32], missing: &[u32]| api::IsrPartition {
            topic: "t".into(),
            placement: api::Placement {
                partition: number,
                home: "fra".into(),
                home_epoch: 1,
                leader,
                leader_epoch: 131_073,
                replicas: vec![1, 2],
                isr: isr.into(),
            },
            missing: missing.into(),
        };
        let status = api::IsrStatus {
            under_replicated: 1,
            leaderless: 0,
            partitions: vec![
                partition(0, Some(1), &[1, 2], &[]),
                partition(1, Some(1), &[1], &[2]),
            ],
        };
        let shown = isr(&status, false);
        assert!(shown.starts_with("2 partitions: 1 with a replica out of sync, 0 without"));
        assert_eq!(shown.lines().count(), 4, "{shown}");
        assert_eq!(isr(&status, true).lines().count(), 5);
    }
}
