//! Topology files: read, checked, shown.

use std::path::Path;

use anyhow::Context as _;
use isobar_topology::Topology;

/// Reads a file and says everything that is wrong with it, all in one go.
pub fn read(path: &Path) -> anyhow::Result<Topology> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    match Topology::parse(&text) {
        Ok((topology, warnings)) => {
            for warning in warnings {
                eprintln!("{}: warning: {warning}", path.display());
            }
            Ok(topology)
        }
        Err(problems) => anyhow::bail!("{}:\n{problems}", path.display()),
    }
}
