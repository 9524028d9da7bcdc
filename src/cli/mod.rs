//! The command line: one binary, long flags, every error says what, where and what next.

mod certs;
mod dev;
mod run;
mod start;
mod telemetry;
mod topology;

use clap::{Parser, Subcommand};

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
}

/// Runs the command that the arguments ask for. An error ends the process with status 1.
pub fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Dev(args) => dev::run(args),
        Command::Start(args) => start::run(args),
        Command::Certs(args) => certs::run(&args),
    }
}
