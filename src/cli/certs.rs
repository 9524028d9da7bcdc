//! `isobar certs`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isobar_topology::Topology;
use isobar_transport::certs::Authority;

use super::topology;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topology file whose nodes get certificates
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// Where ca.pem, ca-key.pem and, per node, node-N.pem and node-N-key.pem go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let topology = topology::read(&args.topology)?;
    issue(&topology, &args.out)?;
    println!("certificates of {} nodes in {}", topology.nodes().count(), args.out.display());
    Ok(())
}

/// Makes the authority if there is none yet, and a certificate for every node.
pub fn issue(topology: &Topology, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let cluster = topology.cluster().name.to_string();
    let authority = Authority::load_or_create(dir, &cluster)?;
    for node in topology.nodes() {
        authority.issue(dir, &node.dc, node.id)?;
    }
    Ok(())
}
