//! The command line: one binary, long flags, every error says what, where and what next.
//!
//! Commands that ask a running cluster speak to any node's admin port ([`client`]); the JSON that
//! they print is the port's own (`admin::api`).

mod certs;
mod client;
mod cluster;
mod confirm;
mod dc;
mod dev;
mod environment;
mod export;
mod groups;
mod kafka;
mod later;
mod ledger;
mod link;
mod log;
mod meta;
mod modes;
mod output;
mod run;
mod start;
mod telemetry;
mod topic;
mod topology;
mod verdict;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// One log, the same offsets, in every datacenter.
#[derive(Debug, Parser)]
#[command(name = "isobar", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start three datacenters with a WAN between them, in one process
    Dev(dev::Args),
    /// Start one node of a topology
    Start(start::Args),
    /// Make a certificate authority and the nodes' certificates
    Certs(certs::Args),
    /// Check a topology file, or make it the cluster's
    #[command(subcommand)]
    Topology(topology::Command),
    /// Show what a topology file would mean, and with --admin what it would change
    Plan(topology::PlanArgs),
    /// Ask a cluster about its nodes and partitions
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Ask a cluster about its topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Show the links between DCs, or shape those of a dev cluster
    #[command(subcommand)]
    Link(link::Command),
    /// Look into a data directory
    #[command(subcommand)]
    Log(log::Command),
    /// Look into what home moves cut off
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Move the homes of partitions between datacenters, and see what it costs
    #[command(subcommand)]
    Dc(dc::Command),
    /// Look at the metadata quorum, or begin it anew when most of it is gone for good
    #[command(subcommand)]
    Meta(meta::Command),
    #[command(hide = true)]
    Drill(later::Args),
    #[command(hide = true)]
    Audit(later::Args),
}

/// Runs the command that the arguments ask for. An error ends the process with status 1.
pub fn main() -> anyhow::Result<()> {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    environment::refuse_unknown(&Cli::command(), std::env::vars_os().map(|(name, _)| name))?;
    match cli.command {
        Command::Dev(args) => dev::run(args),
        Command::Start(args) => {
            start::run(args, matches.subcommand_matches("start").expect("it was parsed"))
        }
        Command::Certs(args) => certs::run(&args),
        Command::Topology(command) => topology::run(command),
        Command::Plan(args) => topology::plan(&args),
        Command::Cluster(command) => cluster::run(command),
        Command::Topic(command) => topic::run(command),
        Command::Link(command) => link::run(command),
        Command::Log(command) => log::run(command),
        Command::Dc(command) => dc::run(command),
        Command::Ledger(command) => ledger::run(command),
        Command::Meta(command) => meta::run(command),
        Command::Drill(args) => later::refuse("drill", "disaster drills", &args),
        Command::Audit(args) => later::refuse("audit", "audits of what is stored", &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(line: &str) -> bool {
        Cli::try_parse_from(line.split_whitespace()).is_ok()
    }

    #[test]
    fn the_command_line_makes_sense_to_clap() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_lines_are_understood() {
        for line in [
            "isobar topology check topology.toml",
            "isobar plan topology.toml",
            "isobar plan topology.toml --admin 127.0.0.1:9640 --json",
            "isobar topology apply topology.toml --admin 127.0.0.1:9640 --yes",
            "isobar cluster status",
            "isobar cluster list-nodes --json --admin 10.0.0.1:9640",
            "isobar cluster partition-info --topic greetings --partition 0",
            "isobar cluster isr-status --all",
            "isobar topic list --json",
            "isobar topic describe --topic greetings",
            "isobar link show",
            "isobar link set fra iad --rtt 20ms --jitter 1ms --loss 1% --rate 100mbit",
            "isobar link cut fra iad --one-way --admin 127.0.0.1:9640",
            "isobar link heal fra iad",
            "isobar log dump --data-dir d --topic t --partition 0",
            "isobar ledger list --data-dir d --data-dir e --json",
            "isobar ledger show --data-dir d --topic t --partition 0 --epoch 2",
            "isobar ledger export --data-dir d --topic t --partition 0 --out f --json",
            "isobar ledger diff --data-dir d --topic t --partition 0 --json",
            "isobar ledger replay --data-dir d --topic t --partition 0 --plan --admin 10.0.0.1:9640",
            "isobar dc status",
            "isobar dc switchover fra --to iad --topics orders.* --plan",
            "isobar dc failover fra --accept-loss --yes --json",
            "isobar dc failback fra",
            "isobar dc history --admin 127.0.0.1:9640",
            "isobar meta status --admin 127.0.0.1:9640 --json",
            "isobar meta recover --topology t --node 7 --lost fra,iad --plan",
            "isobar meta recover --topology t --node 7 --data-dir d --lost fra --lost 4 --accept-loss --yes",
        ] {
            assert!(parses(line), "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "isobar",
            "isobar link set fra iad",
            "isobar link set fra iad --rtt fast",
            "isobar link set fra iad --loss 200%",
            "isobar link cut fra",
            "isobar ledger",
            "isobar ledger show --data-dir d --topic t",
            "isobar ledger export --data-dir d --topic t --partition 0",
            "isobar ledger show --data-dir d --topic t --partition 0 --epoch 2 --suffix s",
            "isobar dc switchover",
            "isobar meta recover --topology t --node 7",
            "isobar dc switchover fra --accept-loss",
            "isobar cluster partition-info --topic t",
            "isobar cluster partition-info --topic t --partition -1",
            "isobar log dump --data-dir d --topic t --partition -1",
            "isobar nothing",
        ] {
            assert!(!parses(line), "{line}");
        }
    }
}
