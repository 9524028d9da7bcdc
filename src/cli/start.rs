//! `isobar start`: one node, a process of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::ArgMatches;
use isobar_topology::NodeId;

use super::environment::source;
use super::output::{self, Table};
use super::{run, telemetry, topology};
use crate::broker::{self, Node};

const TOPOLOGY: &str = "ISOBAR_TOPOLOGY";
const NODE: &str = "ISOBAR_NODE";
const DATA_DIR: &str = "ISOBAR_DATA_DIR";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topology file, the same on every node
    #[arg(long, env = TOPOLOGY, value_name = "FILE")]
    topology: PathBuf,
    /// Which of its nodes this is
    #[arg(long, env = NODE, value_name = "N")]
    node: u64,
    /// Overrides the file's `data_dirs`; once for each disk, or separated by commas
    #[arg(long, env = DATA_DIR, value_name = "DIR", value_delimiter = ',')]
    data_dir: Vec<PathBuf>,
    /// Print the settings that would be in force, and where each is from, and start nothing
    #[arg(long)]
    show: bool,
    /// The node's disk is empty and the one before is gone for good: come back even where that
    /// leaves partitions without a majority of their voters' disks; those stay unavailable
    #[arg(long)]
    accept_loss: bool,
}

pub fn run(args: Args, matches: &ArgMatches) -> anyhow::Result<()> {
    telemetry::init(None);
    let topology = topology::read(&args.topology)?;
    let node = NodeId::new(args.node)?;
    let here = topology
        .node(node)
        .with_context(|| format!("--node {node}: no such node in {}", args.topology.display()))?;
    if args.show {
        return show(&args, here, matches);
    }
    let dirs = if args.data_dir.is_empty() { here.data_dirs.clone() } else { args.data_dir };
    anyhow::ensure!(!dirs.is_empty(), "--data-dir: at least one is needed");
    let base = args.topology.parent().unwrap_or(Path::new("."));
    let certs_base = base.to_owned();
    run::block_on(async move {
        let config = broker::Config {
            topology: Arc::new(topology),
            node,
            data_dirs: dirs,
            certs_base,
            wan: None,
            seed: rand::random(),
            accept_loss: args.accept_loss,
        };
        let running = Node::start(Node::bind(config).await?).await?;
        run::told_to_stop().await?;
        tracing::info!(%node, "stopping");
        running.stop().await;
        Ok(())
    })
}

/// The settings of this process; what the cluster shares is `isobar plan`'s to show.
fn show(args: &Args, here: &isobar_topology::Node, matches: &ArgMatches) -> anyhow::Result<()> {
    let file = args.topology.display().to_string();
    let dirs = if args.data_dir.is_empty() { &here.data_dirs } else { &args.data_dir };
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let address = |a: &isobar_topology::Address| format!("{}, advertised {}", a.bind, a.advertised);
    let mut table = Table::new(["setting", "value", "from"]);
    table.row(["topology".into(), file.clone(), source(matches, "topology", TOPOLOGY, "-")]);
    table.row(["node".into(), here.id.to_string(), source(matches, "node", NODE, "-")]);
    let from = source(matches, "data_dir", DATA_DIR, &file);
    table.row(["data_dirs".into(), dirs.join(","), from]);
    table.row(["dc".into(), here.dc.to_string(), file.clone()]);
    table.row(["peer".into(), address(&here.peer), file.clone()]);
    table.row(["admin".into(), address(&here.admin), file.clone()]);
    for listener in &here.listeners {
        let name = format!("listener {}", listener.name);
        table.row([name, address(&listener.address), file.clone()]);
    }
    table.row(["tls.cert".into(), here.tls.cert.display().to_string(), file.clone()]);
    table.row(["tls.key".into(), here.tls.key.display().to_string(), file]);
    let (filter, from) = match std::env::var("RUST_LOG") {
        Ok(filter) => (filter, "RUST_LOG"),
        Err(_) => (telemetry::DEFAULT_FILTER.to_owned(), "default"),
    };
    table.row(["log".into(), filter, from.into()]);
    output::print(&table.render())
}
