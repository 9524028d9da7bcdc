//! `isobar start`: one node, a process of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use isobar_topology::NodeId;

use super::{run, telemetry, topology};
use crate::broker::{self, Node};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topology file, the same on every node
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// Which of its nodes this is
    #[arg(long, value_name = "N")]
    node: u64,
    /// Overrides the file's `data_dirs`; once for each disk
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    telemetry::init(None);
    let topology = topology::read(&args.topology)?;
    let node = NodeId::new(args.node)?;
    let here = topology
        .node(node)
        .with_context(|| format!("--node {node}: no such node in {}", args.topology.display()))?;
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
        };
        let running = Node::start(config).await?;
        run::told_to_stop().await?;
        tracing::info!(%node, "stopping");
        running.stop().await;
        Ok(())
    })
}
